use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use crate::{is_legacy_label_name, quote};

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";
/// The label of a classic histogram's bucket bound.
pub const BUCKET_LABEL: &str = "le";
/// The label of a summary's quantile.
pub const QUANTILE_LABEL: &str = "quantile";
/// The label that names a target's job.
pub const JOB: &str = "job";
/// The label that names a target's address.
pub const INSTANCE: &str = "instance";

thread_local! {
    /// Where label sets are put together.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer that a large set has made longer is not kept.
const MOST_KEPT: usize = 4096;

/// A label set: names to values, sorted by name, each name once, no empty value. Immutable, one allocation, cheap to clone.
///
/// The identity of a series. Order is Prometheus' `labels.Compare`: label by label, name before value.
///
/// Layout: for each label the name's length as a varint, the name, the value's length, the value. Two equal sets have equal bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// A set of these labels in any order. Of a name given twice the last value counts; empty values are left out.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// A set from labels that are already sorted by name, unique and not empty (checked in debug builds).
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::written(|bytes| {
            let mut last: Option<&str> = None;
            for (name, value) in pairs {
                debug_assert!(last.is_none_or(|l| l < name), "labels must be sorted: {last:?} before {name:?}");
                debug_assert!(!value.is_empty(), "label {name:?} must not be empty");
                last = Some(name);
                push_text(bytes, name);
                push_text(bytes, value);
            }
        })
    }

    /// The set that `write` writes.
    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        // who makes many sets makes them one after the other, all about as long
        let mut bytes = BUFFER.take();
        write(&mut bytes);
        let labels = Self(bytes.as_slice().into());
        bytes.clear();
        if bytes.capacity() <= MOST_KEPT {
            BUFFER.set(bytes);
        }
        labels
    }

    /// The encoded form, for storage. Reads back with [`Labels::from_bytes`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the encoded form; `None` if the bytes are no label set (truncated, not UTF-8, unsorted, empty value).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut last: Option<&str> = None;
        while !rest.is_empty() {
            let name = checked_text(&mut rest)?;
            let value = checked_text(&mut rest)?;
            if value.is_empty() || last.is_some_and(|l| l >= name) {
                return None;
            }
            last = Some(name);
        }
        Some(Self(bytes.into()))
    }

    /// Labels in order of their names.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// As [`Labels::iter`], the bytes of the texts: cheaper, as it is not found out again that they are UTF-8.
    pub fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.0[..];
        // every constructor has checked that there are both
        std::iter::from_fn(move || Some((take_bytes(&mut rest)?, take_bytes(&mut rest)?)))
    }

    /// The bytes of each label's name, and those of the whole label as they stand in the encoded form.
    fn encoded(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let before = rest;
            let name = take_bytes(&mut rest)?;
            take_bytes(&mut rest)?;
            Some((name, &before[..before.len() - rest.len()]))
        })
    }

    /// The value of a label; `None` if it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = name.as_bytes();
        let (_, value) = self.iter_bytes().take_while(|(n, _)| *n <= name).find(|(n, _)| *n == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The value of a label, empty if it is absent, as matchers see it.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric name, empty if there is none.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.iter_bytes().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A stable 64-bit hash (XXH3) of the set.
    pub fn hash64(&self) -> u64 {
        xxh3_64(&self.0)
    }

    /// The subset of labels whose name `keep` accepts.
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = |name: &[u8]| std::str::from_utf8(name).is_ok_and(&keep);
        Self::written(|bytes| {
            let labels = self.encoded().filter(|(name, _)| kept(name));
            labels.for_each(|(_, label)| bytes.extend_from_slice(label));
        })
    }

    /// The labels of both sets; `None` if they have one of the same name.
    pub fn join(&self, other: &Self) -> Option<Self> {
        let mut twice = false;
        let joined = Self::written(|bytes| {
            let (mut ours, mut theirs) = (self.encoded().peekable(), other.encoded().peekable());
            loop {
                let order = match (ours.peek(), theirs.peek()) {
                    (Some((ours, _)), Some((theirs, _))) => ours.cmp(theirs),
                    (Some(_), None) => Ordering::Less,
                    (None, _) => Ordering::Greater,
                };
                twice |= order == Ordering::Equal;
                let next = if order == Ordering::Less { ours.next() } else { theirs.next() };
                let Some((_, label)) = next.filter(|_| !twice) else { break };
                bytes.extend_from_slice(label);
            }
        });
        (!twice).then_some(joined)
    }

    /// The set with other values of some labels, which are in the order of their names, each once (checked in debug builds); an empty value
    /// removes a label.
    pub fn with(&self, changes: &[(&str, &str)]) -> Self {
        debug_assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "labels must be sorted: {changes:?}");
        let push = |bytes: &mut Vec<u8>, (name, value): &(&str, &str)| {
            if !value.is_empty() {
                push_text(bytes, name);
                push_text(bytes, value);
            }
        };
        Self::written(|bytes| {
            let mut changes = changes.iter().peekable();
            for (name, label) in self.encoded() {
                while let Some(change) = changes.next_if(|(changed, _)| changed.as_bytes() < name) {
                    push(bytes, change);
                }
                match changes.next_if(|(changed, _)| changed.as_bytes() == name) {
                    Some(change) => push(bytes, change),
                    None => bytes.extend_from_slice(label),
                }
            }
            changes.for_each(|change| push(bytes, change));
        })
    }

    /// The set without the metric name.
    pub fn without_name(&self) -> Self {
        if self.get(METRIC_NAME).is_none() { self.clone() } else { self.filter(|name| name != METRIC_NAME) }
    }

    /// A builder that starts with these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { labels: self.iter().map(|(n, v)| (n.into(), v.into())).collect() }
    }
}

