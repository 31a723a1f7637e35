use std::borrow::Cow;
use std::fmt::Write;

use model::is_legacy_metric_name;

/// What a page does with names that are not `[a-zA-Z_:][a-zA-Z0-9_:]*` (`model.EscapingScheme` upstream).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EscapingScheme {
    /// Writes them as they are, quoted.
    AllowUtf8,
    /// Puts an underscore for each character that is not allowed.
    #[default]
    Underscores,
    /// `_dot_` for a dot, `__` for an underscore and for any other character. Changes legacy names with underscores too.
    Dots,
    /// `U__` before the name and `_HEX_` for each character that is not allowed, `__` for an underscore. Reversible.
    Values,
}

impl EscapingScheme {
    /// The name used in content types.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The scheme of a name used in content types.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values].into_iter().find(|s| s.as_str() == name)
    }

    /// Escapes a metric or label name (`model.EscapeName`).
    pub fn escape(self, name: &str) -> Cow<'_, str> {
        if name.is_empty() {
            return Cow::Borrowed(name);
        }
        let legacy = is_legacy_metric_name(name);
        let mut out = String::new();
        match self {
            Self::AllowUtf8 => return Cow::Borrowed(name),
            Self::Underscores | Self::Values if legacy => return Cow::Borrowed(name),
            Self::Dots if legacy && !name.contains('_') => return Cow::Borrowed(name),
            Self::Underscores => {
                out.extend(name.chars().enumerate().map(|(at, c)| if allowed(c, at) { c } else { '_' }));
            }
            Self::Dots => {
                for (at, c) in name.chars().enumerate() {
                    match c {
                        '_' => out.push_str("__"),
                        '.' => out.push_str("_dot_"),
                        c if allowed(c, at) => out.push(c),
                        _ => out.push_str("__"),
                    }
                }
            }
            Self::Values => {
                out.push_str("U__");
                for (at, c) in name.chars().enumerate() {
                    match c {
                        '_' => out.push_str("__"),
                        c if allowed(c, at) => out.push(c),
                        c => {
                            let _ = write!(out, "_{:x}_", u32::from(c));
                        }
                    }
                }
            }
        }
        Cow::Owned(out)
    }
}

fn allowed(c: char, at: usize) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':' || (c.is_ascii_digit() && at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_upstream() {
        for (name, underscores, dots, values) in [
            ("up", "up", "up", "up"),
            ("no:escaping_required", "no:escaping_required", "no:escaping__required", "no:escaping_required"),
            (
                "mysystem.prod.west.cpu.load",
                "mysystem_prod_west_cpu_load",
                { "mysystem_dot_prod_dot_west_dot_cpu_dot_load" },
                { "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load" },
            ),
            ("http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"),
            ("label with 😱", "label_with__", "label__with____", "U__label_20_with_20__1f631_"),
            ("9x", "_x", "__x", "U___39_x"),
            ("", "", "", ""),
        ] {
            assert_eq!(EscapingScheme::AllowUtf8.escape(name), name);
            assert_eq!(EscapingScheme::Underscores.escape(name), underscores);
            assert_eq!(EscapingScheme::Dots.escape(name), dots);
            assert_eq!(EscapingScheme::Values.escape(name), values);
        }
    }
}
