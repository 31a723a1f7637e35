//! The functions of Prometheus' alert templates.

use std::sync::Arc;

use model::{Duration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use template::{Caller, Functions, Time, Value, printf};

/// Answers the `query` function: an instant query at the evaluation's time.
pub type QueryFunction<'a> = dyn Fn(&str) -> Result<Vec<(model::Labels, f64)>, String> + 'a;

/// The functions, with what they need of their surroundings.
pub struct TemplateFunctions<'a> {
    /// Evaluates PromQL.
    pub query: &'a QueryFunction<'a>,
    /// The server's address for users, for links.
    pub external_url: &'a str,
    /// The time of the evaluation.
    pub now: Timestamp,
}

/// The functions of templates.
pub(crate) const NAMES: [&str; 30] = [
    "query",
    "first",
    "label",
    "value",
    "strvalue",
    "sortByLabel",
    "args",
    "reReplaceAll",
    "safeHtml",
    "match",
    "title",
    "toUpper",
    "toLower",
    "graphLink",
    "tableLink",
    "stripPort",
    "stripDomain",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "toTime",
    "toDuration",
    "now",
    "pathPrefix",
    "externalURL",
    "parseDuration",
    "urlQueryEscape",
    "tmpl",
];

/// Whether alert templates may call `name`.
pub fn has_function(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Functions for TemplateFunctions<'_> {
    fn has(&self, name: &str) -> bool {
        has_function(name)
    }

    fn call(&self, name: &str, args: &[Value], caller: &dyn Caller) -> Result<Value, String> {
        let text = |at: usize| args[at].to_string();
        let count = args.len();
        let need = |n: usize| {
            if count == n { Ok(()) } else { Err(format!("wrong number of args for {name}: want {n} got {count}")) }
        };
        match name {
            "args" => Ok(Value::map(args.iter().enumerate().map(|(at, v)| (format!("arg{at}"), v.clone())))),
            "now" => need(0).map(|()| Value::Float(self.now as f64 / 1000.0)),
            "externalURL" => need(0).map(|()| Value::from(self.external_url)),
            "pathPrefix" => need(0).map(|()| Value::from(path_of(self.external_url))),
            "query" => {
                need(1)?;
                Ok(Value::list((self.query)(&text(0))?.into_iter().map(|(labels, value)| sample(&labels, value))))
            }
            "first" => {
                need(1)?;
                match &args[0] {
                    Value::List(items) => items.first().cloned(),
                    _ => None,
                }
                .ok_or_else(|| "first() called on vector with no elements".to_owned())
            }
            "label" => need(2).map(|()| label(&args[1], &text(0))),
            "value" => need(1).map(|()| field(&args[0], "Value")),
            "strvalue" => need(1).map(|()| label(&args[0], "__value__")),
            "sortByLabel" => {
                need(2)?;
                let Value::List(items) = &args[1] else { return Err("sortByLabel needs a vector".into()) };
                let mut items = items.to_vec();
                items.sort_by_key(|item| label(item, &text(0)).to_string());
                Ok(Value::list(items))
            }
            "reReplaceAll" => {
                need(3)?;
                let regex = regex::Regex::new(&model::translate_re2(&text(0))).map_err(|e| e.to_string())?;
                Ok(Value::from(regex.replace_all(&text(2), text(1).as_str()).into_owned()))
            }
            "match" => {
                need(2)?;
                let regex = regex::Regex::new(&model::translate_re2(&text(0))).map_err(|e| e.to_string())?;
                Ok(Value::Bool(regex.is_match(&text(1))))
            }
            "safeHtml" => need(1).map(|()| args[0].clone()),
            "title" => need(1).map(|()| Value::from(title(&text(0)))),
            "toUpper" => need(1).map(|()| Value::from(text(0).to_uppercase())),
            "toLower" => need(1).map(|()| Value::from(text(0).to_lowercase())),
            "graphLink" => need(1).map(|()| Value::from(link(&text(0), 0))),
            "tableLink" => need(1).map(|()| Value::from(link(&text(0), 1))),
            "urlQueryEscape" => need(1).map(|()| Value::from(query_escape(&text(0)))),
            "stripPort" => need(1).map(|()| Value::from(strip_port(&text(0)))),
            "stripDomain" => need(1).map(|()| Value::from(strip_domain(&text(0)))),
            "humanize" => need(1).and_then(|()| number(&args[0])).map(|v| Value::from(humanize(v))),
            "humanize1024" => need(1).and_then(|()| number(&args[0])).map(|v| Value::from(humanize_1024(v))),
            "humanizeDuration" => need(1).and_then(|()| number(&args[0])).map(|v| Value::from(humanize_duration(v))),
            "humanizePercentage" => {
                need(1).and_then(|()| number(&args[0])).map(|v| Value::from(format!("{}%", g4(v * 100.0))))
            }
            "humanizeTimestamp" => {
                need(1)?;
                let value = number(&args[0])?;
                Ok(time(value).map_or_else(|| Value::from(g4(value)), |t| Value::from(template::Object::display(&t))))
            }
            "toTime" => {
                need(1)?;
                let value = number(&args[0])?;
                time(value)
                    .map(|t| Value::Object(Arc::new(t)))
                    .ok_or_else(|| format!("{value} cannot be represented as a time"))
            }
            "toDuration" => {
                need(1)?;
                let seconds = number(&args[0])?;
                Ok(Value::Object(Arc::new(Span(seconds))))
            }
            "parseDuration" => {
                need(1)?;
                let duration: Duration = text(0).parse().map_err(|e: model::DurationError| e.to_string())?;
                Ok(Value::Float(duration.as_secs_f64()))
            }
            "tmpl" => need(2).and_then(|()| caller.template(&text(0), &args[1])).map(Value::from),
            other => Err(format!("function {other} not defined")),
        }
    }
}

