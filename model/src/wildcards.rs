//! Regular expressions that are no more than texts with wildcards: decided without the regex engine, which takes longer to be set up for one
//! than most queries take.

/// Texts with wildcards, of which a value has to match one as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wildcards(Vec<Alternative>);

/// What stands between the `.*` of an alternative, one part more than there are of these.
#[derive(Clone, Debug, PartialEq)]
struct Alternative(Vec<Part>);

/// Matches a number of characters.
#[derive(Clone, Debug, Default, PartialEq)]
struct Part(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// `.`: any character, as a dot matches newlines.
    Character,
}

/// What makes of a piece more or fewer: it is understood only behind a dot.
const QUANTIFIERS: [char; 4] = ['*', '+', '?', '{'];

impl Wildcards {
    /// The pattern as such, if it is: literal and escaped characters, classes of one character, `.`, `.*` and `.+`, alternatives of
    /// these, all of it in parentheses or not. What is not surely a valid expression is none.
    pub(crate) fn of(pattern: &str) -> Option<Self> {
        let body = pattern.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(pattern);
        let (mut alternatives, mut current) = (Vec::new(), Alternative::default());
        let mut rest = body.chars().peekable();
        let mut at_start = true;
        while let Some(c) = rest.next() {
            let was_at_start = std::mem::replace(&mut at_start, c == '|');
            match c {
                '|' => alternatives.push(std::mem::take(&mut current)),
                // what is matched is anchored anyway
                '^' if was_at_start => {}
                '$' if matches!(rest.peek(), None | Some('|')) => {}
                '.' => {
                    if let Some(many) = rest.next_if(|c| matches!(c, '*' | '+')) {
                        if many == '+' {
                            current.push(Piece::Character);
                        }
                        current.0.push(Part::default());
                        // as little as possible or as much: the same values match
                        rest.next_if_eq(&'?');
                    } else {
                        current.push(Piece::Character);
                    }
                }
                '\\' => current.push_char(rest.next().filter(char::is_ascii_punctuation)?),
                '[' => {
                    current.push_char(rest.next().filter(|c| !"^\\[]".contains(*c))?);
                    rest.next_if_eq(&']')?;
                }
                '*' | '+' | '?' | '(' | ')' | ']' | '{' | '}' | '^' | '$' => return None,
                c => current.push_char(c),
            }
            if rest.peek().is_some_and(|next| QUANTIFIERS.contains(next)) {
                return None;
            }
        }
        alternatives.push(current);
        Some(Self(alternatives))
    }

    /// Whether the whole of `value` matches.
    pub(crate) fn is_match(&self, value: &str) -> bool {
        self.0.iter().any(|alternative| alternative.is_match(value))
    }

    /// A literal text that every matching value starts with, possibly empty.
    pub(crate) fn prefix(&self) -> &str {
        match &*self.0 {
            [one] => one.0[0].prefix(),
            _ => "",
        }
    }
}

impl Default for Alternative {
    fn default() -> Self {
        Self(vec![Part::default()])
    }
}

impl Alternative {
    fn push(&mut self, piece: Piece) {
        if let Some(part) = self.0.last_mut() {
            part.0.push(piece);
        }
    }

    fn push_char(&mut self, c: char) {
        match self.0.last_mut().and_then(|part| part.0.last_mut()) {
            Some(Piece::Text(text)) => text.push(c),
            _ => self.push(Piece::Text(c.into())),
        }
    }

    fn is_match(&self, value: &str) -> bool {
        let [first, others @ ..] = &*self.0 else { return false };
        let Some(rest) = first.strip_from_start(value) else { return false };
        let [between @ .., last] = others else { return rest.is_empty() };
        let Some(mut rest) = last.strip_from_end(rest) else { return false };
        // the first place is the best one for each: it leaves most for the others
        between.iter().all(|part| part.find_end(rest).map(|behind| rest = behind).is_some())
    }
}

impl Part {
    fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    fn strip_from_start<'v>(&self, value: &'v str) -> Option<&'v str> {
        self.0.iter().try_fold(value, |rest, piece| match piece {
            Piece::Text(text) => rest.strip_prefix(&**text),
            Piece::Character => next(rest),
        })
    }

    fn strip_from_end<'v>(&self, value: &'v str) -> Option<&'v str> {
        self.0.iter().rev().try_fold(value, |rest, piece| match piece {
            Piece::Text(text) => rest.strip_suffix(&**text),
            Piece::Character => {
                let mut rest = rest.chars();
                rest.next_back().map(|_| rest.as_str())
            }
        })
    }

    /// What is behind the first place where it matches.
    fn find_end<'v>(&self, value: &'v str) -> Option<&'v str> {
        let mut rest = value;
        loop {
            rest = &rest[rest.find(self.prefix())?..];
            if let Some(behind) = self.strip_from_start(rest) {
                return Some(behind);
            }
            rest = next(rest)?;
        }
    }
}

/// What is behind the first character.
fn next(text: &str) -> Option<&str> {
    let mut rest = text.chars();
    rest.next().map(|_| rest.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn only_what_is_understood_is_decided() {
        for (pattern, prefix) in [
            ("", ""),
            ("a.b", "a"),
            (".+", ""),
            (".*?a", ""),
            ("^node-1.*$", "node-1"),
            ("a|b.*", ""),
            ("(sys.*|io.+|)", ""),
            (r"a\.b[.]c.*", "a.b.c"),
            (".*-1[.].*", ""),
            ("é.", "é"),
            ("^a|^b$", ""),
        ] {
            let wildcards = Wildcards::of(pattern).unwrap_or_else(|| panic!("{pattern}"));
            assert_eq!(wildcards.prefix(), prefix, "{pattern}");
        }
        for pattern in [
            "a*",
            "a?",
            "a{2}",
            ".?",
            ".{2}",
            ".**",
            ".*??",
            ".+*",
            "(a",
            "a)",
            "(a)(b)",
            "(a)|(b)",
            "[ab]",
            "[^a]",
            "[]a]",
            "[a",
            r"\d",
            r"\Qa\E",
            "\\",
            "a^b",
            "a$b",
            "^*",
            "$*",
            "(?i)a",
            "a{",
            "]",
            "}",
            "(?:a)",
            "[[:alpha:]]",
            r"[\.]",
            "(^a)b",
            "a||*",
        ] {
            assert_eq!(Wildcards::of(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// They decide what the engine decides.
        #[test]
        fn values_match_as_the_engine_has_it(
            pattern in "(\\(|\\^)?([ab.é]|\\.\\*|\\.\\+|\\.\\*\\?|\\||\\[[ab.]\\]|\\\\[.|]|[?*)$^]){0,7}[)$]?",
            values in prop::collection::vec("[abé.|\n]{0,7}", 12),
        ) {
            if let Some(wildcards) = Wildcards::of(&pattern) {
                let engine = Regex::new(&format!("^(?s:{pattern})$"));
                prop_assert!(engine.is_ok(), "{pattern} is no expression");
                let engine = engine.unwrap();
                for value in &values {
                    prop_assert_eq!(wildcards.is_match(value), engine.is_match(value), "{} {:?}", pattern, value);
                    prop_assert!(!wildcards.is_match(value) || value.starts_with(wildcards.prefix()));
                }
            }
        }
    }
}
