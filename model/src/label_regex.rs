use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use regex::{Captures, Regex, RegexBuilder};

use crate::wildcards::Wildcards;

/// A fully anchored regular expression over label values, `^(?s:...)$`, in RE2 syntax.
#[derive(Clone)]
pub struct LabelRegex {
    source: Box<str>,
    /// Compiled when it is needed, if the plan can do without.
    regex: OnceLock<Regex>,
    plan: Plan,
}

/// What can be decided without the regex engine.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// One of these exact values (sorted).
    OneOf(Vec<Box<str>>),
    /// Texts with wildcards.
    Wildcards(Wildcards),
    /// Literal prefix, then the engine.
    Prefix(Box<str>),
    Engine,
}

/// To compile an expression is what takes longest about most queries, so one that is not longer than this (and so compiles) is compiled
/// only if its plan needs it.
const SURELY_COMPILES: usize = 1000;

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
        let plan = Plan::of(pattern);
        let regex = OnceLock::new();
        if matches!(plan, Plan::Prefix(_) | Plan::Engine) || pattern.len() > SURELY_COMPILES {
            let compiled = compiled(pattern)
                .map_err(|error| RegexError { message: first_line(&error), pattern: pattern.to_owned() })?;
            let _ = regex.set(compiled);
        }
        Ok(Self { source: pattern.into(), plan, regex })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `value` matches.
    pub fn is_match(&self, value: &str) -> bool {
        match &self.plan {
            Plan::OneOf(values) => values.binary_search_by(|v| (**v).cmp(value)).is_ok(),
            Plan::Wildcards(wildcards) => wildcards.is_match(value),
            Plan::Prefix(prefix) => value.starts_with(&**prefix) && self.engine_matches(value),
            Plan::Engine => self.engine_matches(value),
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
            Plan::Wildcards(wildcards) => wildcards.prefix(),
            _ => "",
        }
    }

    /// What the groups of the expression match in `value`; `None` if it does not match.
    pub fn captures<'v>(&self, value: &'v str) -> Option<Captures<'v>> {
        self.engine()?.captures(value)
    }

    fn engine_matches(&self, value: &str) -> bool {
        self.engine().is_some_and(|regex| regex.is_match(value))
    }

    fn engine(&self) -> Option<&Regex> {
        if self.regex.get().is_none() {
            // as it surely does
            let compiled = compiled(&self.source).ok()?;
            let _ = self.regex.set(compiled);
        }
        self.regex.get()
    }
}

/// As [`compile`]. Dashboards and rules come with the same expressions again and again, and to compile one takes longer than most of their
/// queries.
fn compiled(pattern: &str) -> Result<Regex, regex::Error> {
    // whoever panics does not hold it in between two states
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known().get(pattern) {
        return Ok(regex.clone());
    }
    let regex = compile(pattern)?;
    if pattern.len() <= KNOWN_LENGTH {
        let mut known = known();
        if known.len() >= KNOWN_COUNT {
            known.clear();
        }
        known.insert(pattern.into(), regex.clone());
    }
    Ok(regex)
}

/// Expressions that are kept compiled.
static KNOWN: Mutex<BTreeMap<Box<str>, Regex>> = Mutex::new(BTreeMap::new());

/// How many these are at most, and how long.
const KNOWN_COUNT: usize = 128;
const KNOWN_LENGTH: usize = 200;

/// Bytes that the states of an expression may take which the engine remembers: the library's own limit is eight times as much.
const STATES: usize = 256 << 10;

/// The expression with what anchors it.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    let translated = translate_re2(pattern);
    let alone = || Regex::new(&translated).map(drop);
    // a stray parenthesis must not escape the group around it
    if !surely_balanced(&translated) {
        alone()?;
    }
    match RegexBuilder::new(&format!("^(?s:{translated})$")).dfa_size_limit(STATES).build() {
        // what is wrong is told of the expression as it was written
        Err(error) => Err(alone().err().unwrap_or(error)),
        compiled => compiled,
    }
}

