use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "meminfo", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Meminfo(settings.paths.clone())))
}

struct Meminfo(Arc<Paths>);

impl Collector for Meminfo {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("meminfo");
        let text = self.0.required(&path)?;
        let (mut name, mut help) = (String::new(), String::new());
        for line in text.lines().filter(|l| !l.is_empty()) {
            let Some((key, rest)) = line.split_once(':') else {
                return Err(malformed(&path, &format!("no field: {line:?}")));
            };
            let mut fields = rest.split_ascii_whitespace();
            let value = fields.next().and_then(|f| f.parse::<f64>().ok());
            let value = value.ok_or_else(|| malformed(&path, &format!("no number in {line:?}")))?;
            let kilobytes = fields.next() == Some("kB");
            metric_name("node_memory_", key, kilobytes, &mut name);
            help.clear();
            help.push_str("Memory information field ");
            help.push_str(&name["node_memory_".len()..]);
            help.push('.');
            // Fields whose name ends in `_total` would be counters; the kernel has none.
            let family = page.family(&name, &help, MetricType::Gauge);
            page.sample(family, &[], if kilobytes { value * 1024.0 } else { value });
        }
        Ok(())
    }
}

/// `Active(anon)` becomes `Active_anon`; amounts in kB become bytes.
pub(super) fn metric_name(prefix: &str, key: &str, kilobytes: bool, out: &mut String) {
    out.clear();
    out.push_str(prefix);
    out.extend(key.chars().filter(|c| *c != ')').map(|c| if c == '(' { '_' } else { c }));
    if kilobytes {
        out.push_str("_bytes");
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn amounts_are_bytes_and_counts_stay() {
        check_built(
            "meminfo",
            &[],
            &[("proc/meminfo", "MemTotal: 2 kB\nActive(anon): 1 kB\nHugePages_Free:  7\n")],
            &["node_memory_Active_anon_bytes 1024", "node_memory_HugePages_Free 7", "node_memory_MemTotal_bytes 2048"],
        );
    }
}
