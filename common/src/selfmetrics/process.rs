use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{PROC_SUPER_MAGIC, statfs};
use rustix::process::{Resource, getrlimit};

use crate::metrics::Page;

/// Reads the `process_*` metrics of this process.
#[derive(Clone, Debug)]
pub struct ProcessCollector {
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// When the process began, in seconds of Unix time; read once, as it does not change.
    start: OnceLock<f64>,
    /// Whether the kernel tells how many descriptors there are without a listing of them.
    counts_descriptors: OnceLock<bool>,
}

impl Default for ProcessCollector {
    fn default() -> Self {
        Self { procfs: PathBuf::from("/proc"), start: OnceLock::new(), counts_descriptors: OnceLock::new() }
    }
}

/// Appends the `process_*` metrics of this process.
pub fn collect_process(page: &mut Page) {
    ProcessCollector::default().collect(page);
}

impl ProcessCollector {
    /// Appends what can be read; a missing file leaves out its metrics.
    pub fn collect(&self, page: &mut Page) {
        let own = self.procfs.join("self");
        let text = |name: &str| read(&own.join(name)).unwrap_or_default();
        let stat = text("stat");
        // the command's name stands in parentheses and may hold any character
        let after = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let (Some(user), Some(system)) = (number(11), number(12)) {
            let help = "Total user and system CPU time spent in seconds.";
            page.counter("process_cpu_seconds_total", help, &[], (user + system) / ticks);
        }
        if let Some(bytes) = number(20) {
            page.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", &[], bytes);
        }
        if let Some(pages) = number(21) {
            let bytes = pages * rustix::param::page_size() as f64;
            page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", &[], bytes);
        }
        let start = self.start.get().copied().or_else(|| {
            let start = self.boot_time()? + number(19)? / ticks;
            Some(*self.start.get_or_init(|| start))
        });
        if let Some(start) = start {
            let help = "Start time of the process since unix epoch in seconds.";
            page.gauge("process_start_time_seconds", help, &[], start);
        }
        if let Some(open) = self.descriptors(&own.join("fd")) {
            page.gauge("process_open_fds", "Number of open file descriptors.", &[], open as f64);
        }
        let limit = |resource| getrlimit(resource).current.map_or(u64::MAX as f64, |limit| limit as f64);
        page.gauge("process_max_fds", "Maximum number of open file descriptors.", &[], limit(Resource::Nofile));
        let help = "Maximum amount of virtual memory available in bytes.";
        page.gauge("process_virtual_memory_max_bytes", help, &[], limit(Resource::As));
        if let Some((received, sent)) = network_octets(&text("net/netstat")) {
            let help = "Number of bytes received by the process over the network.";
            page.counter("process_network_receive_bytes_total", help, &[], received);
            let help = "Number of bytes sent by the process over the network.";
            page.counter("process_network_transmit_bytes_total", help, &[], sent);
        }
    }

    /// Open file descriptors. Since Linux 6.2 they are the size of their folder in procfs; before, and elsewhere, they are listed.
    fn descriptors(&self, folder: &Path) -> Option<u64> {
        let size = || std::fs::metadata(folder).ok().map(|folder| folder.len());
        let counts = || statfs(folder).is_ok_and(|stat| stat.f_type == PROC_SUPER_MAGIC) && size() > Some(0);
        if *self.counts_descriptors.get_or_init(counts) {
            return size();
        }
        // one of them is the folder being read
        let listed = std::fs::read_dir(folder).ok()?.count();
        Some(listed.saturating_sub(1) as u64)
    }

    fn boot_time(&self) -> Option<f64> {
        let stat = read(&self.procfs.join("stat")).ok()?;
        stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
    }
}

/// The text of a file of the kernel, which tells no size: most come whole with the first call, others are made anew with each.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::with_capacity(8192);
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// `InOctets` and `OutOctets` of the line `IpExt`.
fn network_octets(netstat: &str) -> Option<(f64, f64)> {
    let mut lines = netstat.lines().filter_map(|l| l.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some((of("InOctets")?, of("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_descriptors_are_those_the_kernel_lists() {
        let (collector, folder) = (ProcessCollector::default(), Path::new("/proc/self/fd"));
        let listed = || std::fs::read_dir(folder).unwrap().count() as u64 - 1;
        // other tests open and close files meanwhile
        let equal = (0..1000).filter(|_| collector.descriptors(folder) == Some(listed())).count();
        assert!(equal > 500, "{equal} of 1000");
        let listing = ProcessCollector { counts_descriptors: OnceLock::from(false), ..ProcessCollector::default() };
        assert!(listing.descriptors(folder).unwrap() > 2);
    }

    #[test]
    fn values_come_from_procfs() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("self");
        std::fs::create_dir_all(own.join("net")).unwrap();
        std::fs::create_dir_all(own.join("fd/0")).unwrap();
        std::fs::create_dir_all(own.join("fd/1")).unwrap();
        let ticks = rustix::param::clock_ticks_per_second();
        let numbers = format!("S 1 1 1 0 -1 0 0 0 0 0 {} {} 0 0 20 0 1 0 {} 4096 3 0", 2 * ticks, ticks, 50 * ticks);
        std::fs::write(own.join("stat"), format!("7 (a ) b) {numbers}")).unwrap();
        std::fs::write(own.join("net/netstat"), "IpExt: InNoRoutes InOctets OutOctets\nIpExt: 1 20 30\n").unwrap();
        std::fs::write(folder.path().join("stat"), "cpu 1\nbtime 1000\n").unwrap();
        let mut page = Page::new();
        ProcessCollector { procfs: folder.path().into(), ..ProcessCollector::default() }.collect(&mut page);
        let (families, _) = page.families();
        let value = |name: &str| {
            let family = families.iter().find(|f| f.name == name);
            family.map(|f| format!("{:?}", f.samples().next().unwrap().value))
        };
        for (name, expected) in [
            ("process_cpu_seconds_total", 3.0),
            ("process_start_time_seconds", 1050.0),
            ("process_virtual_memory_bytes", 4096.0),
            ("process_open_fds", 1.0),
            ("process_network_receive_bytes_total", 20.0),
            ("process_network_transmit_bytes_total", 30.0),
        ] {
            assert_eq!(value(name), Some(format!("Float({expected:?})")), "{name}");
        }
    }
}
