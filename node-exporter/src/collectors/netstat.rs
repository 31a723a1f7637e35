use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::{Flag, Pattern, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "netstat",
    default: true,
    flags: &[Flag::value(
        "collector.netstat.fields",
        "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
        "Regexp of fields to return for netstat collector.",
    )],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let fields = settings.pattern("collector.netstat.fields")?;
    Ok(Box::new(Netstat { paths: settings.paths.clone(), fields }))
}

struct Netstat {
    paths: Arc<Paths>,
    fields: Option<Pattern>,
}

impl Collector for Netstat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        for file in ["net/netstat", "net/snmp"] {
            let path = self.paths.proc(file);
            let text = self.paths.required(&path)?;
            let mut lines = text.lines();
            while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
                let (Some((protocol, names)), Some((same, values))) = (names.split_once(':'), values.split_once(':'))
                else {
                    return Err(malformed(&path, &format!("no protocol in {names:?}")));
                };
                let (names, values) = (names.split_ascii_whitespace(), values.split_ascii_whitespace());
                if protocol != same || names.clone().count() != values.clone().count() {
                    return Err(malformed(&path, &format!("mismatch field count mismatch in {path:?}: {protocol}")));
                }
                for (name, value) in names.zip(values) {
                    self.show(page, protocol, name, value);
                }
            }
        }
        // without IPv6 there is no such file
        if let Ok(text) = self.paths.read(&self.paths.proc("net/snmp6")) {
            for line in text.lines() {
                let mut fields = line.split_ascii_whitespace();
                let (Some(key), Some(value)) = (fields.next(), fields.next()) else { continue };
                // `Ip6InReceives` is the field InReceives of Ip6
                if let Some(six) = key.find('6') {
                    self.show(page, &key[..=six], &key[six + 1..], value);
                }
            }
        }
        Ok(())
    }
}

impl Netstat {
    fn show(&self, page: &mut Page, protocol: &str, name: &str, value: &str) {
        let mut metric = String::with_capacity(64);
        metric.push_str("node_netstat_");
        metric.push_str(protocol);
        metric.push('_');
        metric.push_str(name);
        let key = &metric["node_netstat_".len()..];
        let shown = self.fields.as_ref().is_none_or(|f| f.is_match(key));
        if shown && let Ok(number) = value.parse() {
            let help = format!("Statistic {protocol}{name}.");
            let family = page.family(&metric, &help, MetricType::Unknown);
            page.sample(family, &[], number);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn default_fields() {
        check_built(
            "netstat",
            &[],
            &[
                ("proc/net/netstat", "TcpExt: SyncookiesSent Other\nTcpExt: 3 4\n"),
                ("proc/net/snmp", "Udp: InDatagrams InCsumErrors\nUdp: 5 6\n"),
                ("proc/net/snmp6", "Ip6InOctets\t7\nIp6InReceives\t8\n"),
            ],
            &["node_netstat_Ip6_InOctets 7", "node_netstat_TcpExt_SyncookiesSent 3", "node_netstat_Udp_InDatagrams 5"],
        );
    }
}
