//! From matchers to series numbers, by the rules of Prometheus' `PostingsForMatchers`: a label that is absent has the
//! empty value.

use model::{MatchOp, Matcher};

use crate::watch::Pace;

/// What it counts for to match a value with a regular expression.
const VALUE_WORK: usize = 8;

/// An index from labels to ascending series numbers: the head's or a block's.
pub(crate) trait LabelIndex {
    type Error;

    /// Every series.
    fn all(&self) -> Result<Vec<u32>, Self::Error>;
    /// Series with exactly this (non-empty) value.
    fn with_value(&self, name: &str, value: &str) -> Result<Vec<u32>, Self::Error>;
    /// One list for each value that starts with `prefix` and that `keep` accepts.
    fn with_values(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Vec<u32>>, Self::Error>;
    /// All label names, in any order.
    fn names(&self) -> Result<Vec<String>, Self::Error>;
    /// All values of a label, in any order.
    fn values(&self, name: &str) -> Result<Vec<String>, Self::Error>;
    /// The values of a label that one of the series in the set has, in any order.
    fn values_among(&self, name: &str, series: &SeriesSet) -> Result<Vec<String>, Self::Error>;
}

/// A set of series numbers, asked whether it has one without a search.
#[derive(Debug)]
pub(crate) struct SeriesSet {
    words: Vec<u64>,
}

impl SeriesSet {
    /// The set of some ascending numbers.
    pub(crate) fn new(ids: &[u32]) -> Self {
        let mut words = vec![0; ids.last().map_or(0, |last| *last as usize / 64 + 1)];
        ids.iter().for_each(|id| words[*id as usize / 64] |= 1 << (id % 64));
        Self { words }
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.words.get(id as usize / 64).is_some_and(|word| word & 1 << (id % 64) != 0)
    }
}

/// Series that satisfy all matchers, ascending; anything if `pace` has said stop.
pub(crate) fn select<I: LabelIndex>(index: &I, matchers: &[Matcher], pace: &Pace<'_>) -> Result<Vec<u32>, I::Error> {
    let mut include: Vec<Vec<u32>> = Vec::new();
    let mut exclude: Vec<Vec<u32>> = Vec::new();
    for matcher in matchers {
        if matcher.matches_empty() {
            if let Some(lists) = unmatched(index, matcher, pace)? {
                exclude.push(union(lists));
            }
        } else {
            let list = matched(index, matcher, pace)?;
            if list.is_empty() || !pace.done(list.len() / 4) {
                return Ok(Vec::new());
            }
            include.push(list);
        }
    }
    include.sort_unstable_by_key(Vec::len);
    let mut lists = include.into_iter();
    let mut result = match lists.next() {
        Some(list) => list,
        None => index.all()?,
    };
    for list in lists {
        intersect(&mut result, &list);
    }
    for list in exclude {
        subtract(&mut result, &list);
    }
    Ok(result)
}

/// Series whose label satisfies a matcher that the empty value does not satisfy.
fn matched<I: LabelIndex>(index: &I, matcher: &Matcher, pace: &Pace<'_>) -> Result<Vec<u32>, I::Error> {
    match matcher.op() {
        MatchOp::Equal => index.with_value(&matcher.name, &matcher.value),
        MatchOp::Regex => {
            if let Some(literals) = matcher.regex().and_then(|re| re.literals()) {
                let lists = literals.iter().map(|value| index.with_value(&matcher.name, value));
                return Ok(union(lists.collect::<Result<_, _>>()?));
            }
            let prefix = matcher.regex().map_or("", |re| re.prefix());
            Ok(union(
                index
                    .with_values(&matcher.name, prefix, &mut |value| pace.done(VALUE_WORK) && matcher.matches(value))?,
            ))
        }
        MatchOp::NotEqual | MatchOp::NotRegex => Ok(union(
            index.with_values(&matcher.name, "", &mut |value| pace.done(VALUE_WORK) && matcher.matches(value))?,
        )),
    }
}

/// Lists of series whose label fails a matcher that the empty value satisfies; `None` if none can.
fn unmatched<I: LabelIndex>(index: &I, matcher: &Matcher, pace: &Pace<'_>) -> Result<Option<Vec<Vec<u32>>>, I::Error> {
    match (matcher.op(), matcher.regex()) {
        (MatchOp::Regex, Some(re)) if re.as_str() == ".*" => Ok(None),
        (MatchOp::NotEqual, _) => Ok(Some(vec![index.with_value(&matcher.name, &matcher.value)?])),
        (MatchOp::NotRegex, Some(re)) => {
            if let Some(literals) = re.literals() {
                let lists = literals.iter().map(|value| index.with_value(&matcher.name, value));
                return Ok(Some(lists.collect::<Result<_, _>>()?));
            }
            Ok(Some(index.with_values(&matcher.name, re.prefix(), &mut |value| {
                pace.done(VALUE_WORK) && !matcher.matches(value)
            })?))
        }
        _ => Ok(Some(
            index.with_values(&matcher.name, "", &mut |value| pace.done(VALUE_WORK) && !matcher.matches(value))?,
        )),
    }
}

/// All numbers of ascending lists, ascending, each once.
pub(crate) fn union(mut lists: Vec<Vec<u32>>) -> Vec<u32> {
    match lists.len() {
        0 => Vec::new(),
        1 => lists.remove(0),
        _ => {
            let mut all: Vec<u32> = lists.concat();
            // merges the runs that are sorted already
            all.sort();
            all.dedup();
            all
        }
    }
}

/// Keeps what is in both ascending lists.
pub(crate) fn intersect(list: &mut Vec<u32>, other: &[u32]) {
    let mut rest = other;
    list.retain(|id| {
        rest = &rest[gallop(rest, *id)..];
        rest.first() == Some(id)
    });
}

/// Removes what is in the other ascending list.
pub(crate) fn subtract(list: &mut Vec<u32>, other: &[u32]) {
    let mut rest = other;
    list.retain(|id| {
        rest = &rest[gallop(rest, *id)..];
        rest.first() != Some(id)
    });
}

/// The first place whose number is not below `id`; fast if that is near.
fn gallop(list: &[u32], id: u32) -> usize {
    let mut step = 1;
    while step < list.len() && list[step - 1] < id {
        step *= 2;
    }
    let from = step / 2;
    from + list[from..step.min(list.len())].partition_point(|x| *x < id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::SeriesIndex;
    use model::Labels;

    fn index() -> SeriesIndex {
        let mut index = SeriesIndex::new();
        for (a, b) in [("1", ""), ("2", "x"), ("10", "y"), ("", "x"), ("1", "x")] {
            index.get_or_create(&Labels::from_pairs([("n", "m"), ("a", a), ("b", b)])).unwrap();
        }
        index
    }

    #[test]
    fn values_of_some_series() {
        let index = index();
        let values = |ids: &[u32]| {
            let Ok(mut values) = index.values_among("a", &SeriesSet::new(ids));
            values.sort();
            values
        };
        assert_eq!(values(&[1, 3, 5]), ["1", "10"]);
        assert_eq!(values(&[4]), [""; 0]);
        assert_eq!(values(&[]), [""; 0]);
        assert_eq!(values(&[2, 70_000]), ["2"]);
        let Ok(none) = index.values_among("nope", &SeriesSet::new(&[1]));
        assert!(none.is_empty());
    }

    fn check(matchers: &[Matcher], expected: &[u32]) {
        let index = index();
        let Ok(found) = select(&index, matchers, &Pace::unwatched());
        assert_eq!(found, expected, "{matchers:?}");
        // what the index answers is what each series by itself answers
        let slow: Vec<u32> =
            index.ids().filter(|id| matchers.iter().all(|m| m.matches(index.labels(*id).value(&m.name)))).collect();
        assert_eq!(found, slow);
    }

    #[test]
    fn absent_labels_are_empty() {
        let m = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
        use MatchOp::{Equal, NotEqual, NotRegex, Regex};
        check(&[], &[1, 2, 3, 4, 5]);
        check(&[m(Equal, "a", "1")], &[1, 5]);
        check(&[m(Equal, "a", "")], &[4]);
        check(&[m(NotEqual, "a", "")], &[1, 2, 3, 5]);
        check(&[m(NotEqual, "a", "1")], &[2, 3, 4]);
        check(&[m(Regex, "a", "1.*")], &[1, 3, 5]);
        check(&[m(Regex, "a", "1|2")], &[1, 2, 5]);
        check(&[m(Regex, "a", "|2")], &[2, 4]);
        check(&[m(Regex, "a", ".*")], &[1, 2, 3, 4, 5]);
        check(&[m(Regex, "a", ".+")], &[1, 2, 3, 5]);
        check(&[m(NotRegex, "a", ".+")], &[4]);
        check(&[m(NotRegex, "a", ".*")], &[]);
        check(&[m(NotRegex, "a", "1.*")], &[2, 4]);
        check(&[m(NotRegex, "a", "1|")], &[2, 3]);
        check(&[m(Equal, "nope", ""), m(Equal, "b", "x")], &[2, 4, 5]);
        check(&[m(Equal, "a", "1"), m(NotEqual, "b", "x")], &[1]);
        check(&[m(Equal, "n", "other")], &[]);
    }
}
