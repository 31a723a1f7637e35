use std::fmt;

use crate::{LabelRegex, RegexError, is_legacy_label_name, quote};

/// How a [`Matcher`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// One condition on a label. A label that is absent has the empty value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Label name.
    pub name: Box<str>,
    /// Text to compare with; for regex operators the expression as written.
    pub value: Box<str>,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    NotEqual,
    Regex(LabelRegex),
    NotRegex(LabelRegex),
}

impl Matcher {
    /// A matcher of any kind.
    ///
    /// # Errors
    /// When the operator is a regex one and `value` is no regular expression.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Self, RegexError> {
        let test = match op {
            MatchOp::Equal => Test::Equal,
            MatchOp::NotEqual => Test::NotEqual,
            MatchOp::Regex => Test::Regex(LabelRegex::new(value)?),
            MatchOp::NotRegex => Test::NotRegex(LabelRegex::new(value)?),
        };
        Ok(Self { name: name.into(), value: value.into(), test })
    }

    /// `name="value"`.
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into(), test: Test::Equal }
    }

    /// `name!="value"`.
    pub fn not_equal(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into(), test: Test::NotEqual }
    }

    /// The operator.
    pub fn op(&self) -> MatchOp {
        match self.test {
            Test::Equal => MatchOp::Equal,
            Test::NotEqual => MatchOp::NotEqual,
            Test::Regex(_) => MatchOp::Regex,
            Test::NotRegex(_) => MatchOp::NotRegex,
        }
    }

    /// The compiled expression of a regex operator.
    pub fn regex(&self) -> Option<&LabelRegex> {
        match &self.test {
            Test::Regex(re) | Test::NotRegex(re) => Some(re),
            Test::Equal | Test::NotEqual => None,
        }
    }

    /// Whether a label with this value satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal => *self.value == *value,
            Test::NotEqual => *self.value != *value,
            Test::Regex(re) => re.is_match(value),
            Test::NotRegex(re) => !re.is_match(value),
        }
    }

    /// Whether series without the label satisfy the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&quote(&self.name))?;
        }
        write!(f, "{}{}", self.op().as_str(), quote(&self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_compare_as_named() {
        for (op, pattern, value, expected) in [
            (MatchOp::Equal, "a", "a", true),
            (MatchOp::Equal, "a", "b", false),
            (MatchOp::NotEqual, "a", "b", true),
            (MatchOp::Regex, "a.*", "abc", true),
            (MatchOp::NotRegex, "a.*", "abc", false),
        ] {
            let matcher = Matcher::new(op, "x", pattern).unwrap();
            assert_eq!((matcher.op(), matcher.matches(value)), (op, expected), "{matcher}");
        }
        assert!(Matcher::new(MatchOp::Regex, "x", "(").is_err());
        assert!(Matcher::equal("x", "").matches_empty());
        assert_eq!(Matcher::equal("a.b", "c\"").to_string(), r#""a.b"="c\"""#);
    }
}
