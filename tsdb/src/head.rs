//! The samples of the last hours, in memory and in files of the process' own, backed by the write-ahead log.

mod bits;
mod changes;
mod chunk;
mod group;
mod groups;
mod histograms;
mod known_labels;
mod labels;
mod order;
mod out_of_order;
mod pins;
mod posting_list;
mod series;
mod series_index;
mod snapshot;
mod spill;
mod symbols;
mod tail;

pub(crate) use changes::{put_values, take_change, take_values};
pub(crate) use chunk::{pass_starts, put_starts, take_starts};
pub(crate) use group::Group;
pub(crate) use groups::{Bounds, Groups, Limits, RowOutcome, RowPlace, Scattered};
pub(crate) use histograms::{Entry, HistogramSeries};
pub(crate) use known_labels::KnownLabels;
pub(crate) use labels::{HeadLabels, LabelSets};
pub(crate) use order::SeriesOrder;
pub(crate) use out_of_order::OutOfOrderSeries;
pub(crate) use posting_list::PostingList;
pub(crate) use series::{HeadSeries, OrderedSeries};
pub(crate) use series_index::SeriesIndex;
pub(crate) use snapshot::HeadSnapshot;
pub(crate) use spill::{ImageFiles, SpillArea};
