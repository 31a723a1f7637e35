//! The names of PCI devices, from the `pci.ids` database.

use std::collections::HashMap;

/// Names by their numbers in lower-case hexadecimal without `0x`.
#[derive(Debug, Default)]
pub(super) struct PciIds {
    vendors: HashMap<String, String>,
    /// By vendor and device.
    devices: HashMap<(String, String), String>,
    /// By device alone: the first in the file.
    any_device: HashMap<String, String>,
    /// By vendor, device, subsystem vendor and subsystem device.
    subsystems: HashMap<[String; 4], String>,
    /// By class, subclass and programming interface, of two digits each, less of them where the database has no more.
    classes: HashMap<String, String>,
}

impl PciIds {
    pub(super) fn parse(text: &str) -> Self {
        let mut ids = Self::default();
        let (mut vendor, mut device, mut in_classes) = (String::new(), String::new(), false);
        for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
            let depth = line.bytes().take_while(|b| *b == b'\t').count();
            let Some((id, name)) = line[depth..].split_once("  ") else { continue };
            let (id, name) = (id.to_lowercase(), name.trim().to_owned());
            match (depth, in_classes) {
                (0, _) => {
                    in_classes = id.starts_with("c ");
                    vendor = id.trim_start_matches("c ").to_owned();
                    if in_classes {
                        ids.classes.insert(vendor.clone(), name)
                    } else {
                        ids.vendors.insert(vendor.clone(), name)
                    };
                }
                (1, true) => {
                    device = format!("{vendor}{id}");
                    ids.classes.insert(device.clone(), name);
                }
                (_, true) => {
                    ids.classes.insert(format!("{device}{id}"), name);
                }
                (1, false) => {
                    device.clone_from(&id);
                    ids.any_device.entry(id.clone()).or_insert_with(|| name.clone());
                    ids.devices.insert((vendor.clone(), id), name);
                }
                (_, false) => {
                    if let Some((sub_vendor, sub_device)) = id.split_once(' ') {
                        let key = [vendor.clone(), device.clone(), sub_vendor.to_owned(), sub_device.to_owned()];
                        ids.subsystems.insert(key, name);
                    }
                }
            }
        }
        ids
    }

    /// The vendor's name, or its number.
    pub(super) fn vendor<'a>(&'a self, id: &'a str) -> &'a str {
        self.vendors.get(&bare(id)).map_or(id, String::as_str)
    }

    /// The device's name, or its number.
    pub(super) fn device<'a>(&'a self, vendor: &str, id: &'a str) -> &'a str {
        self.devices.get(&(bare(vendor), bare(id))).map_or(id, String::as_str)
    }

    /// The name of a device as its subsystem vendor sells it; without one, of any device of that number, or the number.
    pub(super) fn subsystem<'a>(
        &'a self,
        vendor: &str,
        device: &str,
        sub_vendor: &str,
        sub_device: &'a str,
    ) -> &'a str {
        let key = [bare(vendor), bare(device), bare(sub_vendor), bare(sub_device)];
        let name = self.subsystems.get(&key);
        let own = || self.devices.get(&(bare(sub_vendor), bare(sub_device)));
        name.or_else(own).or_else(|| self.any_device.get(&bare(sub_device))).map_or(sub_device, String::as_str)
    }

    /// The name of a class such as `0x060400`, as exactly as the database knows it, or the number.
    pub(super) fn class<'a>(&'a self, id: &'a str) -> &'a str {
        let digits = bare(id);
        // the programming interface is not part of what people call a class
        [4, 2].iter().find_map(|len| self.classes.get(digits.get(..*len)?)).map_or(id, String::as_str)
    }
}

fn bare(id: &str) -> String {
    id.trim_start_matches("0x").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_and_classes() {
        let ids = PciIds::parse(
            "# comment\n1022  AMD\n\t1634  Bridge\n\t\t17aa 5095  Thing\n17aa  Lenovo\nC 06  Bridge class\n\t04  PCI bridge\n\t\t00  Normal\n",
        );
        assert_eq!(
            (ids.vendor("0x1022"), ids.device("0x1022", "0x1634"), ids.vendor("0xffff")),
            ("AMD", "Bridge", "0xffff")
        );
        assert_eq!(ids.subsystem("0x1022", "0x1634", "0x17aa", "0x5095"), "Thing");
        assert_eq!(
            (ids.class("0x060400"), ids.class("0x06ff00"), ids.class("0x990000")),
            ("PCI bridge", "Bridge class", "0x990000")
        );
    }
}
