use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute};

of_paths!(Bonding, "bonding", true);

impl Collector for Bonding {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let net = self.0.sys("class/net");
        let masters = net.join("bonding_masters");
        let masters = attribute(&masters).map_err(|e| absent(&masters, &e))?;
        let help = "Number of configured slaves per bonding interface.";
        let configured = page.family("node_bonding_slaves", help, MetricType::Gauge);
        let help = "Number of active slaves per bonding interface.";
        let active = page.family("node_bonding_active", help, MetricType::Gauge);
        for master in masters.split_ascii_whitespace() {
            let slaves = attribute(&net.join(master).join("bonding/slaves")).unwrap_or_default();
            let (mut all, mut up) = (0.0, 0.0);
            for slave in slaves.split_ascii_whitespace() {
                // kernels before 3.x name the slave's folder without its prefix
                let state = ["lower_", "slave_"].iter().find_map(|prefix| {
                    attribute(&net.join(master).join(format!("{prefix}{slave}/bonding_slave/mii_status"))).ok()
                });
                all += 1.0;
                if state.as_deref() == Some("up") {
                    up += 1.0;
                }
            }
            page.sample(configured, &[("master", master)], all);
            page.sample(active, &[("master", master)], up);
        }
        Ok(())
    }
}
