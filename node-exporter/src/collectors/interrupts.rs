use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::{Filter, Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "interrupts",
    default: false,
    flags: &[
        Flag::value(
            "collector.interrupts.name-include",
            "",
            "Regexp of interrupts name to include (mutually exclusive to --collector.interrupts.name-exclude).",
        ),
        Flag::value(
            "collector.interrupts.name-exclude",
            "",
            "Regexp of interrupts name to exclude (mutually exclusive to --collector.interrupts.name-include).",
        ),
        Flag::switch("collector.interrupts.include-zeros", true, "Include interrupts that have a zero value"),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Interrupts {
        paths: settings.paths.clone(),
        filter: settings
            .filter(["collector.interrupts.name-include", ""], ["collector.interrupts.name-exclude", ""])?,
        zeros: settings.on("collector.interrupts.include-zeros"),
    }))
}

struct Interrupts {
    paths: Arc<Paths>,
    filter: Filter,
    zeros: bool,
}

impl Collector for Interrupts {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.paths.proc("interrupts");
        let text = self.paths.required(&path)?;
        let mut lines = text.lines();
        let cpus = lines.next().unwrap_or("").split_ascii_whitespace().count();
        if cpus == 0 {
            return Err(malformed(&path, "no CPU in the first line"));
        }
        let family = page.family("node_interrupts_total", "Interrupt details.", MetricType::Counter);
        for line in lines {
            let Some((kind, rest)) = line.split_once(':') else { continue };
            let kind = kind.trim();
            let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
            // totals of errors have one number for all CPUs and no name
            if fields.len() <= cpus {
                continue;
            }
            let (info, devices) = if kind.parse::<u32>().is_ok() {
                (fields[cpus].to_owned(), fields[cpus + 1..].join(" "))
            } else {
                (fields[cpus..].join(" "), String::new())
            };
            if self.filter.ignores(&format!("{kind};{info};{devices}")) {
                continue;
            }
            for (cpu, field) in fields[..cpus].iter().enumerate() {
                let value: f64 = field.parse().map_err(|_| malformed(&path, &format!("no number: {field:?}")))?;
                if value == 0.0 && !self.zeros {
                    continue;
                }
                let mut buffer = itoa::Buffer::new();
                let labels = [("cpu", buffer.format(cpu)), ("devices", &*devices), ("info", &*info), ("type", kind)];
                page.sample(family, &labels, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn lines_with_and_without_devices() {
        check_built(
            "interrupts",
            &["--no-collector.interrupts.include-zeros"],
            &[(
                "proc/interrupts",
                "  CPU0 CPU1\n 1: 17 0 IO-APIC edge timer\nRES: 5 6 Rescheduling interrupts\nERR: 0\n",
            )],
            &[
                "node_interrupts_total{cpu=\"0\",devices=\"\",info=\"Rescheduling interrupts\",type=\"RES\"} 5",
                "node_interrupts_total{cpu=\"0\",devices=\"edge timer\",info=\"IO-APIC\",type=\"1\"} 17",
                "node_interrupts_total{cpu=\"1\",devices=\"\",info=\"Rescheduling interrupts\",type=\"RES\"} 6",
            ],
        );
    }
}
