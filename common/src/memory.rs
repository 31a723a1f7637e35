//! How much memory a process holds on to. It concerns the process as a whole, so a binary's `main` alone calls it.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use tokio::sync::Notify;

use crate::http::ServerStats;

/// Keeps what a process holds in memory small. Not for programs with large heaps, which it walks.
#[derive(Debug)]
pub struct SmallProcess {
    /// The program and the libraries it was started with, which stay where they are as long as it runs.
    files: Vec<String>,
}

/// What only the start needed is given back after this.
const SOON: Duration = Duration::from_secs(5);
/// When nobody has been answered for this long, text is given back. It comes back at the cost of some tens of faults on pages that
/// are in memory, so it is nothing to do while answers follow each other.
const QUIET: Duration = Duration::from_millis(250);
/// Text and heap are given back this often, for what a rare event has left.
const LATER: Duration = Duration::from_secs(60);

/// A large heap is looked through this often.
const BETWEEN_TRIMS: Duration = Duration::from_secs(15);

/// So many bytes of free memory at the end of a heap stay with the process until [`keep_trimmed`] gives them back. By itself the C library
/// gives back 128 KiB at once, which the next query gets page by page.
const KEPT_FREE: i32 = 8 << 20;
/// Larger pieces of memory are the system's again when they are freed, and come from it anew.
const ALONE: i32 = 4 << 20;
/// So much is taken at once where a heap has to grow.
const GROWTH: i32 = 1 << 20;
/// A heap of threads can be written so far from the start on. Where it cannot the C library asks the system for each piece of memory, of
/// which the first answers of a new process need thousands, and other threads wait for that. Address space alone is taken by it.
const WRITABLE: usize = 32 << 20;

/// Sets the C library's allocator up for a process that works in bursts: threads share as many heaps as there are processors to run them (by
/// itself it makes eight times as many, and what one thread has freed in its heap is of no use to the others), and what a burst has
/// freed is there for the next. To be called before there are threads.
pub fn set_up_heaps() {
    let heaps = std::thread::available_parallelism().map_or(1, usize::from);
    set_heaps(heaps);
    keep_free_memory();
    // one is that of the first thread, which grows otherwise
    make_writable(heaps - 1);
}

/// Has heaps of threads come to be, and grow and shrink once: the system's pages are given back then, the right to write them stays. The
/// threads are there at the same time, so that each gets a heap.
fn make_writable(heaps: usize) {
    let all_there = Barrier::new(heaps);
    let grow_and_shrink = || {
        let part = ALONE as usize / 2;
        let parts: Vec<Vec<u8>> = (0..WRITABLE / part).map(|_| Vec::with_capacity(part)).collect();
        drop(std::hint::black_box(parts));
        all_there.wait();
    };
    std::thread::scope(|scope| (0..heaps).for_each(|_| _ = scope.spawn(grow_and_shrink)));
}

#[expect(
    unsafe_code,
    reason = "a setting of the C library's allocator: half of the memory on the heap was measured to go by it in a small process, 5 MB of 88 in one with 300,000 series"
)]
fn set_heaps(count: usize) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers; to be called while no other thread exists that could allocate meanwhile
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, i32::try_from(count).unwrap_or(i32::MAX));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}

#[expect(
    unsafe_code,
    reason = "settings of the C library's allocator: up to half of the processor time of a query was measured to go by them, and 3 % over many"
)]
fn keep_free_memory() {
    #[cfg(target_env = "gnu")]
    for (setting, bytes) in
        [(libc::M_TRIM_THRESHOLD, KEPT_FREE), (libc::M_MMAP_THRESHOLD, ALONE), (libc::M_TOP_PAD, GROWTH)]
    {
        // SAFETY: takes two numbers; to be called while no other thread exists that could allocate meanwhile
        unsafe {
            libc::mallopt(setting, bytes);
        }
    }
}

impl SmallProcess {
    /// Has all threads share one heap. They never allocate at the same time for long, and each heap more would keep the largest
    /// page it has seen. To be called before there are threads, and before anything loads libraries.
    pub fn at_start() -> Self {
        set_heaps(1);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut files: Vec<String> = maps.lines().filter_map(file_of).map(str::to_owned).collect();
        files.dedup();
        Self { files }
    }

    /// Gives unused memory back for as long as the program runs; `server` tells when it works. Cancelling it loses nothing.
    pub async fn keep(self, server: Arc<ServerStats>) {
        give_back(&self.text());
        tokio::time::sleep(SOON).await;
        loop {
            trim_heap();
            let text = self.text();
            give_back(&text);
            let working = async {
                loop {
                    quiet(&server.answered).await;
                    give_back(&text);
                }
            };
            let _ = tokio::time::timeout(LATER, working).await;
        }
    }

