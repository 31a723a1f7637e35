use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use model::{FloatHistogram, Labels, Timestamp};

use super::hints::stored_hints;
use crate::storage::{Column, KeptLabels, Samples, SelectRequest, Selection, Storage, StorageError, Wanted};

/// Series in memory, for tests. Series with equal timestamps share one timestamp column.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    series: BTreeMap<Labels, BTreeMap<Timestamp, Stored>>,
    /// The same as columns, made when first read.
    columns: OnceLock<Vec<(Labels, Samples)>>,
}

#[derive(Clone, Debug)]
struct Stored {
    value: StoredValue,
    start: Timestamp,
}

#[derive(Clone, Debug)]
enum StoredValue {
    Float(f64),
    Histogram(FloatHistogram),
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a float sample, in place of one that the series already has at that time. `start` is the start timestamp, 0 if
    /// there is none.
    pub fn add_float(&mut self, labels: &Labels, timestamp: Timestamp, value: f64, start: Timestamp) {
        self.add(labels, timestamp, Stored { value: StoredValue::Float(value), start });
    }

    /// Adds a histogram sample; see [`MemoryStorage::add_float`]. Its counter reset hint becomes what a storage would tell.
    pub fn add_histogram(&mut self, labels: &Labels, timestamp: Timestamp, value: FloatHistogram, start: Timestamp) {
        self.add(labels, timestamp, Stored { value: StoredValue::Histogram(value), start });
    }

    fn add(&mut self, labels: &Labels, timestamp: Timestamp, sample: Stored) {
        self.columns = OnceLock::new();
        self.series.entry(labels.clone()).or_default().insert(timestamp, sample);
    }

    /// Throws everything away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn columns(&self) -> &[(Labels, Samples)] {
        self.columns.get_or_init(|| {
            let mut shared: HashMap<Vec<Timestamp>, Arc<[Timestamp]>> = HashMap::new();
            let mut share = |times: Vec<Timestamp>| -> Arc<[Timestamp]> {
                shared.entry(times).or_insert_with_key(|times| times.as_slice().into()).clone()
            };
            self.series
                .iter()
                .map(|(labels, samples)| {
                    let mut floats = (Vec::new(), Vec::new(), Vec::new());
                    let mut histograms: (Vec<Timestamp>, Vec<Option<FloatHistogram>>, Vec<Timestamp>) =
                        (Vec::new(), Vec::new(), Vec::new());
                    // what a chunk of histograms would hold: a float in between ends it
                    let mut runs = Vec::new();
                    for (time, sample) in samples {
                        match &sample.value {
                            StoredValue::Float(value) => {
                                floats.0.push(*time);
                                floats.1.push(*value);
                                floats.2.push(sample.start);
                                runs.push(None);
                            }
                            StoredValue::Histogram(value) => {
                                histograms.0.push(*time);
                                histograms.2.push(sample.start);
                                runs.push(Some(value.clone()));
                            }
                        }
                    }
                    histograms.1 = stored_hints(runs).into_iter().filter(Option::is_some).collect();
                    let starts = |starts: Vec<Timestamp>| {
                        starts.iter().any(|s| *s != 0).then(|| -> Arc<[Timestamp]> { starts.into() })
                    };
                    let floats =
                        Column { timestamps: share(floats.0), values: floats.1, start_timestamps: starts(floats.2) };
                    let histograms = Column {
                        timestamps: share(histograms.0),
                        values: histograms.1.into_iter().flatten().map(Arc::new).collect(),
                        start_timestamps: starts(histograms.2),
                    };
                    (labels.clone(), Samples { floats, histograms })
                })
                .collect()
        })
    }
}

impl Storage for MemoryStorage {
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError> {
        let matches =
            |labels: &Labels| request.matchers.iter().all(|matcher| matcher.matches(labels.value(&matcher.name)));
        let found: Vec<&(Labels, Samples)> = self.columns().iter().filter(|(labels, _)| matches(labels)).collect();
        Ok(Box::new(MemorySelection {
            labels: found.iter().map(|(labels, _)| labels.clone()).collect(),
            samples: found.into_iter().map(|(_, samples)| samples).collect(),
            wanted: request.wanted,
        }))
    }

    fn may_have_label(&self, name: &str, _: Timestamp, _: Timestamp) -> bool {
        self.columns().iter().any(|(labels, _)| labels.get(name).is_some())
    }
}

struct MemorySelection<'a> {
    labels: Vec<Labels>,
    samples: Vec<&'a Samples>,
    wanted: Wanted,
}

impl Selection for MemorySelection<'_> {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn labels(&self, range: Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels> {
        self.labels[range].iter().map(|labels| kept.of(labels)).collect()
    }

    fn read(&self, range: Range<usize>, mint: Timestamp, maxt: Timestamp) -> Result<Vec<Samples>, StorageError> {
        let mut cuts = Cuts::default();
        let mut read: Vec<Samples> = self.samples[range]
            .iter()
            .map(|samples| Samples {
                floats: cuts.cut(&samples.floats, mint, maxt),
                histograms: cuts.cut(&samples.histograms, mint, maxt),
            })
            .collect();
        if self.wanted == Wanted::Presence {
            // numbers that nobody should look at
            let values = read.iter_mut().flat_map(|samples| &mut samples.floats.values);
            values.filter(|value| !model::is_stale(**value)).for_each(|value| *value = -1e99);
        }
        Ok(read)
    }
}

/// A column, a part of it, and where that lies.
type Cut = (Arc<[Timestamp]>, Arc<[Timestamp]>, Range<usize>);

/// Parts of timestamp columns, the same for all series that share a column.
#[derive(Default)]
struct Cuts {
    known: Vec<Cut>,
}

impl Cuts {
    fn cut<V: Clone>(&mut self, column: &Column<V>, mint: Timestamp, maxt: Timestamp) -> Column<V> {
        let known = self.known.iter().find(|(of, ..)| Arc::ptr_eq(of, &column.timestamps));
        let (timestamps, range) = match known {
            Some((_, part, range)) => (part.clone(), range.clone()),
            None => {
                let from = column.timestamps.partition_point(|t| *t < mint);
                let to = column.timestamps.partition_point(|t| *t <= maxt).max(from);
                let part: Arc<[Timestamp]> = column.timestamps[from..to].into();
                self.known.push((column.timestamps.clone(), part.clone(), from..to));
                (part, from..to)
            }
        };
        Column {
            timestamps,
            values: column.values[range.clone()].to_vec(),
            start_timestamps: column.start_timestamps.as_ref().map(|starts| starts[range].into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Matcher;

    #[test]
    fn equal_timestamps_are_shared() {
        let mut storage = MemoryStorage::new();
        for (job, offset) in [("a", 0), ("b", 0), ("c", 1)] {
            let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
            for i in 0..3 {
                storage.add_float(&labels, i * 10 + offset, i as f64, 0);
            }
        }
        let matchers = [Matcher::equal("__name__", "up")];
        let request = SelectRequest::new(&matchers, (5, 20), Wanted::Samples);
        let selection = storage.select(&request).unwrap();
        let samples = selection.read(0..3, 5, 20).unwrap();
        assert_eq!(samples[0].floats.values, [1.0, 2.0]);
        assert!(Arc::ptr_eq(&samples[0].floats.timestamps, &samples[1].floats.timestamps));
        assert!(!Arc::ptr_eq(&samples[0].floats.timestamps, &samples[2].floats.timestamps));
    }
}
