use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::Gauge;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, failure, names};

of_paths!(NvmeSubsystem, "nvmesubsystem", false);

/// What the kernel calls a controller's state, and the label it becomes.
const STATES: [(&str, &str); 7] = [
    ("live", "live"),
    ("connecting", "connecting"),
    ("resetting", "resetting"),
    ("dead", "dead"),
    ("new", "new"),
    ("deleting", "deleting"),
    ("deleting (no IO)", "deleting"),
];

/// The labels of which a controller has one.
const LABELS: [&str; 7] = ["connecting", "dead", "deleting", "live", "new", "resetting", "unknown"];

struct Subsystem {
    name: String,
    nqn: String,
    model: String,
    serial: String,
    iopolicy: String,
    namespaces: Vec<String>,
    controllers: Vec<Controller>,
}

struct Controller {
    name: String,
    transport: String,
    state: &'static str,
}

impl Collector for NvmeSubsystem {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("class/nvme-subsystem");
        let names = names(&folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => CollectorError::NoData,
            _ => absent(&folder, &error),
        })?;
        // one subsystem that cannot be read fails all
        let subsystems: Vec<Subsystem> = names
            .into_iter()
            .filter(|name| name.starts_with("nvme-subsys"))
            .map(|name| subsystem(&folder, name))
            .collect::<Result<_, _>>()?;
        let info = page.family("node_nvmesubsystem_info", "Non-numeric information about an NVMe subsystem.", Gauge);
        let help = "Maps an NVMe namespace block device to its subsystem.";
        let namespace_info = page.family("node_nvmesubsystem_namespace_info", help, Gauge);
        let help = "Number of controller paths for an NVMe subsystem.";
        let paths = page.family("node_nvmesubsystem_paths", help, Gauge);
        let help = "Number of controller paths in live state for an NVMe subsystem.";
        let live = page.family("node_nvmesubsystem_paths_live", help, Gauge);
        let help = "Current NVMe controller path state (1 for the current state, 0 for all others).";
        let path_state = page.family("node_nvmesubsystem_path_state", help, Gauge);
        for subsystem in subsystems {
            let name = ("subsystem", &*subsystem.name);
            let labels = [
                ("iopolicy", &*subsystem.iopolicy),
                ("model", &subsystem.model),
                ("nqn", &subsystem.nqn),
                ("serial", &subsystem.serial),
                name,
            ];
            page.sample(info, &labels, 1.0);
            for namespace in &subsystem.namespaces {
                page.sample(namespace_info, &[("device", namespace), name], 1.0);
            }
            for controller in &subsystem.controllers {
                for label in LABELS {
                    let labels = [
                        ("controller", &*controller.name),
                        ("state", label),
                        name,
                        ("transport", &controller.transport),
                    ];
                    page.sample(path_state, &labels, f64::from(u8::from(controller.state == label)));
                }
            }
            page.sample(paths, &[name], subsystem.controllers.len() as f64);
            page.sample(live, &[name], subsystem.controllers.iter().filter(|c| c.state == "live").count() as f64);
        }
        Ok(())
    }
}

