use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::{Flag, Pattern, Settings};

const DEFAULT_FIELDS: &str = "^(oom_kill|pgpg|pswp|pg.*fault).*";

pub(super) const REGISTRATION: Registration = Registration {
    name: "vmstat",
    default: true,
    flags: &[Flag::value(
        "collector.vmstat.fields",
        DEFAULT_FIELDS,
        "Regexp of fields to return for vmstat collector.",
    )],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let fields = settings.pattern("collector.vmstat.fields")?;
    Ok(Box::new(Vmstat { paths: settings.paths.clone(), fields }))
}

struct Vmstat {
    paths: Arc<Paths>,
    fields: Option<Pattern>,
}

impl Collector for Vmstat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.paths.proc("vmstat");
        let text = self.paths.required(&path)?;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(' ') else {
                return Err(malformed(&path, "two columns are expected"));
            };
            if self.fields.as_ref().is_some_and(|f| !f.is_match(name)) {
                continue;
            }
            let value = value.trim().parse().map_err(|_| malformed(&path, &format!("no number in {line:?}")))?;
            let help = format!("/proc/vmstat information field {name}.");
            let family = page.family(&format!("node_vmstat_{name}"), &help, MetricType::Unknown);
            page.sample(family, &[], value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn chosen_fields() {
        check_built(
            "vmstat",
            &["--collector.vmstat.fields=^(pg|oom)"],
            &[("proc/vmstat", "nr_free 1\npgpgin 2\noom_kill 3\n")],
            &["node_vmstat_oom_kill 3", "node_vmstat_pgpgin 2"],
        );
    }
}
