use std::sync::Arc;

use hashbrown::{HashMap, HashSet, HashTable};
use model::{Labels, MatchOp, Matcher};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;
use crate::head::known_labels::KnownLabels;
use crate::head::labels::LabelSets;
use crate::head::posting_list::PostingList;
use crate::head::symbols::Symbols;
use crate::postings::{LabelIndex, SeriesSet, VALUE_WORK};
use crate::texts::Texts;
use crate::watch::Pace;

/// Entries in one page of the series table, which is freed when all its series are gone.
const PAGE: usize = 256;
/// Bytes in one page of label sets.
const LABEL_PAGE: usize = 1 << 16;
/// At most so many series wait for [`SeriesIndex::post_new`]: nobody else gets at the index while it works.
const UNPOSTED: usize = 1 << 12;

/// The labels of the head's series: sets of symbol numbers, found by set, by number, and by label.
///
/// Series numbers grow and are never used again, so that a reference either is good or is known to be gone.
#[derive(Default)]
pub(crate) struct SeriesIndex {
    symbols: Symbols,
    /// Label sets as (name, value) symbol numbers in varints, after their length.
    label_pages: Arc<Vec<Arc<Vec<u8>>>>,
    /// How often symbols and places were numbered anew.
    generation: u64,
    /// Page and offset of each series' labels, plus one; 0 where there is no series.
    places: Vec<Option<Box<[u32; PAGE]>>>,
    by_labels: HashTable<u32>,
    postings: HashMap<(u32, u32), PostingList>,
    /// The values each label name has.
    names: HashMap<u32, Values>,
    /// Series that the postings do not have yet, ascending.
    unposted: Vec<u32>,
    count: usize,
    next: u32,
    dead: usize,
    scratch: Vec<u8>,
}

/// A label set of which all names and values are known, as it is stored.
pub(crate) struct LabelKey {
    symbols: Vec<u8>,
    /// Since then symbols must not have been numbered anew.
    generation: u64,
}

impl SeriesIndex {
    pub(crate) fn new() -> Self {
        Self { next: 1, ..Self::default() }
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        self.find_key(&self.key_of(labels, &mut KnownLabels::default())?)
    }

    /// A label set as it would be stored; `None` if there is no series with one of its names or values. What it has in common with the set
    /// that `known` was last used for is not looked up.
    pub(crate) fn key_of(&self, labels: &Labels, known: &mut KnownLabels) -> Option<LabelKey> {
        let mut symbols = Vec::with_capacity(labels.as_bytes().len());
        for (name, value) in known.look_up(labels, &self.symbols, self.generation)? {
            varint::put(&mut symbols, u64::from(*name));
            varint::put(&mut symbols, u64::from(*value));
        }
        Some(LabelKey { symbols, generation: self.generation })
    }

    pub(crate) fn find_key(&self, key: &LabelKey) -> Option<u32> {
        self.find_symbols(&key.symbols)
    }

    fn find_symbols(&self, symbols: &[u8]) -> Option<u32> {
        self.by_labels.find(xxh3_64(symbols), |id| self.key(*id) == Some(symbols)).copied()
    }

    /// The series with these labels, new if there was none; `None` when the numbers are used up. `key` is what [`SeriesIndex::key_of`] has
    /// said of them, if it has been asked. A new one is found by labels and by number only until [`SeriesIndex::post_new`].
    pub(crate) fn get_or_create(&mut self, labels: &Labels, key: Option<LabelKey>) -> Option<(u32, bool)> {
        // mostly there is none, or whoever asks would have found it
        let key = match key.filter(|key| key.generation == self.generation) {
            Some(key) => key.symbols,
            None => self.intern(labels),
        };
        let known = self.find_symbols(&key);
        let found = match known {
            Some(id) => Some((id, false)),
            None if self.next == u32::MAX => None,
            None => {
                let id = self.next;
                self.insert_key(id, &key);
                self.unposted.push(id);
                if self.unposted.len() == UNPOSTED {
                    self.post_new();
                }
                Some((id, true))
            }
        };
        self.scratch = key;
        found
    }