/// Labels in order of their names.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some((text(&mut self.rest), text(&mut self.rest)))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let mut len = text.len();
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(text.as_bytes());
}

fn take_len(rest: &mut &[u8]) -> Option<usize> {
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(len);
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
}

fn checked_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(rest)?).ok()
}

#[inline]
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_len(rest)?;
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

/// Every constructor has checked the bytes, so this finds a text.
#[inline]
fn text<'a>(rest: &mut &'a [u8]) -> &'a str {
    checked_text(rest).unwrap_or("")
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        // the order of texts is that of their bytes
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.iter_bytes().cmp(other.iter_bytes()) }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    /// `{__name__="up", job="node"}`, names that are not legacy ones quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(name) {
                f.write_str(name)?;
            } else {
                f.write_str(&quote(name))?;
            }
            write!(f, "={}", quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self::from_pairs(iter)
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(std::collections::BTreeMap::<String, String>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Names and values of a label set that somebody else holds, in the order of [`Labels`].
pub type LabelPairs<'a> = [(&'a str, &'a str)];

/// Labels while they are put together.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Sorted by name; an empty value is an absent label.
    labels: Vec<(Box<str>, Box<str>)>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match (self.labels.binary_search_by(|(n, _)| (**n).cmp(name)), value.is_empty()) {
            (Ok(at), false) => self.labels[at].1 = value.into(),
            (Ok(at), true) => {
                self.labels.remove(at);
            }
            (Err(at), false) => self.labels.insert(at, (name.into(), value.into())),
            (Err(_), true) => {}
        }
        self
    }

    /// Sets a label where there is none of this name.
    pub fn set_missing(&mut self, name: &str, value: &str) -> &mut Self {
        if self.get(name).is_empty() { self.set(name, value) } else { self }
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// The value of a label, empty if it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.labels.binary_search_by(|(n, _)| (**n).cmp(name)).map_or("", |at| &self.labels[at].1)
    }

    /// Keeps the labels that `keep` accepts, by name and value.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.labels.retain(|(n, v)| keep(n, v));
        self
    }

    /// Labels in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(n, v)| (&**n, &**v))
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn sets_are_sorted_unique_and_without_empty_values() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "0"), ("c", ""), ("a", "1")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!((labels.get("a"), labels.get("c"), labels.value("c"), labels.len()), (Some("1"), None, "", 2));
    }

    #[test]
    fn what_is_there_is_not_set_again() {
        let mut builder = Labels::from_pairs([("a", "1")]).to_builder();
        builder.set_missing("a", "2").set_missing("b", "3").set_missing("c", "");
        assert_eq!(builder.build().to_string(), r#"{a="1", b="3"}"#);
    }

    #[test]
    fn sets_without_a_common_name_are_joined() {
        let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let (ab, cd) = (set(&[("a", "1"), ("c", "2")]), set(&[("b", "3"), ("d", "4")]));
        let all = set(&[("a", "1"), ("b", "3"), ("c", "2"), ("d", "4")]);
        assert_eq!((ab.join(&cd), cd.join(&ab)), (Some(all.clone()), Some(all.clone())));
        assert_eq!((ab.join(&Labels::empty()), Labels::empty().join(&cd)), (Some(ab.clone()), Some(cd.clone())));
        for twice in [&ab, &cd, &set(&[("c", "9")]), &set(&[("d", "4"), ("e", "5")])] {
            assert_eq!((all.join(twice), twice.join(&all)), (None, None), "{twice}");
        }
    }

    #[test]
    fn order_is_label_by_label() {
        let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let mut sets = [
            set(&[("b", "1")]),
            set(&[("a", "2")]),
            set(&[("a", "1"), ("b", "1")]),
            set(&[]),
            set(&[("a", "1")]),
            set(&[("a", "10")]),
        ];
        sets.sort();
        let shown: Vec<String> = sets.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["{}", r#"{a="1"}"#, r#"{a="1", b="1"}"#, r#"{a="10"}"#, r#"{a="2"}"#, r#"{b="1"}"#]);
    }

    #[test]
    fn builder_edits() {
        let mut builder = Labels::from_pairs([("__name__", "up"), ("job", "x")]).to_builder();
        builder.set("job", "y").remove("__name__").set("zone", "a");
        assert_eq!(builder.get("job"), "y");
        assert_eq!(builder.build().to_string(), r#"{job="y", zone="a"}"#);
    }

    #[test]
    fn damaged_bytes_are_no_labels() {
        let good = Labels::from_pairs([("a", "1"), ("b", "2")]);
        assert_eq!(Labels::from_bytes(good.as_bytes()), Some(good.clone()));
        for bytes in [&b"\x01"[..], b"\x01a", b"\x01a\x05x", b"\x01a\x00", b"\x01b\x011\x01a\x011", b"\x01\xff\x011"] {
            assert_eq!(Labels::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_set_with_changes_is_what_a_builder_makes(
            pairs: BTreeMap<String, String>,
            mut changes: BTreeMap<String, String>,
            of_own in proptest::collection::vec((proptest::sample::select(vec!["", "x"]), 0usize..8), 0..4),
        ) {
            let labels = Labels::from_pairs(&pairs);
            // of labels that there are, too
            for (value, at) in of_own {
                changes.extend(pairs.keys().nth(at).map(|name| (name.clone(), value.to_owned())));
            }
            let mut builder = labels.to_builder();
            changes.iter().for_each(|(name, value)| _ = builder.set(name, value));
            let given: Vec<(&str, &str)> = changes.iter().map(|(name, value)| (&**name, &**value)).collect();
            proptest::prop_assert_eq!(labels.with(&given), builder.build());
            let kept = builder.retain(|name, _| !changes.contains_key(name)).build();
            proptest::prop_assert_eq!(labels.filter(|name| !changes.contains_key(name)), kept);
        }

        #[test]
        fn bytes_read_back(pairs: Vec<(String, String)>) {
            let labels = Labels::from_pairs(pairs);
            proptest::prop_assert_eq!(Labels::from_bytes(labels.as_bytes()), Some(labels));
        }

        #[test]
        fn sets_are_found_in_and_ordered_as_their_texts(a: BTreeMap<String, String>, b: BTreeMap<String, String>, cut in 0usize..4) {
            // one that begins as the other does
            let b: BTreeMap<_, _> = a.iter().take(cut).chain(&b).map(|(n, v)| (n.clone(), v.clone())).collect();
            let sets = [&a, &b].map(|pairs| pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (&n[..], &v[..])).collect::<Vec<_>>());
            let labels = [&a, &b].map(|pairs| Labels::from_pairs(pairs.iter().map(|(n, v)| (&n[..], &v[..]))));
            proptest::prop_assert_eq!(labels[0].cmp(&labels[1]), sets[0].cmp(&sets[1]));
            for (name, value) in a.iter().chain(&b) {
                let expected = a.get(name).filter(|v| !v.is_empty()).map(|v| &v[..]);
                proptest::prop_assert_eq!(labels[0].get(name), expected, "{}", value);
            }
            let bytes: Vec<(&[u8], &[u8])> = sets[0].iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            proptest::prop_assert_eq!(labels[0].iter_bytes().collect::<Vec<_>>(), bytes);
            proptest::prop_assert_eq!(labels[0].len(), sets[0].len());
        }
    }
}
