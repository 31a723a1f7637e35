use model::Timestamp;

/// A name and a number, for top lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCount {
    /// What is counted.
    pub name: String,
    /// How much.
    pub value: u64,
}

/// What `/api/v1/status/tsdb` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Series in the head.
    pub num_series: u64,
    /// Distinct label pairs in the head.
    pub num_label_pairs: u64,
    /// Chunks in the head.
    pub chunk_count: u64,
    /// Earliest sample of the head; `Timestamp::MAX` without any.
    pub min_time: Timestamp,
    /// Latest sample of the head; `Timestamp::MIN` without any.
    pub max_time: Timestamp,
    /// Metric names with most series.
    pub series_count_by_metric_name: Vec<NamedCount>,
    /// Label names with most values.
    pub label_value_count_by_label_name: Vec<NamedCount>,
    /// Label names whose values take most bytes.
    pub memory_in_bytes_by_label_name: Vec<NamedCount>,
    /// Label pairs with most series, as `name=value`.
    pub series_count_by_label_value_pair: Vec<NamedCount>,
}

/// The `limit` largest, ties by name.
pub(crate) fn top(counts: impl IntoIterator<Item = (String, u64)>, limit: usize) -> Vec<NamedCount> {
    let mut all: Vec<NamedCount> = counts.into_iter().map(|(name, value)| NamedCount { name, value }).collect();
    all.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    all.truncate(limit);
    all
}
