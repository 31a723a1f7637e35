//! From matchers to series numbers, by the rules of Prometheus' `PostingsForMatchers`: a label that is absent has the
//! empty value.

use model::{LabelRegex, METRIC_NAME, MatchOp, Matcher};

use crate::texts::Texts;
use crate::watch::Pace;

/// What it counts for to look at a value, or to match it with a regular expression.
pub(crate) const VALUE_WORK: usize = 8;

/// An index from labels to ascending series numbers: the head's or a block's.
pub(crate) trait LabelIndex {
    type Error;

    /// Every series.
    fn all(&self) -> Result<Vec<u32>, Self::Error>;
    /// Series with exactly this (non-empty) value.
    fn with_value(&self, name: &str, value: &str) -> Result<Vec<u32>, Self::Error>;
    /// Among matchers that ask for a value those with a smaller number find fewer series, as far as that is known without a look at these.
    fn rank(&self, _matcher: &Matcher) -> usize {
        0
    }
    /// Keeps those of some series (ascending) that have exactly this (non-empty) value, if that is sooner done by looking at each than by
    /// [`LabelIndex::with_value`]; otherwise gives false and changes nothing.
    fn narrow(&self, _ids: &mut Vec<u32>, _name: &str, _value: &str) -> Result<bool, Self::Error> {
        Ok(false)
    }
    /// One list for each value that starts with `prefix` and that `keep` accepts.
    fn with_values(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Vec<u32>>, Self::Error>;
    /// Keeps those of some series that satisfy a matcher, if that is sooner done by looking at each than by
    /// [`LabelIndex::with_values`]; otherwise gives false and changes nothing.
    fn filter(&self, _ids: &mut Vec<u32>, _matcher: &Matcher, _pace: &Pace<'_>) -> Result<bool, Self::Error> {
        Ok(false)
    }
    /// All label names, in any order.
    fn names(&self) -> Result<Texts, Self::Error>;
    /// The names of labels that one of the series (ascending) has, in any order; anything if `pace` has said stop.
    fn names_among(&self, series: &[u32], pace: &Pace<'_>) -> Result<Texts, Self::Error>;
    /// The values of a label that these matchers accept, in any order; anything if `pace` has said stop.
    fn values(&self, name: &str, matchers: &[&Matcher], pace: &Pace<'_>) -> Result<Texts, Self::Error>;
    /// The values of a label that one of the series (ascending) has and `keep` accepts, in any order; anything if `pace` has said
    /// stop.
    fn values_among(
        &self,
        name: &str,
        series: &[u32],
        keep: &mut dyn FnMut(&str) -> bool,
        pace: &Pace<'_>,
    ) -> Result<Texts, Self::Error>;
}

/// The values of a label that series have which satisfy all matchers, in any order; anything if `pace` has said stop.
pub(crate) fn values<I: LabelIndex>(
    index: &I,
    name: &str,
    matchers: &[Matcher],
    pace: &Pace<'_>,
) -> Result<Texts, I::Error> {
    // what is asked of the label itself is asked of its values
    let (own, others): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| &*m.name == name);
    if others.is_empty() {
        return index.values(name, &own, pace);
    }
    let mut keep = |value: &str| own.iter().all(|m| m.matches(value));
    let others: Vec<Matcher> = others.into_iter().cloned().collect();
    let series = select(index, &others, pace)?;
    if series.is_empty() { Ok(Texts::default()) } else { index.values_among(name, &series, &mut keep, pace) }
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
    let is_value = |m: &&Matcher| {
        let literal = m.op() == MatchOp::Equal || (m.op() == MatchOp::Regex && m.regex().is_some_and(is_alternation));
        literal && !m.matches_empty()
    };
    let (mut of_values, others): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(is_value);
    // a metric that is not there is found out before the long lists of other labels are read
    of_values.sort_by_key(|m| (index.rank(m), *m.name != *METRIC_NAME));
    let mut found: Option<Vec<u32>> = None;
    for matcher in of_values {
        let Some(ids) = &mut found else {
            let list = matched(index, matcher, pace)?;
            if list.is_empty() || !pace.done(list.len() / 4) {
                return Ok(Vec::new());
            }
            found = Some(list);
            continue;
        };
        if matcher.op() != MatchOp::Equal || !index.narrow(ids, &matcher.name, &matcher.value)? {
            let mut list = matched(index, matcher, pace)?;
            if !pace.done(list.len() / 4) {
                return Ok(Vec::new());
            }
            if list.len() < ids.len() {
                std::mem::swap(ids, &mut list);
            }
            intersect(ids, &list);
        }
        if ids.is_empty() || !pace.done(ids.len()) {
            return Ok(Vec::new());
        }
    }
    // what is asked for by value leaves few of which the rest is asked
    let mut exclude: Vec<Vec<u32>> = Vec::new();
    for matcher in others {
        if let Some(ids) = &mut found {
            if ids.is_empty() || !pace.done(ids.len() / 4) {
                return Ok(Vec::new());
            }
            if index.filter(ids, matcher, pace)? {
                continue;
            }
        }
        if matcher.matches_empty() {
            if let Some(lists) = unmatched(index, matcher, pace)? {
                exclude.push(union(lists));
            }
            continue;
        }
        let list = matched(index, matcher, pace)?;
        match &mut found {
            Some(ids) if ids.len() <= list.len() => intersect(ids, &list),
            Some(ids) => {
                let other = std::mem::replace(ids, list);
                intersect(ids, &other);
            }
            None => found = Some(list),
        }
    }
    let mut result = match found {
        Some(ids) => ids,
        None => index.all()?,
    };
    for list in exclude {
        subtract(&mut result, &list);
    }
    Ok(result)
}

fn is_alternation(regex: &LabelRegex) -> bool {
    regex.literals().is_some()
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
            let count = lists.iter().map(Vec::len).sum::<usize>();
            let first = lists.iter().filter_map(|list| list.first()).min().copied().unwrap_or(0);
            let last = lists.iter().filter_map(|list| list.last()).max().copied().unwrap_or(0);
            if (last - first) as usize / 64 < count {
                return union_of_bits(&lists, first, last);
            }
            let mut all: Vec<u32> = lists.concat();
            // merges the runs that are sorted already
            all.sort();
            all.dedup();
            all
        }
    }
}

