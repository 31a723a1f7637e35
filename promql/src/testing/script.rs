//! The commands of a test script.

use std::sync::OnceLock;

use model::{Duration, Labels, Timestamp};
use regex::Regex;

use super::notation::{SequenceValue, items, parse_labels, parse_series, repetition};
use crate::go_text::unquote;

/// A script that does not make sense, with the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct ScriptError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// A series of a `load`.
#[derive(Clone, Debug)]
pub(super) struct LoadedSeries {
    pub(super) labels: Labels,
    pub(super) values: Vec<SequenceValue>,
    /// Start timestamps relative to the samples' own times.
    pub(super) starts: Option<Vec<Option<i64>>>,
}

#[derive(Clone, Debug)]
pub(super) enum Command {
    Clear,
    Load { interval: i64, with_nhcb: bool, series: Vec<LoadedSeries> },
    Eval(Box<Eval>),
}

/// When a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Instant(Timestamp),
    Range { start: Timestamp, end: Timestamp, step: i64 },
}

/// How an error or annotation must look.
#[derive(Clone, Debug)]
pub(super) enum TextCheck {
    Any,
    Equals(String),
    Matches(Regex),
}

impl TextCheck {
    pub(super) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Equals(expected) => expected == text,
            Self::Matches(regex) => regex.is_match(text),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Equals(text) => format!("{text:?}"),
            Self::Matches(regex) => format!("one matching {:?}", regex.as_str()),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Eval {
    pub(super) line: usize,
    pub(super) when: When,
    pub(super) query: String,
    pub(super) fail: Option<TextCheck>,
    pub(super) warnings: Vec<TextCheck>,
    pub(super) infos: Vec<TextCheck>,
    pub(super) no_warnings: bool,
    pub(super) no_infos: bool,
    pub(super) ordered: bool,
    pub(super) scalar: Option<f64>,
    pub(super) string: Option<String>,
    /// Times of the points of an instant query that gives a matrix.
    pub(super) range_vector: Option<(Timestamp, Timestamp, i64)>,
    /// Expected series, with their lines.
    pub(super) series: Vec<(usize, Labels, Vec<SequenceValue>)>,
}

/// The lines of a script: number from 1, and text without blanks around it; comments are empty.
fn lines(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| {
            let line = line.trim();
            (at + 1, if line.starts_with('#') { "" } else { line })
        })
        .collect()
}

/// The commands up to the first that is wrong, that error, and how many cases stand from there on.
pub(super) struct Parsed {
    pub(super) commands: Vec<Command>,
    pub(super) error: Option<(ScriptError, usize)>,
}

pub(super) fn parse_script(text: &str) -> Parsed {
    let lines = lines(text);
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (_, line) = lines[at];
        if line.is_empty() {
            at += 1;
            continue;
        }
        let end = lines[at..].iter().position(|(_, l)| l.is_empty()).map_or(lines.len(), |n| at + n);
        match parse_command(&lines[at..end]) {
            Ok((command, used)) => {
                commands.push(command);
                at += used;
            }
            Err(error) => {
                let is_eval = |(_, line): &&(usize, &str)| line.to_ascii_lowercase().starts_with("eval");
                let left = lines[at..].iter().filter(is_eval).count();
                return Parsed { commands, error: Some((error, left)) };
            }
        }
    }
    Parsed { commands, error: None }
}

/// Parses the command a block starts with; gives how many lines it took.
fn parse_command(block: &[(usize, &str)]) -> Result<(Command, usize), ScriptError> {
    let (line, text) = block[0];
    let fail = |message: String| Err(ScriptError { line, message });
    let word = text.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
    match word.as_str() {
        "clear" if text.eq_ignore_ascii_case("clear") => Ok((Command::Clear, 1)),
        "load" | "load_with_nhcb" => {
            let interval = text[word.len()..].trim();
            let interval = duration(interval).ok_or_else(|| ScriptError {
                line,
                message: format!("invalid load command: {text:?} needs one duration"),
            })?;
            let series = parse_load(&block[1..])?;
            Ok((Command::Load { interval, with_nhcb: word != "load", series }, block.len()))
        }
        "eval" | "eval_fail" => {
            let (eval, used) = parse_eval(block, word == "eval_fail")?;
            Ok((Command::Eval(Box::new(eval)), used))
        }
        _ => fail(format!("invalid command {text:?}")),
    }
}

