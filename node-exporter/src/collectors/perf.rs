use std::os::fd::OwnedFd;
use std::path::Path;

use common::metrics::Page;
use model::MetricType::Counter;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::attribute;
use crate::ioctl::count_event;
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "perf",
    default: false,
    flags: &[
        Flag::value("collector.perf.cpus", "", "List of CPUs from which perf metrics should be collected"),
        Flag::repeated("collector.perf.tracepoint", "perf tracepoint that should be collected"),
        Flag::switch("collector.perf.disable-hardware-profilers", false, "disable perf hardware profilers"),
        Flag::repeated("collector.perf.hardware-profilers", "perf hardware profilers that should be collected"),
        Flag::switch("collector.perf.disable-software-profilers", false, "disable perf software profilers"),
        Flag::repeated("collector.perf.software-profilers", "perf software profilers that should be collected"),
        Flag::switch("collector.perf.disable-cache-profilers", false, "disable perf cache profilers"),
        Flag::repeated("collector.perf.cache-profilers", "perf cache profilers that should be collected"),
    ],
    build,
};

/// A group of events that is switched by flags.
struct Group {
    name: &'static str,
    /// `perf_type_id`.
    kind: u32,
    /// Name in the flag, `config` of the event, metric and help.
    events: &'static [(&'static str, u64, &'static str, &'static str)],
}

/// A cache's number, what is done with it (0 read, 1 write), and whether it has to miss.
const fn cache(number: u64, operation: u64, miss: u64) -> u64 {
    number | operation << 8 | miss << 16
}

const GROUPS: [Group; 3] = [
    Group {
        name: "hardware",
        kind: 0,
        events: &[
            ("CpuCycles", 0, "cpucycles", "Number of CPU cycles (frequency scaled)"),
            ("CpuInstr", 1, "instructions", "Number of CPU instructions"),
            ("CacheRef", 2, "cache_refs", "Number of cache references (non frequency scaled)"),
            ("CacheMisses", 3, "cache_misses", "Number of cache misses"),
            ("BranchInstr", 4, "branch_instructions", "Number of CPU branch instructions"),
            ("BranchMisses", 5, "branch_misses", "Number of CPU branch misses"),
            ("StalledCyclesFrontend", 7, "stalled_cycles_frontend", "Number of stalled frontend CPU cycles"),
            ("StalledCyclesBackend", 8, "stalled_cycles_backend", "Number of stalled backend CPU cycles"),
            ("RefCpuCycles", 9, "ref_cpucycles", "Number of CPU cycles"),
        ],
    },
    Group {
        name: "software",
        kind: 1,
        events: &[
            ("PageFault", 2, "page_faults", "Number of page faults"),
            ("ContextSwitch", 3, "context_switches", "Number of context switches"),
            ("CpuMigration", 4, "cpu_migrations", "Number of CPU process migrations"),
            ("MinorFault", 5, "minor_faults", "Number of minor page faults"),
            ("MajorFault", 6, "major_faults", "Number of major page faults"),
        ],
    },
    Group {
        name: "cache",
        kind: 3,
        events: &[
            ("L1DataReadHit", cache(0, 0, 0), "cache_l1d_read_hits", "Number L1 data cache read hits"),
            ("L1DataReadMiss", cache(0, 0, 1), "cache_l1d_read_misses", "Number L1 data cache read misses"),
            ("L1DataWriteHit", cache(0, 1, 0), "cache_l1d_write_hits", "Number L1 data cache write hits"),
            (
                "L1InstrReadMiss",
                cache(1, 0, 1),
                "cache_l1_instr_read_misses",
                "Number instruction L1 instruction read misses",
            ),
            ("LLReadHit", cache(2, 0, 0), "cache_ll_read_hits", "Number last level read hits"),
            ("LLReadMiss", cache(2, 0, 1), "cache_ll_read_misses", "Number last level read misses"),
            ("LLWriteHit", cache(2, 1, 0), "cache_ll_write_hits", "Number last level write hits"),
            ("LLWriteMiss", cache(2, 1, 1), "cache_ll_write_misses", "Number last level write misses"),
            ("InstrTLBReadHit", cache(4, 0, 0), "cache_tlb_instr_read_hits", "Number instruction TLB read hits"),
            ("InstrTLBReadMiss", cache(4, 0, 1), "cache_tlb_instr_read_misses", "Number instruction TLB read misses"),
            ("BPUReadHit", cache(5, 0, 0), "cache_bpu_read_hits", "Number BPU read hits"),
            ("BPUReadMiss", cache(5, 0, 1), "cache_bpu_read_misses", "Number BPU read misses"),
        ],
    },
];

/// `perf_type_id` of an event that the kernel's source names.
const TRACEPOINT: u32 = 2;

/// Events that are counted from the start of the program, each on every CPU.
struct Perf(Vec<Counting>);

