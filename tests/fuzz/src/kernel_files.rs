//! Files of procfs, as the collectors of the node exporter read them. The first byte says which file it is.

use std::path::PathBuf;
use std::sync::Arc;

use common::metrics::Page;
use node_exporter::Collector;
use tempfile::TempDir;

use crate::{Target, kind_of};

/// Files and the collector that reads each. The numbers of inputs are their places: new ones go to the end.
const FILES: [(&str, &str); 26] = [
    ("arp", "proc/net/arp"),
    ("buddyinfo", "proc/buddyinfo"),
    ("cgroups", "proc/cgroups"),
    ("conntrack", "proc/net/stat/nf_conntrack"),
    ("cpu", "proc/stat"),
    ("diskstats", "proc/diskstats"),
    ("drbd", "proc/drbd"),
    ("interrupts", "proc/interrupts"),
    ("ipvs", "proc/net/ip_vs"),
    ("loadavg", "proc/loadavg"),
    ("mdadm", "proc/mdstat"),
    ("meminfo", "proc/meminfo"),
    ("mountstats", "proc/self/mountstats"),
    ("netdev", "proc/net/dev"),
    ("netstat", "proc/net/netstat"),
    ("nfs", "proc/net/rpc/nfs"),
    ("nfsd", "proc/net/rpc/nfsd"),
    ("pressure", "proc/pressure/cpu"),
    ("slabinfo", "proc/slabinfo"),
    ("sockstat", "proc/net/sockstat"),
    ("softnet", "proc/net/softnet_stat"),
    ("softirqs", "proc/softirqs"),
    ("tcpstat", "proc/net/tcp"),
    ("vmstat", "proc/vmstat"),
    ("xfs", "sys/fs/xfs/a/stats/stats"),
    ("zoneinfo", "proc/zoneinfo"),
];

struct Machine {
    folder: TempDir,
    collectors: Vec<(&'static str, Arc<dyn Collector>)>,
}

thread_local! {
    // of a thread, so that the folder goes with it
    static MACHINE: Machine = machine();
}

fn machine() -> Machine {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |flag: &str, name: &str| format!("--path.{flag}={}", folder.path().join(name).display());
    let mut flags = vec![at("procfs", "proc"), at("sysfs", "sys"), at("udev.data", "udev"), at("rootfs", "root")];
    flags.extend(["--collector.disable-defaults".to_owned(), "--no-collector.netdev.netlink".to_owned()]);
    flags.extend(FILES.iter().map(|(name, _)| format!("--collector.{name}")));
    let config = node_exporter::parse(flags.into_iter().map(Into::into)).expect("a configuration");
    for (_, file) in FILES {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    }
    Machine { folder, collectors: config.collectors }
}

pub(crate) const TARGET: Target = Target { name: "kernel_files", run, words: WORDS, seeds };

const WORDS: &[&str] = &[
    "0",
    "1",
    "18446744073709551616",
    "-1",
    "0.5",
    "x",
    ":",
    " ",
    "\t",
    "\n",
    "cpu0",
    "MemTotal:",
    "kB",
    "some",
    "total=",
    "TcpExt:",
    "eth0:",
    "Node 0, zone",
    "device a mounted on /b with fstype nfs statvers=1.1\n",
    "blocks",
    "[UU]",
    "recovery =",
    "%",
];

fn run(input: &[u8]) -> u64 {
    MACHINE.with(|machine| read(machine, input))
}

fn read(Machine { folder, collectors }: &Machine, input: &[u8]) -> u64 {
    let Some((place, content)) = input.split_first() else { return 0 };
    let place = usize::from(*place) % FILES.len();
    let (name, file) = FILES[place];
    let path: PathBuf = folder.path().join(file);
    std::fs::write(&path, content).expect("a file");
    let (_, collector) = collectors.iter().find(|(n, _)| *n == name).expect("a collector");
    let mut page = Page::new();
    let result = collector.collect(&mut page);
    std::fs::remove_file(&path).expect("a file");
    let families = page.families().0.len() as u64;
    let outcome = match result {
        Ok(()) => families.min(20),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty(), "{name} fails without a reason");
            kind_of(&text)
        }
    };
    outcome.wrapping_mul(64).wrapping_add(place as u64)
}

/// Some lines for each file.
fn seeds() -> Vec<Vec<u8>> {
    let texts: [&str; FILES.len()] = [
        "IP address HW type Flags HW address Mask Device\n1.2.3.4 0x1 0x2 00:00:00:00:00:01 * eth0\n",
        "Node 0, zone      DMA      1      0      1\n",
        "#subsys_name hierarchy num_cgroups enabled\ncpu 1 2 1\n",
        "entries searched found new invalid ignore\n00000001 0 0 0 3 0\n",
        "cpu 1 2\ncpu0 1 2 3 4 5 6 7 8 9 10\nctxt 9\n",
        "8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n",
        "version: 8.4\n 1: cs:Connected ro:Primary/Primary ds:UpToDate/UpToDate C r-----\n    ns:1 nr:2 dw:3 dr:4 al:5 bm:6\n",
        "           CPU0\n  0:          5   IO-APIC   2-edge      timer\nNMI:          1   Non-maskable interrupts\n",
        "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port\nTCP  C0A80016:0CEA wlc\n  -> C0A85216:0CEA      Tunnel  100    248        2\n",
        "0.1 0.2 0.3 1/2 3\n",
        "Personalities : [raid1]\nmd0 : active raid1 sdb1[1] sda1[0]\n      100 blocks super 1.2 [2/2] [UU]\n      [=>...]  recovery = 9.1% (1/10) finish=1.0min speed=1K/sec\n\nunused devices: <none>\n",
        "MemTotal: 100 kB\nHugePages_Total: 1\nActive(anon): 3 kB\n",
        "device s:/x mounted on /mnt with fstype nfs4 statvers=1.1\n\tage:\t13968\n\tevents:\t1 2 3\n\tbytes:\t1 2 3 4 5 6 7 8\n\txprt:\ttcp 832 0 1 0 11 6 6 0 12 0 2 0 0\n\tper-op statistics\n\t        NULL: 1 1 0 44 24 0 0 0\n\n",
        "Inter-|\n face |\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
        "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 1 2\n",
        "net 18628 0 18628 6\nrpc 4329785 0 4338291\nproc3 22 1 4084749 29200\n",
        "rc 0 6 18622\nfh 0 0 0 0 0\nio 157286400 0\nth 8 0 0.0 0.0\nnet 972 55 917 41\n",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        "slabinfo - version: 2.1\n# name\nxfs_buf 4 5 6 7 8 : tunables 0 0 0 : slabdata 1 2 0\n",
        "sockets: used 1\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 1\n",
        "00000001 00000002 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n",
        "                    CPU0\n          HI:          1\n",
        "  sl\n 0: 00000000:0016 00000000:0000 0A 00000001:00000002 0\n",
        "pgfault 1\noom_kill 0\n",
        "extent_alloc 1 2 3 4\nxpc 1 2 3\n",
        "Node 0, zone      DMA\n  pages free     3952\n        min      33\n      nr_free_pages 3952\n",
    ];
    (0u8..).zip(texts).map(|(place, text)| [&[place], text.as_bytes()].concat()).collect()
}