/// A duration in milliseconds; a bare 0 is one.
fn duration(text: &str) -> Option<i64> {
    text.parse::<Duration>().ok().map(Duration::millis)
}

fn parse_load(block: &[(usize, &str)]) -> Result<Vec<LoadedSeries>, ScriptError> {
    let mut all: Vec<LoadedSeries> = Vec::new();
    let mut pending: Option<(usize, Labels, Vec<Option<i64>>)> = None;
    for &(line, text) in block {
        let wrong = |message: String| ScriptError { line, message };
        let (labels, rest) = parse_labels(text).map_err(|e| wrong(e.to_string()))?;
        if let Some(rest) = rest.strip_prefix("@st") {
            if pending.is_some() {
                return Err(wrong("start timestamps must be followed by a line for the same series".to_owned()));
            }
            pending = Some((line, labels, parse_starts(rest).map_err(wrong)?));
            continue;
        }
        let (labels, values) = parse_series(text).map_err(|e| wrong(e.to_string()))?;
        let starts = match pending.take() {
            None => None,
            Some((_, of, _)) if of != labels => {
                return Err(wrong(format!("start timestamps are of {of}, but the line below is of {labels}")));
            }
            Some((_, _, starts)) if starts.len() != values.len() => {
                return Err(wrong(format!("{} start timestamps for {} points", starts.len(), values.len())));
            }
            Some((_, _, starts)) => Some(starts),
        };
        // a series given twice has what the last line says
        all.retain(|series| series.labels != labels);
        all.push(LoadedSeries { labels, values, starts });
    }
    match pending {
        Some((line, ..)) => Err(ScriptError {
            line,
            message: "start timestamps must be followed by a line for the same series".to_owned(),
        }),
        None => Ok(all),
    }
}

/// Start timestamps relative to the samples: `-1m`, `_`, `_x3`, `-30s-1mx2`.
fn parse_starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    static ITEM: OnceLock<Option<Regex>> = OnceLock::new();
    let item_form = ITEM.get_or_init(|| {
        Regex::new(r"^([+-]?)((?:[0-9]+(?:ms|[smhdwy]))+|0)(?:([+-])((?:[0-9]+(?:ms|[smhdwy]))+|0))?(x[0-9]+)?$").ok()
    });
    let mut starts = Vec::new();
    for item in items(text).map_err(|e| e.to_string())? {
        let bad = || format!("not a start timestamp: {item}");
        if let Some(rest) = item.strip_prefix('_') {
            let count = if rest.is_empty() { 1 } else { repetition(rest).ok_or_else(bad)? };
            starts.extend(std::iter::repeat_n(None, count));
            continue;
        }
        let parts = item_form.as_ref().and_then(|form| form.captures(item)).ok_or_else(bad)?;
        let signed = |sign: usize, value: usize| -> Result<i64, String> {
            let Some(value) = parts.get(value) else { return Ok(0) };
            let millis = duration(value.as_str()).ok_or_else(bad)?;
            Ok(if parts.get(sign).is_some_and(|s| s.as_str() == "-") { -millis } else { millis })
        };
        let (mut start, step) = (signed(1, 2)?, signed(3, 4)?);
        let count = match parts.get(5) {
            Some(times) => repetition(times.as_str()).ok_or_else(bad)? + 1,
            None if parts.get(4).is_some() => return Err(bad()),
            None => 1,
        };
        for _ in 0..count {
            starts.push(Some(start));
            start += step;
        }
    }
    Ok(starts)
}

