//! A page of metrics while it is gathered: families and samples in the order they come, cheap to append to, then sorted and
//! merged once for an encoder.

mod families;
mod page;
mod value;

pub use families::{Families, Family, GatherError, Sample};
pub use page::{FamilyId, Page};
pub use value::{ClassicBucket, Exemplar, HistogramValue, NativeHistogram, Quantile, SummaryValue, Value};
