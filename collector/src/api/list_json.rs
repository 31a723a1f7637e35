//! Lists of series and of texts as answers, made part by part while they are sent: what is found is not held again as JSON, and nothing
//! is made for a client that has gone away.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use model::{LabelPairs, Labels};
use promql::storage::{KeptLabels, Selection};
use tsdb::Texts;

use super::json_text::{has_escapes, has_quotes_only, push_plain, push_text, push_text_bytes};
use super::query_json::{push_labels, push_list, push_pairs, separate};

/// About so many bytes of JSON are made at a time.
const PART: usize = 64 << 10;

/// Parts that are made by who sends them. Each takes a tenth of a millisecond.
pub(super) const IN_TURN: usize = 64;

/// Label sets that are taken from a selection at a time.
const AT_ONCE: usize = 256;

const TRUNCATED: &str = "results truncated due to limit";

/// What an answer lists.
pub(super) trait Listed {
    /// Writes the next items, as many as are taken at a time, a comma before each but the very first. False if there are none.
    fn push_next(&mut self, out: &mut Vec<u8>) -> bool;

    /// Whether there is more than has been asked for.
    fn is_truncated(&self) -> bool;
}

/// An answer that is a list.
pub(super) struct List<L, H> {
    listed: L,
    warnings: Vec<String>,
    next: Place,
    /// Says how much memory what is listed takes.
    _held: H,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Items,
    Nowhere,
}

impl<L: Listed, H> List<L, H> {
    /// An answer with warnings, beside that of a limit. `held` is kept until it has been made.
    pub(super) fn new(listed: L, warnings: Vec<String>, held: H) -> Self {
        Self { listed, warnings, next: Place::Start, _held: held }
    }

    fn push_end(&mut self, out: &mut Vec<u8>) {
        out.push(b']');
        if self.listed.is_truncated() {
            self.warnings.push(TRUNCATED.to_owned());
        }
        if !self.warnings.is_empty() {
            out.extend_from_slice(b",\"warnings\":");
            push_list(&self.warnings, out, |text, out| push_text(text, out));
        }
        out.push(b'}');
    }
}

impl<L: Listed, H> Iterator for List<L, H> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.next == Place::Nowhere {
            return None;
        }
        let mut out = Vec::new();
        if self.next == Place::Start {
            out.extend_from_slice(b"{\"status\":\"success\",\"data\":[");
            self.next = Place::Items;
        } else {
            out.reserve(PART + PART / 4);
        }
        while out.len() < PART {
            if !self.listed.push_next(&mut out) {
                self.push_end(&mut out);
                self.next = Place::Nowhere;
                break;
            }
        }
        Some(out)
    }
}

/// The first series of a selection.
pub(super) struct SelectedSeries<'a> {
    selection: Box<dyn Selection + 'a>,
    next: usize,
    count: usize,
}

impl<'a> SelectedSeries<'a> {
    /// At most so many series.
    pub(super) fn new(selection: Box<dyn Selection + 'a>, limit: usize) -> Self {
        Self { count: selection.len().min(limit), next: 0, selection }
    }
}

impl Listed for SelectedSeries<'_> {
    fn push_next(&mut self, out: &mut Vec<u8>) -> bool {
        let range = self.next..self.count.min(self.next + AT_ONCE);
        if range.is_empty() {
            return false;
        }
        separate(range.start, out);
        // hardly a label has something to escape: they are written as they are, and looked through at once
        let (start, mut pairs) = (out.len(), 0);
        push_sets(&*self.selection, range.clone(), out, |labels, out| {
            pairs += labels.len();
            push_pairs(bytes_of(labels), out, push_plain);
        });
        if !has_quotes_only(&out[start..], 4 * pairs) {
            out.truncate(start);
            push_sets(&*self.selection, range.clone(), out, |labels, out| {
                push_pairs(bytes_of(labels), out, push_text_bytes);
            });
        }
        self.next = range.end;
        true
    }

    fn is_truncated(&self) -> bool {
        self.count < self.selection.len()
    }
}

fn bytes_of<'a>(labels: &'a LabelPairs<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

fn push_sets(
    selection: &dyn Selection,
    range: Range<usize>,
    out: &mut Vec<u8>,
    mut push: impl FnMut(&LabelPairs<'_>, &mut Vec<u8>),
) {
    let mut at = 0;
    selection.each_label_set(range, &mut |labels| {
        separate(at, out);
        at += 1;
        push(labels, out);
    });
}

/// The series of several selections in order, each once.
pub(super) struct MergedSeries<'a> {
    cursors: Vec<Cursor<'a>>,
    /// The first series of each that has not been listed.
    first: BinaryHeap<Reverse<(Labels, usize)>>,
    listed: usize,
    limit: usize,
}

/// A selection, some of whose label sets are at hand.
struct Cursor<'a> {
    selection: Box<dyn Selection + 'a>,
    next: usize,
    at_hand: std::vec::IntoIter<Labels>,
}

