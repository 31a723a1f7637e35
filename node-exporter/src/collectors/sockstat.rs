use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "sockstat", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Sockstat(settings.paths.clone())))
}

struct Sockstat(Arc<Paths>);

impl Collector for Sockstat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("net/sockstat");
        let four = self.0.required(&path)?;
        // without IPv6 there is no such file
        let six = self.0.read(&self.0.proc("net/sockstat6")).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn sockets_and_memory() {
        check_built(
            "sockstat",
            &[],
            &[
                ("proc/net/sockstat", "sockets: used 229\nFRAG: inuse 1 memory 2\n"),
                ("proc/net/sockstat6", "TCP6: inuse 17\n"),
            ],
            &[
                "node_sockstat_FRAG_inuse 1",
                "node_sockstat_FRAG_memory 2",
                "node_sockstat_TCP6_inuse 17",
                "node_sockstat_sockets_used 229",
            ],
        );
    }
}
