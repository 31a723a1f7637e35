use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;
use parking_lot::Mutex;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, attribute, names_or_none, number};
use crate::options::{Flag, Pattern, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "cpu",
    default: true,
    flags: &[
        Flag::switch("collector.cpu.guest", true, "Enables metric node_cpu_guest_seconds_total."),
        Flag::switch("collector.cpu.info", false, "Enables metric cpu_info."),
        Flag::value(
            "collector.cpu.info.flags-include",
            "",
            "Filter the `flags` field in cpuInfo with a value that must be a regular expression.",
        ),
        Flag::value(
            "collector.cpu.info.bugs-include",
            "",
            "Filter the `bugs` field in cpuInfo with a value that must be a regular expression.",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let flags = settings.pattern("collector.cpu.info.flags-include")?;
    let bugs = settings.pattern("collector.cpu.info.bugs-include")?;
    Ok(Box::new(Cpu {
        paths: settings.paths.clone(),
        guest: settings.on("collector.cpu.guest"),
        info: settings.on("collector.cpu.info") || flags.is_some() || bugs.is_some(),
        frequency: settings.on("collector.cpufreq"),
        flags,
        bugs,
        last: Mutex::default(),
        topology: Mutex::default(),
    }))
}

/// Seconds in user, nice, system, idle, iowait, irq, softirq, steal, guest and guest nice mode.
type Times = [f64; 10];

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
/// The unit of `/proc/stat`.
const USER_HZ: f64 = 100.0;
/// An idle time that falls by more than this belongs to a CPU that went away and came back: its counters start anew.
const JUMP_BACK_SECONDS: f64 = 3.0;

struct Cpu {
    paths: Arc<Paths>,
    guest: bool,
    info: bool,
    frequency: bool,
    flags: Option<Pattern>,
    bugs: Option<Pattern>,
    /// The kernel's counters of idle and iowait time fall at times: what was shown stays until it is passed.
    last: Mutex<BTreeMap<u32, Times>>,
    topology: Mutex<Option<Topology>>,
}

/// Where CPUs sit. It changes with the list of those that are online only.
#[derive(Clone)]
struct Topology {
    online: String,
    cpus: Arc<[Place]>,
}

/// A CPU's folder, package and core.
struct Place {
    folder: PathBuf,
    package: u64,
    core: u64,
}

impl Collector for Cpu {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        if self.info {
            self.collect_info(page)?;
        }
        self.collect_times(page)?;
        self.collect_topology(page);
        if let Ok(isolated) = attribute(&self.paths.sys("devices/system/cpu/isolated")) {
            let help = "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.";
            let family = page.family("node_cpu_isolated", help, MetricType::Gauge);
            for cpu in ranges(&isolated) {
                page.sample(family, &[("cpu", itoa::Buffer::new().format(cpu))], 1.0);
            }
        }
        Ok(())
    }
}

/// The numbers of a list like `1,3-5`.
fn ranges(list: &str) -> impl Iterator<Item = u32> {
    list.split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.trim().parse().ok()?..=to.trim().parse().ok()?)
        })
        .flatten()
}

impl Cpu {
    fn collect_times(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.paths.proc("stat");
        let stat = self.paths.required(&path)?;
        let mut last = self.last.lock();
        let mut seen = Vec::with_capacity(last.len());
        for line in stat.lines() {
            let Some(rest) = line.strip_prefix("cpu") else { continue };
            let mut fields = rest.split_ascii_whitespace();
            let Some(cpu) = rest.starts_with(|c: char| c.is_ascii_digit()).then(|| fields.next()).flatten() else {
                continue;
            };
            let Ok(cpu) = cpu.parse::<u32>() else { continue };
            let mut now = Times::default();
            for (time, field) in now.iter_mut().zip(fields) {
                *time = field.parse::<f64>().unwrap_or(0.0) / USER_HZ;
            }
            let shown = last.entry(cpu).or_insert(now);
            if shown[IDLE] - now[IDLE] >= JUMP_BACK_SECONDS {
                *shown = now;
            }
            for (shown, now) in shown.iter_mut().zip(now) {
                *shown = shown.max(now);
            }
            seen.push(cpu);
        }
        last.retain(|cpu, _| seen.contains(cpu));
        let seconds =
            page.family("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", MetricType::Counter);
        for (cpu, times) in &*last {
            let mut buffer = itoa::Buffer::new();
            let cpu = buffer.format(*cpu);
            for (mode, value) in MODES.iter().zip(times) {
                page.sample(seconds, &[("cpu", cpu), ("mode", mode)], *value);
            }
        }
        if self.guest {
            let help = "Seconds the CPUs spent in guests (VMs) for each mode.";
            let guest = page.family("node_cpu_guest_seconds_total", help, MetricType::Counter);
            for (cpu, times) in &*last {
                let mut buffer = itoa::Buffer::new();
                let cpu = buffer.format(*cpu);
                page.sample(guest, &[("cpu", cpu), ("mode", "user")], times[8]);
                page.sample(guest, &[("cpu", cpu), ("mode", "nice")], times[9]);
            }
        }
        Ok(())
    }

