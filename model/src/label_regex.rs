use std::fmt;

use regex::Regex;

/// A fully anchored regular expression over label values, `^(?s:...)$`, in RE2 syntax.
#[derive(Clone)]
pub struct LabelRegex {
    source: Box<str>,
    regex: Regex,
    plan: Plan,
}

/// What can be decided without the regex engine.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// One of these exact values (sorted).
    OneOf(Vec<Box<str>>),
    /// `.*`
    Anything,
    /// `.+`
    NotEmpty,
    /// Literal prefix, then the engine.
    Prefix(Box<str>),
    Engine,
}

/// The regular expression does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {message}: `{pattern}`")]
pub struct RegexError {
    /// What is wrong.
    pub message: String,
    /// The expression as written.
    pub pattern: String,
}

impl LabelRegex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// When it is not a regular expression in RE2 syntax.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let error = |message: String| RegexError { message, pattern: pattern.to_owned() };
        let translated = translate_re2(pattern);
        // compiled alone first, so that a stray parenthesis cannot escape the group around it
        Regex::new(&translated).map_err(|e| error(first_line(&e)))?;
        let regex = Regex::new(&format!("^(?s:{translated})$")).map_err(|e| error(first_line(&e)))?;
        Ok(Self { source: pattern.into(), plan: Plan::of(pattern), regex })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `value` matches.
    pub fn is_match(&self, value: &str) -> bool {
        match &self.plan {
            Plan::OneOf(values) => values.binary_search_by(|v| (**v).cmp(value)).is_ok(),
            Plan::Anything => true,
            Plan::NotEmpty => !value.is_empty(),
            Plan::Prefix(prefix) => value.starts_with(&**prefix) && self.regex.is_match(value),
            Plan::Engine => self.regex.is_match(value),
        }
    }

    /// The exact values it can match, if it is an alternation of literals (sorted, without duplicates).
    pub fn literals(&self) -> Option<&[Box<str>]> {
        match &self.plan {
            Plan::OneOf(values) => Some(values),
            _ => None,
        }
    }

    /// A literal text that every matching value starts with, possibly empty.
    pub fn prefix(&self) -> &str {
        match &self.plan {
            Plan::Prefix(prefix) => prefix,
            _ => "",
        }
    }

    /// The compiled, anchored expression, for captures.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

impl Plan {
    fn of(pattern: &str) -> Self {
        match pattern {
            ".*" => return Self::Anything,
            ".+" => return Self::NotEmpty,
            _ => {}
        }
        let meta = |c: char| "\\.+*?()|[]{}^$".contains(c);
        let body = pattern.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(pattern);
        if body.split('|').all(|part| !part.contains(meta)) {
            let mut values: Vec<Box<str>> = body.split('|').map(Into::into).collect();
            values.sort_unstable();
            values.dedup();
            return Self::OneOf(values);
        }
        // an alternation at any depth could start with something else
        if pattern.contains('|') {
            return Self::Engine;
        }
        let end = pattern.find(meta).unwrap_or(pattern.len());
        let (mut prefix, rest) = pattern.split_at(end);
        if rest.starts_with(['*', '?', '{']) {
            // the quantifier makes the last character optional
            prefix = prefix.char_indices().next_back().map_or("", |(at, _)| &prefix[..at]);
        }
        if prefix.is_empty() { Self::Engine } else { Self::Prefix(prefix.into()) }
    }
}

