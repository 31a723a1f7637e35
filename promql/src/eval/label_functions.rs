//! `label_replace` and `label_join`: they change series and do not look at values.

use model::{LabelRegex, METRIC_NAME};

use super::Evaluator;
use super::frame::Frame;
use crate::QueryError;
use crate::ast::Call;
use crate::go_text::quote_bytes;

/// How often the labels of a series are there while they are made anew.
const COPIES: usize = 4;

/// A label name; an error naming it and what it is for if it is none.
fn label_name(bytes: &[u8], what: &str) -> Result<String, QueryError> {
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => {
            let shown = quote_bytes(bytes);
            Err(QueryError::execution(format!("invalid {what}: {}", shown.trim_matches('"'))))
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&self, call: &Call) -> Result<Frame, QueryError> {
        let text = |at: usize| Ok::<_, QueryError>(String::from_utf8_lossy(&self.string(&call.args[at])?).into_owned());
        let (replacement, source, pattern) = (text(2)?, text(3)?, text(4)?);
        let regex = LabelRegex::new(&pattern)
            .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        let target = label_name(&self.string(&call.args[1])?, "destination label name in label_replace()")?;
        let mut frame = self.vector(&call.args[0])?;
        let (mut made, mut copies) = (self.query.memory.charge(), self.query.memory.charge());
        for row in &mut frame.rows {
            self.query.check()?;
            let value = row.labels.value(&source);
            if let Some(captures) = regex.captures(value) {
                // each reference gives a part of the value at most
                let most =
                    replacement.len().saturating_add(replacement.matches('$').count().saturating_mul(value.len()));
                made.add(most)?;
                copies.set(COPIES * (most + row.labels.as_bytes().len()))?;
                let new = expand(&replacement, &captures);
                row.labels = row.labels.to_builder().set(&target, &new).build();
                if target == METRIC_NAME {
                    row.drop_name = false;
                }
            }
        }
        frame.merge_same_labels(self.query.pace())?;
        Ok(frame)
    }

    pub(super) fn label_join(&self, call: &Call) -> Result<Frame, QueryError> {
        let separator = String::from_utf8_lossy(&self.string(&call.args[2])?).into_owned();
        let mut sources = Vec::new();
        for arg in &call.args[3..] {
            sources.push(label_name(&self.string(arg)?, "source label name in label_join()")?);
        }
        let target = label_name(&self.string(&call.args[1])?, "destination label name in label_join()")?;
        let mut frame = self.vector(&call.args[0])?;
        let (mut made, mut copies) = (self.query.memory.charge(), self.query.memory.charge());
        for row in &mut frame.rows {
            self.query.check()?;
            let values: Vec<&str> = sources.iter().map(|source| row.labels.value(source)).collect();
            let len = values.iter().map(|value| value.len() + separator.len()).sum::<usize>();
            made.add(len)?;
            copies.set(COPIES * (len + row.labels.as_bytes().len()))?;
            let joined = values.join(&separator);
            row.labels = row.labels.to_builder().set(&target, &joined).build();
            if target == METRIC_NAME {
                row.drop_name = false;
            }
        }
        frame.merge_same_labels(self.query.pace())?;
        Ok(frame)
    }
}

/// Puts captures into a template as Go does: `$1`, `${1}`, `$name`, `$$`. A name is as long as it can be, and unknown ones are
/// empty.
fn expand(template: &str, captures: &regex::Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{');
        let body = braced.unwrap_or(rest);
        let len = body.chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum::<usize>();
        let (name, after) = body.split_at(len);
        let after = if braced.is_some() { after.strip_prefix('}') } else { Some(after) };
        let (Some(after), false) = (after, name.is_empty()) else {
            // no reference: the dollar sign stands for itself
            out.push('$');
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(number) => captures.get(number),
            Err(_) => captures.name(name),
        };
        out.push_str(group.map_or("", |m| m.as_str()));
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_expanded_as_go_does() {
        let regex = LabelRegex::new("(?P<first>[a-z]+)-([0-9]+)").unwrap();
        let captures = regex.captures("ab-12").unwrap();
        for (template, expected) in [
            ("$1", "ab"),
            ("${1}x$2", "abx12"),
            ("$1x", ""),
            ("$first!", "ab!"),
            ("$$1", "$1"),
            ("$", "$"),
            ("a$9b", "a"),
            ("${1", "${1"),
        ] {
            assert_eq!(expand(template, &captures), expected, "{template}");
        }
    }
}
