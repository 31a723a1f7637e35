//! Logs as the ecosystem's Go programs write them: logfmt or JSON lines with `time`, `level`, `source`, `msg` and the event's
//! fields. Only a binary's `main` calls [`init`].

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber::Interest};

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And the course of events.
    #[default]
    Info,
    /// And details.
    Debug,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `key=value`.
    #[default]
    Logfmt,
    /// One object a line.
    Json,
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            _ => Err(format!("unrecognized log level {text}")),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(format!("unrecognized log format {text}")),
        }
    }
}

/// The level in force; can be changed while the program runs.
#[derive(Clone, Debug)]
pub struct LevelHandle(Arc<AtomicU8>);

impl LevelHandle {
    /// Changes the level from now on.
    pub fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
    }
}

/// Makes every event of the process a line on standard error. To be called once, by a `main`; a second call changes nothing.
pub fn init(level: Level, format: Format) -> LevelHandle {
    let handle = LevelHandle(Arc::new(AtomicU8::new(level as u8)));
    let lines = Lines { level: handle.clone(), format };
    tracing::subscriber::set_global_default(lines).ok();
    handle
}

/// Libraries whose events below a warning concern their own developers only.
const QUIET: [&str; 6] = ["hyper", "h2", "rustls", "reqwest", "tower", "tokio"];

struct Lines {
    level: LevelHandle,
    format: Format,
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // the level may change later
        if *metadata.level() == tracing::Level::TRACE { Interest::never() } else { Interest::sometimes() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(metadata);
        let root = metadata.target().split("::").next().unwrap_or("");
        let quiet = level > Level::Warn && QUIET.iter().any(|q| root.starts_with(q));
        metadata.is_event() && !quiet && level as u8 <= self.level.0.load(Ordering::Relaxed)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let line = line(event, self.format, model::now_millis());
        // nobody is left to tell when standard error is closed
        io::stderr().lock().write_all(line.as_bytes()).ok();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn line(event: &Event<'_>, format: Format, now: model::Timestamp) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let level = match level_of(metadata) {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    };
    let file = metadata.file().unwrap_or("unknown").rsplit('/').next().unwrap_or("unknown");
    let source = format!("{file}:{}", metadata.line().unwrap_or(0));
    let mut out = Writer { out: String::with_capacity(160), format };
    out.begin();
    out.pair("time", &time(now));
    out.pair("level", level);
    out.pair("source", &source);
    out.pair("msg", &fields.message);
    for (name, value) in &fields.others {
        match value {
            Value::Text(text) => out.pair(name, text),
            Value::Number(text) => out.number(name, text),
        }
    }
    out.end();
    out.out
}

/// RFC 3339 with three digits of a second, always.
fn time(now: model::Timestamp) -> String {
    let seconds = model::format_rfc3339_millis(now - now.rem_euclid(1000));
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), now.rem_euclid(1000))
}

enum Value {
    Text(String),
    Number(String),
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.push((field.name(), Value::Text(text)));
        }
    }

    fn number(&mut self, field: &Field, text: String) {
        self.others.push((field.name(), Value::Number(text)));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows no infinities
        if value.is_finite() { self.number(field, value.to_string()) } else { self.text(field, value.to_string()) }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, value.to_string());
    }
}

struct Writer {
    out: String,
    format: Format,
}

impl Writer {
    fn begin(&mut self) {
        if self.format == Format::Json {
            self.out.push('{');
        }
    }

    fn key(&mut self, key: &str) {
        match self.format {
            Format::Logfmt => {
                if !self.out.is_empty() {
                    self.out.push(' ');
                }
                self.out.push_str(key);
                self.out.push('=');
            }
            Format::Json => {
                if self.out.len() > 1 {
                    self.out.push(',');
                }
                let _ = write!(self.out, "\"{key}\":");
            }
        }
    }

    fn pair(&mut self, key: &str, value: &str) {
        self.key(key);
        match self.format {
            Format::Logfmt if needs_quotes(value) => self.out.push_str(&model::quote(value)),
            Format::Logfmt => self.out.push_str(value),
            Format::Json => self.out.push_str(&serde_json::to_string(value).unwrap_or_default()),
        }
    }

    fn number(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    fn end(&mut self) {
        self.out.push_str(if self.format == Format::Json { "}\n" } else { "\n" });
    }
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.chars().any(|c| c <= ' ' || matches!(c, '=' | '"' | '\u{7f}'..='\u{a0}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    struct Capture(Format, Arc<Mutex<Vec<String>>>);

    impl Subscriber for Capture {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.1.lock().push(line(event, self.0, 1_700_000_000_007));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn check(format: Format, expected: &str) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Capture(format, lines.clone()), || {
            tracing::info!(file = "a b", count = 3, ok = true, plain = "x", empty = "", "it \"works\"");
        });
        let line = lines.lock().concat();
        let at = line.find("logging.rs:").unwrap() + "logging.rs:".len();
        let digits = line[at..].bytes().take_while(u8::is_ascii_digit).count();
        assert_eq!(line.replacen(&line[at..at + digits], "N", 1), expected);
    }

    #[test]
    fn lines_are_slogs() {
        check(
            Format::Logfmt,
            "time=2023-11-14T22:13:20.007Z level=INFO source=logging.rs:N msg=\"it \\\"works\\\"\" file=\"a b\" count=3 ok=true \
             plain=x empty=\"\"\n",
        );
        check(
            Format::Json,
            "{\"time\":\"2023-11-14T22:13:20.007Z\",\"level\":\"INFO\",\"source\":\"logging.rs:N\",\"msg\":\"it \\\"works\\\"\",\
             \"file\":\"a b\",\"count\":3,\"ok\":true,\"plain\":\"x\",\"empty\":\"\"}\n",
        );
    }

    #[test]
    fn levels_by_their_names() {
        assert_eq!(("debug".parse(), "WARN".parse()), (Ok(Level::Debug), Ok(Level::Warn)));
        assert!("loud".parse::<Level>().is_err() && "xml".parse::<Format>().is_err());
    }
}