/// Rewrites RE2 syntax that the `regex` crate spells otherwise: `\Q...\E`, `\C`, `\z`, octal escapes, POSIX classes outside brackets stay errors.
pub fn translate_re2(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let end = quoted.find("\\E").unwrap_or(quoted.len());
            out.push_str(&regex::escape(&quoted[..end]));
            rest = quoted.get(end + 2..).unwrap_or("");
            continue;
        }
        let len = c.len_utf8();
        match c {
            '\\' => {
                let next = rest[1..].chars().next();
                // `\_`, `\-`, `\"`: RE2 lets any punctuation be escaped
                match next {
                    Some(p @ ('_' | '"' | '\'' | '/' | ',' | ':' | ';' | '=' | '@' | '!' | '%' | '`' | '<' | '>')) => {
                        out.push(p);
                    }
                    Some(other) => {
                        out.push('\\');
                        out.push(other);
                        // `\p{Greek}` and `\x{10FFFF}` are copied whole
                        if let ('p' | 'P' | 'x', Some(end)) = (other, rest.find('}'))
                            && rest[2..].starts_with('{')
                        {
                            out.push_str(&rest[2..=end]);
                            rest = &rest[end + 1..];
                            continue;
                        }
                    }
                    None => out.push('\\'),
                }
                rest = &rest[1 + next.map_or(0, char::len_utf8)..];
                continue;
            }
            '[' if in_class => {
                // the regex crate knows nested classes, RE2 does not
                if rest.starts_with("[:") {
                    let end = rest.find(":]").map_or(1, |at| at + 2);
                    out.push_str(&rest[..end]);
                    rest = &rest[end..];
                    continue;
                }
                out.push_str("\\[");
            }
            '[' => {
                in_class = true;
                out.push('[');
                rest = &rest[1..];
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                if let Some(after) = rest.strip_prefix(']') {
                    out.push_str("\\]");
                    rest = after;
                }
                continue;
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // set operations of the regex crate that are plain characters in RE2
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            // a brace of no repetition is a plain character in RE2
            '{' if !in_class => match repetition(rest) {
                Some(whole) => {
                    out.push_str(whole);
                    rest = &rest[whole.len()..];
                    continue;
                }
                None => out.push_str("\\{"),
            },
            '}' if !in_class => out.push_str("\\}"),
            _ => out.push(c),
        }
        rest = &rest[len..];
    }
    out
}

/// The `{n}`, `{n,}` or `{n,m}` that `text` starts with.
fn repetition(text: &str) -> Option<&str> {
    let end = text.find('}')?;
    let (low, high) = text[1..end].split_once(',').unwrap_or((&text[1..end], ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    (!low.is_empty() && digits(low) && digits(high)).then(|| &text[..=end])
}

fn first_line(error: &regex::Error) -> String {
    match error {
        regex::Error::Syntax(text) => {
            text.lines().rev().find_map(|l| l.trim().strip_prefix("error: ")).unwrap_or("invalid syntax").to_owned()
        }
        other => other.to_string(),
    }
}

impl fmt::Debug for LabelRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LabelRegex({:?})", self.source)
    }
}

impl fmt::Display for LabelRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl PartialEq for LabelRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for LabelRegex {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let regex = LabelRegex::new(pattern).unwrap();
        for value in yes {
            assert!(regex.is_match(value), "{pattern} should match {value:?}");
        }
        for value in no {
            assert!(!regex.is_match(value), "{pattern} should not match {value:?}");
        }
    }

    #[test]
    fn matches_are_anchored_and_dots_match_newlines() {
        check("a.b", &["a\nb", "axb"], &["xaxb", "axbx"]);
        check("a|b", &["a", "b"], &["ab", ""]);
        check("(a|b|)", &["a", "b", ""], &["c"]);
        check("", &[""], &["a"]);
        check(".*", &["", "x\ny"], &[]);
        check(".+", &["x"], &[""]);
        check("foo.*", &["foo", "foobar"], &["fo"]);
        check("foo?", &["fo", "foo"], &["fooo"]);
        check("a|b.*", &["a", "bcd"], &["ac"]);
        check("(?i)foo", &["FOO", "foo"], &["bar"]);
        check("foo(?i:BAR)", &["fooBar"], &["FOObar"]);
    }

    #[test]
    fn re2_spellings_are_understood() {
        check(r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]);
        check(r"a\_b\-c\/", &["a_b-c/"], &[]);
        check("[a[b]", &["a", "[", "b"], &["c"]);
        check("[a&&b]", &["a", "&", "b"], &[]);
        check("{a}", &["{a}"], &[]);
        check("a{2}", &["aa"], &["a", "a{2}"]);
        check(r"\p{Lu}x\}", &["Ax}"], &["ax}"]);
        check("[[:alpha:]]+", &["abc"], &["1"]);
        check("[]a]", &["]", "a"], &["b"]);
    }

    #[test]
    fn broken_expressions_are_refused() {
        for pattern in ["(", ")", "a)(b", "*", "[", "a{2,1}", "(?P<n", r"\8"] {
            assert!(LabelRegex::new(pattern).is_err(), "{pattern}");
        }
    }
}