/// A time span, as Go's `time.Duration` prints it.
#[derive(Debug)]
struct Span(f64);

impl template::Object for Span {
    fn get(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(match (name, args) {
            ("Seconds", []) => Value::Float(self.0),
            ("Minutes", []) => Value::Float(self.0 / 60.0),
            ("Hours", []) => Value::Float(self.0 / 3600.0),
            ("Milliseconds", []) => Value::Int((self.0 * 1e3) as i64),
            ("String", []) => Value::from(self.display()),
            _ => return None,
        }))
    }

    fn display(&self) -> String {
        go_duration(self.0)
    }

    fn type_name(&self) -> &'static str {
        "time.Duration"
    }
}

/// Seconds as Go prints a duration: `1h2m3.5s`, `1.5ms`, `0s`.
fn go_duration(seconds: f64) -> String {
    let nanos = (seconds.abs() * 1e9).round() as u64;
    let sign = if seconds < 0.0 { "-" } else { "" };
    let plain = |v: f64| {
        let text = format!("{v:.9}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if nanos == 0 {
        return "0s".into();
    }
    if nanos < 1_000_000_000 {
        let (divisor, unit) = match nanos {
            0..1_000 => (1.0, "ns"),
            1_000..1_000_000 => (1e3, "µs"),
            _ => (1e6, "ms"),
        };
        return format!("{sign}{}{unit}", plain(nanos as f64 / divisor));
    }
    let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
    let rest = plain((nanos % 60_000_000_000) as f64 / 1e9);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, m) => format!("{sign}{m}m{rest}s"),
        (h, m) => format!("{sign}{h}h{m}m{rest}s"),
    }
}

/// A sample as templates see it.
pub(crate) fn sample(labels: &model::Labels, value: f64) -> Value {
    Value::map([("Labels", Value::Labels(labels.clone())), ("Value", Value::Float(value))])
}

