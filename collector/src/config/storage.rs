use model::{Duration, quote};
use serde::Deserialize;

use super::size::Size;

/// The `storage` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageConfig {
    /// How late a sample may come; zero refuses samples older than their series' last.
    pub out_of_order_time_window: Duration,
    /// Time that blocks are kept, if the file says so.
    pub retention_time: Option<Duration>,
    /// Bytes that the store may take, if the file says so.
    pub retention_size: Option<Size>,
    /// Share of the file system that the store may take, in percent; 0 for no limit.
    pub retention_percentage: f64,
    /// Exemplars kept, if the file says so.
    pub max_exemplars: Option<u64>,
    /// Settings of the file that this version does not have.
    pub unsupported: Vec<&'static str>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename = "config.plain")]
struct Written {
    tsdb: Tsdb,
    exemplars: Exemplars,
}

#[derive(Deserialize, Default)]
#[serde(default, rename = "config.plain")]
struct Tsdb {
    out_of_order_time_window: Duration,
    stale_series_compaction_threshold: f64,
    chunk_encoding: ChunkEncoding,
    retention: Retention,
}

#[derive(Deserialize, Default)]
#[serde(default, rename = "config.plain")]
struct ChunkEncoding {
    floats: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename = "config.plain")]
struct Retention {
    time: Option<Duration>,
    size: Option<String>,
    percentage: f64,
}

#[derive(Deserialize, Default)]
#[serde(default, rename = "config.plain")]
struct Exemplars {
    max_exemplars: Option<u64>,
}

impl StorageConfig {
    pub(super) fn read(node: &yaml::Node) -> Result<Self, yaml::Error> {
        let w: Written = node.read()?;
        let error = |message: String| Err(node.error(message));
        if let Some(floats) = &w.tsdb.chunk_encoding.floats
            && floats != "xor"
            && floats != "xor2"
        {
            return error(format!(
                "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got {}",
                quote(floats)
            ));
        }
        let retention = &w.tsdb.retention;
        if !(0.0..=100.0).contains(&retention.percentage) {
            return error("'storage.tsdb.retention.percentage' must be in the range [0, 100]".into());
        }
        let retention_size = match retention.size.as_deref() {
            None => None,
            Some(text) if text.starts_with('-') => {
                return error("'storage.tsdb.retention.size' must be greater than or equal to 0".into());
            }
            Some(text) => Some(text.parse::<Size>().map_err(|m| node.error(m))?),
        };
        let mut unsupported = Vec::new();
        if w.tsdb.stale_series_compaction_threshold > 0.0 {
            unsupported.push("storage.tsdb.stale_series_compaction_threshold");
        }
        Ok(Self {
            out_of_order_time_window: w.tsdb.out_of_order_time_window,
            retention_time: retention.time,
            retention_percentage: retention.percentage,
            retention_size: retention_size.filter(|s| s.0 > 0),
            max_exemplars: w.exemplars.max_exemplars,
            unsupported,
        })
    }
}
