use std::sync::Arc;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, names};
use common::metrics::Page;

of_paths!(Dmi, "dmi", true);

/// File and label.
const FIELDS: [(&str, &str); 20] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("sys_vendor", "system_vendor"),
];

impl Collector for Dmi {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("class/dmi/id");
        names(&folder).map_err(|e| absent(&folder, &e))?;
        // what cannot be read, for want of rights or because the machine has it not, has no label
        let values = FIELDS.map(|(file, label)| attribute(&folder.join(file)).ok().map(|value| (label, value)));
        let labels: Vec<(&str, &str)> =
            values.iter().flatten().map(|(label, value)| (*label, value.as_str())).collect();
        let help = format!(
            "A metric with a constant '1' value labeled by {} if provided by DMI.",
            FIELDS.map(|(_, label)| label).join(", ")
        );
        page.gauge("node_dmi_info", &help, &labels, 1.0);
        Ok(())
    }
}
