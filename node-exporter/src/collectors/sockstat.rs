use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed, read, required};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "sockstat", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Sockstat(settings.paths.clone())))
}

struct Sockstat(Arc<Paths>);

impl Collector for Sockstat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("net/sockstat");
        let four = required(&path)?;
        // without IPv6 there is no such file
        let six = read(&self.0.proc("net/sockstat6")).unwrap_or_default();
        for line in four.lines().chain(six.lines()) {
            let Some((protocol, fields)) = line.split_once(':') else {
                return Err(malformed(&path, "no protocol in a line"));
            };
            let mut fields = fields.split_ascii_whitespace();
            while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
                let value: f64 = value.parse().map_err(|_| malformed(&path, &format!("no number in {line:?}")))?;
                if (protocol, field) == ("sockets", "used") {
                    page.gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.", &[], value);
                    continue;
                }
                show(page, protocol, field, value);
                if field == "mem" {
                    show(page, protocol, "mem_bytes", value * rustix::param::page_size() as f64);
                }
            }
        }
        Ok(())
    }
}

fn show(page: &mut Page, protocol: &str, field: &str, value: f64) {
    let help = format!("Number of {protocol} sockets in state {field}.");
    let family = page.family(&format!("node_sockstat_{protocol}_{field}"), &help, MetricType::Gauge);
    page.sample(family, &[], value);
}
