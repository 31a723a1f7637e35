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
