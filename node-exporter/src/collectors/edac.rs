use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, names_or_none, number};

of_paths!(Edac, "edac", true);

impl Collector for Edac {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Counter);
        let controllers = [
            ("ce", family("node_edac_correctable_errors_total", "Total correctable memory errors.")),
            ("ue", family("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors.")),
        ];
        let rows = [
            (
                "ce",
                family("node_edac_csrow_correctable_errors_total", "Total correctable memory errors for this csrow."),
            ),
            (
                "ue",
                family(
                    "node_edac_csrow_uncorrectable_errors_total",
                    "Total uncorrectable memory errors for this csrow.",
                ),
            ),
        ];
        let channels = [
            (
                "ce",
                family(
                    "node_edac_channel_correctable_errors_total",
                    "Total correctable memory errors for this channel.",
                ),
            ),
            (
                "ue",
                family(
                    "node_edac_channel_uncorrectable_errors_total",
                    "Total uncorrectable memory errors for this channel.",
                ),
            ),
        ];
        let folder = self.0.sys("devices/system/edac/mc");
        for name in names_or_none(&folder) {
            let Some(controller) = name.strip_prefix("mc").filter(|n| n.parse::<u32>().is_ok()) else { continue };
            let path = folder.join(&name);
            for (kind, family) in controllers {
                let count = number(&path.join(format!("{kind}_count")));
                let count = count.ok_or_else(|| {
                    CollectorError::failed(format!("couldn't get {kind}_count for controller {controller}"))
                })?;
                page.sample(family, &[("controller", controller)], count);
                // errors that no row can be told for
                let (family, unknown) =
                    (if kind == "ce" { rows[0].1 } else { rows[1].1 }, format!("{kind}_noinfo_count"));
                let count = number(&path.join(&unknown));
                let count = count.ok_or_else(|| {
                    CollectorError::failed(format!("couldn't get {unknown} for controller {controller}"))
                })?;
                page.sample(family, &[("controller", controller), ("csrow", "unknown")], count);
            }
            for name in names_or_none(&path) {
                let Some(row) = name.strip_prefix("csrow").filter(|n| n.parse::<u32>().is_ok()) else { continue };
                let row_path = path.join(&name);
                for (kind, family) in rows {
                    if let Some(count) = number(&row_path.join(format!("{kind}_count"))) {
                        page.sample(family, &[("controller", controller), ("csrow", row)], count);
                    }
                }
                for file in names_or_none(&row_path) {
                    let Some((channel, what)) = file.strip_prefix("ch").and_then(|f| f.split_once('_')) else {
                        continue;
                    };
                    let Some((_, family)) = channels.iter().find(|(kind, _)| what.strip_suffix("_count") == Some(kind))
                    else {
                        continue;
                    };
                    let label = attribute(&row_path.join(format!("ch{channel}_dimm_label"))).unwrap_or_default();
                    let label = readable(&label);
                    let labels =
                        [("channel", channel), ("controller", controller), ("csrow", row), ("dimm_label", &*label)];
                    if let Some(count) = number(&row_path.join(&file)) {
                        page.sample(*family, &labels, count);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The kernel's own label `mc#0csrow#1channel#0` as `mc0_csrow1_channel0`; what firmware has given stays.
fn readable(label: &str) -> String {
    let plain = label.replace('#', "");
    let parts = plain.strip_prefix("mc").and_then(|rest| {
        let (controller, rest) = rest.split_once("csrow")?;
        let (row, channel) = rest.split_once("channel")?;
        [controller, row, channel]
            .iter()
            .all(|p| p.parse::<u32>().is_ok())
            .then(|| format!("mc{controller}_csrow{row}_channel{channel}"))
    });
    parts.unwrap_or_else(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_kernel_are_made_readable() {
        for (label, expected) in [
            ("mc#0csrow#1channel#2", "mc0_csrow1_channel2"),
            ("mc0csrow1channel2", "mc0_csrow1_channel2"),
            ("DIMM_A1", "DIMM_A1"),
        ] {
            assert_eq!(readable(label), expected);
        }
    }
}
