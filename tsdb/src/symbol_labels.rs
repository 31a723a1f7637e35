//! Label sets that are made of symbols when they are asked for.

use std::convert::Infallible;
use std::ops::Range;

use hashbrown::HashMap;
use model::{KeptLabels, LabelPairs, Labels};

/// Which symbols are names of labels that are kept, as far as that has been asked: they are few, and mostly those of the series before in
/// the same order.
pub(crate) struct KnownNames<'a> {
    kept: KeptLabels<'a>,
    names: Vec<(u32, bool)>,
    next: usize,
}

impl<'a> KnownNames<'a> {
    pub(crate) fn new(kept: KeptLabels<'a>) -> Self {
        Self { kept, names: Vec::new(), next: 0 }
    }

    /// Whether labels with a name are kept; `text` gives the text of one that has not been asked for.
    pub(crate) fn keeps<'t, E>(&mut self, name: u32, text: impl FnOnce() -> Result<&'t str, E>) -> Result<bool, E> {
        if self.names.get(self.next).is_none_or(|known| known.0 != name) {
            self.next = self.names.iter().position(|known| known.0 == name).unwrap_or(self.names.len());
        }
        if self.next == self.names.len() {
            self.names.push((name, self.kept.keeps(text()?)));
        }
        let keeps = self.names[self.next].1;
        self.next += 1;
        Ok(keeps)
    }
}

/// Some labels of the series in a range: `pairs` gives the symbols of a series' labels, in the order of names, `text` the text of a
/// symbol. Equal sets are made once.
pub(crate) fn kept<'t, P: Iterator<Item = (u32, u32)>>(
    range: Range<usize>,
    kept: KeptLabels<'_>,
    text: impl Fn(u32) -> &'t str,
    pairs: impl Fn(usize) -> P,
) -> Vec<Labels> {
    if kept == KeptLabels::All {
        return range.map(|at| Labels::from_sorted(pairs(at).map(|(n, v)| (text(n), text(v))))).collect();
    }
    let mut names = KnownNames::new(kept);
    let mut keeps = |name: u32| {
        let Ok(keeps) = names.keeps(name, || Ok::<_, Infallible>(text(name)));
        keeps
    };
    let mut made: HashMap<Box<[(u32, u32)]>, Labels> = HashMap::new();
    let mut key = Vec::new();
    let mut last: (Vec<(u32, u32)>, Labels) = (Vec::new(), Labels::empty());
    let one = |at: usize| {
        key.clear();
        key.extend(pairs(at).filter(|(name, _)| keeps(*name)));
        if key == last.0 {
            return last.1.clone();
        }
        let labels = match made.get(&key[..]) {
            Some(labels) => labels.clone(),
            None => {
                let labels = Labels::from_sorted(key.iter().map(|(name, value)| (text(*name), text(*value))));
                made.insert(key.as_slice().into(), labels.clone());
                labels
            }
        };
        last.0.clone_from(&key);
        last.1 = labels.clone();
        labels
    };
    range.map(one).collect()
}

/// Calls `each` with the names and values of the labels of each series in a range, which are not kept.
pub(crate) fn each_set<'t, P: Iterator<Item = (u32, u32)>>(
    range: Range<usize>,
    text: impl Fn(u32) -> &'t str,
    pairs: impl Fn(usize) -> P,
    each: &mut dyn FnMut(&LabelPairs<'_>),
) {
    let mut set = Vec::new();
    for at in range {
        set.clear();
        set.extend(pairs(at).map(|(name, value)| (text(name), text(value))));
        each(&set);
    }
}
