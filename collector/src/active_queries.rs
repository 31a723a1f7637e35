//! Which queries run: kept in a file, so that the next start can tell which ones ran when the process was killed.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use model::now_millis;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The file's name, in the folder of the store's files.
const FILE: &str = "queries.active";

/// Bytes for a query in the file; a longer one is cut.
const ENTRY: usize = 1000;

/// Bytes of a query's text that are kept.
const MAX_TEXT: usize = 400;

/// A query that was running.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct ActiveQuery {
    /// Its text, or the beginning of it.
    pub(crate) query: String,
    /// When it began, in seconds since 1970.
    pub(crate) timestamp_sec: i64,
}

/// The file of running queries: places of [`ENTRY`] bytes, each with a line of JSON padded with spaces.
#[derive(Debug)]
pub(crate) struct ActiveQueries {
    /// `None` if the file cannot be written: queries run all the same.
    file: Option<File>,
    free: Mutex<Vec<usize>>,
}

/// Takes the query out of the file when dropped.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    queries: &'a ActiveQueries,
    place: Option<usize>,
}

impl ActiveQueries {
    /// Begins a new file in `folder` with as many places, and tells which queries the last run did not end.
    pub(crate) fn open(folder: &Path, places: usize) -> (Self, Vec<ActiveQuery>) {
        let path = folder.join(FILE);
        let left = read(&path);
        let opened = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
        let file = opened
            .inspect_err(
                |error| tracing::warn!(file = %path.display(), %error, "running queries cannot be kept in a file"),
            )
            .ok();
        (Self { file, free: Mutex::new((0..places).rev().collect()) }, left)
    }

    /// Notes a query while it runs. Without a free place it is not noted.
    pub(crate) fn note(&self, query: &str) -> Running<'_> {
        let place = self.file.as_ref().and_then(|_| self.free.lock().pop());
        if let Some(place) = place {
            let timestamp_sec = now_millis() / 1000;
            let mut end = MAX_TEXT;
            let line = loop {
                let query = query[..query.floor_char_boundary(end)].to_owned();
                let line = serde_json::to_vec(&ActiveQuery { query, timestamp_sec }).unwrap_or_default();
                if line.len() < ENTRY {
                    break line;
                }
                // every character can take six bytes
                end /= 2;
            };
            self.write(place, &line);
        }
        Running { queries: self, place }
    }

    fn write(&self, place: usize, line: &[u8]) {
        let mut entry = [b' '; ENTRY];
        entry[..line.len()].copy_from_slice(line);
        entry[ENTRY - 1] = b'\n';
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(&entry, (place * ENTRY) as u64)
        {
            tracing::debug!(%error, "a running query cannot be noted");
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.queries.write(place, b"");
            self.queries.free.lock().push(place);
        }
    }
}

/// What a file of an earlier run holds; lines that are damaged or empty are passed over.
fn read(path: &Path) -> Vec<ActiveQuery> {
    let mut bytes = Vec::new();
    let most = 64 << 20;
    let Ok(_) = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) else { return Vec::new() };
    bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (queries, left) = ActiveQueries::open(folder.path(), 3);
        assert!(left.is_empty());
        let first = queries.note("up");
        let long = "é\u{1}\"".repeat(1000);
        let second = queries.note(&long);
        drop(first);
        let third = queries.note("sum(up)");
        let fourth = queries.note("another");
        let fifth = queries.note("one too many");
        // as after SIGKILL: nothing is dropped
        std::mem::forget((second, third, fourth, fifth));
        let (_, mut left) = ActiveQueries::open(folder.path(), 3);
        left.sort_by(|a, b| a.query.cmp(&b.query));
        let texts: Vec<&str> = left.iter().map(|q| q.query.as_str()).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert_eq!(texts[..2], ["another", "sum(up)"]);
        assert!(long.starts_with(texts[2]) && texts[2].len() > 50, "{texts:?}");
        assert!(left[0].timestamp_sec > 1_700_000_000);
        let (_, left) = ActiveQueries::open(folder.path(), 3);
        assert!(left.is_empty(), "told once: {left:?}");
    }

    #[test]
    fn damaged_files_and_missing_folders_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), b"\xff\x00{\n{\"query\":\"up\",\"timestamp_sec\":5}\n[[[").unwrap();
        let (_, left) = ActiveQueries::open(folder.path(), 1);
        assert_eq!(left, [ActiveQuery { query: "up".into(), timestamp_sec: 5 }]);
        let (queries, left) = ActiveQueries::open(&folder.path().join("missing"), 1);
        assert!(left.is_empty() && queries.note("up").place.is_none());
    }
}
