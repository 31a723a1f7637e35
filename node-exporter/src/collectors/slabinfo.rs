use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::{Flag, Pattern, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "slabinfo",
    default: false,
    flags: &[
        Flag::value("collector.slabinfo.slabs-include", ".*", "Regexp of slabs to include in slabinfo collector."),
        Flag::value("collector.slabinfo.slabs-exclude", "", "Regexp of slabs to exclude in slabinfo collector."),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Slabinfo {
        paths: settings.paths.clone(),
        include: settings.pattern("collector.slabinfo.slabs-include")?,
        exclude: settings.pattern("collector.slabinfo.slabs-exclude")?,
    }))
}

struct Slabinfo {
    paths: Arc<Paths>,
    include: Option<Pattern>,
    exclude: Option<Pattern>,
}

/// The columns after the name.
const COLUMNS: [(&str, &str); 5] = [
    ("node_slabinfo_active_objects", "The number of objects that are currently active (i.e., in use)."),
    (
        "node_slabinfo_objects",
        "The total number of allocated objects (i.e., objects that are both in use and not in use).",
    ),
    ("node_slabinfo_object_size_bytes", "The size of objects in this slab, in bytes."),
    ("node_slabinfo_objects_per_slab", "The number of objects stored in each slab."),
    ("node_slabinfo_pages_per_slab", "The number of pages allocated for each slab."),
];

impl Collector for Slabinfo {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.paths.proc("slabinfo");
        let text = self.paths.required(&path)?;
        let families = COLUMNS.map(|(name, help)| page.family(name, help, MetricType::Gauge));
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("slabinfo - ")) {
            let mut fields = line.split_ascii_whitespace();
            let Some(slab) = fields.next() else { continue };
            let included = self.include.as_ref().is_none_or(|i| i.is_match(slab));
            if !included || self.exclude.as_ref().is_some_and(|e| e.is_match(slab)) {
                continue;
            }
            for family in families {
                let value = fields.next().and_then(|f| f.parse().ok());
                page.sample(
                    family,
                    &[("slab", slab)],
                    value.ok_or_else(|| malformed(&path, &format!("unexpected line {line:?}")))?,
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn slabs() {
        check_built(
            "slabinfo",
            &["--collector.slabinfo.slabs-include=^tw"],
            &[(
                "proc/slabinfo",
                "slabinfo - version: 2.1\n# name\ntw_sock 704 864 256 32 2 : tunables\nother 1 1 1 1 1 :\n",
            )],
            &[
                "node_slabinfo_active_objects{slab=\"tw_sock\"} 704",
                "node_slabinfo_object_size_bytes{slab=\"tw_sock\"} 256",
                "node_slabinfo_objects{slab=\"tw_sock\"} 864",
                "node_slabinfo_objects_per_slab{slab=\"tw_sock\"} 32",
                "node_slabinfo_pages_per_slab{slab=\"tw_sock\"} 2",
            ],
        );
    }
}
