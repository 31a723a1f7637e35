use std::sync::Arc;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, number};
use common::metrics::Page;

of_paths!(Selinux, "selinux", true);

impl Collector for Selinux {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("fs/selinux");
        let enforce = number::<f64>(&folder.join("enforce"));
        let enabled = f64::from(u8::from(enforce.is_some()));
        page.gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false", &[], enabled);
        let Some(current) = enforce else { return Ok(()) };
        let config = std::fs::read_to_string(self.0.root("etc/selinux/config")).unwrap_or_default();
        let mode = config.lines().find_map(|l| l.trim().strip_prefix("SELINUX=").map(str::trim)).unwrap_or("");
        let configured = match mode {
            "enforcing" => 1.0,
            "permissive" => 0.0,
            _ => -1.0,
        };
        // the kernel may have been told otherwise on its command line
        let known = attribute(&folder.join("policyvers")).is_ok();
        page.gauge(
            "node_selinux_config_mode",
            "Configured SELinux enforcement mode",
            &[],
            if known { configured } else { -1.0 },
        );
        page.gauge("node_selinux_current_mode", "Current SELinux enforcement mode", &[], current);
        Ok(())
    }
}
