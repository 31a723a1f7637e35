//! Regular expressions of the configuration, in RE2's dialect and over bytes.

use std::fmt;

use regex::bytes::Regex;
use serde::{Deserialize, Deserializer, de};

/// An expression that is searched for, not anchored. Shown as it was written.
#[derive(Clone)]
pub(crate) struct Regexp {
    pattern: String,
    regex: Regex,
}

/// Compiled expressions may not take more memory than this.
const SIZE_LIMIT: usize = 10 << 20;

impl Regexp {
    /// Compiles an expression.
    ///
    /// # Errors
    /// In blackbox_exporter's words when it is none.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let regex = regex::bytes::RegexBuilder::new(&model::translate_re2(pattern)).size_limit(SIZE_LIMIT).build();
        let regex =
            regex.map_err(|_| format!("\"Could not compile regular expression\" regexp={}", model::quote(pattern)))?;
        Ok(Self { pattern: pattern.to_owned(), regex })
    }

    /// Whether the expression is found.
    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The first place it is found at, with its groups.
    pub(crate) fn captures<'t>(&self, text: &'t [u8]) -> Option<regex::bytes::Captures<'t>> {
        self.regex.captures(text)
    }
}

impl fmt::Display for Regexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

impl fmt::Debug for Regexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regexp({:?})", self.pattern)
    }
}

impl<'de> Deserialize<'de> for Regexp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_is_re2s() {
        for (pattern, text, found) in [
            ("^220 ([^ ]+) ESMTP", "220 mail ESMTP", true),
            ("\\Qa.b\\E$", "xa.b", true),
            ("\\Qa.b\\E$", "xacb", false),
            ("(?i)ok", "OK", true),
            ("^\\+OK", "+OK", true),
            // RE2 takes a plus with nothing before it as an error too, but not after an anchor
            ("^+OK", "OK", true),
        ] {
            assert_eq!(Regexp::new(pattern).unwrap().is_match(text.as_bytes()), found, "{pattern}");
        }
        assert_eq!(Regexp::new(":[").unwrap_err(), "\"Could not compile regular expression\" regexp=\":[\"");
    }

    #[test]
    fn groups_are_expanded_as_in_go() {
        let regexp = Regexp::new("PING :(?P<id>[^ ]+)").unwrap();
        let captures = regexp.captures(b"x PING :abc").unwrap();
        for (template, expected) in
            [("PONG ${1}", "PONG abc"), ("$id.", "abc."), ("$$1", "$1"), ("$1x", ""), ("$9", "")]
        {
            let mut out = Vec::new();
            captures.expand(template.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{template}");
        }
    }
}