fn parse_eval(block: &[(usize, &str)], old_fail: bool) -> Result<(Eval, usize), ScriptError> {
    static FORM: OnceLock<Option<Regex>> = OnceLock::new();
    let (line, text) = block[0];
    let wrong = |line: usize, message: String| ScriptError { line, message };
    let form = FORM.get_or_init(|| {
        Regex::new(
            r"(?i)^eval(?:_fail)?\s+(?:instant\s+at\s+(\S+)|range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+))\s+(.+)$",
        )
        .ok()
    });
    let parts = form
        .as_ref()
        .and_then(|form| form.captures(text))
        .ok_or_else(|| wrong(line, format!("invalid evaluation command: {text:?}")))?;
    let time = |at: usize| {
        let text = parts.get(at).map_or("", |m| m.as_str());
        duration(text).ok_or_else(|| wrong(line, format!("invalid time {text:?}")))
    };
    let when = if parts.get(1).is_some() {
        When::Instant(time(1)?)
    } else {
        let (start, end, step) = (time(2)?, time(3)?, time(4)?);
        if end < start {
            return Err(wrong(line, "invalid range: it ends before it starts".to_owned()));
        }
        if step == 0 {
            return Err(wrong(line, "invalid range: its step is zero".to_owned()));
        }
        When::Range { start, end, step }
    };
    let mut eval = Eval {
        line,
        when,
        query: parts.get(5).map_or("", |m| m.as_str()).to_owned(),
        fail: old_fail.then_some(TextCheck::Any),
        warnings: Vec::new(),
        infos: Vec::new(),
        no_warnings: false,
        no_infos: false,
        ordered: false,
        scalar: None,
        string: None,
        range_vector: None,
        series: Vec::new(),
    };
    let mut used = 1;
    for &(line, text) in &block[1..] {
        used += 1;
        if let Some(expectation) = text.strip_prefix("expect ") {
            eval.expect(expectation.trim()).map_err(|message| wrong(line, message))?;
        } else if let Ok(value) = crate::parser::parse_signed_number(text) {
            eval.scalar = Some(value);
            break;
        } else {
            let (labels, values) = parse_series(text).map_err(|e| wrong(line, e.to_string()))?;
            eval.series.push((line, labels, values));
        }
    }
    Ok((eval, used))
}

impl Eval {
    fn expect(&mut self, text: &str) -> Result<(), String> {
        let instant = matches!(self.when, When::Instant(_));
        if let Some(literal) = text.strip_prefix("string ") {
            if !instant {
                return Err("strings are results of instant queries only".to_owned());
            }
            let bytes = unquote(literal.trim()).ok_or_else(|| format!("not a string literal: {literal}"))?;
            self.string = Some(String::from_utf8_lossy(&bytes).into_owned());
            return Ok(());
        }
        if let Some(range) = text.strip_prefix("range vector ") {
            let words: Vec<&str> = range.split_whitespace().collect();
            let ["from", start, "to", end, "step", step] = words[..] else {
                return Err(format!("invalid range vector: {text:?}"));
            };
            let time = |text: &str| duration(text).ok_or_else(|| format!("invalid time {text:?}"));
            if !instant {
                return Err("range vectors are results of instant queries only".to_owned());
            }
            let (start, end, step) = (time(start)?, time(end)?, time(step)?);
            if step <= 0 || end < start {
                return Err(format!("invalid range vector: {text:?}"));
            }
            self.range_vector = Some((start, end, step));
            return Ok(());
        }
        let (kind, check) = match text.split_once(char::is_whitespace) {
            None => (text, TextCheck::Any),
            Some((kind, rest)) => {
                let rest = rest.trim();
                let check = if let Some(message) = rest.strip_prefix("msg:") {
                    TextCheck::Equals(message.trim().to_owned())
                } else if let Some(pattern) = rest.strip_prefix("regex:") {
                    let pattern = pattern.trim();
                    TextCheck::Matches(Regex::new(pattern).map_err(|e| {
                        // the library shows the place on a line of its own
                        let text = e.to_string();
                        format!("invalid regex {pattern:?}: {}", text.lines().last().unwrap_or_default())
                    })?)
                } else {
                    return Err(format!("invalid expectation: {text:?}"));
                };
                (kind, check)
            }
        };
        let bare = matches!(check, TextCheck::Any);
        match kind {
            "fail" if self.fail.is_some() => return Err("expect fail may stand once only".to_owned()),
            "fail" => self.fail = Some(check),
            "warn" => self.warnings.push(check),
            "info" => self.infos.push(check),
            "no_warn" if bare => self.no_warnings = true,
            "no_info" if bare => self.no_infos = true,
            "ordered" if bare && instant => self.ordered = true,
            _ => return Err(format!("invalid expectation: {text:?}")),
        }
        Ok(())
    }
}
