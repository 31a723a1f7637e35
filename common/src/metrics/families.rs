use model::{MetricType, Timestamp};

use super::page::{NO_EXTRA, Page, RecordValue, SampleRecord};
use super::value::{Exemplar, Value};

/// Why a part of a page was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// Two writers announced one family with different types.
    #[error("family {family} was announced as {first} and as {second}: the samples of the second are left out")]
    Type {
        /// The family's name.
        family: String,
        /// The type that counts.
        first: MetricType,
        /// The type whose samples are left out.
        second: MetricType,
    },
    /// Two writers announced one family with different help texts.
    #[error("family {family} has the help {first:?} and {second:?}: the samples of the second are left out")]
    Help {
        /// The family's name.
        family: String,
        /// The help that counts.
        first: String,
        /// The help whose samples are left out.
        second: String,
    },
    /// A sample came twice with the same labels and time.
    #[error("sample {family}{{{labels}}} was collected twice: the second is left out")]
    Duplicate {
        /// The family's name.
        family: String,
        /// The labels as written.
        labels: String,
    },
}

/// A page's families in order of their names. Made by [`Page::families`].
#[derive(Debug)]
pub struct Families<'a> {
    page: &'a Page,
    /// Families with samples: the record that names them, and the end of their samples in `order`.
    groups: Vec<Group>,
    order: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    record: u32,
    start: u32,
    end: u32,
}

/// A family and its samples.
#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    /// The name its samples have in the text format.
    pub name: &'a str,
    /// The help text, not escaped.
    pub help: &'a str,
    /// The unit, empty if none is known.
    pub unit: &'a str,
    /// The type.
    pub metric_type: MetricType,
    page: &'a Page,
    samples: &'a [u32],
}

/// A sample of a family.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// `a="x",b="y"` in order of the names, values escaped as the text formats do, names quoted where they must be.
    pub labels: &'a str,
    /// The value.
    pub value: Value<'a>,
    /// The time it belongs to, if it is not the time of the scrape.
    pub timestamp: Option<Timestamp>,
    /// When counting began, for counters.
    pub created: Option<Timestamp>,
    /// The exemplar, for counters.
    pub exemplar: Option<&'a Exemplar>,
}

impl<'a> Families<'a> {
    pub(super) fn of(page: &'a Page) -> (Self, Vec<GatherError>) {
        let mut errors = Vec::new();
        // a family that was begun and got no sample says nothing
        let mut used = vec![false; page.families.len()];
        for sample in &page.samples {
            used[sample.family as usize] = true;
        }
        let mut by_name: Vec<u32> = (0..page.families.len() as u32).filter(|at| used[*at as usize]).collect();
        by_name.sort_by_key(|&at| page.str(page.families[at as usize].name));

        // Which group each record's samples go to.
        const LEFT_OUT: u32 = u32::MAX;
        let mut group_of = vec![LEFT_OUT; page.families.len()];
        let mut groups: Vec<Group> = Vec::new();
        for &at in &by_name {
            let record = &page.families[at as usize];
            let name = page.str(record.name);
            let same = groups.last().map(|g| &page.families[g.record as usize]).filter(|f| page.str(f.name) == name);
            match same {
                None => groups.push(Group { record: at, start: 0, end: 0 }),
                Some(first) if first.metric_type != record.metric_type => {
                    let (family, first, second) = (name.to_owned(), first.metric_type, record.metric_type);
                    errors.push(GatherError::Type { family, first, second });
                    continue;
                }
                Some(first) if page.str(first.help) != page.str(record.help) => {
                    let (first, second) = (page.str(first.help).to_owned(), page.str(record.help).to_owned());
                    errors.push(GatherError::Help { family: name.to_owned(), first, second });
                    continue;
                }
                Some(_) => {}
            }
            group_of[at as usize] = groups.len() as u32 - 1;
        }

        // A counting sort of the samples by group.
        for sample in &page.samples {
            if let Some(group) = groups.get_mut(group_of[sample.family as usize] as usize) {
                group.end += 1;
            }
        }
        let mut total = 0;
        for group in &mut groups {
            group.start = total;
            total += std::mem::replace(&mut group.end, total);
        }
        let mut order = vec![0u32; total as usize];
        for (at, sample) in page.samples.iter().enumerate() {
            if let Some(group) = groups.get_mut(group_of[sample.family as usize] as usize) {
                order[group.end as usize] = at as u32;
                group.end += 1;
            }
        }

        let mut kept = 0usize;
        for group in &mut groups {
            let (start, end) = (group.start as usize, group.end as usize);
            group.start = kept as u32;
            let key = |at: u32| sort_key(page, &page.samples[at as usize]);
            if !order[start..end].is_sorted_by(|&a, &b| key(a) < key(b)) {
                order[start..end].sort_by_key(|&at| key(at));
            }
            for at in start..end {
                let sample = order[at];
                if at > start && kept > group.start as usize && key(order[kept - 1]) == key(sample) {
                    errors.push(GatherError::Duplicate {
                        family: page.str(page.families[group.record as usize].name).to_owned(),
                        labels: page.str(page.samples[sample as usize].labels).to_owned(),
                    });
                    continue;
                }
                order[kept] = sample;
                kept += 1;
            }
            group.end = kept as u32;
        }
        order.truncate(kept);
        groups.retain(|g| g.start < g.end);
        (Self { page, groups, order }, errors)
    }