    /// Where text is mapped that can be given back. What was loaded after the start is left alone: it may be unloaded meanwhile, and
    /// its addresses be something else's.
    fn text(&self) -> Text {
        Text(unchanged(&std::fs::read_to_string("/proc/self/smaps").unwrap_or_default(), &self.files))
    }
}

/// Mappings of the program's file and of those of libraries it was linked with, which the dynamic linker never unloads; private, without
/// the right to write, and without a page that differs from the file.
struct Text(Vec<(usize, usize)>);

/// Gives back pages of text, which come back from their files when they are needed again.
#[expect(
    unsafe_code,
    reason = "no safe function does it: two thirds of the memory of the waiting program was measured to be such text"
)]
fn give_back(text: &Text) {
    for &(start, end) in &text.0 {
        // SAFETY: by what is said of `Text` the range stays mapped from the same file, and what is dropped is read again from it at the
        // next access, with the same bytes
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
        }
    }
}

/// Gives back free memory of the heap now and then, for as long as the program runs: what a block that was cut or a large answer took
/// stays with the process otherwise.
pub async fn keep_trimmed() {
    loop {
        tokio::time::sleep(BETWEEN_TRIMS).await;
        // it takes milliseconds where the heap is large
        let _ = tokio::task::spawn_blocking(trim_heap).await;
    }
}

/// Gives back free memory of the heap.
#[expect(unsafe_code, reason = "no safe function does it")]
fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: returns free memory only
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Waits for an answer, and until none has followed the last one for a while.
async fn quiet(answered: &Notify) {
    answered.notified().await;
    while tokio::time::timeout(QUIET, answered.notified()).await.is_ok() {}
}

/// The file of a line of `/proc/self/maps`, if it is mapped from one.
fn file_of(line: &str) -> Option<&str> {
    line.find('/').map(|at| &line[at..])
}

/// Mappings of files that cannot be written and hold nothing but the files' own bytes. Relocated data is not among them: it
/// counts as anonymous.
fn unchanged(smaps: &str, files: &[String]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let first = fields.next().unwrap_or("");
        if let Some((start, end)) = first.split_once('-') {
            let address = |hex| usize::from_str_radix(hex, 16).ok();
            let private_and_fixed = fields.next().is_some_and(|rights| matches!(rights, "r--p" | "r-xp"));
            let of_files = file_of(line).is_some_and(|file| files.iter().any(|f| f == file));
            current = address(start).zip(address(end)).filter(|_| private_and_fixed && of_files);
        } else if first == "Anonymous:" && fields.next() == Some("0") {
            found.extend(current.take());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_the_unchanged_bytes_of_files_are_dropped() {
        let smaps = "\
1000-2000 r-xp 00000000 fe:00 1   /bin/x\nRss: 4 kB\nAnonymous:             0 kB\n\
2000-3000 r--p 00001000 fe:00 1   /bin/x\nRss: 4 kB\nAnonymous:             4 kB\n\
3000-4000 rw-p 00002000 fe:00 1   /bin/x\nAnonymous:             0 kB\n\
4000-5000 r--p 00000000 00:00 0\nAnonymous:             0 kB\n\
5000-6000 r-xp 00000000 00:00 0   [vdso]\nAnonymous:             0 kB\n\
6000-7000 r--s 00000000 fe:00 1   /bin/x\nAnonymous:             0 kB\n\
8000-9000 r--p 00000000 fe:00 1   /bin/x\nAnonymous:             0 kB\n\
a000-b000 r--p 00000000 fe:00 2   /lib/y (deleted)\nAnonymous:             0 kB\n";
        let of = |files: &[&str]| unchanged(smaps, &files.iter().map(|&file| file.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["/bin/x"]), [(0x1000, 0x2000), (0x8000, 0x9000)]);
        assert_eq!(of(&["/lib/y (deleted)"]), [(0xa000, 0xb000)]);
        assert_eq!(of(&["/lib/y (deleted)", "/bin/x", "/bin/z"]).len(), 3);
        assert_eq!(of(&[]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_no_answer_has_followed_for_a_while() {
        let answered = Arc::new(Notify::new());
        let begin = tokio::time::Instant::now();
        let answers = answered.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(QUIET / 2).await;
                answers.notify_one();
            }
        });
        quiet(&answered).await;
        assert_eq!(begin.elapsed(), QUIET * 6);
        assert!(tokio::time::timeout(LATER, quiet(&answered)).await.is_err(), "there was no further answer");
    }

    #[test]
    fn the_program_runs_on() {
        let text: Vec<String> = (0..1000).map(|n| format!("{n:?}")).collect();
        let process = SmallProcess::at_start();
        let program = std::env::current_exe().unwrap();
        assert!(process.files.iter().any(|file| Path::new(file) == program), "{:?}", process.files);
        give_back(&process.text());
        trim_heap();
        assert_eq!(text.join(","), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    }
}
