use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::{Flag, Settings};

const LABELS: [&str; 6] = ["local_address", "local_mark", "local_port", "proto", "remote_address", "remote_port"];

pub(super) const REGISTRATION: Registration = Registration {
    name: "ipvs",
    default: true,
    flags: &[Flag::value(
        "collector.ipvs.backend-labels",
        "local_address,local_port,remote_address,remote_port,proto,local_mark",
        "Comma separated list for IPVS backend stats labels.",
    )],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    // given and empty: one sum over all
    let given = settings.text("collector.ipvs.backend-labels");
    let mut labels = Vec::new();
    for name in given.split(',').filter(|n| !n.is_empty()) {
        let at = LABELS.iter().position(|l| *l == name);
        labels.push(at.ok_or_else(|| format!("unknown IPVS backend labels: {name:?}, known are {LABELS:?}"))?);
    }
    labels.sort_unstable();
    labels.dedup();
    Ok(Box::new(Ipvs { paths: settings.paths.clone(), labels }))
}

struct Ipvs {
    paths: Arc<Paths>,
    /// The labels that tell backends apart, by their place in `LABELS`.
    labels: Vec<usize>,
}

/// A virtual service.
#[derive(Default)]
struct Service {
    proto: String,
    address: String,
    port: String,
    mark: String,
}

/// Weight, active and inactive connections.
type Sums = [f64; 3];

impl Collector for Ipvs {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.paths.proc("net/ip_vs_stats");
        let text = self.paths.optional(&path)?;
        let totals = text.lines().nth(2).unwrap_or("");
        let mut totals = totals.split_ascii_whitespace().map(|f| u64::from_str_radix(f, 16));
        for (name, help) in [
            ("node_ipvs_connections_total", "The total number of connections made."),
            ("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
            ("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
            ("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
            ("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
        ] {
            let Some(Ok(value)) = totals.next() else {
                return Err(malformed(&path, "five hexadecimal numbers are expected"));
            };
            page.counter(name, help, &[], value as f64);
        }
        let path = self.paths.proc("net/ip_vs");
        let text = self.paths.optional(&path)?;
        let mut backends: BTreeMap<Vec<String>, Sums> = BTreeMap::new();
        let mut service = Service::default();
        for line in text.lines().skip(3) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            match fields[..] {
                [] => {}
                ["->", remote, _, weight, active, inactive] => {
                    let (address, port) =
                        endpoint(remote).ok_or_else(|| malformed(&path, &format!("no address: {remote:?}")))?;
                    let number =
                        |text: &str| text.parse::<f64>().map_err(|_| malformed(&path, &format!("no number: {text:?}")));
                    let all = [&service.address, &service.mark, &service.port, &service.proto, &address, &port];
                    let key = self.labels.iter().map(|at| all[*at].clone()).collect();
                    let sums = backends.entry(key).or_default();
                    for (sum, text) in sums.iter_mut().zip([weight, active, inactive]) {
                        *sum += number(text)?;
                    }
                }
                ["FWM", mark, ..] => {
                    service =
                        Service { proto: "FWM".into(), port: "0".into(), mark: mark.into(), ..Service::default() };
                }
                [proto, local, ..] => {
                    let (address, port) =
                        endpoint(local).ok_or_else(|| malformed(&path, &format!("no address: {local:?}")))?;
                    service = Service { proto: proto.into(), address, port, mark: String::new() };
                }
                _ => return Err(malformed(&path, &format!("unexpected line {line:?}"))),
            }
        }
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Gauge);
        let families = [
            family("node_ipvs_backend_weight", "The current backend weight by local and remote address."),
            family(
                "node_ipvs_backend_connections_active",
                "The current active connections by local and remote address.",
            ),
            family(
                "node_ipvs_backend_connections_inactive",
                "The current inactive connections by local and remote address.",
            ),
        ];
        for (key, sums) in &backends {
            let labels: Vec<(&str, &str)> =
                self.labels.iter().map(|at| LABELS[*at]).zip(key.iter().map(String::as_str)).collect();
            for (family, value) in families.iter().zip(sums) {
                page.sample(*family, &labels, *value);
            }
        }
        Ok(())
    }
}

/// `C0A80016:0CEA` or `[2620::1]:0050` as address and decimal port.
fn endpoint(text: &str) -> Option<(String, String)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string(),
        None => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?).to_string(),
    };
    Some((address, port.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let owned = |a: &str, p: &str| Some((a.to_owned(), p.to_owned()));
        assert_eq!(endpoint("C0A80016:0CEA"), owned("192.168.0.22", "3306"));
        assert_eq!(endpoint("[2620:0000:0000:0000:0000:0000:0000:0001]:0050"), owned("2620::1", "80"));
        assert_eq!(endpoint("x"), None);
    }
}