struct Counting {
    metric: String,
    help: String,
    cpus: Vec<(u32, OwnedFd)>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let cpus = match settings.text("collector.perf.cpus") {
        "" => {
            let online = attribute(&settings.paths.sys("devices/system/cpu/online")).unwrap_or_default();
            cpu_list(&online)
                .ok_or("the list of CPUs cannot be read from sysfs; name them with --collector.perf.cpus")?
        }
        list => cpu_list(list).ok_or_else(|| format!("--collector.perf.cpus: {list:?} is no list such as 0,2-8:2"))?,
    };
    let mut counting = Vec::new();
    for group in &GROUPS {
        if settings.on(&format!("collector.perf.disable-{}-profilers", group.name)) {
            continue;
        }
        let flag = format!("collector.perf.{}-profilers", group.name);
        let wanted = settings.texts(&flag);
        let known = |name: &String| group.events.iter().any(|event| event.0 == name);
        if let Some(name) = wanted.iter().find(|name| !known(name)) {
            return Err(format!("--{flag}: there is no {name:?}"));
        }
        for &(name, config, metric, help) in group.events {
            if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
                continue;
            }
            let metric = format!("node_perf_{metric}_total");
            counting.push(Counting { metric, help: help.to_owned(), cpus: open(group.kind, config, &cpus, name)? });
        }
    }
    for tracepoint in settings.texts("collector.perf.tracepoint") {
        let wrong = || format!("--collector.perf.tracepoint: {tracepoint:?} is not of the form subsystem:event");
        let (subsystem, event) = tracepoint.split_once(':').ok_or_else(wrong)?;
        if [subsystem, event].iter().any(|part| part.is_empty() || part.contains([':', '/'])) {
            return Err(wrong());
        }
        let id = tracepoint_id(subsystem, event)
            .ok_or_else(|| format!("--collector.perf.tracepoint: the kernel has no {tracepoint:?}"))?;
        let cpus = open(TRACEPOINT, id, &cpus, &tracepoint)?;
        if cpus.is_empty() {
            return Err(format!("--collector.perf.tracepoint: {tracepoint:?} cannot be counted"));
        }
        let metric = format!("node_perf_{subsystem}_{event}");
        counting.push(Counting { metric, help: format!("Perf tracepoint {tracepoint}"), cpus });
    }
    Ok(Box::new(Perf(counting)))
}

/// Begins to count an event. A processor that does not know it counts none; that is not an error.
fn open(kind: u32, config: u64, cpus: &[u32], name: &str) -> Result<Vec<(u32, OwnedFd)>, String> {
    let mut open = Vec::new();
    for &cpu in cpus {
        match count_event(kind, config, cpu) {
            Ok(file) => open.push((cpu, file)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => {
                    return Err(format!(
                        "counting {name} is not permitted: it needs CAP_PERFMON, or 0 or less in /proc/sys/kernel/perf_event_paranoid"
                    ));
                }
                Some(libc::EMFILE | libc::ENFILE) => {
                    return Err(format!("too many open files at {name} on CPU {cpu}: raise the limit of open files"));
                }
                _ => tracing::debug!(event = name, cpu, err = %error, "an event cannot be counted"),
            },
        }
    }
    Ok(open)
}

/// The number of an event, from where tracefs is usually mounted.
fn tracepoint_id(subsystem: &str, event: &str) -> Option<u64> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].iter().find_map(|folder| {
        let path = Path::new(folder).join("events").join(subsystem).join(event).join("id");
        attribute(&path).ok()?.parse().ok()
    })
}

/// The numbers of a list such as `0,2-8:2`, where the last part is the distance between two.
fn cpu_list(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to, step): (u32, u32, usize) = (from.parse().ok()?, to.parse().ok()?, step.parse().ok()?);
        // as many as a kernel can have
        if step == 0 || to >= 8192 {
            return None;
        }
        cpus.extend((from..=to).step_by(step));
    }
    Some(cpus)
}

impl Collector for Perf {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        for Counting { metric, help, cpus } in &self.0 {
            let family = page.family(metric, help, Counter);
            for (cpu, file) in cpus {
                let mut bytes = [0; 8];
                let read = rustix::io::read(file, &mut bytes[..]);
                if read != Ok(8) {
                    return Err(CollectorError::failed(format!("{metric} of CPU {cpu} cannot be read: {read:?}")));
                }
                let count = u64::from_ne_bytes(bytes) as f64;
                page.sample(family, &[("cpu", itoa::Buffer::new().format(*cpu))], count);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::samples;

    fn built(flags: &[&str]) -> Result<crate::Config, String> {
        let switches = ["--collector.disable-defaults", "--collector.perf"];
        crate::parse(switches.iter().chain(flags).map(|f| (*f).into())).map_err(|exit| exit.text)
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0,2-8:2,11"), Some(vec![0, 2, 4, 6, 8, 11]));
        for wrong in ["", "a", "1-", "1-3:0", "0-4000000000", "1:x"] {
            assert_eq!(cpu_list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn wrong_flags_are_named() {
        for (flag, words) in [
            ("--collector.perf.cpus=x", "no list such as"),
            ("--collector.perf.software-profilers=Nonsense", "there is no \"Nonsense\""),
            ("--collector.perf.tracepoint=nonsense", "not of the form"),
            ("--collector.perf.tracepoint=../x:y", "not of the form"),
            ("--collector.perf.tracepoint=firewatch:none", "the kernel has no"),
        ] {
            let off = ["hardware", "cache"].map(|group| format!("--collector.perf.disable-{group}-profilers"));
            let error = built(&[&off[0], &off[1], flag]).unwrap_err();
            assert!(error.contains(words) || error.contains("not permitted"), "{flag}: {error}");
        }
    }

    #[test]
    fn software_events_are_counted() {
        let flags = [
            "--collector.perf.disable-hardware-profilers",
            "--collector.perf.disable-cache-profilers",
            "--collector.perf.software-profilers=PageFault",
            "--collector.perf.cpus=0",
        ];
        let config = match built(&flags) {
            Ok(config) => config,
            Err(error) if error.contains("not permitted") => {
                println!("skipped: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let (lines, result) = samples(&*config.collectors[0].1);
        assert_eq!(result, Ok(()));
        if lines.is_empty() {
            println!("skipped: this kernel counts no page faults");
            return;
        }
        assert!(lines.len() == 1 && lines[0].starts_with("node_perf_page_faults_total{cpu=\"0\"} "), "{lines:?}");
    }
}
