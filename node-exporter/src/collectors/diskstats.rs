use std::sync::Arc;

use common::metrics::{FamilyId, Page};
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, attribute, malformed, read};
use crate::options::{Filter, Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "diskstats",
    default: true,
    flags: &[
        Flag::value(
            "collector.diskstats.device-exclude",
            r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
            "Regexp of diskstats devices to exclude (mutually exclusive to device-include).",
        ),
        Flag::value("collector.diskstats.ignored-devices", "", "DEPRECATED: Use collector.diskstats.device-exclude")
            .hidden(),
        Flag::value(
            "collector.diskstats.device-include",
            "",
            "Regexp of diskstats devices to include (mutually exclusive to device-exclude).",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let filter = settings.filter(
        ["collector.diskstats.device-include", ""],
        ["collector.diskstats.device-exclude", "collector.diskstats.ignored-devices"],
    )?;
    Ok(Box::new(Diskstats { paths: settings.paths.clone(), filter }))
}

struct Diskstats {
    paths: Arc<Paths>,
    filter: Filter,
}

const SECTOR: f64 = 512.0;
const MILLISECOND: f64 = 0.001;

/// The columns after the device's name: metric, type, unit and help. Older kernels have fewer.
const COLUMNS: [(&str, MetricType, f64, &str); 17] = [
    ("node_disk_reads_completed_total", Counter, 1.0, "The total number of reads completed successfully."),
    ("node_disk_reads_merged_total", Counter, 1.0, "The total number of reads merged."),
    ("node_disk_read_bytes_total", Counter, SECTOR, "The total number of bytes read successfully."),
    ("node_disk_read_time_seconds_total", Counter, MILLISECOND, "The total number of seconds spent by all reads."),
    ("node_disk_writes_completed_total", Counter, 1.0, "The total number of writes completed successfully."),
    ("node_disk_writes_merged_total", Counter, 1.0, "The number of writes merged."),
    ("node_disk_written_bytes_total", Counter, SECTOR, "The total number of bytes written successfully."),
    (
        "node_disk_write_time_seconds_total",
        Counter,
        MILLISECOND,
        "This is the total number of seconds spent by all writes.",
    ),
    ("node_disk_io_now", Gauge, 1.0, "The number of I/Os currently in progress."),
    ("node_disk_io_time_seconds_total", Counter, MILLISECOND, "Total seconds spent doing I/Os."),
    ("node_disk_io_time_weighted_seconds_total", Counter, MILLISECOND, "The weighted # of seconds spent doing I/Os."),
    ("node_disk_discards_completed_total", Counter, 1.0, "The total number of discards completed successfully."),
    ("node_disk_discards_merged_total", Counter, 1.0, "The total number of discards merged."),
    ("node_disk_discarded_sectors_total", Counter, 1.0, "The total number of sectors discarded successfully."),
    (
        "node_disk_discard_time_seconds_total",
        Counter,
        MILLISECOND,
        "This is the total number of seconds spent by all discards.",
    ),
    ("node_disk_flush_requests_total", Counter, 1.0, "The total number of flush requests completed successfully"),
    (
        "node_disk_flush_requests_time_seconds_total",
        Counter,
        MILLISECOND,
        "This is the total number of seconds spent by all flush requests.",
    ),
];

const ATA: [(&str, &str, &str); 3] = [
    ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "ATA disk has a write cache."),
    ("ID_ATA_WRITE_CACHE_ENABLED", "node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled."),
    ("ID_ATA_ROTATION_RATE_RPM", "node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs)."),
];

struct InfoFamilies {
    disk: FamilyId,
    filesystem: FamilyId,
    mapper: FamilyId,
    ata: [FamilyId; 3],
}

impl Collector for Diskstats {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.paths.proc("diskstats");
        let text = self.paths.required(&path)?;
        let columns = COLUMNS.map(|(name, kind, _, help)| page.family(name, help, kind));
        let families = InfoFamilies {
            disk: page.family("node_disk_info", "Info of /sys/block/<block_device>.", Gauge),
            filesystem: page.family("node_disk_filesystem_info", "Info about disk filesystem.", Gauge),
            mapper: page.family("node_disk_device_mapper_info", "Info about disk device mapper.", Gauge),
            ata: ATA.map(|(_, name, help)| page.family(name, help, Gauge)),
        };
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(major), Some(minor), Some(device)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(malformed(&path, &format!("too few columns in {line:?}")));
            };
            if self.filter.ignores(device) {
                continue;
            }
            self.collect_info(page, &families, device, major, minor);
            for ((family, (.., unit, _)), field) in columns.iter().zip(COLUMNS).zip(fields) {
                let value: f64 =
                    field.parse().map_err(|_| malformed(&path, &format!("no number: {field:?} in {line:?}")))?;
                page.sample(*family, &[("device", device)], value * unit);
            }
        }
        Ok(())
    }
}

