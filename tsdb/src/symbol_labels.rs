//! Label sets that are made of symbols when they are asked for.

use std::ops::Range;

use hashbrown::HashMap;
use model::{KeptLabels, LabelPairs, Labels};

/// Some labels of the series in a range: `pairs` gives the symbols of a series' labels, in the order of names, `text` the text of a
/// symbol. Equal sets are made once.
pub(crate) fn kept<'t, P: Iterator<Item = (u32, u32)>>(
    range: Range<usize>,
    kept: KeptLabels<'_>,
    text: impl Fn(u32) -> &'t str,
    pairs: impl Fn(usize) -> P,
) -> Vec<Labels> {
    let (names, without): (&[String], bool) = match kept {
        KeptLabels::All => {
            return range.map(|at| Labels::from_sorted(pairs(at).map(|(n, v)| (text(n), text(v))))).collect();
        }
        KeptLabels::Only(names) => (names, false),
        KeptLabels::Without(names) => (names, true),
    };
    // names are few, and the same symbols again and again
    let mut known: Vec<(u32, bool)> = Vec::new();
    let mut keeps = |name: u32| match known.iter().find(|(known, _)| *known == name) {
        Some((_, keeps)) => *keeps,
        None => {
            let keeps = names.iter().any(|n| n == text(name)) != without;
            known.push((name, keeps));
            keeps
        }
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
