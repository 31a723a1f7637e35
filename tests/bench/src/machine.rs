//! A machine that is larger than this one, as files: what its kernel would show in `/proc` and `/sys`.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) cpus: usize,
    pub(crate) disks: usize,
    pub(crate) mounts: usize,
    pub(crate) interfaces: usize,
}

/// What every interface has in `/sys/class/net`.
const INTERFACE: [(&str, &str); 22] = [
    ("addr_assign_type", "0"),
    ("address", "02:fc:00:00:00:01"),
    ("broadcast", "ff:ff:ff:ff:ff:ff"),
    ("carrier", "1"),
    ("carrier_changes", "2"),
    ("carrier_down_count", "1"),
    ("carrier_up_count", "1"),
    ("dev_id", "0x0"),
    ("dormant", "0"),
    ("duplex", "full"),
    ("flags", "0x1003"),
    ("ifalias", ""),
    ("ifindex", "4"),
    ("iflink", "4"),
    ("link_mode", "0"),
    ("mtu", "1500"),
    ("name_assign_type", "4"),
    ("netdev_group", "0"),
    ("operstate", "up"),
    ("speed", "10000"),
    ("tx_queue_len", "1000"),
    ("type", "1"),
];

/// What every CPU has for its frequency.
const FREQUENCY: [(&str, &str); 8] = [
    ("cpuinfo_cur_freq", "2400000"),
    ("cpuinfo_max_freq", "3700000"),
    ("cpuinfo_min_freq", "800000"),
    ("scaling_cur_freq", "2399998"),
    ("scaling_max_freq", "3700000"),
    ("scaling_min_freq", "800000"),
    ("scaling_governor", "schedutil"),
    ("scaling_available_governors", "performance schedutil powersave"),
];

/// Files of `/proc` whose length does not depend on the size of the machine: taken from this one.
const COPIED: [&str; 18] = [
    "loadavg",
    "meminfo",
    "net/arp",
    "net/netstat",
    "net/snmp",
    "net/snmp6",
    "net/sockstat",
    "net/sockstat6",
    "net/udp",
    "net/udp6",
    "pressure/cpu",
    "pressure/io",
    "pressure/memory",
    "self/stat",
    "sys/fs/file-nr",
    "sys/kernel/random/entropy_avail",
    "sys/kernel/random/poolsize",
    "vmstat",
];

/// Writes `proc`, `sys`, `udev` and `root` into a folder.
pub(crate) fn write(folder: &Path, size: Size) -> io::Result<()> {
    let put = |name: &str, content: &str| -> io::Result<()> {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, content)
    };
    for name in COPIED {
        // an old kernel or a small one lacks some of them
        if let Ok(text) = std::fs::read_to_string(Path::new("/proc").join(name)) {
            put(&format!("proc/{name}"), &text)?;
        }
    }

    let (mut stat, mut softnet, mut schedstat) = (String::new(), String::new(), String::from("version 17\n"));
    stat.push_str("cpu  1000 2000 3000 4000 500 600 700 800 90 10\n");
    for cpu in 0..size.cpus {
        let _ = writeln!(stat, "cpu{cpu} {} 20 3000 {} 500 60 70 8 0 0", 1000 + cpu, 400_000 + cpu * 3);
        // the CPU's number is the thirteenth column
        let none = " 00000000".repeat(9);
        let _ = writeln!(softnet, "{:08x} 00000000 00000001{none} {cpu:08x} 00000000 00000000", 100 + cpu);
        let _ = writeln!(schedstat, "cpu{cpu} 0 0 0 0 0 0 {} 1200000 {}", 9_000_000 + cpu, 800 + cpu);
        let of = |file: &str| format!("sys/devices/system/cpu/cpu{cpu}/{file}");
        put(&of("topology/physical_package_id"), &format!("{}\n", cpu / 128))?;
        put(&of("topology/core_id"), &format!("{}\n", cpu % 128 / 2))?;
        put(&of("thermal_throttle/core_throttle_count"), "3\n")?;
        put(&of("thermal_throttle/package_throttle_count"), "4\n")?;
        for (file, text) in FREQUENCY {
            put(&of(&format!("cpufreq/{file}")), &format!("{text}\n"))?;
        }
    }
    stat.push_str("intr 1000 1 2 3\nctxt 5000\nbtime 1700000000\nprocesses 700\nprocs_running 3\nprocs_blocked 0\n");
    stat.push_str("softirq 900 1 2 3 4 5 6 7 8 9 10\n");
    put("proc/stat", &stat)?;
    put("proc/net/softnet_stat", &softnet)?;
    put("proc/schedstat", &schedstat)?;
    put("sys/devices/system/cpu/online", &format!("0-{}\n", size.cpus.saturating_sub(1)))?;
    put("sys/devices/system/cpu/isolated", "\n")?;
    put("sys/devices/system/cpu/offline", "\n")?;

    let mut diskstats = String::new();
    for disk in 0..size.disks {
        let (major, minor, name) = (259, disk, format!("nvme{disk}n1"));
        let _ = writeln!(diskstats, "{major} {minor} {name} {disk} 2 3000 4 5 6 7000 8 0 10 11 12 13 14 15 16 17");
        put(&format!("sys/block/{name}/queue/rotational"), "0\n")?;
        let udev = format!(
            "S:disk/by-id/nvme-{disk}\nI:123456\nE:ID_MODEL=Some_Disk\nE:ID_SERIAL_SHORT=S{disk:06}\nE:ID_REVISION=1.2\n\
             E:ID_WWN=eui.{disk:016x}\nE:ID_PATH=pci-0000:{disk:02x}:00.0-nvme-1\nE:ID_FS_TYPE=ext4\nE:ID_FS_USAGE=filesystem\n\
             E:ID_FS_UUID=0000-{disk:04}\nE:ID_FS_VERSION=1.0\nG:systemd\n"
        );
        put(&format!("udev/b{major}:{minor}"), &udev)?;
    }
    put("proc/diskstats", &diskstats)?;

    let mut mounts = String::new();
    for mount in 0..size.mounts {
        let disk = mount % size.disks.max(1);
        let (device, point) = (format!("/dev/nvme{disk}n1p{mount}"), format!("/srv/volumes/{mount}"));
        let _ = writeln!(mounts, "{} 1 259:{disk} / {point} rw,relatime shared:{mount} - ext4 {device} rw", mount + 30);
        std::fs::create_dir_all(folder.join(format!("root{point}")))?;
    }
    put("proc/1/mountinfo", &mounts)?;

    let mut devices = String::from("Inter-|   Receive  |  Transmit\n face |bytes packets errs |bytes packets errs\n");
    for interface in 0..size.interfaces {
        let name = format!("veth{interface}");
        let _ = writeln!(devices, "{name}: {} 2000 0 1 0 0 0 5 {} 3000 0 0 0 0 0 0", interface * 1500, interface * 900);
        let path = folder.join(format!("sys/class/net/{name}"));
        std::fs::create_dir_all(&path)?;
        for (file, text) in INTERFACE {
            std::fs::write(path.join(file), format!("{text}\n"))?;
        }
    }
    put("proc/net/dev", &devices)
}
