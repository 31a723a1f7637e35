//! What the two text formats share: names, quoted strings, label braces.

use super::entry::{ParseError, ParseErrorKind};

/// The rules in which the formats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Blanks between tokens, commas between labels optional, line breaks in label values.
    Text,
    /// No blanks, commas required, no line breaks.
    OpenMetrics,
    /// As OpenMetrics, and no metric name among the labels.
    Exemplar,
}

/// An error with the byte offset it happened at.
pub(super) type At<T> = Result<T, (usize, ParseErrorKind)>;

/// A short piece of the input for an error message.
pub(super) fn piece(input: &[u8], at: usize) -> String {
    let rest = &input[at.min(input.len())..];
    let end = rest.iter().take(20).position(|b| matches!(b, b'\n')).map_or(rest.len().min(20), |end| end + 1);
    String::from_utf8_lossy(&rest[..end]).into_owned()
}

/// Puts line and column to an error.
#[cold]
pub(super) fn locate(input: &[u8], (at, kind): (usize, ParseErrorKind)) -> ParseError {
    let before = &input[..at.min(input.len())];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |n| n + 1) + 1;
    ParseError { line, column, kind }
}

#[inline]
pub(super) fn is_name_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b == b':'
}

#[inline]
pub(super) fn name_end(input: &[u8], mut at: usize) -> usize {
    while input.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b':') {
        at += 1;
    }
    at
}

#[inline]
fn label_name_end(input: &[u8], mut at: usize) -> usize {
    while input.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') {
        at += 1;
    }
    at
}

#[inline]
pub(super) fn skip_blanks(input: &[u8], mut at: usize) -> usize {
    while matches!(input.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// The end of a quoted string that starts at `at`, after its closing quote; `None` if it is not closed.
#[inline]
pub(super) fn quoted_end(input: &[u8], at: usize, line_breaks: bool) -> Option<usize> {
    let mut at = at + 1;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', &input[at..])?;
        if !line_breaks && memchr::memchr(b'\n', &input[at..found]).is_some() {
            return None;
        }
        if input[found] == b'"' {
            return Some(found + 1);
        }
        match input.get(found + 1) {
            None | Some(b'\n') => return None,
            Some(_) => at = found + 2,
        }
    }
}

/// Checks the labels after an opening brace. `name_set` says whether the metric name stands before the brace, and is set if it
/// is found among the labels. Gives the end, after the closing brace.
pub(super) fn scan_labels(input: &[u8], start: usize, dialect: Dialect, name_set: &mut bool) -> At<usize> {
    let text = dialect == Dialect::Text;
    let blanks = |at| if text { skip_blanks(input, at) } else { at };
    let line_breaks_in_names = dialect != Dialect::Exemplar;
    let mut at = blanks(start);
    loop {
        let name = at;
        let quoted = match input.get(at) {
            Some(b'}') => return Ok(at + 1),
            Some(b) if b.is_ascii_alphabetic() || *b == b'_' => {
                at = label_name_end(input, at);
                false
            }
            Some(b'"') => {
                let end = quoted_end(input, at, line_breaks_in_names);
                at = end.ok_or_else(|| (name, ParseErrorKind::LabelName(piece(input, name))))?;
                true
            }
            _ => return Err((at, ParseErrorKind::LabelName(piece(input, at)))),
        };
        at = blanks(at);
        match input.get(at) {
            Some(b'=') => at = blanks(at + 1),
            // A quoted string alone is the metric's name.
            Some(b',' | b'}') if quoted && dialect != Dialect::Exemplar => {
                if std::mem::replace(name_set, true) {
                    return Err((name, ParseErrorKind::TwoNames(piece(input, name))));
                }
                if input[at] == b'}' {
                    return Ok(at + 1);
                }
                at = blanks(at + 1);
                continue;
            }
            _ => return Err((at, ParseErrorKind::Equal(piece(input, at)))),
        }
        let value = at;
        let end = if input.get(at) == Some(&b'"') { quoted_end(input, at, text) } else { None };
        at = blanks(end.ok_or_else(|| (value, ParseErrorKind::LabelValue(piece(input, value))))?);
        match input.get(at) {
            Some(b',') => at = blanks(at + 1),
            Some(b'}') => {}
            _ if text => {}
            _ => return Err((at, ParseErrorKind::CommaOrBrace(piece(input, at)))),
        }
    }
}
