//! Samples from files into blocks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use common::exposition::openmetrics::Parser;
use common::exposition::{Entry, LabelError, ParseError, labels_of};
use model::{Duration, METRIC_NAME};
use tsdb::{BulkLoader, BulkReport, BulkSeries, ImportError, Options};

use super::list;

/// Bytes of the input in memory; a line is no longer.
const WINDOW: usize = 4 << 20;

/// Why a page is not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The input cannot be read.
    #[error("{0}: {1}")]
    Read(String, io::Error),
    /// It is not OpenMetrics.
    #[error("{0}: {1}")]
    Parse(String, ParseError),
    /// A sample cannot be loaded.
    #[error("{name}: line {line}: {fault}")]
    Sample {
        /// The input.
        name: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        fault: String,
    },
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] ImportError),
    /// The report cannot be written.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// Loads a page into the store in `path` and prints the blocks that are there for it then.
pub(crate) fn openmetrics(file: &Path, path: &Path, longest: Duration, quiet: bool) -> Result<(), Fault> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(|e| Fault::Read(name.clone(), e))?)
    };
    let defaults = Options::default();
    let options = Options {
        max_block_duration: longest.millis().max(defaults.min_block_duration),
        background: false,
        ..defaults
    };
    let mut page = Page { name, loader: BulkLoader::open(path, options)?, last: None, lines: 0 };
    page.load(input)?;
    let report = page.loader.finish()?;
    if quiet { Ok(()) } else { print(&report).map_err(Fault::Print) }
}

struct Page {
    name: String,
    loader: BulkLoader,
    /// The series of the line before, as it stood there.
    last: Option<(Vec<u8>, BulkSeries)>,
    /// Lines before the window.
    lines: usize,
}

impl Page {
    /// Reads a window at a time; lines mean the same wherever they are cut.
    fn load(&mut self, mut input: impl Read) -> Result<(), Fault> {
        let mut window = Vec::new();
        loop {
            let room = (WINDOW - window.len()) as u64;
            let read = (&mut input).take(room).read_to_end(&mut window);
            let read = read.map_err(|e| Fault::Read(self.name.clone(), e))?;
            let end = window.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            if read as u64 == room && end > 0 {
                let ended = self.lines_of(&window[..end])?;
                self.lines += window[..end].iter().filter(|b| **b == b'\n').count();
                window.drain(..end);
                if ended {
                    return Err(self.fault(self.lines, "there is something behind # EOF"));
                }
                continue;
            }
            if read as u64 == room {
                return Err(self.fault(self.lines + 1, "the line is longer than 4 MiB"));
            }
            // the last of it: the parser finds that # EOF is missing
            return match self.lines_of(&window)? {
                true => Ok(()),
                false => Err(self.fault(
                    self.lines + window.iter().filter(|b| **b == b'\n').count(),
                    "data does not end with # EOF",
                )),
            };
        }
    }

    fn fault(&self, line: usize, fault: impl Into<String>) -> Fault {
        Fault::Sample { name: self.name.clone(), line, fault: fault.into() }
    }

    /// Loads the samples of some whole lines; says whether `# EOF` was there.
    fn lines_of(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let mut parser = Parser::new(bytes);
        while !parser.rest().is_empty() {
            let at = bytes.len() - parser.rest().len();
            let entry = parser.next_entry().map_err(|mut error| {
                error.line += self.lines;
                Fault::Parse(self.name.clone(), error)
            })?;
            let sample = match entry {
                None => return Ok(true),
                Some(Entry::Sample(sample)) => sample,
                Some(_) => continue,
            };
            let line = || self.lines + bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
            let shown = || String::from_utf8_lossy(sample.series).into_owned();
            let Some(time) = sample.timestamp else {
                return Err(self.fault(line(), format!("expected timestamp for series {:?}, got none", shown())));
            };
            let series = match &self.last {
                Some((bytes, series)) if bytes == sample.series => *series,
                _ => {
                    let labels = labels_of(sample.series).map_err(|e: LabelError| self.fault(line(), e.to_string()))?;
                    if labels.value(METRIC_NAME).is_empty() {
                        return Err(self.fault(line(), format!("series {:?} has no name", shown())));
                    }
                    let series = self.loader.series(&labels);
                    self.last = Some((sample.series.to_vec(), series));
                    series
                }
            };
            self.loader.add(series, time, sample.value)?;
        }
        Ok(false)
    }
}

/// The blocks that are there now, and what was loaded.
fn print(report: &BulkReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    list::print(&mut out, report.blocks.iter().map(|meta| (meta, None)), false)?;
    let (samples, series) = (report.samples - report.duplicates, report.series);
    writeln!(
        out,
        "{samples} samples of {series} series loaded; {} left out, since their series had one of that time",
        report.duplicates
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Matcher;
    use tsdb::Db;

    fn load(page: &str) -> (tempfile::TempDir, Result<BulkReport, String>) {
        let dir = tempfile::tempdir().unwrap();
        let loader = BulkLoader::open(dir.path(), Options { background: false, ..Options::default() }).unwrap();
        let mut loaded = Page { name: "page".into(), loader, last: None, lines: 0 };
        let outcome = loaded.load(page.as_bytes()).and_then(|()| Ok(loaded.loader.finish()?));
        (dir, outcome.map_err(|e| e.to_string()))
    }

    #[test]
    fn pages_that_are_refused_name_the_line() {
        for (page, fault) in [
            ("a 1 1\n", "page: line 1: data does not end with # EOF"),
            ("", "page: line 0: data does not end with # EOF"),
            ("a 1 1\nb 2\n# EOF\n", "page: line 2: expected timestamp for series \"b\", got none"),
            ("a 1 1\n\n# EOF\n", "page: line 2"),
            ("a 1 1\n# EOF\nb 1 1\n", "page: line 2"),
            ("a{b=\"c\"} x 1\n# EOF\n", "page: line 1"),
        ] {
            let (_, outcome) = load(page);
            let error = outcome.unwrap_err();
            assert!(error.starts_with(fault), "{page:?}: {error}");
        }
    }

    #[test]
    fn a_page_of_several_windows_is_loaded_whole() {
        let mut page = String::from("# HELP m Lines.\n# TYPE m counter\n");
        let rows = 120_000i64;
        for row in 0..rows {
            page +=
                &format!("m_total{{instance=\"a\",path=\"/a/long/path/that/takes/room\"}} {row} {}.250\n", row * 15);
        }
        page += "up 1 0\n# EOF\n";
        assert!(page.len() > 2 * WINDOW);
        let (dir, outcome) = load(&page);
        let report = outcome.unwrap();
        assert_eq!((report.samples, report.series, report.duplicates), (rows as u64 + 1, 2, 0));
        let db = Db::open(dir.path(), Options { background: false, retention_duration: None, ..Options::default() });
        let db = db.unwrap();
        let selection = db.select(&[Matcher::equal("instance", "a")], 0, i64::MAX).unwrap();
        let samples = &selection.read(0..1, 0, i64::MAX).unwrap()[0].floats;
        assert_eq!(samples.len(), rows as usize);
        assert_eq!((samples.timestamps[7], samples.values[7]), (7 * 15_000 + 250, 7.0));
    }
}
