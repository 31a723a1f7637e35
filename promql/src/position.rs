use std::fmt;

/// A part of a query text: byte offsets, the end not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PosRange {
    /// First byte.
    pub start: u32,
    /// The byte after the last one.
    pub end: u32,
}

impl PosRange {
    /// The part from `start` up to `end`.
    pub fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// The part from the start of this one to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }

    /// Where the part starts in `query`, as `line:column` counted from 1, columns in bytes: the form of Prometheus' errors and annotations.
    pub fn start_in(self, query: &str) -> StartIn<'_> {
        StartIn { query, start: self.start as usize }
    }
}

/// Prints a position as `line:column`.
#[derive(Clone, Copy, Debug)]
pub struct StartIn<'q> {
    query: &'q str,
    start: usize,
}

impl fmt::Display for StartIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.query.is_empty() {
            return f.write_str("unknown position");
        }
        let Some(before) = self.query.as_bytes().get(..self.start) else {
            return f.write_str("invalid position");
        };
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = match before.iter().rposition(|b| *b == b'\n') {
            Some(at) => self.start - at,
            None => self.start + 1,
        };
        write!(f, "{line}:{column}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_lines_and_byte_columns() {
        let at = |start, query: &str| PosRange::new(start, start).start_in(query).to_string();
        assert_eq!(at(0, "up"), "1:1");
        assert_eq!(at(5, "é +\nup"), "2:1");
        assert_eq!(at(7, "é +\nup"), "2:3");
        assert_eq!(at(9, "up"), "invalid position");
        assert_eq!(at(0, ""), "unknown position");
    }
}
