use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Which characters metric and label names may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameValidation {
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics, the same without the colon for labels.
    Legacy,
    /// Any non-empty UTF-8 text.
    #[default]
    Utf8,
}

/// Whether `name` is a metric name under `scheme`.
pub fn is_valid_metric_name(name: &str, scheme: NameValidation) -> bool {
    match scheme {
        NameValidation::Legacy => is_legacy_metric_name(name),
        NameValidation::Utf8 => !name.is_empty(),
    }
}

/// Whether `name` is a label name under `scheme`.
pub fn is_valid_label_name(name: &str, scheme: NameValidation) -> bool {
    match scheme {
        NameValidation::Legacy => is_legacy_label_name(name),
        NameValidation::Utf8 => !name.is_empty(),
    }
}

/// Whether `name` matches `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &str) -> bool {
    legacy(name, true)
}

/// Whether `name` matches `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    legacy(name, false)
}

fn legacy(name: &str, colon: bool) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (colon && b == b':');
    name.as_bytes().first().is_some_and(|b| !b.is_ascii_digit()) && name.bytes().all(allowed)
}

/// Writes `value` as the exposition formats do inside double quotes: `\\`, `\"` and `\n` are escaped, nothing else.
pub fn escape_label_value(value: &str, out: &mut String) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Quotes text as Go's `strconv.Quote`, the way PromQL and the HTTP API show strings.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii() => {
                if c.is_ascii_control() {
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                } else {
                    out.push(c);
                }
            }
            // `char::is_control` and the separators are what Go calls not printable among common text.
            c if c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{feff}' || c == '\u{200b}' => {
                let code = u32::from(c);
                let _ = if code < 0x10000 { write!(out, "\\u{code:04x}") } else { write!(out, "\\U{code:08x}") };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_names_allow_colons_only_in_metrics() {
        for (name, metric, label) in [
            ("up", true, true),
            ("job:up:sum", true, false),
            ("_x9", true, true),
            ("9x", false, false),
            ("", false, false),
            ("a.b", false, false),
            ("é", false, false),
        ] {
            assert_eq!((is_legacy_metric_name(name), is_legacy_label_name(name)), (metric, label), "{name}");
        }
    }

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote("a\"b\\c\n\u{1}é\u{2028}"), "\"a\\\"b\\\\c\\n\\x01é\\u2028\"");
    }

    #[test]
    fn exposition_escapes_three_characters_only() {
        let mut out = String::new();
        escape_label_value("a\\b\"c\nd\te", &mut out);
        assert_eq!(out, "a\\\\b\\\"c\\nd\te");
    }
}
