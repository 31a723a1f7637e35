//! What the kernel says of a process: its memory and processor time.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::benchmark::BenchError;

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident now, file pages included (`VmRSS`).
    pub(crate) resident: u64,
    /// Most that was ever resident (`VmHWM`).
    pub(crate) peak: u64,
    /// Resident and not backed by files (`RssAnon`): the heap, and what a machine without free memory must keep.
    pub(crate) anonymous: u64,
}

/// Memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory, BenchError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|e| BenchError::io(&path, e))?;
    parse_status(&text).ok_or(BenchError::Process { path })
}

/// Begins anew to look for the most that a process has resident: [`Memory::peak`] is what it is now.
pub(crate) fn forget_peak(pid: u32) -> Result<(), BenchError> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").map_err(|e| BenchError::io(&path, e))
}

/// Time on the processors that a process has had, in user and system mode, its ended threads included, to the nanosecond.
pub(crate) fn processor_time(pid: u32) -> Result<Duration, BenchError> {
    let time = i32::try_from(pid).map_err(|_| Errno::ESRCH);
    let time = time.and_then(|pid| clock_getcpuclockid(Pid::from_raw(pid))).and_then(ClockId::now);
    let time = time.map_err(|e| BenchError::io(format!("the processor time of process {pid}"), e.into()))?;
    Ok(Duration::from(time))
}

/// Time that all processors of the machine have worked, in any mode, since it started.
pub(crate) fn machine_time() -> Result<Duration, BenchError> {
    let path = "/proc/stat";
    let text = fs::read_to_string(path).map_err(|e| BenchError::io(path, e))?;
    let ticks = parse_machine_stat(&text).ok_or(BenchError::Process { path: path.to_owned() })?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The load average over one minute, and 0 where the system has none.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// The model of the first processor.
pub(crate) fn processor_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    line.map_or("unknown", |(_, model)| model).to_owned()
}

/// Bytes of memory of the machine, and 0 where the system does not say.
pub(crate) fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"));
    line.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// The release of the kernel.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn parse_status(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some(Memory { resident: field("VmRSS")?, peak: field("VmHWM")?, anonymous: field("RssAnon")? })
}

/// Everything but `idle`, `iowait`, and the guests, whose time is part of the others.
fn parse_machine_stat(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    if fields.len() < 8 {
        return None;
    }
    Some(fields[..3].iter().sum::<u64>() + fields[5..8].iter().sum::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t     300 kB\nVmRSS:\t     200 kB\nRssAnon:\t     100 kB\nRssFile:\t 5 kB\n";
        assert_eq!(parse_status(text), Some(Memory { resident: 204_800, peak: 307_200, anonymous: 102_400 }));
        // a process that has ended has no memory lines
        assert_eq!(parse_status("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn idle_and_guests_are_no_work_of_the_machine() {
        assert_eq!(parse_machine_stat("cpu  1 2 4 1000 2000 8 16 32 99 99\ncpu0 1 1 1\n"), Some(63));
        assert_eq!(parse_machine_stat("cpu0 1 2 3 4 5 6 7 8\n"), None);
    }

    #[test]
    fn this_process_is_there() {
        let pid = std::process::id();
        let memory = memory(pid).expect("our own memory");
        assert!(memory.peak >= memory.resident && memory.resident > memory.anonymous && memory.anonymous > 0);
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let with_block = self::memory(pid).expect("our own memory");
        drop(block);
        forget_peak(pid).expect("our own memory");
        let without = self::memory(pid).expect("our own memory");
        assert!(without.peak + (32 << 20) < with_block.peak, "{with_block:?}, then {without:?}");
        let before = processor_time(pid).expect("our own time");
        let thread =
            std::thread::spawn(|| (0..1u32 << 22).fold(0u32, |sum, i| std::hint::black_box(sum.wrapping_add(i))));
        thread.join().expect("a sum");
        let after = processor_time(pid).expect("our own time");
        assert!(after > before + Duration::from_micros(100), "a thread that has ended counts: {before:?}, {after:?}");
        assert!(machine_time().expect("the machine's time") >= before);
    }
}
