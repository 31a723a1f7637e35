use std::io;
use std::sync::Arc;

use common::metrics::Page;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, failure, malformed};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "pressure", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Pressure(settings.paths.clone())))
}

struct Pressure(Arc<Paths>);

/// Resource, line of its file, metric and help.
const STALLS: [(&str, &str, &str, &str); 6] = [
    (
        "cpu",
        "some",
        "node_pressure_cpu_waiting_seconds_total",
        "Total time in seconds that processes have waited for CPU time",
    ),
    (
        "io",
        "some",
        "node_pressure_io_waiting_seconds_total",
        "Total time in seconds that processes have waited due to IO congestion",
    ),
    (
        "io",
        "full",
        "node_pressure_io_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IO congestion",
    ),
    (
        "memory",
        "some",
        "node_pressure_memory_waiting_seconds_total",
        "Total time in seconds that processes have waited for memory",
    ),
    (
        "memory",
        "full",
        "node_pressure_memory_stalled_seconds_total",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    (
        "irq",
        "full",
        "node_pressure_irq_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IRQ congestion",
    ),
];

impl Collector for Pressure {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let mut found = false;
        for resource in ["cpu", "io", "memory", "irq"] {
            let path = self.0.proc("pressure").join(resource);
            let text = match self.0.read(&path) {
                Ok(text) => text,
                // kernels without the feature, with it switched off, or without its part for interrupts
                Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::EOPNOTSUPP) => continue,
                Err(error) => return Err(failure(&path, &error)),
            };
            found = true;
            for (_, line, name, help) in STALLS.iter().filter(|s| s.0 == resource) {
                let Some(fields) = text.lines().find_map(|l| l.strip_prefix(line)) else { continue };
                let total = fields.split_ascii_whitespace().find_map(|f| f.strip_prefix("total="));
                let micros = total.and_then(|t| t.parse::<f64>().ok());
                let micros = micros.ok_or_else(|| malformed(&path, "no total in a line"))?;
                page.counter(name, help, &[], micros / 1000.0 / 1000.0);
            }
        }
        if found { Ok(()) } else { Err(CollectorError::NoData) }
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn stalls() {
        check_built(
            "pressure",
            &[],
            &[
                ("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=14036781\n"),
                ("proc/pressure/irq", "full avg10=0.00 avg60=0.00 avg300=0.00 total=8494\n"),
            ],
            &[
                "node_pressure_cpu_waiting_seconds_total 14.036781000000001",
                "node_pressure_irq_stalled_seconds_total 0.008494",
            ],
        );
    }
}
