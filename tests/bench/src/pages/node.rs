//! Pages like those of a node exporter in a cluster; they grow with the number of pods on the node, each with a network
//! interface and two volumes.

use super::behaviour::Behaviour::{
    self, Bytes, Clock, Constant, Count, Duration, Hundredths, Level, Load, Seconds, Thousandths, Walk,
};
use super::{Builder, PageSpec, mix};

const MODES: [(&str, f64); 8] = [
    ("idle", 800.0),
    ("iowait", 0.4),
    ("irq", 0.0),
    ("nice", 0.02),
    ("softirq", 1.2),
    ("steal", 0.5),
    ("system", 40.0),
    ("user", 150.0),
];

const MEMORY: [(&str, Behaviour); 30] = [
    ("node_memory_Active_anon_bytes", Bytes(900.0)),
    ("node_memory_Active_bytes", Bytes(2000.0)),
    ("node_memory_Active_file_bytes", Bytes(700.0)),
    ("node_memory_AnonPages_bytes", Bytes(900.0)),
    ("node_memory_Buffers_bytes", Bytes(20.0)),
    ("node_memory_Cached_bytes", Bytes(1500.0)),
    ("node_memory_CommitLimit_bytes", Constant(1.6e10)),
    ("node_memory_Committed_AS_bytes", Bytes(4000.0)),
    ("node_memory_DirectMap1G_bytes", Constant(3.0064771072e10)),
    ("node_memory_DirectMap2M_bytes", Constant(4.2991616e9)),
    ("node_memory_Dirty_bytes", Bytes(300.0)),
    ("node_memory_HugePages_Free", Constant(0.0)),
    ("node_memory_HugePages_Total", Constant(0.0)),
    ("node_memory_Inactive_anon_bytes", Bytes(400.0)),
    ("node_memory_Inactive_file_bytes", Bytes(600.0)),
    ("node_memory_KernelStack_bytes", Bytes(16.0)),
    ("node_memory_Mapped_bytes", Bytes(90.0)),
    ("node_memory_MemAvailable_bytes", Bytes(3000.0)),
    ("node_memory_MemFree_bytes", Bytes(3000.0)),
    ("node_memory_MemTotal_bytes", Constant(3.3567371264e10)),
    ("node_memory_PageTables_bytes", Bytes(30.0)),
    ("node_memory_Percpu_bytes", Constant(4.2205184e7)),
    ("node_memory_SReclaimable_bytes", Bytes(100.0)),
    ("node_memory_SUnreclaim_bytes", Bytes(40.0)),
    ("node_memory_Shmem_bytes", Bytes(12.0)),
    ("node_memory_Slab_bytes", Bytes(130.0)),
    ("node_memory_SwapFree_bytes", Constant(0.0)),
    ("node_memory_SwapTotal_bytes", Constant(0.0)),
    ("node_memory_VmallocTotal_bytes", Constant(3.5184372087808e13)),
    ("node_memory_Writeback_bytes", Bytes(3.0)),
];

const DISK: [(&str, Behaviour); 14] = [
    ("node_disk_discards_completed_total", Constant(0.0)),
    ("node_disk_flush_requests_time_seconds_total", Thousandths(12.0)),
    ("node_disk_flush_requests_total", Count(9.0)),
    ("node_disk_io_now", Level(2.0)),
    ("node_disk_io_time_seconds_total", Thousandths(400.0)),
    ("node_disk_io_time_weighted_seconds_total", Thousandths(900.0)),
    ("node_disk_read_bytes_total", Count(180_000.0)),
    ("node_disk_read_time_seconds_total", Thousandths(60.0)),
    ("node_disk_reads_completed_total", Count(25.0)),
    ("node_disk_reads_merged_total", Count(0.2)),
    ("node_disk_write_time_seconds_total", Thousandths(700.0)),
    ("node_disk_writes_completed_total", Count(240.0)),
    ("node_disk_writes_merged_total", Count(130.0)),
    ("node_disk_written_bytes_total", Count(3_400_000.0)),
];

const FILESYSTEM: [(&str, Behaviour); 7] = [
    ("node_filesystem_avail_bytes", Bytes(200.0)),
    ("node_filesystem_device_error", Constant(0.0)),
    ("node_filesystem_files", Constant(1.6777216e7)),
    ("node_filesystem_files_free", Level(1.5e7)),
    ("node_filesystem_free_bytes", Bytes(200.0)),
    ("node_filesystem_readonly", Constant(0.0)),
    ("node_filesystem_size_bytes", Constant(2.70553174016e11)),
];

