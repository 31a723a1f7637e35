//! Differences that a change of Prometheus after the peer's version explains.

use std::sync::atomic::{AtomicUsize, Ordering};

use regex::Regex;

use crate::compare::Difference;

/// One line of the table.
#[derive(Debug)]
pub struct Entry {
    /// Kinds of differences, as [`crate::compare::What::as_str`] names them.
    pub kinds: Vec<String>,
    /// Matches the expression.
    pub expression: Regex,
    /// Matches the text of the difference.
    pub detail: Regex,
    /// The upstream change.
    pub reason: String,
    uses: AtomicUsize,
}

/// The table of known differences.
#[derive(Debug, Default)]
pub struct Known {
    entries: Vec<Entry>,
}

impl Known {
    /// The table in `known_differences.tsv`.
    ///
    /// # Panics
    /// When a line of it is wrong.
    pub fn load() -> Self {
        Self::parse(include_str!("../known_differences.tsv")).unwrap_or_else(|e| panic!("known_differences.tsv: {e}"))
    }

    /// Reads a table: kinds, expression, detail and reason, separated by tabs; the first line names the columns.
    ///
    /// # Errors
    /// Names the line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut entries = Vec::new();
        for (at, line) in text.lines().enumerate().skip(1) {
            let fault = |message: String| format!("line {}: {message}", at + 1);
            let columns: Vec<&str> = line.split('\t').collect();
            let [kinds, expression, detail, reason] = columns[..] else {
                return Err(fault(format!("{} columns instead of 4", columns.len())));
            };
            if !reason.contains("3.") || !reason.contains('#') {
                return Err(fault("the reason names no version and change".to_owned()));
            }
            entries.push(Entry {
                kinds: kinds.split(',').map(ToOwned::to_owned).collect(),
                expression: Regex::new(expression).map_err(|e| fault(e.to_string()))?,
                detail: Regex::new(detail).map_err(|e| fault(e.to_string()))?,
                reason: reason.to_owned(),
                uses: AtomicUsize::new(0),
            });
        }
        Ok(Self { entries })
    }

    /// Whether the table explains a difference; that counts as a use of its line.
    pub fn explains(&self, expr: &str, difference: &Difference) -> bool {
        let found = self.entries.iter().find(|entry| {
            entry.kinds.iter().any(|kind| kind == difference.what.as_str())
                && entry.expression.is_match(expr)
                && entry.detail.is_match(&difference.detail)
        });
        if let Some(entry) = found {
            entry.uses.fetch_add(1, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Each line's reason and uses.
    pub fn uses(&self) -> Vec<(&Entry, usize)> {
        self.entries.iter().map(|entry| (entry, entry.uses.load(Ordering::Relaxed))).collect()
    }

    /// The lines that explained nothing.
    pub fn unused(&self) -> Vec<&Entry> {
        self.uses().into_iter().filter(|(_, uses)| *uses == 0).map(|(entry, _)| entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::What;

    #[test]
    fn the_table_is_well_formed() {
        Known::load();
    }

    #[test]
    fn entries_explain_what_they_match_and_unused_ones_are_reported() {
        let text =
            "kinds\texpression\tdetail\treason\nwarnings,infos\t^rate\tonly ours\t3.7 #1\nvalues\tx\t.\t3.8 #2\n";
        let known = Known::parse(text).unwrap();
        let difference = |what| Difference { what, detail: "only ours: w".into() };
        assert!(known.explains("rate(a[5m])", &difference(What::Warnings)));
        assert!(!known.explains("rate(a[5m])", &difference(What::Error)));
        assert!(!known.explains("increase(a[5m])", &difference(What::Infos)));
        assert_eq!(known.unused().iter().map(|e| e.reason.as_str()).collect::<Vec<_>>(), ["3.8 #2"]);
    }

    #[test]
    fn bad_lines_are_named() {
        let check = |line: &str, expected: &str| {
            let error = Known::parse(&format!("head\n{line}\n")).unwrap_err();
            assert!(error.starts_with("line 2") && error.contains(expected), "{error}");
        };
        check("values\ta\tb", "3 columns");
        check("values\t(\tb\t3.6 #1", "unclosed group");
        check("values\ta\tb\tbecause", "names no version");
    }
}