impl Diskstats {
    fn collect_info(&self, page: &mut Page, families: &InfoFamilies, device: &str, major: &str, minor: &str) {
        let database = read(&self.paths.udev.join(format!("b{major}:{minor}"))).unwrap_or_default();
        let property = |name: &str| {
            let mut entries = database.lines().filter_map(|l| l.strip_prefix("E:")?.split_once('='));
            entries.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
        };
        let serials = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(property);
        let serial = serials.into_iter().find(|s| !s.is_empty()).unwrap_or("");
        let block = self.paths.sys("block").join(device.replace('/', "!"));
        let rotational = attribute(&block.join("queue/rotational")).unwrap_or_else(|_| "0".to_owned());
        let labels = [
            ("device", device),
            ("major", major),
            ("minor", minor),
            ("model", property("ID_MODEL")),
            ("path", property("ID_PATH")),
            ("revision", property("ID_REVISION")),
            ("rotational", &rotational),
            ("serial", serial),
            ("wwn", property("ID_WWN")),
        ];
        page.sample(families.disk, &labels, 1.0);
        let kind = property("ID_FS_TYPE");
        if !kind.is_empty() {
            let labels = [
                ("device", device),
                ("type", kind),
                ("usage", property("ID_FS_USAGE")),
                ("uuid", property("ID_FS_UUID")),
                ("version", property("ID_FS_VERSION")),
            ];
            page.sample(families.filesystem, &labels, 1.0);
        }
        let name = property("DM_NAME");
        if !name.is_empty() {
            let labels = [
                ("device", device),
                ("lv_layer", property("DM_LV_LAYER")),
                ("lv_name", property("DM_LV_NAME")),
                ("name", name),
                ("uuid", property("DM_UUID")),
                ("vg_name", property("DM_VG_NAME")),
            ];
            page.sample(families.mapper, &labels, 1.0);
        }
        if property("ID_ATA").is_empty() {
            return;
        }
        for (family, (key, ..)) in families.ata.iter().zip(ATA) {
            if let Ok(value) = property(key).parse() {
                page.sample(*family, &[("device", device)], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn columns_and_udev_properties() {
        check_built(
            "diskstats",
            &["--collector.diskstats.device-exclude=^loop"],
            &[
                ("proc/diskstats", "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n"),
                (
                    "udev/b8:0",
                    "S:x\nE:ID_MODEL=M\nE:ID_SERIAL_SHORT=S\nE:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_FS_TYPE=ext4\n",
                ),
                ("sys/block/sda/queue/rotational", "1\n"),
            ],
            &[
                "node_disk_ata_write_cache{device=\"sda\"} 1",
                "node_disk_filesystem_info{device=\"sda\",type=\"ext4\",usage=\"\",uuid=\"\",version=\"\"} 1",
                "node_disk_info{device=\"sda\",major=\"8\",minor=\"0\",model=\"M\",path=\"\",revision=\"\",rotational=\"1\",serial=\"S\",wwn=\"\"} 1",
                "node_disk_io_now{device=\"sda\"} 9",
                "node_disk_io_time_seconds_total{device=\"sda\"} 0.01",
                "node_disk_io_time_weighted_seconds_total{device=\"sda\"} 0.011",
                "node_disk_read_bytes_total{device=\"sda\"} 1536",
                "node_disk_read_time_seconds_total{device=\"sda\"} 0.004",
                "node_disk_reads_completed_total{device=\"sda\"} 1",
                "node_disk_reads_merged_total{device=\"sda\"} 2",
                "node_disk_write_time_seconds_total{device=\"sda\"} 0.008",
                "node_disk_writes_completed_total{device=\"sda\"} 5",
                "node_disk_writes_merged_total{device=\"sda\"} 6",
                "node_disk_written_bytes_total{device=\"sda\"} 3584",
            ],
        );
    }
}
