//! Beside the real node_exporter on this machine: the same series, with values that time explains.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::exposition::{Entry, labels_of, text::Parser};

use crate::{Exporter, collectors};

/// Series of which each program has its own.
const OWN: [&str; 5] =
    ["go_", "process_", "promhttp_", "node_exporter_build_info", "node_scrape_collector_duration_seconds"];

/// What 1.12, which we stand in for, shows otherwise than the 1.11 of Debian: more of meminfo, other help texts of ksmd, and
/// whether a disk rotates where the kernel has attributes that 1.11 does not know.
const NEWER: [&str; 3] = ["node_memory_", "node_ksmd_", "node_disk_info"];

/// What this test itself changes, or what may go up and come back between two looks.
const MOVES: [&str; 18] = [
    "node_buddyinfo_",
    "node_cpu_",
    "node_entropy_",
    "node_filefd_",
    "node_filesystem_",
    "node_load",
    "node_memory_",
    "node_netstat_",
    "node_perf_",
    "node_nf_conntrack_",
    "node_processes_",
    "node_procs_",
    "node_slabinfo_",
    "node_sockstat_",
    "node_tcp_",
    "node_timex_",
    "node_udp_",
    "node_zoneinfo_",
];

fn peer() -> Option<PathBuf> {
    let path = std::env::var_os("FIREWATCH_PEERS").map(|folder| PathBuf::from(folder).join("prometheus-node-exporter"));
    let Some(path) = path.filter(|path| path.is_file()) else {
        println!("skipped: FIREWATCH_PEERS names no folder with prometheus-node-exporter");
        return None;
    };
    let output = Command::new(&path).arg("--version").output().ok()?;
    println!("{}", String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default());
    Some(path)
}

/// The series of a page, with their values.
fn series(page: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut parser = Parser::new(page.as_bytes());
    while let Some(entry) = parser.next_entry().expect("a page") {
        if let Entry::Sample(sample) = entry {
            let name = labels_of(sample.series).expect("a series").to_string();
            if !OWN.iter().any(|own| name.contains(&format!("__name__=\"{own}"))) {
                found.insert(name, sample.value);
            }
        }
    }
    found
}

/// Types and help texts by family.
fn announced(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|l| l.starts_with("# "));
    lines.filter(|l| !OWN.iter().any(|own| l[7..].starts_with(own))).map(str::to_owned).collect()
}

#[test]
fn the_page_has_the_series_of_the_real_program() {
    let Some(peer) = peer() else { return };
    let optional = [
        "buddyinfo",
        "cgroups",
        "ethtool",
        "interrupts",
        "ksmd",
        "lnstat",
        "meminfo_numa",
        "mountstats",
        "network_route",
        "pcidevice",
        "processes",
        "qdisc",
        "slabinfo",
        "softirqs",
        "swap",
        "sysctl",
        "tcpstat",
        "zoneinfo",
    ];
    let mut flags: Vec<String> = optional.iter().map(|name| format!("--collector.{name}")).collect();
    flags.extend(
        ["--collector.netdev.address-info", "--collector.cpu.info", "--collector.stat.softirq"].map(Into::into),
    );
    flags.push("--collector.sysctl.include=vm.user_reserve_kbytes".to_owned());
    // Debian has defaults of its own for these
    flags.push("--collector.filesystem.mount-points-exclude=^/(dev|proc|sys)($|/)".to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    flags.push(format!("--collector.textfile.directory={}", folder.path().display()));
    compare(&peer, &flags);
}

#[test]
fn interfaces_asked_by_netlink_have_the_series_of_the_real_program() {
    let Some(peer) = peer() else { return };
    let mut flags = ["--collector.disable-defaults", "--collector.netclass", "--collector.netclass.netlink"].to_vec();
    for more in [None, Some("--collector.netclass_rtnl.with-stats")] {
        flags.extend(more);
        compare(&peer, &flags.iter().copied().map(Into::into).collect::<Vec<_>>());
    }
}

#[test]
fn counters_of_events_have_the_series_of_the_real_program() {
    let Some(peer) = peer() else { return };
    let flags = ["--collector.disable-defaults", "--collector.perf"].map(Into::into);
    if node_exporter::parse(flags.iter().map(|f: &String| f.into())).is_err() {
        println!("skipped: events cannot be counted here");
        return;
    }
    compare(&peer, &flags);
}

fn compare(peer: &Path, flags: &[String]) {
    let mut command = Command::new(peer);
    command.args(flags);
    let theirs = Exporter::of(command);
    let names = collectors(&theirs.get("/metrics").1);
    // what is newer than the real program of Debian is left out
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-exporter"));
    let switches: Vec<String> = node_exporter::collector_names().map(|name| format!("--collector.{name}")).collect();
    let disable = "--collector.disable-defaults";
    command.args(flags.iter().filter(|flag| *flag != disable && !switches.contains(flag))).arg(disable);
    command.args(node_exporter::collector_names().map(|name| {
        let switch = if names.iter().any(|n| n == name) { "" } else { "no-" };
        format!("--{switch}collector.{name}")
    }));
    let ours = Exporter::of(command);
    // between two pages of theirs, so that what comes and goes is known
    let before = theirs.get("/metrics").1;
    let page = ours.get("/metrics").1;
    let after = theirs.get("/metrics").1;
    assert_eq!(collectors(&page), names);
    let (mut faults, found) = (Vec::new(), series(&page));
    let other = |name: &str| {
        let of = |prefixes: &[&str]| {
            prefixes.iter().any(|p| name.contains(&format!("__name__=\"{p}")) || name.contains(&format!(" {p}")))
        };
        // states of processes and threads come and go
        of(&["node_processes_state", "node_processes_threads_state"])
            || before.contains("version=\"1.11.") && of(&NEWER)
    };
    let (first, second) = (series(&before), series(&after));
    for name in first.keys().filter(|name| second.contains_key(*name) && !found.contains_key(*name) && !other(name)) {
        faults.push(format!("missing: {name}"));
    }
    for name in found.keys().filter(|name| !first.contains_key(*name) && !second.contains_key(*name) && !other(name)) {
        faults.push(format!("too much: {name}"));
    }
    for (name, value) in &found {
        let (Some(low), Some(high)) = (first.get(name), second.get(name)) else { continue };
        // what stands still must be the same; what moves may have moved on
        if low == high
            && value != low
            && !other(name)
            && !MOVES.iter().any(|m| name.contains(&format!("__name__=\"{m}")))
        {
            faults.push(format!("{name}: {value} where {low} is expected"));
        }
    }
    let (known, shown) = (announced(&before), announced(&page));
    for line in shown.difference(&known).filter(|line| !other(line)) {
        faults.push(format!("announced otherwise: {line}"));
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}