/// A label of a sample, empty if it is absent.
fn label(sample: &Value, name: &str) -> Value {
    match field(sample, "Labels") {
        Value::Labels(labels) => Value::from(labels.value(name)),
        _ => Value::from(""),
    }
}

fn field(value: &Value, name: &str) -> Value {
    match value {
        Value::Map(map) => map.get(name).cloned().unwrap_or(Value::Nil),
        _ => Value::Nil,
    }
}

fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(v) => Ok(*v),
        Value::Int(v) => Ok(*v as f64),
        Value::Str(text) => model::parse_float(text)
            .ok_or_else(|| format!("strconv.ParseFloat: parsing {}: invalid syntax", model::quote(text))),
        Value::Object(object) => match object.get("Seconds", &[]) {
            Some(Ok(Value::Float(v))) => Ok(v),
            _ => Err(format!("can't convert {} to float", object.type_name())),
        },
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn time(seconds: f64) -> Option<Time> {
    if seconds.is_finite() && seconds.abs() < 1e12 {
        Time::from_millis((seconds * 1000.0).round() as i64)
    } else {
        None
    }
}

fn g4(value: f64) -> String {
    printf("%.4g", &[Value::Float(value)])
}

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return g4(value);
    }
    let (mut v, mut unit) = (value, "");
    if v.abs() >= 1.0 {
        for prefix in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if v.abs() < 1000.0 {
                break;
            }
            (v, unit) = (v / 1000.0, prefix);
        }
    } else {
        for prefix in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if v.abs() >= 1.0 {
                break;
            }
            (v, unit) = (v * 1000.0, prefix);
        }
    }
    g4(v) + unit
}

fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return g4(value);
    }
    let (mut v, mut unit) = (value, "");
    for prefix in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if v.abs() < 1024.0 {
            break;
        }
        (v, unit) = (v / 1024.0, prefix);
    }
    g4(v) + unit
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return g4(value);
    }
    if value == 0.0 {
        return "0s".into();
    }
    if value.abs() >= 1.0 {
        let (sign, v) = if value < 0.0 { ("-", -value) } else { ("", value) };
        let whole = v as i64;
        let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
        return match (days, hours, minutes) {
            (0, 0, 0) => format!("{sign}{}s", g4(v)),
            (0, 0, m) => format!("{sign}{m}m {seconds}s"),
            (0, h, m) => format!("{sign}{h}h {m}m {seconds}s"),
            (d, h, m) => format!("{sign}{d}d {h}h {m}m {seconds}s"),
        };
    }
    let (mut v, mut unit) = (value, "");
    for prefix in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if v.abs() >= 1.0 {
            break;
        }
        (v, unit) = (v * 1000.0, prefix);
    }
    format!("{}{unit}s", g4(v))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

fn strip_port(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
                Some(v6) => v6.to_owned(),
                None if name.contains(':') => host.to_owned(),
                None => name.to_owned(),
            }
        }
        _ => host.to_owned(),
    }
}

fn strip_domain(host: &str) -> String {
    let name = strip_port(host);
    if name.parse::<std::net::IpAddr>().is_ok() {
        return host.to_owned();
    }
    let port = &host[host.rfind(':').filter(|_| name.len() < host.len()).unwrap_or(host.len())..];
    format!("{}{port}", name.split('.').next().unwrap_or_default())
}

