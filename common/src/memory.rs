//! What a small exporter's process holds in memory while it waits. It concerns the process as a whole, so a binary's `main` alone
//! calls it.

use std::time::Duration;

/// Keeps what a process holds in memory small. Not for programs with large heaps, which it walks.
#[derive(Debug)]
pub struct SmallProcess {
    /// The program and the libraries it was started with, which stay where they are as long as it runs.
    files: Vec<String>,
}

/// How often unused memory is given back: what only the start and the first scrapes needed soon, and later what a rare event
/// has left. It costs some tens of faults on pages that are in memory, so it is nothing to do at every scrape.
const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(60);

impl SmallProcess {
    /// Has all threads share one heap. They never allocate at the same time for long, and each heap more would keep the largest
    /// page it has seen. To be called before there are threads, and before anything loads libraries.
    #[expect(
        unsafe_code,
        reason = "a setting of the C library's allocator: half of the memory on the heap was measured to go by it"
    )]
    pub fn at_start() -> Self {
        #[cfg(target_env = "gnu")]
        // SAFETY: takes two numbers; no other thread exists that could allocate meanwhile
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut files: Vec<String> = maps.lines().filter_map(file_of).map(str::to_owned).collect();
        files.dedup();
        Self { files }
    }

    /// Gives unused memory back for as long as the program runs. Cancelling it loses nothing.
    pub async fn keep(self) {
        self.give_back();
        tokio::time::sleep(SOON).await;
        loop {
            self.give_back();
            tokio::time::sleep(LATER).await;
        }
    }

    /// Gives back free memory of the heap, and pages of the program's text and of its libraries', which come back from their files
    /// when they are needed again. What was loaded later is left alone: it may be unloaded meanwhile, and its addresses be
    /// something else's.
    #[expect(
        unsafe_code,
        reason = "no safe function does it: half of the memory of the waiting program was measured to be such text"
    )]
    fn give_back(&self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: returns free memory only
        unsafe {
            libc::malloc_trim(0);
        }
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        for (start, end) in unchanged(&maps, &self.files) {
            // SAFETY: the range is mapped from the program's file or from that of a library it was linked with, which the dynamic
            // linker never unloads; privately, without the right to write, and without a page that differs from the file: what is
            // dropped is read again from it at the next access, with the same bytes
            unsafe {
                libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
            }
        }
    }
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

    #[test]
    fn the_program_runs_on() {
        let text: Vec<String> = (0..1000).map(|n| format!("{n:?}")).collect();
        let process = SmallProcess::at_start();
        let program = std::env::current_exe().unwrap();
        assert!(process.files.iter().any(|file| Path::new(file) == program), "{:?}", process.files);
        process.give_back();
        assert_eq!(text.join(","), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    }
}
