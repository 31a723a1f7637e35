//! The log of one probe: kept with its result, and passed on to the daemon's log.

use std::fmt::Write as _;

use common::logging::Level;

/// The lines of a probe.
#[derive(Debug)]
pub(crate) struct ProbeLog {
    /// What is kept and passed on.
    level: Level,
    lines: Vec<Line>,
    module: String,
    target: String,
}

#[derive(Debug)]
struct Line {
    time: model::Timestamp,
    level: Level,
    message: &'static str,
    fields: Vec<(&'static str, String)>,
}

/// Lines kept of one probe: a dialogue may go on for long.
const MAX_LINES: usize = 1000;
/// Bytes of a field's value that are kept.
const MAX_VALUE: usize = 2000;

impl ProbeLog {
    pub(crate) fn new(level: Level, module: &str, target: &str) -> Self {
        Self { level, lines: Vec::new(), module: module.to_owned(), target: target.to_owned() }
    }

    /// Whether lines of this level are wanted at all.
    pub(crate) fn wants(&self, level: Level) -> bool {
        level <= self.level && self.lines.len() < MAX_LINES
    }

    pub(crate) fn push(&mut self, level: Level, message: &'static str, mut fields: Vec<(&'static str, String)>) {
        for (_, value) in &mut fields {
            if value.len() > MAX_VALUE {
                let end = (0..=MAX_VALUE).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
                value.truncate(end);
            }
        }
        let line = Line { time: model::now_millis(), level, message, fields };
        let (module, target) = (self.module.as_str(), self.target.as_str());
        match level {
            Level::Error => tracing::error!(module, target, detail = line.shown().trim(), "{message}"),
            Level::Warn => tracing::warn!(module, target, detail = line.shown().trim(), "{message}"),
            Level::Info => tracing::info!(module, target, detail = line.shown().trim(), "{message}"),
            Level::Debug => tracing::debug!(module, target, detail = line.shown().trim(), "{message}"),
        }
        self.lines.push(line);
    }

    /// The lines in logfmt.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let level = match line.level {
                Level::Error => "ERROR",
                Level::Warn => "WARN",
                Level::Info => "INFO",
                Level::Debug => "DEBUG",
            };
            let time = model::format_rfc3339_millis(line.time);
            let _ = write!(out, "time={time} level={level} msg={}", quoted(line.message));
            let _ = write!(out, " module={} target={}", quoted(&self.module), quoted(&self.target));
            let _ = writeln!(out, "{}", line.shown());
        }
        out
    }
}

impl Line {
    fn shown(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.fields {
            let _ = write!(out, " {name}={}", quoted(value));
        }
        out
    }
}

fn quoted(value: &str) -> String {
    let plain = !value.is_empty() && !value.chars().any(|c| c <= ' ' || matches!(c, '=' | '"' | '\u{7f}'..='\u{a0}'));
    if plain { value.to_owned() } else { model::quote(value) }
}

/// Writes a line to a probe's log. The values are made only if the line is wanted.
macro_rules! note {
    ($log:expr, $level:ident, $message:literal $(, $name:literal = $value:expr)* $(,)?) => {
        if $log.wants(common::logging::Level::$level) {
            let fields = vec![$(($name, $value.to_string())),*];
            $log.push(common::logging::Level::$level, $message, fields);
        }
    };
}
pub(crate) use note;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_below_the_level_are_left_out() {
        let mut log = ProbeLog::new(Level::Info, "m", "a b");
        note!(log, Debug, "detail", "x" = 1);
        note!(log, Error, "It failed", "err" = "no \"route\"", "n" = 3);
        let text = log.to_text();
        assert!(!text.contains("detail"), "{text}");
        assert!(
            text.ends_with("level=ERROR msg=\"It failed\" module=m target=\"a b\" err=\"no \\\"route\\\"\" n=3\n"),
            "{text}"
        );
    }

    #[test]
    fn a_log_is_bounded() {
        let mut log = ProbeLog::new(Level::Debug, "m", "t");
        for _ in 0..2 * MAX_LINES {
            note!(log, Debug, "line", "x" = "é".repeat(MAX_VALUE));
        }
        assert_eq!(log.lines.len(), MAX_LINES);
        assert!(log.lines[0].fields[0].1.len() <= MAX_VALUE);
    }
}