fn subsystem(folder: &Path, name: String) -> Result<Subsystem, CollectorError> {
    let path = folder.join(&name);
    let text = |file: &str| {
        let path = path.join(file);
        attribute(&path).map_err(|error| failure(&path, &error))
    };
    let mut found = Subsystem {
        nqn: text("subsysnqn")?,
        model: text("model")?,
        serial: text("serial")?,
        iopolicy: text("iopolicy")?,
        name,
        namespaces: Vec::new(),
        controllers: Vec::new(),
    };
    for entry in names(&path).map_err(|error| failure(&path, &error))? {
        let Some(rest) = entry.strip_prefix("nvme") else { continue };
        if digits(rest) {
            // node_exporter wants to read the address as well, though it shows it nowhere
            text(&format!("{entry}/address"))?;
            let state = text(&format!("{entry}/state"))?;
            let transport = text(&format!("{entry}/transport"))?;
            let state = STATES.iter().find(|(raw, _)| *raw == state).map_or("unknown", |(_, label)| label);
            found.controllers.push(Controller { name: entry, transport, state });
        } else if rest.split_once('n').is_some_and(|(controller, id)| digits(controller) && digits(id)) {
            found.namespaces.push(entry);
        }
    }
    Ok(found)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check, paths, samples};

    /// A subsystem with controllers in the given states.
    fn tree(states: &[&str]) -> Vec<(String, String)> {
        let base = "sys/class/nvme-subsystem/nvme-subsys1";
        let mut files = vec![
            (format!("{base}/subsysnqn"), "nqn.2014-08.org.example:a\n".to_owned()),
            (format!("{base}/model"), "Array  \n".to_owned()),
            (format!("{base}/serial"), "S1\n".to_owned()),
            (format!("{base}/iopolicy"), "numa\n".to_owned()),
            (format!("{base}/nvme0n1/size"), "1\n".to_owned()),
            (format!("{base}/nvme0c0n1/size"), "1\n".to_owned()),
            (format!("{base}/power/control"), "auto\n".to_owned()),
        ];
        for (at, state) in states.iter().enumerate() {
            for (file, text) in [("state", *state), ("transport", "tcp"), ("address", "traddr=192.0.2.1")] {
                files.push((format!("{base}/nvme{at}/{file}"), format!("{text}\n")));
            }
        }
        files
    }

    fn built(files: &[(String, String)]) -> (tempfile::TempDir, Arc<Paths>) {
        paths(&files.iter().map(|(name, text)| (&**name, &**text)).collect::<Vec<_>>())
    }

    #[test]
    fn paths_are_counted() {
        let (_folder, paths) = built(&tree(&["live", "dead"]));
        let (lines, result) = samples(&NvmeSubsystem(paths));
        assert_eq!(result, Ok(()));
        let lines: Vec<_> = lines.iter().filter(|l| !l.ends_with("} 0")).collect();
        assert_eq!(
            lines,
            [
                "node_nvmesubsystem_info{iopolicy=\"numa\",model=\"Array\",nqn=\"nqn.2014-08.org.example:a\",serial=\"S1\",subsystem=\"nvme-subsys1\"} 1",
                "node_nvmesubsystem_namespace_info{device=\"nvme0n1\",subsystem=\"nvme-subsys1\"} 1",
                "node_nvmesubsystem_path_state{controller=\"nvme0\",state=\"live\",subsystem=\"nvme-subsys1\",transport=\"tcp\"} 1",
                "node_nvmesubsystem_path_state{controller=\"nvme1\",state=\"dead\",subsystem=\"nvme-subsys1\",transport=\"tcp\"} 1",
                "node_nvmesubsystem_paths{subsystem=\"nvme-subsys1\"} 2",
                "node_nvmesubsystem_paths_live{subsystem=\"nvme-subsys1\"} 1",
            ]
        );
    }

    #[test]
    fn a_controller_has_one_of_seven_states() {
        for (raw, label) in [
            ("live", "live"),
            ("connecting", "connecting"),
            ("resetting", "resetting"),
            ("dead", "dead"),
            ("new", "new"),
            ("deleting", "deleting"),
            ("deleting (no IO)", "deleting"),
            ("", "unknown"),
            ("something else", "unknown"),
        ] {
            let (_folder, paths) = built(&tree(&[raw]));
            let (lines, _) = samples(&NvmeSubsystem(paths));
            let states: Vec<_> = lines.iter().filter(|l| l.starts_with("node_nvmesubsystem_path_state")).collect();
            assert_eq!(states.len(), 7);
            let set: Vec<_> = states.iter().filter(|l| l.ends_with("} 1")).collect();
            assert!(set.len() == 1 && set[0].contains(&format!("state=\"{label}\"")), "{raw}: {set:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_no_data_and_what_is_cut_short_a_failure() {
        let (_folder, none) = paths(&[("sys/class/x", "")]);
        check(&NvmeSubsystem(none), &Err(CollectorError::NoData), &[]);
        let mut files = tree(&["live"]);
        files.retain(|(name, _)| !name.ends_with("iopolicy"));
        let (_folder, cut) = built(&files);
        let path = cut.sys("class/nvme-subsystem/nvme-subsys1/iopolicy");
        let text = format!("{}: No such file or directory (os error 2)", path.display());
        check(&NvmeSubsystem(cut), &Err(CollectorError::Failed(text)), &[]);
    }
}
