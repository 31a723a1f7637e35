use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, attribute, failure, malformed};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "sysctl",
    default: false,
    flags: &[
        Flag::repeated("collector.sysctl.include", "Select sysctl metrics to include"),
        Flag::repeated("collector.sysctl.include-info", "Select sysctl metrics to include as info metrics"),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let mut wanted = Vec::new();
    for given in settings.texts("collector.sysctl.include") {
        let (name, keys) = given.split_once(':').unwrap_or((&given, ""));
        let keys = keys.split(',').filter(|k| !k.is_empty()).map(str::to_owned).collect();
        wanted.push(Wanted { name: name.to_owned(), keys, info: false });
    }
    for given in settings.texts("collector.sysctl.include-info") {
        if given.contains(':') {
            return Err("info metrics must not specify key names".to_owned());
        }
        wanted.push(Wanted { name: given, keys: Vec::new(), info: true });
    }
    Ok(Box::new(Sysctl { paths: settings.paths.clone(), wanted }))
}

struct Sysctl {
    paths: Arc<Paths>,
    wanted: Vec<Wanted>,
}

struct Wanted {
    name: String,
    /// Names of the fields; without them fields are numbered.
    keys: Vec<String>,
    info: bool,
}

impl Collector for Sysctl {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        for wanted in &self.wanted {
            let name = &wanted.name;
            let path = self.paths.proc("sys").join(name.replace('.', "/"));
            let text = attribute(&path).map_err(|e| failure(&path, &e))?;
            let fields: Vec<&str> = text.split_ascii_whitespace().collect();
            if wanted.info {
                let family = page.family("node_sysctl_info", "sysctl info", MetricType::Gauge);
                for (at, field) in fields.iter().enumerate() {
                    let mut buffer = itoa::Buffer::new();
                    page.sample(family, &[("index", buffer.format(at)), ("name", name), ("value", field)], 1.0);
                }
                continue;
            }
            let metric = format!("node_sysctl_{}", name.replace(['.', '-', '/'], "_"));
            if !wanted.keys.is_empty() && wanted.keys.len() != fields.len() {
                let (got, want) = (fields.len(), wanted.keys.len());
                return Err(malformed(&path, &format!("{got} fields, and {want} names for them were given")));
            }
            for (at, field) in fields.iter().enumerate() {
                let value = field.parse().map_err(|_| malformed(&path, &format!("no number: {field:?}")))?;
                let mut buffer = itoa::Buffer::new();
                match wanted.keys.get(at) {
                    Some(key) => {
                        let help = format!("sysctl {name}, field {at}");
                        page.untyped(&format!("{metric}_{key}"), &help, &[], value);
                    }
                    None if fields.len() == 1 => page.untyped(&metric, &format!("sysctl {name}"), &[], value),
                    None => {
                        page.untyped(&metric, &format!("sysctl {name}"), &[("index", buffer.format(at))], value);
                    }
                }
            }
        }
        Ok(())
    }
}
