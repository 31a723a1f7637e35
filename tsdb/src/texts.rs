use crate::sorting::sort_runs;
use crate::watch::Pace;

/// Texts, one after the other in one piece of memory: there may be a hundred thousand values of a label.
#[derive(Clone, Debug)]
pub struct Texts {
    text: String,
    /// Where in `text` each ends.
    ends: Vec<usize>,
    /// Whether they are known to be in ascending order, each once.
    sorted: bool,
}

impl Default for Texts {
    fn default() -> Self {
        Self { text: String::new(), ends: Vec::new(), sorted: true }
    }
}

/// The same texts in the same order.
impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.ends == other.ends
    }
}

impl Eq for Texts {}

impl Texts {
    /// Adds a text.
    pub fn push(&mut self, text: &str) {
        self.sorted = self.is_empty();
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// Adds texts to none, of which the caller knows that they are in ascending order, each once: they need not be compared again.
    pub(crate) fn ascending<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut all: Self = texts.collect();
        debug_assert!(all.iter().is_sorted_by(|a, b| a < b), "they are in ascending order");
        all.sorted = true;
        all
    }

    /// The same of texts that lie next to each other: each run with where its texts end in it. `runs` is gone through twice.
    pub(crate) fn ascending_runs<'a, E, R>(runs: impl Fn() -> R) -> Self
    where
        E: Iterator<Item = usize>,
        R: Iterator<Item = (&'a str, E)>,
    {
        // memory that grows is touched twice, which is much of the time it takes the first time
        let (mut text, mut count) = (0, 0);
        for (run, ends) in runs() {
            (text, count) = (text + run.len(), count + ends.count());
        }
        let mut all = Self { text: String::with_capacity(text), ends: Vec::with_capacity(count), sorted: true };
        for (text, ends) in runs() {
            let start = all.text.len();
            all.text.push_str(text);
            all.ends.extend(ends.map(|end| start + end));
        }
        debug_assert!(all.iter().is_sorted_by(|a, b| a < b), "they are in ascending order");
        all
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The texts in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let text = &self.text[start..*end];
            start = *end;
            text
        })
    }

    /// All of them without anything between them.
    pub fn concatenated(&self) -> &str {
        &self.text
    }

    /// Where each ends in [`Texts::concatenated`].
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Keeps the first `len` texts.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Puts the texts in ascending order, each once.
    pub fn sort(&mut self) {
        self.sort_paced(&Pace::unwatched());
    }

    /// The same; anything if `pace` has said stop.
    pub(crate) fn sort_paced(&mut self, pace: &Pace<'_>) {
        if self.sorted || self.iter().is_sorted_by(|a, b| a < b) {
            self.sorted = true;
            return;
        }
        let order = (0..self.len()).collect::<Vec<_>>();
        let mut order = sort_runs(order, |a, b| self.get(*a).cmp(self.get(*b)), pace);
        if !pace.done(order.len()) {
            return;
        }
        order.dedup_by_key(|at| self.get(*at));
        *self = Self::ascending(order.into_iter().map(|at| self.get(at)));
    }

    /// Adds the texts of another list; all are in ascending order then, each once.
    pub fn merge(&mut self, other: Self) {
        self.merge_paced(other, &Pace::unwatched());
    }

    /// The same; anything if `pace` has said stop.
    pub(crate) fn merge_paced(&mut self, mut other: Self, pace: &Pace<'_>) {
        self.sort_paced(pace);
        other.sort_paced(pace);
        // what one block has, others have mostly too
        if other.is_empty() || *self == other || !pace.done(other.len()) {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        let mut all = Self {
            text: String::with_capacity(self.text.len().max(other.text.len())),
            ends: Vec::with_capacity(self.len().max(other.len())),
            sorted: true,
        };
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        while pace.done(2) {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a == b => {
                    right.next();
                    left.next()
                }
                (Some(a), Some(b)) if a > b => right.next(),
                (None, _) => right.next(),
                _ => left.next(),
            };
            let Some(text) = next else { break };
            all.text.push_str(text);
            all.ends.push(all.text.len());
        }
        drop((left, right));
        *self = all;
    }

    /// Bytes of memory.
    pub fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// The place of a text among texts in ascending order.
    pub(crate) fn find(&self, text: &str) -> Option<usize> {
        let at = partition_point(self.len(), |at| self.get(at) < text);
        (at < self.len() && self.get(at) == text).then_some(at)
    }

    pub(crate) fn get(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }
}

/// As that of slices, for what is reached by its place: how many of so many, from the first on, something holds for.
pub(crate) fn partition_point(len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, len);
    while from < to {
        let middle = from.midpoint(to);
        if holds(middle) { from = middle + 1 } else { to = middle }
    }
    from
}

impl<'a> Extend<&'a str> for Texts {
    fn extend<I: IntoIterator<Item = &'a str>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| self.push(text));
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut all = Self::default();
        all.extend(texts);
        all
    }
}

impl<const N: usize> PartialEq<[&str; N]> for Texts {
    fn eq(&self, other: &[&str; N]) -> bool {
        self.iter().eq(other.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn texts_are_sorted_each_once(mut texts: Vec<String>, again in 0usize..5, kept in 0usize..10) {
            texts.extend(texts.iter().take(again).cloned().collect::<Vec<_>>());
            let mut sorted: Texts = texts.iter().map(String::as_str).collect();
            proptest::prop_assert!(sorted.iter().eq(texts.iter()) && sorted.len() == texts.len());
            let mut merged: Texts = texts.iter().take(kept).map(String::as_str).collect();
            merged.merge(texts.iter().skip(kept).map(String::as_str).collect());
            let mut once = merged.clone();
            merged.merge(once.clone());
            proptest::prop_assert_eq!(&merged, &once);
            sorted.sort();
            texts.sort();
            texts.dedup();
            sorted.sort();
            proptest::prop_assert!(sorted.iter().eq(texts.iter()));
            proptest::prop_assert_eq!(&merged, &sorted);
            once.merge(sorted.iter().take(kept).collect());
            proptest::prop_assert_eq!(&merged, &once);
            sorted.truncate(kept);
            texts.truncate(kept);
            proptest::prop_assert!(sorted.iter().eq(texts.iter()));
            let runs = texts.chunks(3).map(|run| {
                let ends = (1..=run.len()).map(|count| run[..count].concat().len()).collect::<Vec<_>>();
                (run.concat(), ends)
            });
            let runs: Vec<_> = runs.collect();
            let joined = Texts::ascending_runs(|| runs.iter().map(|(text, ends)| (&**text, ends.iter().copied())));
            proptest::prop_assert!(joined.iter().eq(texts.iter()));
            proptest::prop_assert_eq!(joined.ends().last().copied().unwrap_or(0), joined.concatenated().len());
            sorted.push("more");
            proptest::prop_assert_eq!(sorted.iter().last(), Some("more"));
        }
    }
}