    fn places(&self) -> Arc<[Place]> {
        let folder = self.paths.sys("devices/system/cpu");
        let online = attribute(&folder.join("online")).unwrap_or_default();
        let known = self.topology.lock().clone();
        if let Some(known) = known.filter(|known| !online.is_empty() && known.online == online) {
            return known.cpus;
        }
        let mut cpus = Vec::new();
        for name in names_or_none(&folder) {
            if !name.strip_prefix("cpu").is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())) {
                continue;
            }
            let folder = folder.join(&name);
            let topology = folder.join("topology");
            let Some(package) = number(&topology.join("physical_package_id")) else { continue };
            let Some(core) = number(&topology.join("core_id")) else { continue };
            cpus.push(Place { folder, package, core });
        }
        let cpus: Arc<[Place]> = cpus.into();
        *self.topology.lock() = Some(Topology { online, cpus: cpus.clone() });
        cpus
    }

    /// Throttling by core and package.
    fn collect_topology(&self, page: &mut Page) {
        let mut cores: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut packages: BTreeMap<u64, u64> = BTreeMap::new();
        for &Place { ref folder, package, core } in &*self.places() {
            let throttle = folder.join("thermal_throttle");
            if !cores.contains_key(&(package, core))
                && let Some(count) = number(&throttle.join("core_throttle_count"))
            {
                cores.insert((package, core), count);
            }
            if !packages.contains_key(&package)
                && let Some(count) = number(&throttle.join("package_throttle_count"))
            {
                packages.insert(package, count);
            }
        }
        let help = "Number of times this CPU package has been throttled.";
        let family = page.family("node_cpu_package_throttles_total", help, MetricType::Counter);
        for (package, count) in &packages {
            page.sample(family, &[("package", itoa::Buffer::new().format(*package))], *count as f64);
        }
        let help = "Number of times this CPU core has been throttled.";
        let family = page.family("node_cpu_core_throttles_total", help, MetricType::Counter);
        for ((package, core), count) in &cores {
            let (mut package_text, mut core_text) = (itoa::Buffer::new(), itoa::Buffer::new());
            let labels = [("core", core_text.format(*core)), ("package", package_text.format(*package))];
            page.sample(family, &labels, *count as f64);
        }
    }

    fn collect_info(&self, page: &mut Page) -> Result<(), CollectorError> {
        let text = self.paths.optional(&self.paths.proc("cpuinfo"))?;
        let info = page.family("node_cpu_info", "CPU information from /proc/cpuinfo.", MetricType::Gauge);
        let help = "CPU frequency in hertz from /proc/cpuinfo.";
        let frequency = page.family("node_cpu_frequency_hertz", help, MetricType::Gauge);
        let mut first = true;
        for block in text.split("\n\n") {
            let fields: BTreeMap<&str, &str> =
                block.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
            let Some(cpu) = fields.get("processor") else { continue };
            let field = |name: &str| fields.get(name).copied().unwrap_or("");
            let labels = [
                ("cachesize", field("cache size")),
                ("core", field("core id")),
                ("cpu", cpu),
                ("family", field("cpu family")),
                ("microcode", field("microcode")),
                ("model", field("model")),
                ("model_name", field("model name")),
                ("package", field("physical id")),
                ("stepping", field("stepping")),
                ("vendor", field("vendor_id")),
            ];
            page.sample(info, &labels, 1.0);
            if self.frequency
                && let Ok(megahertz) = field("cpu MHz").parse::<f64>()
            {
                let labels = [("core", field("core id")), ("cpu", cpu), ("package", field("physical id"))];
                page.sample(frequency, &labels, megahertz * 1e6);
            }
            if std::mem::take(&mut first) {
                for (kind, name, pattern) in [("flag", "flags", &self.flags), ("bug", "bugs", &self.bugs)] {
                    let Some(pattern) = pattern else { continue };
                    let help =
                        format!("The `{name}` field of CPU information from /proc/cpuinfo taken from the first core.");
                    let family = page.family(&format!("node_cpu_{kind}_info"), &help, MetricType::Gauge);
                    for value in field(name).split_ascii_whitespace().filter(|v| pattern.is_match(v)) {
                        page.sample(family, &[(kind, value)], 1.0);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check_built, paths, samples};

    #[test]
    fn modes_guests_and_info() {
        check_built(
            "cpu",
            &["--collector.cpu.info"],
            &[
                ("proc/stat", "cpu 1\ncpu3 100 200 300 400 500 600 700 800 900 1000\n"),
                ("proc/cpuinfo", "processor\t: 3\nvendor_id\t: V\nmodel name\t: M\n\n"),
                ("sys/devices/system/cpu/isolated", "1,3-4\n"),
            ],
            &[
                "node_cpu_guest_seconds_total{cpu=\"3\",mode=\"nice\"} 10",
                "node_cpu_guest_seconds_total{cpu=\"3\",mode=\"user\"} 9",
                "node_cpu_info{cachesize=\"\",core=\"\",cpu=\"3\",family=\"\",microcode=\"\",model=\"\",model_name=\"M\",package=\"\",stepping=\"\",vendor=\"V\"} 1",
                "node_cpu_isolated{cpu=\"1\"} 1",
                "node_cpu_isolated{cpu=\"3\"} 1",
                "node_cpu_isolated{cpu=\"4\"} 1",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"idle\"} 4",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"iowait\"} 5",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"irq\"} 6",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"nice\"} 2",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"softirq\"} 7",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"steal\"} 8",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"system\"} 3",
                "node_cpu_seconds_total{cpu=\"3\",mode=\"user\"} 1",
            ],
        );
    }

    #[test]
    fn throttling_follows_cpus_that_come_and_go() {
        let of = |cpu: u32, core: u32, count: u32| {
            let at = |file: &str| format!("sys/devices/system/cpu/cpu{cpu}/{file}");
            [
                (at("topology/physical_package_id"), "0\n".to_owned()),
                (at("topology/core_id"), format!("{core}\n")),
                (at("thermal_throttle/core_throttle_count"), format!("{count}\n")),
            ]
        };
        let online = ("sys/devices/system/cpu/online".to_owned(), "0\n".to_owned());
        let files: Vec<_> = of(0, 4, 5).into_iter().chain(of(1, 7, 6)).chain([online]).collect();
        let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        let (folder, paths) = paths(&files);
        std::fs::create_dir_all(folder.path().join("proc")).unwrap();
        std::fs::write(folder.path().join("proc/stat"), "").unwrap();
        let (last, topology) = Default::default();
        let cpu = Cpu { paths, guest: false, info: false, frequency: false, flags: None, bugs: None, last, topology };
        let away = folder.path().join("sys/devices/system/cpu/cpu1");
        let hidden = folder.path().join("hidden");
        std::fs::rename(&away, &hidden).unwrap();
        let line =
            |core: u32, count: u32| format!("node_cpu_core_throttles_total{{core=\"{core}\",package=\"0\"}} {count}");
        for _ in 0..2 {
            assert_eq!(samples(&cpu).0, [line(4, 5)]);
        }
        std::fs::rename(&hidden, &away).unwrap();
        std::fs::write(folder.path().join("sys/devices/system/cpu/online"), "0-1\n").unwrap();
        std::fs::write(folder.path().join("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"), "8")
            .unwrap();
        for _ in 0..2 {
            assert_eq!(samples(&cpu).0, [line(4, 8), line(7, 6)]);
        }
    }

    #[test]
    fn counters_do_not_fall_unless_the_cpu_was_away() {
        let (folder, paths) = paths(&[]);
        let (last, topology) = Default::default();
        let cpu = Cpu { paths, guest: false, info: false, frequency: false, flags: None, bugs: None, last, topology };
        // user and idle, in hundredths of a second
        for (user, idle, shown) in
            [(100, 1000, (1.0, 10.0)), (200, 900, (2.0, 10.0)), (150, 950, (2.0, 10.0)), (50, 100, (0.5, 1.0))]
        {
            std::fs::create_dir_all(folder.path().join("proc")).unwrap();
            std::fs::write(folder.path().join("proc/stat"), format!("cpu0 {user} 0 0 {idle} 0 0 0 0 0 0\n")).unwrap();
            let (lines, _) = samples(&cpu);
            let expected = [("user", shown.0), ("idle", shown.1)]
                .map(|(mode, value)| format!("node_cpu_seconds_total{{cpu=\"0\",mode=\"{mode}\"}} {value}"));
            assert!(expected.iter().all(|e| lines.contains(e)), "{expected:?} in {lines:?}");
        }
    }
}