fn path_of(url: &str) -> String {
    url::Url::parse(url).map(|u| u.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

fn query_escape(text: &str) -> String {
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    utf8_percent_encode(text, KEEP).to_string().replace(' ', "+")
}

/// A path and query that show `expression` in the web interface, as graph (tab 0) or table (tab 1).
pub(crate) fn link(expression: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(expression))
}

#[cfg(test)]
mod tests {
    use model::Labels;
    use template::{Limits, Template};

    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let query = |q: &str| {
            if q == "broken" {
                return Err("parse error".to_owned());
            }
            let labels = |i: &str| Labels::from_pairs([("__name__", "metric"), ("instance", i)]);
            Ok(if q == "nothing" { vec![] } else { vec![(labels("b"), 21.0), (labels("a"), 11.0)] })
        };
        let functions =
            TemplateFunctions { query: &query, external_url: "http://host:9090/path/", now: 1_435_781_451_781 };
        let template = Template::parse("t", text, &has_function).map_err(|e| e.to_string())?;
        template.execute(&Value::Nil, &functions, Limits::default()).map_err(|e| e.to_string())
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(run(text), Ok(expected.to_owned()), "{text}");
    }

    #[test]
    fn queries() {
        check(r#"{{ query "m" | first | value }}"#, "21");
        check(
            r#"{{ range query "m" | sortByLabel "instance" }}{{ .Labels.instance }}={{ .Value }};{{ end }}"#,
            "a=11;b=21;",
        );
        check(r#"{{ query "m" | first | label "instance" }}"#, "b");
        assert!(
            run(r#"{{ query "nothing" | first }}"#).unwrap_err().contains("first() called on vector with no elements")
        );
        assert!(run(r#"{{ query "broken" }}"#).unwrap_err().contains("error calling query: parse error"));
    }

    #[test]
    fn humanized_numbers() {
        for (value, expected) in [
            ("0.0", "0"),
            ("1.0", "1"),
            ("1234567.0", "1.235M"),
            ("0.12", "120m"),
            ("-1234.0", "-1.234k"),
            ("1e30", "1e+06Y"),
        ] {
            check(&format!("{{{{ humanize {value} }}}}"), expected);
        }
        check("{{ humanize1024 1048576.0 }} {{ humanize1024 1.0 }} {{ humanize1024 2048.0 }}", "1Mi 1 2ki");
        check(
            "{{ humanizeDuration 0.0 }} {{ humanizeDuration 60.0 }} {{ humanizeDuration 3661.0 }} {{ humanizeDuration 0.1 }} {{ humanizeDuration 899999.0 }} {{ humanizeDuration -1.5 }}",
            "0s 1m 0s 1h 1m 1s 100ms 10d 9h 59m 59s -1.5s",
        );
        check("{{ humanizePercentage 0.1234567 }}", "12.35%");
        check("{{ humanizeTimestamp 1435065584.128 }}", "2015-06-23 13:19:44.128 +0000 UTC");
        check("{{ humanize \"1500\" }}", "1.5k");
        check("{{ (toTime 0.0).Year }} {{ toDuration 90.5 }}", "1970 1m30.5s");
        check("{{ parseDuration \"1h\" }} {{ now }}", "3600 1.435781451781e+09");
    }

    #[test]
    fn texts() {
        check(r#"{{ reReplaceAll "(a)b" "x$1" "abab" }}"#, "xaxa");
        check(r#"{{ match "a+" "caat" }} {{ title "aa bb" }} {{ toUpper "x" }} {{ toLower "X" }}"#, "true Aa Bb X x");
        check(
            r#"{{ stripPort "host:80" }} {{ stripPort "[::1]:80" }} {{ stripDomain "h.example.com:80" }} {{ stripDomain "127.0.0.1:80" }}"#,
            "host ::1 h:80 127.0.0.1:80",
        );
        check(
            r#"{{ graphLink "up == 0" }} {{ tableLink "up" }}"#,
            "/graph?g0.expr=up+%3D%3D+0&g0.tab=0 /graph?g0.expr=up&g0.tab=1",
        );
        check(r#"{{ externalURL }} {{ pathPrefix }}"#, "http://host:9090/path/ /path");
        check(
            r#"{{ define "x" }}{{ .arg0 }}-{{ .arg1 }}{{ end }}{{ template "x" (args 1 "b") }} {{ tmpl "x" (args 2 3) }}"#,
            "1-b 2-3",
        );
    }
}