    /// The families in order of their names; none is empty.
    pub fn iter(&self) -> impl Iterator<Item = Family<'_>> {
        self.groups.iter().map(|group| {
            let record = &self.page.families[group.record as usize];
            Family {
                name: self.page.str(record.name),
                help: self.page.str(record.help),
                unit: self.page.str(record.unit),
                metric_type: record.metric_type,
                page: self.page,
                samples: &self.order[group.start as usize..group.end as usize],
            }
        })
    }

    /// Number of families.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no family.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

fn sort_key<'a>(page: &'a Page, sample: &SampleRecord) -> (&'a str, Option<Timestamp>) {
    let timestamp = if sample.extra == NO_EXTRA { None } else { page.extras[sample.extra as usize].timestamp };
    (page.str(sample.labels), timestamp)
}

impl<'a> Family<'a> {
    /// The samples in order of their labels.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'a>> {
        let page = self.page;
        self.samples.iter().map(move |&at| {
            let record = &page.samples[at as usize];
            let extra = if record.extra == NO_EXTRA { None } else { Some(&page.extras[record.extra as usize]) };
            Sample {
                labels: page.str(record.labels),
                value: match record.value {
                    RecordValue::Float(value) => Value::Float(value),
                    RecordValue::Histogram(at) => Value::Histogram(&page.histograms[at as usize]),
                    RecordValue::Summary(at) => Value::Summary(&page.summaries[at as usize]),
                },
                timestamp: extra.and_then(|e| e.timestamp),
                created: extra.and_then(|e| e.created),
                exemplar: extra.and_then(|e| e.exemplar.as_ref()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: &Page) -> (Vec<String>, Vec<GatherError>) {
        let (families, errors) = page.families();
        let mut lines = Vec::new();
        for family in families.iter() {
            for sample in family.samples() {
                lines.push(format!("{} {} {} {:?}", family.name, family.metric_type, sample.labels, sample.value));
            }
        }
        (lines, errors)
    }

    #[test]
    fn families_are_sorted_and_merged_and_empty_ones_left_out() {
        let mut page = Page::new();
        let b = page.family("b", "B.", MetricType::Gauge);
        page.family("c", "C.", MetricType::Gauge);
        page.sample(b, &[("z", "1"), ("a", "2")], 1.0);
        page.counter("a_total", "A.", &[], 2.0);
        page.gauge("b", "B.", &[("a", "1")], 3.0);
        page.family("b", "Another help, but no sample.", MetricType::Counter);
        assert_eq!(
            shown(&page),
            (
                vec![
                    "a_total counter  Float(2.0)".to_owned(),
                    "b gauge a=\"1\" Float(3.0)".to_owned(),
                    "b gauge a=\"2\",z=\"1\" Float(1.0)".to_owned(),
                ],
                vec![]
            )
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_named() {
        let mut page = Page::new();
        page.gauge("m", "help", &[("a", "1")], 1.0);
        page.counter("m", "help", &[("a", "2")], 2.0);
        page.gauge("m", "other", &[("a", "3")], 3.0);
        page.gauge("m", "help", &[("a", "1")], 4.0);
        let (lines, errors) = shown(&page);
        assert_eq!(lines, ["m gauge a=\"1\" Float(1.0)"]);
        let family = || "m".to_owned();
        assert_eq!(
            errors,
            [
                GatherError::Type { family: family(), first: MetricType::Gauge, second: MetricType::Counter },
                GatherError::Help { family: family(), first: "help".into(), second: "other".into() },
                GatherError::Duplicate { family: family(), labels: "a=\"1\"".into() },
            ]
        );
    }

    #[test]
    fn the_same_labels_at_two_times_are_two_samples() {
        let mut page = Page::new();
        let m = page.family("m", "", MetricType::Gauge);
        page.sample_at(m, &[], 2.0, 2000);
        page.sample_at(m, &[], 1.0, 1000);
        let (lines, errors) = shown(&page);
        assert_eq!((lines.len(), errors.len()), (2, 0));
        assert!(lines[0].ends_with("Float(1.0)"), "{lines:?}");
    }

    #[test]
    fn an_appended_page_keeps_its_samples() {
        let mut one = Page::new();
        one.gauge("a", "A.", &[("x", "1")], 1.0);
        let mut two = Page::new();
        let family = two.family("b", "B.", MetricType::Summary);
        two.summary_at(family, &[("y", "2")], super::super::SummaryValue::default(), Some(5));
        one.append(&two);
        let (families, errors) = one.families();
        assert!(errors.is_empty());
        let names: Vec<_> = families.iter().map(|f| (f.name, f.help, f.samples().next().unwrap().timestamp)).collect();
        assert_eq!(names, [("a", "A.", None), ("b", "B.", Some(5))]);
    }
}
