use std::collections::BTreeMap;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, attribute, failure, malformed, names};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "rapl",
    default: true,
    flags: &[Flag::switch(
        "collector.rapl.enable-zone-label",
        false,
        "Enables service unit metric unit_start_time_seconds",
    )],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Rapl { paths: settings.paths.clone(), label: settings.on("collector.rapl.enable-zone-label") }))
}

struct Rapl {
    paths: Arc<Paths>,
    label: bool,
}

impl Collector for Rapl {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("class/powercap");
        let zones = names(&folder).map_err(|e| absent(&folder, &e))?;
        // zones of one name, such as the packages of a machine, are numbered
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        for zone in zones.iter().filter(|z| z.contains(':')) {
            let path = folder.join(zone);
            let Ok(full_name) = attribute(&path.join("name")) else { continue };
            // `package-0` carries its own number
            let (name, own) = match full_name.rsplit_once('-') {
                Some((name, number)) if number.parse::<u32>().is_ok() => (name.to_owned(), number.parse().ok()),
                _ => (full_name.clone(), None),
            };
            let next = numbers.entry(name.clone()).or_default();
            let index: u32 = own.unwrap_or(*next);
            *next = index + 1;
            let file = path.join("energy_uj");
            let micros: f64 = match attribute(&file) {
                Ok(text) => text.parse().map_err(|_| malformed(&file, "no number"))?,
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Err(CollectorError::NoData),
                Err(error) => return Err(failure(&file, &error)),
            };
            let (mut buffer, path) = (itoa::Buffer::new(), path.to_string_lossy());
            let index = ("index", buffer.format(index));
            if self.label {
                let family = page.family("node_rapl_joules_total", "Current RAPL value in joules", MetricType::Counter);
                page.sample(family, &[index, ("path", &path), ("rapl_zone", &name)], micros / 1_000_000.0);
            } else {
                let metric = name.replace(['-', '.'], "_").to_lowercase();
                let help = format!("Current RAPL {name} value in joules");
                let family = page.family(&format!("node_rapl_{metric}_joules_total"), &help, MetricType::Counter);
                page.sample(family, &[index, ("path", &path)], micros / 1_000_000.0);
            }
        }
        Ok(())
    }
}