    /// The symbols of a label set, as they are stored. To be given back as the scratch.
    fn intern(&mut self, labels: &Labels) -> Vec<u8> {
        let mut key = std::mem::take(&mut self.scratch);
        key.clear();
        for (name, value) in labels.iter_bytes() {
            varint::put(&mut key, u64::from(self.symbols.intern(name)));
            varint::put(&mut key, u64::from(self.symbols.intern(value)));
        }
        key
    }

    /// Adds a series under a number that no series has. It is found by labels and by number only until
    /// [`SeriesIndex::post_all`].
    pub(crate) fn insert(&mut self, id: u32, labels: &Labels) {
        let key = self.intern(labels);
        self.insert_key(id, &key);
        self.scratch = key;
    }

    fn insert_key(&mut self, id: u32, key: &[u8]) {
        let place = self.store_labels(key);
        let page = id as usize / PAGE;
        if self.places.len() <= page {
            self.places.resize_with(page + 1, || None);
        }
        self.places[page].get_or_insert_with(|| Box::new([0; PAGE]))[id as usize % PAGE] = place;
        let Self { by_labels, places, label_pages, .. } = self;
        by_labels.insert_unique(xxh3_64(key), id, |id| {
            xxh3_64(key_at(label_pages, place_of(places, *id).unwrap_or(1)).unwrap_or_default())
        });
        self.count += 1;
        self.next = self.next.max(id.saturating_add(1));
    }