const NETWORK: [(&str, Behaviour); 16] = [
    ("node_network_carrier", Constant(1.0)),
    ("node_network_flags", Constant(4163.0)),
    ("node_network_iface_id", Constant(2.0)),
    ("node_network_mtu_bytes", Constant(1500.0)),
    ("node_network_receive_bytes_total", Count(900_000.0)),
    ("node_network_receive_drop_total", Count(0.01)),
    ("node_network_receive_errs_total", Constant(0.0)),
    ("node_network_receive_multicast_total", Count(0.6)),
    ("node_network_receive_packets_total", Count(2_000.0)),
    ("node_network_transmit_bytes_total", Count(700_000.0)),
    ("node_network_transmit_colls_total", Constant(0.0)),
    ("node_network_transmit_drop_total", Constant(0.0)),
    ("node_network_transmit_errs_total", Constant(0.0)),
    ("node_network_transmit_packets_total", Count(1_800.0)),
    ("node_network_transmit_queue_length", Constant(1000.0)),
    ("node_network_up", Constant(1.0)),
];

const SINGLES: [(&str, &str, Behaviour); 56] = [
    ("node_boot_time_seconds", "gauge", Constant(1.763e9)),
    ("node_context_switches_total", "counter", Count(90_000.0)),
    ("node_entropy_available_bits", "gauge", Constant(256.0)),
    ("node_filefd_allocated", "gauge", Level(4_000.0)),
    ("node_filefd_maximum", "gauge", Constant(9.223372036854776e18)),
    ("node_forks_total", "counter", Count(60.0)),
    ("node_intr_total", "counter", Count(70_000.0)),
    ("node_load1", "gauge", Load(2.0)),
    ("node_load15", "gauge", Load(1.5)),
    ("node_load5", "gauge", Load(1.7)),
    ("node_netstat_Icmp_InMsgs", "untyped", Count(0.4)),
    ("node_netstat_Icmp_OutMsgs", "untyped", Count(0.4)),
    ("node_netstat_IpExt_InOctets", "untyped", Count(2_100_000.0)),
    ("node_netstat_IpExt_OutOctets", "untyped", Count(1_900_000.0)),
    ("node_netstat_Ip_Forwarding", "untyped", Constant(1.0)),
    ("node_netstat_TcpExt_ListenDrops", "untyped", Constant(0.0)),
    ("node_netstat_TcpExt_TCPSynRetrans", "untyped", Count(0.3)),
    ("node_netstat_Tcp_ActiveOpens", "untyped", Count(40.0)),
    ("node_netstat_Tcp_CurrEstab", "untyped", Level(180.0)),
    ("node_netstat_Tcp_InSegs", "untyped", Count(9_000.0)),
    ("node_netstat_Tcp_OutSegs", "untyped", Count(8_500.0)),
    ("node_netstat_Tcp_PassiveOpens", "untyped", Count(35.0)),
    ("node_netstat_Tcp_RetransSegs", "untyped", Count(0.8)),
    ("node_netstat_Udp_InDatagrams", "untyped", Count(25.0)),
    ("node_netstat_Udp_OutDatagrams", "untyped", Count(25.0)),
    ("node_pressure_cpu_waiting_seconds_total", "counter", Thousandths(90.0)),
    ("node_pressure_io_stalled_seconds_total", "counter", Thousandths(3.0)),
    ("node_pressure_io_waiting_seconds_total", "counter", Thousandths(8.0)),
    ("node_pressure_memory_stalled_seconds_total", "counter", Constant(0.0)),
    ("node_procs_blocked", "gauge", Level(0.3)),
    ("node_procs_running", "gauge", Level(3.0)),
    ("node_sockstat_TCP_alloc", "gauge", Level(400.0)),
    ("node_sockstat_TCP_inuse", "gauge", Level(120.0)),
    ("node_sockstat_TCP_mem_bytes", "gauge", Bytes(20.0)),
    ("node_sockstat_TCP_tw", "gauge", Level(60.0)),
    ("node_sockstat_UDP_inuse", "gauge", Level(9.0)),
    ("node_sockstat_sockets_used", "gauge", Level(700.0)),
    ("node_time_seconds", "gauge", Clock),
    ("node_timex_estimated_error_seconds", "gauge", Walk(0.0002)),
    ("node_timex_frequency_adjustment_ratio", "gauge", Walk(1.0)),
    ("node_timex_maxerror_seconds", "gauge", Walk(0.2)),
    ("node_timex_offset_seconds", "gauge", Walk(0.00003)),
    ("node_timex_status", "gauge", Constant(8193.0)),
    ("node_timex_sync_status", "gauge", Constant(1.0)),
    ("node_vmstat_oom_kill", "untyped", Constant(0.0)),
    ("node_vmstat_pgfault", "untyped", Count(50_000.0)),
    ("node_vmstat_pgmajfault", "untyped", Count(0.5)),
    ("node_vmstat_pgpgin", "untyped", Count(180.0)),
    ("node_vmstat_pgpgout", "untyped", Count(3_300.0)),
    ("node_vmstat_pswpin", "untyped", Constant(0.0)),
    ("node_vmstat_pswpout", "untyped", Constant(0.0)),
    ("process_cpu_seconds_total", "counter", Hundredths(3.0)),
    ("process_open_fds", "gauge", Level(11.0)),
    ("process_resident_memory_bytes", "gauge", Bytes(8.0)),
    ("process_start_time_seconds", "gauge", Constant(1.76300001234e9)),
    ("process_virtual_memory_bytes", "gauge", Constant(1.274912768e9)),
];