/// Whether every closing parenthesis has an opening one, as far as that is seen at a glance.
fn surely_balanced(pattern: &str) -> bool {
    // comments and named classes are left to the parser
    if pattern.contains('#') || pattern.contains("[:") {
        return false;
    }
    let (mut depth, mut in_class) = (0u32, false);
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            _ => {}
        }
    }
    true
}

fn is_meta(c: char) -> bool {
    "\\.+*?()|[]{}^$".contains(c)
}

impl Plan {
    fn of(pattern: &str) -> Self {
        let body = pattern.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(pattern);
        if body.split('|').all(|part| !part.contains(is_meta)) {
            let mut values: Vec<Box<str>> = body.split('|').map(Into::into).collect();
            values.sort_unstable();
            values.dedup();
            return Self::OneOf(values);
        }
        if let Some(wildcards) = Wildcards::of(pattern) {
            return Self::Wildcards(wildcards);
        }
        // an alternation at any depth could start with something else
        if pattern.contains('|') {
            return Self::Engine;
        }
        let end = pattern.find(is_meta).unwrap_or(pattern.len());
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
    fn expressions_are_compiled_once_and_not_all_are_kept() {
        let pattern = |n: usize| format!("pod-[a-c]{n}.?x");
        let mut found = 0;
        for n in 0..2 * KNOWN_COUNT {
            for _ in 0..2 {
                check(&pattern(n), &[&format!("pod-b{n}x")], &[&format!("pod-d{n}x")]);
            }
            let known = KNOWN.lock().unwrap();
            assert!(known.len() <= KNOWN_COUNT);
            found += usize::from(known.contains_key(&*pattern(n)));
        }
        // other tests may have filled it up in between
        assert!(found > KNOWN_COUNT, "{found}");
        let long = "[ab]".repeat(KNOWN_LENGTH);
        check(&long, &[&"a".repeat(KNOWN_LENGTH)], &["a"]);
        assert!(!KNOWN.lock().unwrap().contains_key(&*long));
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

    /// What a plan decides is what the engine decides.
    #[test]
    fn plans_agree_with_the_engine() {
        let texts = [
            "", "a", "ab", "ba", "aba", "é", "aé", "\n", "a\n", "xab", "abx", "xabx", "axb", "a.b", "aab", "abab", "b",
        ];
        for pattern in [
            "", "a", "a|ab", "(a|)", ".*", ".+", "a.*", "a.+", ".*a", ".+a", ".*ab.*", ".+ab.+", ".*ab.+", ".+ab.*",
            "a.b", ".", "..", "a.", ".a", "...", "ab.*.*", "é.*", ".+é", "a.?", "ab*", "a[b]", "(?i)A.*", "a|b.*",
        ] {
            let regex = LabelRegex::new(pattern).unwrap();
            for text in texts {
                assert_eq!(regex.is_match(text), regex.captures(text).is_some(), "{pattern} {text:?}");
                assert!(!regex.is_match(text) || text.starts_with(regex.prefix()), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn only_what_needs_the_engine_is_compiled() {
        for pattern in
            ["a|b", "(GET|LIST)", ".+", "node-1.*", ".*-1.+", "5..", "10.0.0.1:9100", r"a\.b", "a|b.*", ".*-1[.].*"]
        {
            assert!(LabelRegex::new(pattern).unwrap().regex.get().is_none(), "{pattern}");
        }
        let long = format!("{}.*", "x".repeat(SURELY_COMPILES));
        for pattern in ["a|b*", "[ab]", "a?", &long] {
            assert!(LabelRegex::new(pattern).unwrap().regex.get().is_some(), "{pattern}");
        }
    }

    #[test]
    fn broken_expressions_are_refused() {
        for pattern in
            ["(", ")", "a)(b", "*", "[", "a{2,1}", "(?P<n", r"\8", "[(]a)(b", "[[:alpha:](]a)(b", "(?x:#(\n)a)(b"]
        {
            assert!(LabelRegex::new(pattern).is_err(), "{pattern}");
        }
        for pattern in ["[)]", r"\)", "(a)(b)", "[[:alpha:])]", "a#)("] {
            assert_eq!(LabelRegex::new(pattern).is_ok(), Regex::new(pattern).is_ok(), "{pattern}");
        }
    }
}
