use std::io::Read;
use std::path::{Path, PathBuf};

use common::metrics::Page;
use model::MetricType::Gauge;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{failure, names};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "runit",
    default: false,
    flags: &[Flag::value("collector.runit.servicedir", "/etc/service", "Path to runit service directory.")],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Runit { folder: settings.text("collector.runit.servicedir").into() }))
}

struct Runit {
    folder: PathBuf,
}

/// The second of the epoch in TAI64 as runit counts it, with the ten leap seconds of 1970.
const EPOCH: u64 = (1 << 62) + 10;

/// What `supervise/status` of a service holds: 8 bytes of seconds (big endian), 4 of nanoseconds, 4 of the process, then a
/// byte each for paused, wanted, terminated and the state.
struct Status {
    timestamp: i64,
    /// 0 down, 1 up.
    desired: u8,
    /// 0 down, 1 up, 2 finishing.
    state: u8,
}

impl Collector for Runit {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let services = names(&self.folder).map_err(|error| failure(&self.folder, &error))?;
        let state = page.family("node_service_state", "State of runit service.", Gauge);
        let desired = page.family("node_service_desired_state", "Desired state of runit service.", Gauge);
        let normal = page.family("node_service_normal_state", "Normal state of runit service.", Gauge);
        let help = "Unix timestamp of the last runit service state change.";
        let changed = page.family("node_service_state_last_change_timestamp_seconds", help, Gauge);
        for service in services {
            let supervise = self.folder.join(&service).join("supervise");
            let Some(status) = status(&supervise.join("status")) else {
                tracing::debug!(service, "no status of the service");
                continue;
            };
            let labels = [("service", &*service), ("supervisor", "runit")];
            page.sample(state, &labels, f64::from(status.state));
            page.sample(desired, &labels, f64::from(status.desired));
            page.sample(changed, &labels, status.timestamp as f64);
            // runit itself looks for `down` beside `supervise`; node_exporter looks inside
            let up = !supervise.join("down").exists();
            page.sample(normal, &labels, f64::from(u8::from(up)));
        }
        Ok(())
    }
}

/// A service's status; `None` if there is none or it is empty. One that is cut short counts as zeros from there on.
fn status(path: &Path) -> Option<Status> {
    let mut bytes = [0u8; 20];
    let len = std::fs::File::open(path).ok()?.read(&mut bytes).ok()?;
    if len == 0 {
        return None;
    }
    let seconds = u64::from_be_bytes(bytes[..8].try_into().ok()?);
    Some(Status {
        timestamp: seconds.wrapping_sub(EPOCH).cast_signed(),
        desired: u8::from(bytes[17] == b'u'),
        state: bytes[19],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check, paths, samples};

    fn bytes(seconds: u64, want: u8, state: u8) -> Vec<u8> {
        let mut bytes = (EPOCH + seconds).to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 5, 77, 0, 0, 0, 0, want, 0, state]);
        bytes
    }

    #[test]
    fn services_are_folders_and_links_with_a_status() {
        let (folder, _) = paths(&[
            ("service/file", ""),
            ("service/idle/run", ""),
            ("service/wanted-up/supervise/lock", ""),
            ("service/wanted-down/supervise/down", ""),
            ("elsewhere/supervise/lock", ""),
            ("service/linked", "->../elsewhere"),
            ("service/dangling", "->../nowhere"),
        ]);
        let at = |name: &str| folder.path().join(name).join("supervise/status");
        std::fs::write(at("service/wanted-up"), bytes(1_700_000_000, b'u', 1)).unwrap();
        std::fs::write(at("service/wanted-down"), bytes(1_700_000_001, b'd', 0)).unwrap();
        std::fs::write(at("elsewhere"), bytes(1_700_000_002, 0, 2)).unwrap();
        check(
            &Runit { folder: folder.path().join("service") },
            &Ok(()),
            &[
                "node_service_desired_state{service=\"linked\",supervisor=\"runit\"} 0",
                "node_service_desired_state{service=\"wanted-down\",supervisor=\"runit\"} 0",
                "node_service_desired_state{service=\"wanted-up\",supervisor=\"runit\"} 1",
                "node_service_normal_state{service=\"linked\",supervisor=\"runit\"} 1",
                "node_service_normal_state{service=\"wanted-down\",supervisor=\"runit\"} 0",
                "node_service_normal_state{service=\"wanted-up\",supervisor=\"runit\"} 1",
                "node_service_state{service=\"linked\",supervisor=\"runit\"} 2",
                "node_service_state{service=\"wanted-down\",supervisor=\"runit\"} 0",
                "node_service_state{service=\"wanted-up\",supervisor=\"runit\"} 1",
                "node_service_state_last_change_timestamp_seconds{service=\"linked\",supervisor=\"runit\"} 1.700000002e+09",
                "node_service_state_last_change_timestamp_seconds{service=\"wanted-down\",supervisor=\"runit\"} 1.700000001e+09",
                "node_service_state_last_change_timestamp_seconds{service=\"wanted-up\",supervisor=\"runit\"} 1.7e+09",
            ],
        );
    }

    #[test]
    fn a_short_status_reads_as_zeros_and_an_empty_one_is_none() {
        let (folder, _) = paths(&[("short/supervise/lock", ""), ("empty/supervise/status", "")]);
        std::fs::write(folder.path().join("short/supervise/status"), &bytes(60, b'u', 1)[..10]).unwrap();
        let (lines, _) = samples(&Runit { folder: folder.path().into() });
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines.contains(&"node_service_state{service=\"short\",supervisor=\"runit\"} 0".to_owned()));
        let time = "node_service_state_last_change_timestamp_seconds{service=\"short\",supervisor=\"runit\"} 60";
        assert!(lines.contains(&time.to_owned()), "{lines:?}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_failure() {
        let (folder, _) = paths(&[("x", "")]);
        let folder = folder.path().join("none");
        let text = format!("{}: No such file or directory (os error 2)", folder.display());
        check(&Runit { folder }, &Err(CollectorError::Failed(text)), &[]);
    }
}