impl Iterator for Cursor<'_> {
    type Item = Labels;

    fn next(&mut self) -> Option<Labels> {
        if self.at_hand.len() == 0 {
            let range = self.next..self.selection.len().min(self.next + AT_ONCE);
            self.next = range.end;
            self.at_hand = self.selection.labels(range, KeptLabels::All).into_iter();
        }
        self.at_hand.next()
    }
}

impl<'a> MergedSeries<'a> {
    /// At most so many series.
    pub(super) fn new(selections: Vec<Box<dyn Selection + 'a>>, limit: usize) -> Self {
        let cursor = |selection| Cursor { selection, next: 0, at_hand: Vec::new().into_iter() };
        let mut cursors: Vec<_> = selections.into_iter().map(cursor).collect();
        let first = cursors.iter_mut().enumerate().filter_map(|(at, cursor)| Some(Reverse((cursor.next()?, at))));
        Self { first: first.collect(), cursors, listed: 0, limit }
    }

    fn take_first(&mut self) -> Option<Labels> {
        let Reverse((labels, at)) = self.first.pop()?;
        self.first.extend(self.cursors[at].next().map(|next| Reverse((next, at))));
        Some(labels)
    }
}

impl Listed for MergedSeries<'_> {
    fn push_next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.listed == self.limit {
            return false;
        }
        let Some(labels) = self.take_first() else { return false };
        while self.first.peek().is_some_and(|Reverse((next, _))| *next == labels) {
            self.take_first();
        }
        separate(self.listed, out);
        push_labels(&labels, out);
        self.listed += 1;
        true
    }

    fn is_truncated(&self) -> bool {
        !self.first.is_empty()
    }
}

/// Texts in order, each once.
pub(super) struct ListedTexts {
    texts: Texts,
    truncated: bool,
    escapes: bool,
    /// The piece that the next one is in, and its place there.
    piece: usize,
    next: usize,
}

impl ListedTexts {
    /// At most so many texts.
    pub(super) fn new(mut texts: Texts, limit: usize) -> Self {
        let truncated = texts.len() > limit;
        texts.truncate(limit);
        let mut pieces = (0..).map_while(|number| texts.piece(number));
        let escapes = pieces.any(|piece| has_escapes(piece.concatenated().as_bytes()));
        Self { texts, truncated, escapes, piece: 0, next: 0 }
    }
}

impl Listed for ListedTexts {
    fn push_next(&mut self, out: &mut Vec<u8>) -> bool {
        const AT_ONCE: usize = 1024;
        let Self { texts, escapes, piece: number, next, .. } = self;
        let piece = loop {
            match texts.piece(*number) {
                None => return false,
                Some(piece) if *next < piece.len() => break piece,
                Some(_) => (*number, *next) = (*number + 1, 0),
            }
        };
        let all = piece.concatenated().as_bytes();
        let some = *next..piece.len().min(*next + AT_ONCE);
        let mut start = next.checked_sub(1).map_or(0, |before| piece.end(before));
        for at in some.clone() {
            let end = piece.end(at);
            // no piece is empty
            separate(*number + at, out);
            if *escapes {
                push_text_bytes(&all[start..end], out);
                start = end;
                continue;
            }
            out.push(b'"');
            // to copy as many bytes each time, and to forget those that are too many, is faster than to copy so many
            match all[start..].first_chunk::<32>() {
                Some(chunk) if end - start <= chunk.len() => {
                    let len = out.len() + end - start;
                    out.extend_from_slice(chunk);
                    out.truncate(len);
                }
                _ => out.extend_from_slice(&all[start..end]),
            }
            out.push(b'"');
            start = end;
        }
        *next = some.end;
        true
    }

    fn is_truncated(&self) -> bool {
        self.truncated
    }
}

#[cfg(test)]
mod tests {
    use model::{MatchOp, Matcher};
    use promql::storage::{SelectRequest, Storage, Wanted};
    use promql::testing::MemoryStorage;

    use super::*;

    /// The data of an answer, its warnings, and in how many parts it came.
    fn read(list: List<impl Listed, ()>) -> (serde_json::Value, Vec<String>, usize) {
        let parts: Vec<Vec<u8>> = list.collect();
        assert!(parts.iter().all(|part| part.len() < 2 * PART));
        let answer: serde_json::Value = serde_json::from_slice(&parts.concat()).unwrap();
        assert_eq!(answer["status"], "success");
        let warnings = answer.get("warnings").map(|warnings| serde_json::from_value(warnings.clone()).unwrap());
        (answer["data"].clone(), warnings.unwrap_or_default(), parts.len())
    }

    fn list<L: Listed>(listed: L) -> List<L, ()> {
        List::new(listed, vec!["so \"it\" is".to_owned()], ())
    }