/// The same through a bit for each number from `first` to `last`.
fn union_of_bits(lists: &[Vec<u32>], first: u32, last: u32) -> Vec<u32> {
    let base = first & !63;
    let mut words = vec![0u64; (last - base) as usize / 64 + 1];
    for id in lists.iter().flatten() {
        words[(id - base) as usize / 64] |= 1 << (id % 64);
    }
    let mut all = Vec::with_capacity(words.iter().map(|word| word.count_ones() as usize).sum());
    for (at, mut word) in words.into_iter().enumerate() {
        while word != 0 {
            all.push(base + (at * 64) as u32 + word.trailing_zeros());
            word &= word - 1;
        }
    }
    all
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
    use std::cell::RefCell;
    use std::convert::Infallible;

    use super::*;
    use crate::head::SeriesIndex;
    use model::Labels;

    fn index() -> SeriesIndex {
        let mut index = SeriesIndex::new();
        for (a, b) in [("1", ""), ("2", "x"), ("10", "y"), ("", "x"), ("1", "x")] {
            index.get_or_create(&Labels::from_pairs([("n", "m"), ("a", a), ("b", b)]), None).unwrap();
        }
        index.post_new();
        index
    }

    #[test]
    fn values_of_some_series() {
        let index = index();
        let values = |ids: &[u32]| {
            let Ok(mut values) = index.values_among("a", ids, &mut |_| true, &Pace::unwatched());
            values.sort();
            values
        };
        assert_eq!(values(&[1, 3, 5]), ["1", "10"]);
        assert_eq!(values(&[4]), [""; 0]);
        assert_eq!(values(&[]), [""; 0]);
        assert_eq!(values(&[2, 70_000]), ["2"]);
        let Ok(none) = index.values_among("nope", &[1], &mut |_| true, &Pace::unwatched());
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

    /// Writes down which labels are asked for by value.
    struct Recorded(SeriesIndex, RefCell<Vec<String>>);

    impl LabelIndex for Recorded {
        type Error = Infallible;

        fn all(&self) -> Result<Vec<u32>, Infallible> {
            self.0.all()
        }

        fn with_value(&self, name: &str, value: &str) -> Result<Vec<u32>, Infallible> {
            self.1.borrow_mut().push(name.to_owned());
            self.0.with_value(name, value)
        }

        fn with_values(
            &self,
            name: &str,
            prefix: &str,
            keep: &mut dyn FnMut(&str) -> bool,
        ) -> Result<Vec<Vec<u32>>, Infallible> {
            self.0.with_values(name, prefix, keep)
        }

        fn names(&self) -> Result<Texts, Infallible> {
            self.0.names()
        }

        fn names_among(&self, series: &[u32], pace: &Pace<'_>) -> Result<Texts, Infallible> {
            self.0.names_among(series, pace)
        }

        fn values(&self, name: &str, matchers: &[&Matcher], pace: &Pace<'_>) -> Result<Texts, Infallible> {
            self.0.values(name, matchers, pace)
        }

        fn values_among(
            &self,
            name: &str,
            series: &[u32],
            keep: &mut dyn FnMut(&str) -> bool,
            pace: &Pace<'_>,
        ) -> Result<Texts, Infallible> {
            self.0.values_among(name, series, keep, pace)
        }
    }

    #[test]
    fn nothing_is_asked_of_a_metric_that_is_not_there() {
        let index = Recorded(index(), RefCell::default());
        let matchers = [Matcher::equal("n", "m"), Matcher::equal("b", "x"), Matcher::equal(METRIC_NAME, "missing")];
        let Ok(found) = select(&index, &matchers, &Pace::unwatched());
        assert_eq!((found, index.1.into_inner()), (Vec::new(), vec![METRIC_NAME.to_owned()]));
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

    /// Whatever way is the shortest, what is found is what each series by itself answers.
    #[test]
    fn many_series_are_found_by_any_matchers() {
        let mut index = SeriesIndex::new();
        for n in 0..3000u32 {
            let pod = format!("pod-{:03}", n * 7 % 500);
            let zone = if n % 4 == 0 { String::new() } else { format!("z{}", n % 3) };
            let labels = [("__name__", format!("m{}", n % 10)), ("pod", pod), ("zone", zone), ("n", n.to_string())];
            index.get_or_create(&Labels::from_pairs::<_, String>(labels), None).unwrap();
        }
        index.post_new();
        index.remove(&(100..200).collect::<Vec<_>>());
        let texts = |name: &str| match name {
            "__name__" => ["m1", "m3", "m[0-4]", "m1|m2"],
            "pod" => ["pod-01.*", ".*7", "pod-003|pod-010|", ".+"],
            "zone" => ["", "z1", "z.*", "z0|z2"],
            _ => ["17", "1.*", ".*1.*", ".*"],
        };
        let mut all = Vec::new();
        for name in ["__name__", "pod", "zone", "n", "missing"] {
            for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
                all.extend(texts(name).map(|text| Matcher::new(op, name, text).unwrap()));
            }
        }
        let labels: Vec<(u32, Labels)> = index.ids().map(|id| (id, index.labels(id))).collect();
        for (at, first) in all.iter().enumerate() {
            for second in &all[at..] {
                let matchers = [first.clone(), second.clone()];
                let Ok(found) = select(&index, &matchers, &Pace::unwatched());
                let matches = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.value(&m.name)));
                let slow: Vec<&(u32, Labels)> = labels.iter().filter(|(_, labels)| matches(labels)).collect();
                assert_eq!(found, slow.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "{matchers:?}");
                for name in ["pod", "zone", "missing"] {
                    let Ok(mut values) = super::values(&index, name, &matchers, &Pace::unwatched());
                    values.sort();
                    let mut slow: Vec<&str> =
                        slow.iter().map(|(_, l)| l.value(name)).filter(|v| !v.is_empty()).collect();
                    slow.sort_unstable();
                    slow.dedup();
                    assert!(values.iter().eq(slow), "{name} of {matchers:?}");
                }
                let Ok(mut names) = index.names_among(&found, &Pace::unwatched());
                names.sort();
                let mut slow: Vec<&str> = slow.iter().flat_map(|(_, l)| l.iter()).map(|(name, _)| name).collect();
                slow.sort_unstable();
                slow.dedup();
                assert!(names.iter().eq(slow), "{matchers:?}");
            }
        }
    }
}
