use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::{FloatHistogram, Labels, Timestamp};

use super::MemoryStorage;
use super::compare::points_of;
use super::fix_times::{depends_on_time, fix, uses_query_range};
use super::nhcb::NhcbConverter;
use super::notation::SequenceValue;
use super::script::{Command, Eval, LoadedSeries, When, parse_script};
use crate::result::{QueryResult, Value, VectorSample};
use crate::{Engine, EngineOptions, Features, QueryError, QueryOptions};

/// How many cases passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases with the expected outcome.
    pub passed: usize,
    /// Other cases, those behind an error of a script included.
    pub failed: usize,
}

/// The engine that scripts run with.
fn script_engine() -> Engine {
    Engine::new(EngineOptions {
        lookback: 5 * 60_000,
        max_samples: 10_000,
        timeout: None,
        features: Features { type_and_unit_labels: false, ..Features::all() },
        default_subquery_step: 60_000,
        threads: 1,
        ..EngineOptions::default()
    })
}

/// Runs all scripts (`*.test`) of files and folders, in order. Writes a line for each failure (`file:line: reason`) and last
/// `N passed, N failed`.
///
/// # Errors
/// When a file cannot be read or the output cannot be written.
pub fn run_scripts(paths: &[PathBuf], out: &mut dyn Write) -> io::Result<Summary> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, true, &mut files)?;
    }
    let mut total = Summary::default();
    for file in files {
        let text =
            std::fs::read_to_string(&file).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
        let summary = run_script(&file.display().to_string(), &text, out)?;
        total.passed += summary.passed;
        total.failed += summary.failed;
    }
    writeln!(out, "{} passed, {} failed", total.passed, total.failed)?;
    Ok(total)
}

fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let context = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if path.metadata().map_err(context)?.is_dir() {
        let mut entries: Vec<PathBuf> =
            path.read_dir().map_err(context)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| collect(entry, false, files));
    }
    if named || path.extension().is_some_and(|e| e == "test") {
        files.push(path.to_owned());
    }
    Ok(())
}

/// Runs one script. Writes a line for each failure.
///
/// # Errors
/// When the output cannot be written.
pub fn run_script(name: &str, text: &str, out: &mut dyn Write) -> io::Result<Summary> {
    let engine = script_engine();
    let mut storage = MemoryStorage::new();
    let mut summary = Summary::default();
    let parsed = parse_script(text);
    for command in &parsed.commands {
        match command {
            Command::Clear => storage.clear(),
            Command::Load { interval, with_nhcb, series } => load(&mut storage, *interval, *with_nhcb, series),
            Command::Eval(eval) => match run_eval(&engine, &storage, eval) {
                Ok(()) => summary.passed += 1,
                Err(reason) => {
                    summary.failed += 1;
                    writeln!(out, "{name}:{}: {}: {reason}", eval.line, eval.query)?;
                }
            },
        }
    }
    if let Some((error, left)) = parsed.error {
        summary.failed += left.max(1);
        writeln!(out, "{name}:{}: error in the script, cases left: {left}: {error}", error.line)?;
    }
    Ok(summary)
}

fn load(storage: &mut MemoryStorage, interval: i64, with_nhcb: bool, all: &[LoadedSeries]) {
    let mut converter = NhcbConverter::default();
    for LoadedSeries { labels, values, starts } in all {
        for (at, value) in values.iter().enumerate() {
            let time = interval * at as i64;
            let start = starts.as_ref().and_then(|starts| starts[at]).map_or(0, |relative| time + relative);
            match value {
                SequenceValue::Gap => {}
                SequenceValue::Float(value) => {
                    storage.add_float(labels, time, *value, start);
                    if with_nhcb {
                        converter.add(labels, time, *value);
                    }
                }
                SequenceValue::Histogram(value, _) => storage.add_histogram(labels, time, value.clone(), start),
            }
        }
    }
    let converted: Vec<(Labels, Timestamp, FloatHistogram)> = converter.finish();
    for (labels, time, histogram) in converted {
        storage.add_histogram(&labels, time, histogram, 0);
    }
}

