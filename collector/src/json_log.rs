//! Logs of their own file, a JSON object a line, as Prometheus keeps them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Timestamp, format_rfc3339_millis};
use parking_lot::Mutex;
use serde_json::Value;

/// A file to log to that has been opened.
#[derive(Debug)]
pub(crate) struct Opened {
    path: PathBuf,
    file: File,
}

impl Opened {
    /// Opens the file to write at its end, creating it if need be.
    ///
    /// # Errors
    /// When that fails; the text names the file.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }
}

/// A log whose file may change while it is written to.
#[derive(Debug, Default)]
pub(crate) struct JsonLog {
    file: Mutex<Option<Opened>>,
    failures: AtomicU64,
}

impl JsonLog {
    /// Logs to this file from now on; `None` logs nothing. A file is opened anew at each reload, so that one that was moved away
    /// is let go of.
    pub(crate) fn set(&self, file: Option<Opened>) {
        *self.file.lock() = file;
    }

    /// Whether anything is logged.
    pub(crate) fn is_enabled(&self) -> bool {
        self.file.lock().is_some()
    }

    /// Lines that could not be written.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Writes a line, if anything is logged. The object is made without the lock.
    pub(crate) fn write(&self, line: impl FnOnce() -> Value) {
        if !self.is_enabled() {
            return;
        }
        let line = format!("{}\n", line());
        let mut opened = self.file.lock();
        let Some(Opened { path, file }) = &mut *opened else { return };
        // one write, so that lines stay whole
        if let Err(error) = file.write_all(line.as_bytes())
            && self.failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000)
        {
            tracing::error!(file = %path.display(), %error, "a line cannot be logged");
        }
    }
}

/// A time in RFC 3339, always with three digits of milliseconds.
pub(crate) fn with_millis(time: Timestamp) -> String {
    let second = format_rfc3339_millis(time.div_euclid(1000) * 1000);
    format!("{}.{:03}Z", second.trim_end_matches('Z'), time.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_go_to_the_file_that_was_set_last() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first.log"), dir.path().join("second.log"));
        let log = JsonLog::default();
        log.write(|| panic!("nothing is made of a line that nobody wants"));
        log.set(Some(Opened::open(&first).unwrap()));
        log.write(|| json!({ "n": 1 }));
        // as logrotate does it
        std::fs::rename(&first, &second).unwrap();
        log.set(Some(Opened::open(&first).unwrap()));
        log.write(|| json!({ "n": 2 }));
        log.set(None);
        log.write(|| json!({ "n": 3 }));
        assert!(!log.is_enabled() && log.failures() == 0);
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&second), read(&first)), ("{\"n\":1}\n".to_owned(), "{\"n\":2}\n".to_owned()));
        assert!(Opened::open(Path::new("/nowhere/at/all")).unwrap_err().starts_with("/nowhere/at/all: "));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let log = JsonLog::default();
        log.set(Some(Opened::open(Path::new("/dev/full")).unwrap()));
        log.write(|| json!({}));
        assert_eq!(log.failures(), 1);
    }
}
