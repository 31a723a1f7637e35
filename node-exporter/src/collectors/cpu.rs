use std::collections::BTreeMap;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;
use parking_lot::Mutex;
use regex::Regex;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, attribute, names_or_none, number, optional, required};
use crate::options::{Flag, Settings};

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
    flags: Option<Regex>,
    bugs: Option<Regex>,
    /// The kernel's counters of idle and iowait time fall at times: what was shown stays until it is passed.
    last: Mutex<BTreeMap<u32, Times>>,
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
        let stat = required(&path)?;
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

    /// Throttling by core and package, and which CPUs are online.
    fn collect_topology(&self, page: &mut Page) {
        let folder = self.paths.sys("devices/system/cpu");
        let mut cores: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut packages: BTreeMap<u64, u64> = BTreeMap::new();
        let help = "CPUs that are online and being scheduled.";
        let online = page.family("node_cpu_online", help, MetricType::Gauge);
        for name in names_or_none(&folder) {
            let Some(id) =
                name.strip_prefix("cpu").filter(|id| id.bytes().all(|b| b.is_ascii_digit()) && !id.is_empty())
            else {
                continue;
            };
            let cpu = folder.join(&name);
            if let Some(state) = number::<f64>(&cpu.join("online")) {
                page.sample(online, &[("cpu", id)], state);
            }
            let topology = cpu.join("topology");
            let Some(package) = number::<u64>(&topology.join("physical_package_id")) else { continue };
            let Some(core) = number::<u64>(&topology.join("core_id")) else { continue };
            let throttle = cpu.join("thermal_throttle");
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
        let text = optional(&self.paths.proc("cpuinfo"))?;
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