fn run_eval(engine: &Engine, storage: &MemoryStorage, eval: &Eval) -> Result<(), String> {
    let options = QueryOptions::default();
    match eval.when {
        When::Range { start, end, step } => {
            check_outcome(eval, engine.range(storage, &eval.query, (start, end, step), &options)).map(|_| ())
        }
        When::Instant(time) => {
            check_instant(engine, storage, eval, &eval.query, time)?;
            let Ok(mut expr) = engine.parse(&eval.query) else { return Ok(()) };
            if depends_on_time(&expr) {
                return Ok(());
            }
            fix(&mut expr, time);
            let fixed = expr.to_string();
            let times = if time == 0 { vec![-1000, 0, 1000] } else { vec![-10 * time, 0, time / 5, time, 10 * time] };
            for at in times {
                check_instant(engine, storage, &shifted(eval), &fixed, at)
                    .map_err(|reason| format!("{reason} (as {fixed} at {at} ms)"))?;
            }
            Ok(())
        }
    }
}

/// The expectations for the query as printed again, where the positions in annotations can be others.
fn shifted(eval: &Eval) -> Eval {
    use super::script::TextCheck;
    let without_position = |check: &TextCheck| match check {
        TextCheck::Equals(text) => {
            let head = text.rfind(" (").map_or(text.as_str(), |at| &text[..at]);
            let pattern = format!(r"^{}(?: \([0-9]+:[0-9]+\))?$", regex::escape(head));
            regex::Regex::new(&pattern).map_or(TextCheck::Any, TextCheck::Matches)
        }
        TextCheck::Matches(regex) => {
            let pattern = regex.as_str();
            let head = pattern.find(r" \(").map_or(pattern, |at| &pattern[..at]);
            regex::Regex::new(head).map_or(TextCheck::Any, TextCheck::Matches)
        }
        TextCheck::Any => TextCheck::Any,
    };
    let mut eval = eval.clone();
    eval.warnings = eval.warnings.iter().map(without_position).collect();
    eval.infos = eval.infos.iter().map(without_position).collect();
    eval
}

/// Compares a result, or an error, with what is expected. Gives the result if there is one.
fn check_outcome(eval: &Eval, outcome: Result<QueryResult, QueryError>) -> Result<Option<QueryResult>, String> {
    match (outcome, &eval.fail) {
        (Err(error), Some(check)) => {
            let text = error.to_string();
            if check.accepts(&text) {
                Ok(None)
            } else {
                Err(format!("expected an error, {}, got {text:?}", check.describe()))
            }
        }
        (Err(error), None) => Err(format!("unexpected error: {error}")),
        (Ok(_), Some(check)) => Err(format!("expected an error, {}, got a result", check.describe())),
        (Ok(result), None) => {
            eval.check_annotations(&result)?;
            eval.check_value(&result.value)?;
            Ok(Some(result))
        }
    }
}

/// Runs the query at a time, and as the middle step of a range query.
fn check_instant(
    engine: &Engine,
    storage: &MemoryStorage,
    eval: &Eval,
    query: &str,
    time: Timestamp,
) -> Result<(), String> {
    let options = QueryOptions::default();
    let Some(result) = check_outcome(eval, engine.instant(storage, query, time, &options))? else { return Ok(()) };
    let uses_range = engine.parse(query).is_ok_and(|expr| uses_query_range(&expr));
    let original_uses_range = engine.parse(&eval.query).is_ok_and(|expr| uses_query_range(&expr));
    if uses_range || original_uses_range || eval.string.is_some() || eval.range_vector.is_some() {
        return Ok(());
    }
    let minute = 60_000;
    let in_range = |reason: String| format!("{reason} (as a range query around {time} ms)");
    let range = engine
        .range(storage, query, (time - minute, time + minute, minute), &options)
        .map_err(|error| in_range(format!("unexpected error: {error}")))?;
    if eval.ordered {
        return Ok(());
    }
    let Value::Matrix(series) = range.value else {
        return Err(in_range(format!("expected a matrix, got a {}", range.value.value_type())));
    };
    if let Some(pair) = series.windows(2).find(|pair| pair[0].labels >= pair[1].labels) {
        return Err(in_range(format!("series are not sorted by labels: {} before {}", pair[0].labels, pair[1].labels)));
    }
    let samples: Vec<VectorSample> = series
        .iter()
        .filter_map(|series| {
            let value = points_of(series).remove(&time)?;
            Some(VectorSample { labels: series.labels.clone(), timestamp: time, value })
        })
        .collect();
    let value = match (&result.value, &samples[..]) {
        (Value::Scalar(..), [VectorSample { value: crate::result::SampleValue::Float(value), .. }]) => {
            Value::Scalar(time, *value)
        }
        _ => Value::Vector(samples),
    };
    eval.check_value(&value).map_err(in_range)
}