    /// The number the next series gets.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// All label names and values, as series of an image of the head refer to them: by their place in it.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = &str> {
        self.symbols.texts()
    }

    /// Takes the next of the symbols that series are about to refer to; `false` if there is such a one already.
    pub(crate) fn restore_symbol(&mut self, text: &str) -> bool {
        let number = self.symbols.len() as u32;
        self.symbols.intern(text) == number
    }

    /// Appends a series' labels, for an image of the head: bytes with the symbols of each name and value.
    pub(crate) fn put_series(&self, id: u32, out: &mut Vec<u8>) {
        varint::put_bytes(out, self.key(id).unwrap_or_default());
    }

    /// Reads what [`SeriesIndex::put_series`] wrote and adds it as [`SeriesIndex::insert`] does.
    pub(crate) fn restore_series(&mut self, id: u32, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let key = reader.bytes()?;
        let mut symbols = Reader::new(key, "labels of an image");
        let mut last = None;
        while !symbols.is_empty() {
            let (name, value) = (symbols.count(self.symbols.len())? as u32, symbols.count(self.symbols.len())? as u32);
            let known = (name as usize) < self.symbols.len() && (value as usize) < self.symbols.len();
            if !known || last.is_some_and(|last| self.symbols.text(last) >= self.symbols.text(name)) {
                return Err(symbols.damaged());
            }
            last = Some(name);
        }
        let twice = self.by_labels.find(xxh3_64(key), |other| self.key(*other) == Some(key)).is_some();
        if last.is_none() || twice || self.contains(id) {
            return Err(symbols.damaged());
        }
        self.insert_key(id, key);
        Ok(())
    }

    /// Adds series to the lists of their labels; numbers must come ascending. Label by label: of those that come together most share most
    /// of their labels, and a list is then looked up once.
    fn post(&mut self, ids: &[u32]) {
        let Self { label_pages, places, postings, names, .. } = self;
        let key = |id: u32| place_of(places, id).and_then(|place| key_at(label_pages, place));
        let mut labels = Vec::with_capacity(ids.len() * 8);
        for id in ids {
            labels.extend(pairs_of(key(*id).unwrap_or_default()).map(|pair| (pair, *id)));
        }
        labels.sort_unstable();
        for series in labels.chunk_by(|a, b| a.0 == b.0) {
            let (name, value) = series[0].0;
            let list = postings.entry((name, value)).or_default();
            if list.len() == 0 {
                names.entry(name).or_default().push(value);
            }
            series.iter().for_each(|(_, id)| list.push(*id));
        }
    }

    /// Makes the series that are new found by their labels' values.
    pub(crate) fn post_new(&mut self) {
        let ids = std::mem::take(&mut self.unposted);
        self.post(&ids);
    }

    /// Makes all series found by their labels' values, after [`SeriesIndex::insert`]s in any order.
    pub(crate) fn post_all(&mut self) {
        self.postings.clear();
        self.names.clear();
        self.unposted = Vec::new();
        let ids: Vec<u32> = self.ids().collect();
        ids.chunks(UNPOSTED).for_each(|ids| self.post(ids));
    }

    /// Never gives out a number up to `id`.
    pub(crate) fn skip(&mut self, id: u32) {
        self.next = self.next.max(id.saturating_add(1));
    }

    fn store_labels(&mut self, key: &[u8]) -> u32 {
        // with its length
        let most = key.len() + 5;
        let pages = Arc::make_mut(&mut self.label_pages);
        if pages.last().is_none_or(|p| p.len() + most > LABEL_PAGE) {
            pages.push(Arc::new(Vec::with_capacity(LABEL_PAGE.max(most))));
        }
        let page = pages.len() - 1;
        let offset = pages[page].len();
        // what a query has taken stays as it is
        varint::put_bytes(Arc::make_mut(&mut pages[page]), key);
        (page * LABEL_PAGE + offset + 1) as u32
    }

    fn key(&self, id: u32) -> Option<&[u8]> {
        key_at(&self.label_pages, place_of(&self.places, id)?)
    }

    fn pairs(&self, id: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        pairs_of(self.key(id).unwrap_or_default())
    }

    /// The symbols of a name and a value, and the series with this label; `None` if there never was one.
    fn list_of(&self, name: &str, value: &str) -> Option<((u32, u32), &PostingList)> {
        let pair = (self.symbols.find(name)?, self.symbols.find(value)?);
        Some((pair, self.postings.get(&pair)?))
    }

    /// Whether some series has, or had, a label with this name or value.
    pub(crate) fn has_symbol(&self, text: &str) -> bool {
        self.symbols.find(text).is_some()
    }

    /// Whether there is such a series.
    pub(crate) fn contains(&self, id: u32) -> bool {
        place_of(&self.places, id).is_some()
    }

    /// The labels of a series that exists.
    pub(crate) fn labels(&self, id: u32) -> Labels {
        Labels::from_sorted(self.pairs(id).map(|(n, v)| (self.symbols.text(n), self.symbols.text(v))))
    }

    /// Numbers of all series, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_deref()?))).flat_map(|(at, page)| {
            page.iter().enumerate().filter(|(_, p)| **p != 0).map(move |(slot, _)| (at * PAGE + slot) as u32)
        })
    }

    /// All label sets as they are now.
    pub(crate) fn label_sets(&self) -> LabelSets {
        LabelSets {
            pages: Arc::clone(&self.label_pages),
            texts: self.symbols.shared_texts(),
            generation: self.generation,
        }
    }

    /// Where the label set of a series lies in [`SeriesIndex::label_sets`]; 0 for none.
    pub(crate) fn place(&self, id: u32) -> u32 {
        place_of(&self.places, id).unwrap_or(0)
    }

    /// Removes series. Rebuilds everything when a good part of what is stored is of removed series.
    pub(crate) fn remove(&mut self, gone: &[u32]) {
        if gone.is_empty() {
            return;
        }
        for id in gone {
            let Some(key) = self.key(*id) else { continue };
            let hash = xxh3_64(key);
            if let Ok(entry) = self.by_labels.find_entry(hash, |other| other == id) {
                entry.remove();
            }
        }
        let mut touched: Vec<(u32, u32)> = gone.iter().flat_map(|id| self.pairs(*id).collect::<Vec<_>>()).collect();
        touched.sort_unstable();
        touched.dedup();
        for id in gone {
            if let Some(Some(page)) = self.places.get_mut(*id as usize / PAGE) {
                let slot = &mut page[*id as usize % PAGE];
                if *slot != 0 {
                    *slot = 0;
                    self.count -= 1;
                    self.dead += 1;
                }
                if page.iter().all(|p| *p == 0) {
                    self.places[*id as usize / PAGE] = None;
                }
            }
        }
        if self.dead > 1024.max(self.count / 3) {
            return self.rebuild();
        }
        let mut names = Vec::new();
        for pair in touched {
            let Some(list) = self.postings.get_mut(&pair) else { continue };
            let mut kept = PostingList::default();
            list.iter().filter(|id| place_of(&self.places, *id).is_some()).for_each(|id| kept.push(id));
            if kept.len() > 0 {
                *list = kept;
            } else {
                self.postings.remove(&pair);
                names.push(pair.0);
            }
        }
        names.dedup();
        for name in names {
            if let Some(values) = self.names.get_mut(&name) {
                values.retain(|v| self.postings.contains_key(&(name, v)));
                if values.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
    }

    fn rebuild(&mut self) {
        let mut fresh = Self::new();
        for id in self.ids() {
            fresh.insert(id, &self.labels(id));
        }
        fresh.post_all();
        fresh.next = self.next;
        fresh.generation = self.generation + 1;
        *self = fresh;
    }

    /// Number of distinct label pairs.
    pub(crate) fn pair_count(&self) -> usize {
        self.postings.len()
    }

    /// Every label pair with its number of series.
    pub(crate) fn pair_counts(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.postings.iter().map(|((n, v), list)| (self.symbols.text(*n), self.symbols.text(*v), list.len()))
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.symbols.heap_bytes()
            + self.label_pages.iter().map(|page| page.capacity()).sum::<usize>()
            + self.places.iter().flatten().count() * PAGE * 4
            + self.by_labels.allocation_size()
            + self.postings.allocation_size()
            + self.postings.values().map(PostingList::heap_bytes).sum::<usize>()
            + self.names.values().map(Values::heap_bytes).sum::<usize>()
            + self.unposted.capacity() * 4
    }
}

fn place_of(places: &[Option<Box<[u32; PAGE]>>], id: u32) -> Option<u32> {
    Some(places.get(id as usize / PAGE)?.as_deref()?[id as usize % PAGE]).filter(|p| *p != 0)
}

/// The symbols of names and values of a label set.
fn pairs_of(key: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    let mut reader = varint::Reader::new(key, "labels");
    std::iter::from_fn(move || Some((reader.varint().ok()? as u32, reader.varint().ok()? as u32)))
}

/// The symbols of the label set at a place.
pub(crate) fn key_at(pages: &[Arc<Vec<u8>>], place: u32) -> Option<&[u8]> {
    let at = (place as usize).checked_sub(1)?;
    let bytes = pages.get(at / LABEL_PAGE)?.get(at % LABEL_PAGE..)?;
    varint::Reader::new(bytes, "labels").bytes().ok()
}

impl LabelIndex for SeriesIndex {
    type Error = std::convert::Infallible;

    fn all(&self) -> Result<Vec<u32>, Self::Error> {
        Ok(self.ids().collect())
    }

    fn with_value(&self, name: &str, value: &str) -> Result<Vec<u32>, Self::Error> {
        Ok(self.list_of(name, value).map(|(_, list)| list.to_vec()).unwrap_or_default())
    }

    fn rank(&self, matcher: &Matcher) -> usize {
        if matcher.op() != MatchOp::Equal {
            return usize::MAX;
        }
        self.list_of(&matcher.name, &matcher.value).map_or(0, |(_, list)| list.len())
    }

    fn narrow(&self, ids: &mut Vec<u32>, name: &str, value: &str) -> Result<bool, Self::Error> {
        let Some((pair, list)) = self.list_of(name, value) else {
            ids.clear();
            return Ok(true);
        };
        if ids.len() > list.len() / LOOK {
            return Ok(false);
        }
        ids.retain(|id| self.pairs(*id).any(|of_series| of_series == pair));
        Ok(true)
    }

    fn with_values(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Vec<u32>>, Self::Error> {
        let mut lists = Vec::new();
        self.each_value(name, prefix, &mut |value, text, list| {
            if keep(text) {
                lists.extend(self.postings.get(&(list, value)).map(PostingList::to_vec));
            }
        });
        Ok(lists)
    }

    fn filter(&self, ids: &mut Vec<u32>, matcher: &Matcher, pace: &Pace<'_>) -> Result<bool, Self::Error> {
        let name = self.symbols.find(&*matcher.name);
        let values = name.and_then(|name| self.names.get(&name)).map_or(0, Values::len);
        if ids.len() > values && ids.len() > self.count / FILTER {
            return Ok(false);
        }
        let empty = matcher.matches_empty();
        let mut known: HashMap<u32, bool> = HashMap::new();
        ids.retain(|id| {
            pace.done(SERIES_WORK);
            let value = self.pairs(*id).find(|(n, _)| Some(*n) == name).map(|(_, value)| value);
            value.map_or(empty, |v| *known.entry(v).or_insert_with(|| matcher.matches(self.symbols.text(v))))
        });
        Ok(true)
    }

    fn names(&self) -> Result<Texts, Self::Error> {
        Ok(self.names.keys().map(|n| self.symbols.text(*n)).collect())
    }

    fn names_among(&self, series: &[u32], pace: &Pace<'_>) -> Result<Texts, Self::Error> {
        let mut found: Vec<u32> = Vec::new();
        for id in series.iter().take_while(|_| pace.done(SERIES_WORK)) {
            for (name, _) in self.pairs(*id) {
                if !found.contains(&name) {
                    found.push(name);
                }
            }
            if found.len() == self.names.len() {
                break;
            }
        }
        Ok(found.into_iter().map(|name| self.symbols.text(name)).collect())
    }

    fn values(&self, name: &str, matchers: &[&Matcher], pace: &Pace<'_>) -> Result<Texts, Self::Error> {
        let mut found = Texts::default();
        let keep = |text: &str| pace.done(VALUE_WORK) && matchers.iter().all(|m| m.matches(text));
        self.each_value(name, "", &mut |_, text, _| found.extend(keep(text).then_some(text)));
        Ok(found)
    }

    fn values_among(
        &self,
        name: &str,
        series: &[u32],
        keep: &mut dyn FnMut(&str) -> bool,
        pace: &Pace<'_>,
    ) -> Result<Texts, Self::Error> {
        let mut found = Texts::default();
        if series.len() < self.count / FILTER {
            let Some(name) = self.symbols.find(name) else { return Ok(found) };
            let mut known = HashSet::new();
            for id in series.iter().take_while(|_| pace.done(SERIES_WORK)) {
                if let Some((_, value)) = self.pairs(*id).find(|(n, _)| *n == name)
                    && known.insert(value)
                    && keep(self.symbols.text(value))
                {
                    found.push(self.symbols.text(value));
                }
            }
            return Ok(found);
        }
        let set = SeriesSet::new(series);
        self.each_value(name, "", &mut |value, text, name| {
            let has = |list: &PostingList| list.iter().any(|id| set.contains(id) || !pace.done(1));
            if pace.done(VALUE_WORK) && keep(text) && self.postings.get(&(name, value)).is_some_and(has) {
                found.push(text);
            }
        });
        Ok(found)
    }
}

/// What it counts for to look for a label of a series.
const SERIES_WORK: usize = 4;

/// To look at the labels of a series takes as long as to read so many numbers of a list.
const LOOK: usize = 16;

/// Fewer than one in so many series are looked at one by one, rather than all lists of a label.
const FILTER: usize = 16;

/// The values of a label.
#[derive(Default)]
struct Values {
    /// As they came.
    all: Vec<u32>,
    /// The first of them in the order of their texts, brought up to date when that is needed.
    sorted: Mutex<Arc<Vec<u32>>>,
}

impl Values {
    fn len(&self) -> usize {
        self.all.len()
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn push(&mut self, value: u32) {
        self.all.push(value);
    }

    fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.all.retain(|value| keep(*value));
        *self.sorted.lock() = Arc::default();
    }

    /// All of them in the order of their texts.
    fn sorted(&self, symbols: &Symbols) -> Arc<Vec<u32>> {
        let mut sorted = self.sorted.lock();
        if sorted.len() < self.all.len() {
            let mut all = Vec::with_capacity(self.all.len());
            all.extend_from_slice(&sorted);
            all.extend_from_slice(&self.all[sorted.len()..]);
            // the part that is sorted already is merged
            all.sort_by(|a, b| symbols.text(*a).cmp(symbols.text(*b)));
            *sorted = Arc::new(all);
        }
        Arc::clone(&sorted)
    }

    fn heap_bytes(&self) -> usize {
        (self.all.capacity() + self.sorted.lock().capacity()) * 4
    }
}

impl SeriesIndex {
    /// Calls `each` with the values of a label that start with `prefix`: with symbol, text, and symbol of the label.
    fn each_value(&self, name: &str, prefix: &str, each: &mut dyn FnMut(u32, &str, u32)) {
        let Some(name) = self.symbols.find(name) else { return };
        let Some(values) = self.names.get(&name) else { return };
        if prefix.is_empty() {
            values.all.iter().for_each(|value| each(*value, self.symbols.text(*value), name));
            return;
        }
        let sorted = values.sorted(&self.symbols);
        let from = sorted.partition_point(|value| self.symbols.text(*value) < prefix);
        let texts = sorted[from..].iter().map(|value| (*value, self.symbols.text(*value)));
        texts.take_while(|(_, text)| text.starts_with(prefix)).for_each(|(value, text)| each(value, text, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, job: &str) -> Labels {
        Labels::from_pairs([("__name__", name), ("job", job)])
    }

    #[test]
    fn series_are_found_and_removed() {
        let mut index = SeriesIndex::new();
        let b = index.get_or_create(&set("b", "x"), None).unwrap();
        let a = index.get_or_create(&set("a", "x"), None).unwrap();
        assert_eq!((b, a, index.get_or_create(&set("b", "x"), None).unwrap()), ((1, true), (2, true), (1, false)));
        assert_eq!(index.labels(2), set("a", "x"));
        assert_eq!(index.with_value("job", "x").unwrap(), [0; 0]);
        index.post_new();
        assert_eq!(index.with_value("job", "x").unwrap(), [1, 2]);
        index.remove(&[1]);
        assert_eq!((index.len(), index.contains(1), index.find(&set("b", "x"))), (1, false, None));
        assert_eq!(index.with_value("job", "x").unwrap(), [2]);
        assert_eq!(index.values("__name__", &[], &Pace::unwatched()).unwrap(), ["a"]);
        assert_eq!(index.get_or_create(&set("b", "x"), None).unwrap(), (3, true), "numbers are not used again");
    }

    #[test]
    fn rebuilding_keeps_the_living() {
        let mut index = SeriesIndex::new();
        for i in 0..5000 {
            index.get_or_create(&set("m", &format!("j{i}")), None).unwrap();
        }
        let before = index.heap_bytes();
        index.remove(&(1..=4000).collect::<Vec<_>>());
        assert_eq!((index.len(), index.next), (1000, 5001));
        assert_eq!(index.labels(4001), set("m", "j4000"));
        assert_eq!(index.find(&set("m", "j4000")), Some(4001));
        assert!(index.heap_bytes() < before / 2);
    }

    #[test]
    fn a_key_is_good_until_symbols_are_numbered_anew() {
        let mut index = SeriesIndex::new();
        for i in 0..5000 {
            index.get_or_create(&set("m", &format!("j{i}")), None).unwrap();
        }
        index.get_or_create(&set("n", "j0"), None).unwrap();
        // there are such labels, not together
        let (one, other) = (set("n", "j4500"), set("n", "j4600"));
        let key_of = |index: &SeriesIndex, labels: &Labels| index.key_of(labels, &mut KnownLabels::default());
        let [first, second] = [(); 2].map(|()| key_of(&index, &one).unwrap());
        assert!(index.find_key(&first).is_none() && key_of(&index, &set("o", "j0")).is_none());
        assert_eq!(index.get_or_create(&one, Some(first)), Some((5002, true)));
        assert_eq!(index.get_or_create(&one, Some(second)), Some((5002, false)), "somebody else was first");
        let before = key_of(&index, &other);
        index.remove(&(1..=4000).collect::<Vec<_>>());
        assert_eq!(index.get_or_create(&other, before), Some((5003, true)));
        assert_eq!([5002, 5003].map(|id| index.labels(id)), [one, other]);
    }
}
