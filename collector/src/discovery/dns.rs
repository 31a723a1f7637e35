//! `dns_sd_configs`: targets by A, AAAA, MX, NS and SRV records.

mod message;
mod resolver;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use model::Labels;

use self::message::{Data, Record};
use self::resolver::Resolver;
use super::refresh::Source;
use super::target::{Target, group};
use super::{DiscoveryMetrics, Slot};
use crate::config::{Settings, TargetGroup};

/// Looks names up.
pub(super) struct Dns {
    resolver: Resolver,
    record_type: u16,
    port: i64,
    metrics: Arc<DiscoveryMetrics>,
    /// What each name gave when it was looked up last with success: one name that fails does no harm to the others, nor to itself.
    known: BTreeMap<String, Vec<Labels>>,
}

impl Dns {
    pub(super) fn new(settings: &Settings, slot: &Slot) -> Self {
        Self::over(Resolver::of_system(), settings, Arc::clone(&slot.metrics))
    }

    fn over(resolver: Resolver, settings: &Settings, metrics: Arc<DiscoveryMetrics>) -> Self {
        let record_type = match settings.text("type").to_ascii_uppercase().as_str() {
            "A" => message::A,
            "AAAA" => message::AAAA,
            "MX" => message::MX,
            "NS" => message::NS,
            _ => message::SRV,
        };
        let known = settings.texts("names").iter().map(|name| (name.clone(), Vec::new())).collect();
        Self { resolver, record_type, port: settings.int("port"), metrics, known }
    }
}

impl Source for Dns {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let (resolver, record_type) = (&self.resolver, self.record_type);
        let look_ups = self.known.keys().map(|name| async move { resolver.look_up(name, record_type).await });
        let answers = join_all(look_ups).await;
        for ((name, targets), answer) in self.known.iter_mut().zip(answers) {
            self.metrics.dns_lookups.inc();
            match answer {
                Ok(records) => {
                    *targets = records.iter().filter_map(|record| target(name, record, self.port)).collect();
                }
                Err(error) => {
                    self.metrics.dns_failures.inc();
                    tracing::error!(%name, err = %error, "Error refreshing DNS targets");
                }
            }
        }
        Ok(self.known.iter().map(|(name, targets)| group(name, targets.clone())).collect())
    }
}

/// The target of a record. Records of other types, such as the CNAMEs on the way to addresses, are none.
fn target(name: &str, record: &Record, port: i64) -> Option<Labels> {
    let mut target = Target::new("__meta_dns_");
    target.set("name", name);
    match &record.data {
        Data::Address(address) => target.address(&address.to_string(), port),
        Data::Mx(host) => target.set("mx_record_target", host).address(host.trim_end_matches('.'), port),
        Data::Ns(host) => target.set("ns_record_target", host).address(host.trim_end_matches('.'), port),
        Data::Srv { host, port } => {
            target.set("srv_record_target", host).set("srv_record_port", port).address(host.trim_end_matches('.'), port)
        }
        Data::Other => return None,
    };
    Some(target.build())
}

#[cfg(test)]
mod tests;
