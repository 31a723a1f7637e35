//! The samples of a store, a line each, as `promtool tsdb dump` prints them.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use model::{Matcher, Timestamp};
use tsdb::{OpenError, ReadError, ReadOnlyDb, Selection};

/// Series that are read at a time.
const BATCH: usize = 256;

/// Why a store is not printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A selector is wrong.
    #[error("--match={0}: {1}")]
    Selector(String, String),
    /// Samples cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Prints the samples in the range of the series that satisfy one of the selectors, or of all if there is none. What cannot be read is
/// named on standard error.
pub(crate) fn run(path: &Path, selectors: &[String], min_time: Timestamp, max_time: Timestamp) -> Result<(), Fault> {
    let parse = |text: &String| {
        promql::parse_metric_selector(text).map_err(|error| Fault::Selector(text.clone(), error.to_string()))
    };
    let mut wanted: Vec<Vec<Matcher>> = selectors.iter().map(parse).collect::<Result<_, _>>()?;
    if wanted.is_empty() {
        wanted.push(Vec::new());
    }
    let db = ReadOnlyDb::open(path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for matchers in &wanted {
        let selection = db.select(matchers, min_time, max_time);
        selection.warnings().iter().for_each(|warning| eprintln!("firewatch: {warning}"));
        print(&mut out, &selection, min_time, max_time)?;
    }
    Ok(out.flush()?)
}

fn print(out: &mut impl Write, selection: &Selection, min_time: Timestamp, max_time: Timestamp) -> Result<(), Fault> {
    let mut number = String::new();
    for from in (0..selection.labels().len()).step_by(BATCH) {
        let range = from..(from + BATCH).min(selection.labels().len());
        let read = selection.read(range.clone(), min_time, max_time)?;
        for (labels, samples) in selection.labels()[range].iter().zip(read) {
            for (time, value) in samples.floats.timestamps.iter().zip(&samples.floats.values) {
                number.clear();
                model::format_float(*value, &mut number);
                writeln!(out, "{labels} {number} {time}")?;
            }
            for (time, histogram) in samples.histograms.timestamps.iter().zip(&samples.histograms.values) {
                writeln!(out, "{labels} {histogram} {time}")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::Labels;
    use tsdb::{Db, Options};

    use super::*;

    #[test]
    fn samples_are_lines() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options { background: false, ..Options::default() }).unwrap();
        let mut appender = db.appender();
        for (name, value) in [("b", 1e6), ("a", f64::NAN)] {
            let series = appender.series(&Labels::from_pairs([("__name__", name), ("x", "y")])).unwrap();
            appender.append(series, 1000, value).unwrap();
            appender.append(series, 2500, -0.5).unwrap();
        }
        appender.commit().unwrap();
        let read = ReadOnlyDb::open(dir.path()).unwrap();
        let shown = |min_time, max_time| {
            let mut out = Vec::new();
            print(&mut out, &read.select(&[], min_time, max_time), min_time, max_time).unwrap();
            String::from_utf8(out).unwrap()
        };
        let all = "{__name__=\"a\", x=\"y\"} NaN 1000\n{__name__=\"a\", x=\"y\"} -0.5 2500\n\
                   {__name__=\"b\", x=\"y\"} 1e+06 1000\n{__name__=\"b\", x=\"y\"} -0.5 2500\n";
        assert_eq!(shown(i64::MIN, i64::MAX), all);
        assert_eq!(shown(1001, 2500).lines().count(), 2);
        let refused = run(dir.path(), &["{".to_owned()], 0, 1).unwrap_err();
        assert!(refused.to_string().starts_with("--match={: "), "{refused}");
    }
}
