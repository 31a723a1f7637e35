use std::sync::Arc;

use common::metrics::Page;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "loadavg", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Loadavg(settings.paths.clone())))
}

struct Loadavg(Arc<Paths>);

impl Collector for Loadavg {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("loadavg");
        let text = self.0.required(&path)?;
        let mut fields = text.split_ascii_whitespace();
        for (name, help) in [
            ("node_load1", "1m load average."),
            ("node_load5", "5m load average."),
            ("node_load15", "15m load average."),
        ] {
            let value = fields.next().and_then(|f| f.parse().ok());
            page.gauge(name, help, &[], value.ok_or_else(|| malformed(&path, "three numbers are expected"))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn averages() {
        check_built(
            "loadavg",
            &[],
            &[("proc/loadavg", "0.21 0.37 0.39 1/719 19737\n")],
            &["node_load1 0.21", "node_load15 0.39", "node_load5 0.37"],
        );
    }
}