const COLLECTORS: [&str; 38] = [
    "arp",
    "bcache",
    "bonding",
    "btrfs",
    "conntrack",
    "cpu",
    "cpufreq",
    "diskstats",
    "dmi",
    "edac",
    "entropy",
    "fibrechannel",
    "filefd",
    "filesystem",
    "hwmon",
    "infiniband",
    "ipvs",
    "loadavg",
    "mdadm",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "nfs",
    "nfsd",
    "nvme",
    "os",
    "powersupplyclass",
    "pressure",
    "rapl",
    "schedstat",
    "selinux",
    "sockstat",
    "softnet",
    "stat",
    "thermal_zone",
    "time",
    "vmstat",
];

/// Processors of each machine.
const CPUS: usize = 8;

/// The page of a machine with so many pods.
pub(super) fn build(spec: &PageSpec, pods: usize) -> Builder {
    let mut page = Builder::default();
    // replaced machines have other disks, interfaces and names
    let machine = mix(spec.target as u64, spec.generation) & 0xffff_ffff;
    let cpus: Vec<String> = (0..CPUS).map(|cpu| cpu.to_string()).collect();
    let volumes: Vec<String> = (0..2 * pods).map(|volume| format!("dm-{}", volume + 2)).collect();
    let mut disks = vec!["nvme0n1", "nvme1n1", "dm-0", "dm-1"];
    disks.extend(volumes.iter().map(String::as_str));
    let mut mounts: Vec<(String, &str, String)> = [
        ("/dev/nvme0n1p2", "ext4", "/"),
        ("/dev/nvme0n1p1", "vfat", "/boot/efi"),
        ("/dev/mapper/data-images", "xfs", "/var/lib/containerd"),
        ("/dev/mapper/data-logs", "xfs", "/var/log"),
        ("tmpfs", "tmpfs", "/run"),
    ]
    .map(|(device, fstype, mountpoint)| (device.to_owned(), fstype, mountpoint.to_owned()))
    .to_vec();
    let mut interfaces: Vec<String> = ["eth0", "eth1", "cni0", "flannel.1"].map(str::to_owned).to_vec();
    for pod in 0..pods {
        let id = mix(machine, pod as u64);
        let path = format!("/var/lib/kubelet/plugins/csi/pv/pvc-{:08x}/globalmount", id >> 32);
        mounts.push((format!("/dev/mapper/pv-{:08x}", id >> 32), "ext4", path));
        interfaces.push(format!("veth{:08x}", id as u32));
    }

    page.family("node_cpu_guest_seconds_total", "counter", "Time that guests took, by mode.");
    for cpu in &cpus {
        page.series(&[("cpu", cpu), ("mode", "nice")], Constant(0.0));
        page.series(&[("cpu", cpu), ("mode", "user")], Constant(0.0));
    }
    page.family("node_cpu_scaling_frequency_hertz", "gauge", "Frequency that the processor runs at.");
    for cpu in &cpus {
        page.series(&[("cpu", cpu)], Level(2.4e9));
    }
    page.family("node_cpu_seconds_total", "counter", "Time spent, by mode.");
    for cpu in &cpus {
        for (mode, rate) in MODES {
            let behaviour = if rate == 0.0 { Constant(0.0) } else { Hundredths(rate) };
            page.series(&[("cpu", cpu), ("mode", mode)], behaviour);
        }
    }
    for (name, behaviour) in DISK {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        page.family(name, kind, "Figure of a block device.");
        for device in &disks {
            page.series(&[("device", device)], behaviour);
        }
    }
    page.family("node_disk_info", "gauge", "What is known of a block device.");
    for device in ["nvme0n1", "nvme1n1"] {
        let serial = format!("S{machine:08X}{device}");
        page.series(&[("device", device), ("major", "259"), ("model", "DC-P4510"), ("serial", &serial)], Constant(1.0));
    }
    for (name, behaviour) in FILESYSTEM {
        page.family(name, "gauge", "Figure of a mounted file system.");
        for (device, fstype, mountpoint) in &mounts {
            page.series(&[("device", device), ("fstype", fstype), ("mountpoint", mountpoint)], behaviour);
        }
    }
    for (name, behaviour) in MEMORY {
        page.family(name, "gauge", "Field of the kernel's memory statistics.").series(&[], behaviour);
    }
    for (name, behaviour) in NETWORK {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        page.family(name, kind, "Figure of a network device.");
        for device in &interfaces {
            page.series(&[("device", device)], behaviour);
        }
    }
    page.family("node_hwmon_power_average_watt", "gauge", "Power that a sensor measured.");
    for sensor in 0..12 {
        page.series(&[("chip", "acpi_ipmi"), ("sensor", &format!("power{sensor}"))], Walk(60.0));
    }
    for (name, help, rate) in [
        ("node_schedstat_running_seconds_total", "Time that tasks ran.", 2.0),
        ("node_schedstat_waiting_seconds_total", "Time that tasks waited to run.", 0.1),
    ] {
        page.family(name, "counter", help);
        for cpu in &cpus {
            page.series(&[("cpu", cpu)], Seconds(rate));
        }
    }
    page.family("node_schedstat_timeslices_total", "counter", "Slices of time given out.");
    for cpu in &cpus {
        page.series(&[("cpu", cpu)], Count(5_000.0));
    }
    page.family("node_scrape_collector_duration_seconds", "gauge", "How long a collector took.");
    for collector in COLLECTORS {
        page.series(&[("collector", collector)], Duration(0.0008));
    }
    page.family("node_scrape_collector_success", "gauge", "Whether a collector succeeded.");
    for collector in COLLECTORS {
        page.series(&[("collector", collector)], Constant(1.0));
    }
    for (name, behaviour) in [
        ("node_softnet_backlog_len", Constant(0.0)),
        ("node_softnet_dropped_total", Constant(0.0)),
        ("node_softnet_processed_total", Count(2_500.0)),
        ("node_softnet_received_rps_total", Constant(0.0)),
        ("node_softnet_times_squeezed_total", Count(0.05)),
    ] {
        page.family(name, if name.ends_with("_total") { "counter" } else { "gauge" }, "Figure of packet processing.");
        for cpu in &cpus {
            page.series(&[("cpu", cpu)], behaviour);
        }
    }
    for (name, kind, behaviour) in SINGLES {
        page.single(name, kind, behaviour);
    }
    let name = format!("node-{machine:08x}.cluster.local");
    page.family("node_uname_info", "gauge", "The kernel and its host.").series(
        &[("machine", "x86_64"), ("nodename", &name), ("release", "6.12.41-cloud-amd64"), ("sysname", "Linux")],
        Constant(1.0),
    );
    page
}

/// Fills the page up to `series`.
pub(super) fn fill(page: &mut Builder, series: usize) {
    page.family("node_textfile_mtime_seconds", "gauge", "When a text file was last written.");
    for number in page.len()..series {
        page.series(&[("file", &format!("/var/lib/textfile/job_{number}.prom"))], Constant(1.7635e9 + number as f64));
    }
}
