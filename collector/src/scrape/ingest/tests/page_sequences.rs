//! Whatever the pages of a target look like one after the other, each is stored as if it were read anew.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

/// A line that a page may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Written {
    Series(u8),
    /// The same series with its labels in another order.
    Reversed(u8),
    /// Relabelling drops it.
    Dropped(u8),
    Comment(u8),
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Series(i) => format!("m{{a=\"{i}\",b=\"x\"}}"),
            Self::Reversed(i) => format!("m{{b=\"x\",a=\"{i}\"}}"),
            Self::Dropped(i) => format!("drop{{a=\"{i}\"}}"),
            Self::Comment(i) => format!("# {i}"),
        }
    }

    fn series(self) -> Option<u8> {
        match self {
            Self::Series(i) | Self::Reversed(i) => Some(i),
            Self::Dropped(_) | Self::Comment(_) => None,
        }
    }
}

/// How a page differs from the one before it.
#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, Vec<Written>),
    Remove(usize, usize),
    /// So many lines from one place go to another.
    Move(usize, usize, usize),
    Replace(usize, Written),
    Repeat(usize, usize),
    Shuffle(u64),
}

fn written() -> impl Strategy<Value = Written> {
    prop_oneof![
        8 => any::<u8>().prop_map(Written::Series),
        1 => any::<u8>().prop_map(Written::Reversed),
        1 => any::<u8>().prop_map(Written::Dropped),
        1 => any::<u8>().prop_map(Written::Comment),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let (at, len) = (0..300usize, 0..40usize);
    prop_oneof![
        4 => (at.clone(), prop::collection::vec(written(), 1..20)).prop_map(|(at, lines)| Edit::Insert(at, lines)),
        4 => (at.clone(), len.clone()).prop_map(|(at, len)| Edit::Remove(at, len)),
        3 => (at.clone(), len, at.clone()).prop_map(|(from, len, to)| Edit::Move(from, len, to)),
        4 => (at.clone(), written()).prop_map(|(at, line)| Edit::Replace(at, line)),
        1 => (at.clone(), at).prop_map(|(from, to)| Edit::Repeat(from, to)),
        1 => any::<u64>().prop_map(Edit::Shuffle),
    ]
}

fn apply(page: &mut Vec<Written>, edit: &Edit) {
    let place = |at: usize| at.min(page.len());
    match edit {
        Edit::Insert(at, lines) => _ = page.splice(place(*at)..place(*at), lines.iter().copied()),
        Edit::Remove(at, len) => _ = page.drain(place(*at)..place(at + len)),
        Edit::Move(from, len, to) => {
            let lines: Vec<_> = page.drain(place(*from)..place(from + len)).collect();
            let to = (*to).min(page.len());
            page.splice(to..to, lines);
        }
        Edit::Replace(at, line) => {
            if let Some(place) = page.get_mut(*at) {
                *place = *line;
            }
        }
        Edit::Repeat(from, to) => {
            if let Some(line) = page.get(*from).copied() {
                page.insert((*to).min(page.len()), line);
            }
        }
        Edit::Shuffle(seed) => {
            page.sort_by_cached_key(|line| xxhash_rust::xxh3::xxh3_64_with_seed(line.text().as_bytes(), *seed));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_pages_in_a_row_are_stored_as_if_each_were_read_anew(
        first in prop::collection::vec(written(), 0..250),
        pages in prop::collection::vec(prop::collection::vec(edit(), 0..4), 1..8),
    ) {
        let rules = ", metric_relabel_configs: [{source_labels: [__name__], regex: drop, action: drop}]";
        let mut bench = Bench::new(rules);
        let mut stored: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        let (mut page, mut old_texts, mut on_last) = (first, HashSet::new(), HashSet::new());
        let (mut value, mut duplicates_before) = (0, 0);
        for edits in pages {
            edits.iter().for_each(|edit| apply(&mut page, edit));
            let (mut text, mut seen, mut duplicates, mut added) = (String::new(), HashSet::new(), 0, 0);
            for line in &page {
                text += &line.text();
                if !matches!(line, Written::Comment(_)) {
                    value += 1;
                    text += &format!(" {value}");
                }
                text.push('\n');
                let Some(series) = line.series() else { continue };
                if seen.insert(series) {
                    stored.entry(series).or_default().push(value.to_string());
                    added += usize::from(!old_texts.contains(&line.text()));
                } else {
                    duplicates += 1;
                }
            }
            for gone in on_last.difference(&seen) {
                stored.entry(*gone).or_default().push("-".to_owned());
            }
            let (result, refusals) = bench.scrape_as(FormatKind::Text0_0_4, text);
            prop_assert_eq!((result, refusals.duplicate), (Ok(()), duplicates));
            // a line that is refused is found again by some ways only
            if duplicates == 0 && duplicates_before == 0 {
                let count = bench.stored("scrape_series_added").remove(0);
                let count: usize = count.rsplit_once(" ").unwrap().1.parse().unwrap();
                prop_assert_eq!(count, added);
            }
            (old_texts, on_last, duplicates_before) = (page.iter().map(|line| line.text()).collect(), seen, duplicates);
        }
        let mut expected: Vec<String> =
            stored.iter().map(|(series, values)| format!("{{a=\"{series}\", b=\"x\"}} {}", values.join(" "))).collect();
        expected.sort();
        let mut found = bench.stored("m");
        found.sort();
        // `stored` shows values in the order of their texts
        let sorted = |lines: Vec<String>| -> Vec<Vec<String>> {
            lines.iter().map(|line| { let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect(); words.sort(); words }).collect()
        };
        prop_assert_eq!(sorted(found), sorted(expected));
    }
}
