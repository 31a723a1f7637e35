//! Collects the series of a page, family by family.

use super::Behaviour;

/// A page under construction.
#[derive(Default)]
pub(crate) struct Builder {
    text: String,
    comment: String,
    family: &'static str,
    lines: Vec<(usize, usize, Behaviour)>,
}

impl Builder {
    /// Starts a family: `kind` is `counter`, `gauge`, `histogram` or `untyped`.
    pub(crate) fn family(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.family = name;
        self.comment = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self
    }

    /// Adds a series of the current family.
    pub(crate) fn series(&mut self, labels: &[(&str, &str)], behaviour: Behaviour) -> &mut Self {
        self.suffixed("", labels, behaviour)
    }

    /// Adds a series of the current family with `_bucket`, `_sum` or `_count` after the name.
    pub(crate) fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], behaviour: Behaviour) -> &mut Self {
        self.text.push_str(&self.comment);
        self.comment.clear();
        let comment_end = self.text.len();
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (number, (name, value)) in labels.iter().enumerate() {
            self.text.push(if number == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.text.push_str(&value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
            self.text.push('"');
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        self.lines.push((comment_end, self.text.len(), behaviour));
        self
    }

    /// Adds a family of one series without labels.
    pub(crate) fn single(&mut self, name: &'static str, kind: &str, behaviour: Behaviour) -> &mut Self {
        self.family(name, kind, "A single value.").series(&[], behaviour)
    }

    /// Number of series so far.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The text and, for each of at most `series` series, where its comments and its labels end.
    pub(crate) fn finish(mut self, series: usize) -> (String, Vec<(usize, usize, Behaviour)>) {
        self.lines.truncate(series);
        self.text.truncate(self.lines.last().map_or(0, |line| line.1));
        (self.text, self.lines)
    }
}