    #[test]
    fn texts_are_json() {
        for last in ["", "é", "\n"] {
            let mut texts: Vec<String> = (0..70).map(|len| "0123456789".repeat(7)[..len].to_owned()).collect();
            texts.extend((0..40).rev().map(|len| "9876543210".repeat(7)[..len].to_owned()));
            texts.extend((0..20_000).map(|n| format!("number {n}")));
            texts.push(last.to_owned());
            let (data, warnings, parts) =
                read(list(ListedTexts::new(texts.iter().map(String::as_str).collect(), texts.len())));
            assert_eq!(data, serde_json::json!(texts));
            assert_eq!(warnings, ["so \"it\" is"]);
            assert!(parts > 3, "{parts}");
            let (data, warnings, _) = read(list(ListedTexts::new(texts.iter().map(String::as_str).collect(), 100)));
            assert_eq!(data, serde_json::json!(texts[..100]));
            assert_eq!(warnings[1..], [TRUNCATED]);
        }
        let (data, warnings, parts) = read(List::new(ListedTexts::new(Texts::default(), 1), Vec::new(), ()));
        assert_eq!((data, warnings, parts), (serde_json::json!([]), Vec::new(), 1));
    }

    #[test]
    fn texts_of_a_block_are_json() {
        const MINUTE: i64 = 60_000;
        let values = |escaped: bool| (0..2000).map(move |n| format!("{n:04}{}", if escaped { "\"\n" } else { "" }));
        for escaped in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let options = tsdb::Options { background: false, ..tsdb::Options::default() };
            let db = tsdb::Db::open(folder.path(), options).unwrap();
            for time in [0, 100 * MINUTE, 200 * MINUTE] {
                let mut appender = db.appender();
                for value in values(escaped) {
                    let series = appender.series(&Labels::from_pairs([("__name__", "m"), ("n", &value)])).unwrap();
                    appender.append(series, time, 1.0).unwrap();
                }
                appender.commit().unwrap();
            }
            db.maintain().unwrap();
            let texts = db.label_values("n", &[], 0, MINUTE, None).unwrap().values;
            assert!(texts.piece(3).is_some(), "they lie in several pieces");
            for limit in [1, 511, 512, 513, 1999, 2000, 2001] {
                let (data, warnings, _) = read(list(ListedTexts::new(texts.clone(), limit)));
                assert_eq!(data, serde_json::json!(values(escaped).take(limit).collect::<Vec<_>>()), "{limit}");
                assert_eq!(warnings.len() > 1, limit < 2000, "{limit}");
            }
        }
    }

    /// As a storage has them: many, and here and there something to escape, which is not to be seen in the others.
    fn storage(count: usize) -> (MemoryStorage, Vec<Labels>) {
        let text = |n: usize| if n % 700 == 5 { format!("C:\\{n}\"\n") } else { n.to_string() };
        let mut storage = MemoryStorage::new();
        let set =
            |n| Labels::from_pairs([("__name__", "up".to_owned()), ("n", text(n)), ("é", "ü\u{1f600}".to_owned())]);
        let mut sets: Vec<Labels> = (0..count).map(set).collect();
        sets.iter().for_each(|labels| storage.add_float(labels, 1000, 1.0, 0));
        sets.sort();
        (storage, sets)
    }

    #[test]
    fn selected_series_are_json() {
        for count in [0, 1, 255, 256, 257, 1500, 10_000] {
            let (storage, sets) = storage(count);
            let matchers = [Matcher::equal("__name__", "up")];
            let request = SelectRequest::new(&matchers, (0, 2000), Wanted::Labels);
            for limit in [1400, usize::MAX] {
                let (data, warnings, parts) = read(list(SelectedSeries::new(storage.select(&request).unwrap(), limit)));
                assert_eq!(data, serde_json::json!(sets[..count.min(limit)]), "{count}");
                assert_eq!((warnings.len() == 2, parts > 1), (count > limit, count == 10_000 && limit > count));
            }
        }
    }

    #[test]
    fn series_of_several_selections_are_listed_once() {
        let (storage, sets) = storage(3000);
        let regex = |text| Matcher::new(MatchOp::Regex, "n", text).unwrap();
        let matchers =
            [vec![regex("1.*")], vec![Matcher::equal("n", "none")], vec![regex(".*1")], vec![regex("C.*|2")]];
        let matches = |set: &&Labels| {
            matchers.iter().any(|all| all.iter().all(|m| m.matches(set.get(&m.name).unwrap_or_default())))
        };
        let expected: Vec<&Labels> = sets.iter().filter(matches).collect();
        assert!(expected.len() > 1000);
        for limit in [0, 1, expected.len() - 1, expected.len(), usize::MAX] {
            let select =
                |all: &Vec<Matcher>| storage.select(&SelectRequest::new(all, (0, 2000), Wanted::Labels)).unwrap();
            let merged = MergedSeries::new(matchers.iter().map(select).collect(), limit);
            let (data, warnings, _) = read(list(merged));
            assert_eq!(data, serde_json::json!(expected[..limit.min(expected.len())]));
            assert_eq!(warnings.len() == 2, limit < expected.len(), "{limit}");
        }
    }
}
