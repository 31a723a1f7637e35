//! The flags of collectors, declared by each and read when it is built.

use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches};
use common::flags;
use hashbrown::HashMap;
use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};

use crate::files::Paths;

/// A flag of a collector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    hidden: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Switch(bool),
    Value(&'static str),
    Repeated,
}

impl Flag {
    /// `--name` and `--no-name`.
    pub(crate) const fn switch(name: &'static str, default: bool, help: &'static str) -> Self {
        Self { name, kind: Kind::Switch(default), help, hidden: false }
    }

    /// `--name=VALUE`.
    pub(crate) const fn value(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Value(default), help, hidden: false }
    }

    /// `--name=VALUE`, any number of times.
    pub(crate) const fn repeated(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Repeated, help, hidden: false }
    }

    /// Leaves it out of the help.
    pub(crate) const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    pub(crate) fn to_arg(self) -> Arg {
        let arg = match self.kind {
            Kind::Switch(default) => flags::switch(self.name, default, self.help),
            Kind::Value(default) => flags::value(self.name, default, self.help),
            Kind::Repeated => flags::value(self.name, "", self.help).action(ArgAction::Append),
        };
        arg.hide(self.hidden)
    }
}

/// What a collector is built from.
pub(crate) struct Settings<'a> {
    /// Where to read.
    pub(crate) paths: Arc<Paths>,
    /// The command line.
    pub(crate) matches: &'a ArgMatches,
}

impl Settings<'_> {
    pub(crate) fn on(&self, name: &str) -> bool {
        flags::on(self.matches, name)
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        flags::text(self.matches, name)
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        flags::texts(self.matches, name)
    }

    /// A regular expression, found anywhere in a text. `None` if the flag is empty.
    pub(crate) fn pattern(&self, name: &str) -> Result<Option<Pattern>, String> {
        match self.text(name) {
            "" => Ok(None),
            text => Pattern::new(text).map(Some).map_err(|e| format!("--{name}: {e}")),
        }
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Result<i64, String> {
        let text = self.text(name);
        text.parse().map_err(|_| format!("--{name}: expected a whole number but got {text:?}"))
    }

    /// A span of time in nanoseconds, written as Go does: `1.5s`, `-2m3s`, `100us`.
    pub(crate) fn nanoseconds(&self, name: &str) -> Result<i64, String> {
        let text = self.text(name);
        go_nanoseconds(text).ok_or_else(|| format!("--{name}: {text:?} is not a duration such as 1.5s or 100ms"))
    }

    /// A filter of two flags that exclude each other, the second of which may be given by an old name as well.
    pub(crate) fn filter(&self, include: [&str; 2], exclude: [&str; 2]) -> Result<Filter, String> {
        let given = |names: [&str; 2]| -> Result<Option<Pattern>, String> {
            let [new, old] = names;
            if old.is_empty() || self.text(old).is_empty() {
                return self.pattern(new);
            }
            if flags::given(self.matches, new) {
                return Err(format!("--{old} and --{new} are mutually exclusive"));
            }
            tracing::warn!("flag --{old} is deprecated: use --{new}");
            self.pattern(old)
        };
        let (include_given, exclude_given) = (given(include)?, given(exclude)?);
        if include_given.is_some() && exclude_given.is_some() {
            if flags::given(self.matches, exclude[0])
                || !exclude[1].is_empty() && flags::given(self.matches, exclude[1])
            {
                return Err(format!("--{} & --{} are mutually exclusive", exclude[0], include[0]));
            }
            // a default exclusion gives way to an inclusion
            return Ok(Filter { include: include_given, exclude: None });
        }
        Ok(Filter { include: include_given, exclude: exclude_given })
    }
}

/// Parses a span of time as Go's `time.ParseDuration`, but for rounding to the nearest nanosecond.
fn go_nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut sum = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        sum = Some(sum.unwrap_or(0.0) + number * scale);
        rest = after;
    }
    let nanoseconds = (sign * sum?).round();
    (nanoseconds.abs() < i64::MAX as f64).then_some(nanoseconds as i64)
}

/// A regular expression, found anywhere in a text. It remembers its answers, since the same names come at every scrape, and
/// forgets how to find new ones while there are none: matchers would be most of what this program keeps in memory.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// What Rust's syntax has for it; known to be right.
    text: String,
    state: Mutex<PatternState>,
}

#[derive(Debug, Default)]
struct PatternState {
    known: HashMap<Box<str>, bool>,
    matcher: Option<Regex>,
    /// Names since the last one that was new.
    repeated: usize,
}

/// Answers that are remembered; names that change all the time do not fill the memory.
const KNOWN: usize = 16 * 1024;
/// Names that are not new in a row, after which the matcher goes.
const REPEATED: usize = 500;

impl Pattern {
    /// An expression in Go's syntax.
    pub(crate) fn new(text: &str) -> Result<Self, regex::Error> {
        let text = model::translate_re2(text);
        let matcher = Some(compile(&text)?);
        let state = Mutex::new(PatternState { matcher, ..PatternState::default() });
        Ok(Self { text, state })
    }

    /// Whether it is found in a name.
    pub(crate) fn is_match(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        let PatternState { known, matcher, repeated } = &mut *state;
        if let Some(answer) = known.get(name) {
            *repeated += 1;
            if *repeated >= REPEATED {
                *matcher = None;
            }
            return *answer;
        }
        if known.len() >= KNOWN {
            known.clear();
        }
        *repeated = 0;
        let matcher = matcher.get_or_insert_with(|| compile(&self.text).expect("it was compiled before"));
        let answer = matcher.is_match(name);
        known.insert(name.into(), answer);
        answer
    }
}

/// Without tables that are filled while matching: each name is looked at once.
fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).dfa_size_limit(0).build()
}

/// Which names are looked at.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    include: Option<Pattern>,
    exclude: Option<Pattern>,
}

impl Filter {
    /// Whether a name is left out.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.exclude.as_ref().is_some_and(|e| e.is_match(name))
            || self.include.as_ref().is_some_and(|i| !i.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_remember_and_forget() {
        let pattern = Pattern::new("^(a|b.*)$").unwrap();
        let names = [("a", true), ("ab", false), ("bc", true), ("", false)];
        for (name, expected) in std::iter::repeat_n(names, REPEATED).flatten() {
            assert_eq!(pattern.is_match(name), expected, "{name:?}");
        }
        assert!(pattern.state.lock().matcher.is_none(), "nothing new has come for a while");
        for number in 0..KNOWN {
            assert!(pattern.is_match(&format!("b{number}")));
        }
        assert!(pattern.state.lock().known.len() <= KNOWN);
    }

    #[test]
    fn spans_of_time_are_written_as_in_go() {
        for (text, expected) in [
            ("3.46608s", Some(3_466_080_000)),
            ("1ms", Some(1_000_000)),
            ("-1m1.5s", Some(-61_500_000_000)),
            ("1h100us7ns", Some(3_600_000_100_007)),
            (".5s", Some(500_000_000)),
            ("0", Some(0)),
            ("", None),
            ("-", None),
            ("1", None),
            ("s", None),
            ("1.2.3s", None),
            ("3x", None),
            ("3000000h", None),
        ] {
            assert_eq!(go_nanoseconds(text), expected, "{text:?}");
        }
    }
}
