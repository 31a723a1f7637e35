//! The symbols of the label set that was looked up last: who asks for many series has them in an order in which neighbours share most labels.

use model::Labels;

use crate::head::symbols::Symbols;

/// The last label set, with its symbols.
#[derive(Default)]
pub(crate) struct KnownLabels {
    labels: Option<Labels>,
    /// Of each name and value.
    symbols: Vec<(u32, u32)>,
    /// Since then they have not been numbered anew.
    generation: u64,
    /// Memory for those of the next set.
    next: Vec<(u32, u32)>,
}

impl KnownLabels {
    /// The symbols of the names and values of a set, which is then the last one; `None` if there is no symbol for one of the texts.
    pub(crate) fn look_up(&mut self, labels: &Labels, symbols: &Symbols, generation: u64) -> Option<&[(u32, u32)]> {
        let same = self.labels.as_ref().filter(|_| self.generation == generation);
        let mut before = same.into_iter().flat_map(Labels::iter_bytes).zip(&self.symbols).peekable();
        self.next.clear();
        for (name, value) in labels.iter_bytes() {
            // both are in the order of names
            while before.next_if(|((known, _), _)| *known < name).is_some() {}
            let known = before.next_if(|((known, _), _)| *known == name);
            self.next.push(match known {
                Some(((_, known), symbols)) if known == value => *symbols,
                Some((_, (name, _))) => (*name, symbols.find(value)?),
                None => (symbols.find(name)?, symbols.find(value)?),
            });
        }
        drop(before);
        std::mem::swap(&mut self.symbols, &mut self.next);
        self.labels = Some(labels.clone());
        self.generation = generation;
        Some(&self.symbols)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set() -> impl Strategy<Value = Labels> {
        let pair =
            (prop::sample::select(vec!["a", "aa", "b", "job", "z"]), prop::sample::select(vec!["", "1", "11", "b"]));
        prop::collection::vec(pair, 0..6).prop_map(Labels::from_pairs)
    }

    proptest! {
        #[test]
        fn symbols_are_those_of_each_text_whatever_was_looked_up_before(
            known in prop::collection::vec(set(), 1..8),
            asked in prop::collection::vec((set(), prop::bool::weighted(0.1)), 1..20),
        ) {
            let number = |symbols: &mut Symbols| {
                known.iter().flat_map(Labels::iter).for_each(|(name, value)| _ = (symbols.intern(value), symbols.intern(name)));
            };
            let mut symbols = Symbols::default();
            number(&mut symbols);
            let (mut last, mut generation) = (KnownLabels::default(), 0);
            for (labels, anew) in asked {
                if anew {
                    generation += 1;
                    symbols = Symbols::default();
                    symbols.intern(format!("first of {generation}"));
                    number(&mut symbols);
                }
                let find = |(name, value)| Some((symbols.find(name)?, symbols.find(value)?));
                let expected: Option<Vec<(u32, u32)>> = labels.iter().map(find).collect();
                prop_assert_eq!(last.look_up(&labels, &symbols, generation).map(<[_]>::to_vec), expected);
            }
        }
    }
}
