//! What a record holds: sections, each a tag (u8) and its fields; numbers are varints if nothing else is said.
//!
//! ```text
//! 1 series      count, then for each: number, encoded labels (length, bytes)
//! 2 row         time (zigzag), series (see below), flags (u8: 1 start timestamps follow the values, 2 out of order), values
//!               (each as a change from 0, as in the head's rows), start timestamps (0 for none, else
//!               zigzag(time - start) + 1); only read, in logs of version 1
//! 3 histograms  series, flags (u8, as above), times (zigzag), start timestamps (as above), histogram column (length, bytes)
//! 4 metadata    count, then for each: series, type (u8), help, unit (length, bytes)
//! 5 exemplars   count, then for each: series, time (zigzag), value (f64), encoded labels (length, bytes)
//! 6 tombstones  as in the block's file
//! 7 flushed     time (zigzag): samples before it are in blocks, but for those that follow in this record as out of order
//! 8 end         nothing: the last record of a checkpoint
//! 9 samples     series, flags (u8, as above), times (count of them is that of the series; against the first, see `frame_of_reference`),
//!               values, start timestamps (both as in a row of version 2)
//! 10 row        as 2, but of the changes the first bytes of all of them stand before what follows of each
//! 64..          of a newer minor version: length, bytes
//! ```
//! Series of a row: their number, then runs of consecutive numbers until all are there: zigzag(first - end of the run
//! before), length.

use model::{Labels, Metadata, MetricType, Timestamp};

use crate::HistogramSample;
use crate::encoding::varint::{self, Reader};
use crate::encoding::{frame_of_reference, histogram};
use crate::error::Damaged;
use crate::head::{put_values, take_change, take_values};
use crate::sample::Exemplar;
use crate::tombstones::Tombstones;
use crate::version::LENGTH_FOLLOWS;

const SERIES: u8 = 1;
const FIRST_ROW: u8 = 2;
const HISTOGRAMS: u8 = 3;
const METADATA: u8 = 4;
const EXEMPLARS: u8 = 5;
const TOMBSTONES: u8 = 6;
const FLUSHED: u8 = 7;
const END: u8 = 8;
const SAMPLES: u8 = 9;
const ROW: u8 = 10;

const STARTS: u8 = 1;
const LATE: u8 = 2;

/// A part of a record, as read back.
#[derive(Debug)]
pub(crate) enum Section {
    Series(Vec<(u32, Labels)>),
    Row {
        time: Timestamp,
        series: Vec<u32>,
        values: Vec<f64>,
        starts: Option<Vec<Timestamp>>,
        late: bool,
    },
    /// As a row, but each with a time of its own.
    Samples {
        series: Vec<u32>,
        times: Vec<Timestamp>,
        values: Vec<f64>,
        starts: Option<Vec<Timestamp>>,
    },
    /// Series, time, start timestamp or 0, sample.
    Histograms {
        samples: Vec<(u32, Timestamp, Timestamp, HistogramSample)>,
        late: bool,
    },
    Metadata(Vec<(u32, Metadata)>),
    Exemplars(Vec<(u32, Exemplar)>),
    Tombstones(Tombstones),
    Flushed(Timestamp),
    End,
}

/// Puts a record together.
#[derive(Default)]
pub(crate) struct RecordBuilder {
    pub(crate) bytes: Vec<u8>,
    /// The latest sample in it.
    pub(crate) max_time: Option<Timestamp>,
}

impl RecordBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn cover(&mut self, time: Timestamp) {
        self.max_time = Some(self.max_time.map_or(time, |t| t.max(time)));
    }

    /// Puts the sections of another record before those there are.
    pub(crate) fn put_first(&mut self, other: &Self) {
        let (len, first) = (self.bytes.len(), other.bytes.len());
        self.bytes.resize(len + first, 0);
        self.bytes.copy_within(..len, first);
        self.bytes[..first].copy_from_slice(&other.bytes);
        self.max_time = self.max_time.max(other.max_time);
    }

    pub(crate) fn series<'a>(&mut self, series: impl ExactSizeIterator<Item = (u32, &'a Labels)>) {
        if series.len() == 0 {
            return;
        }
        self.bytes.push(SERIES);
        varint::put(&mut self.bytes, series.len() as u64);
        for (id, labels) in series {
            varint::put(&mut self.bytes, u64::from(id));
            varint::put_bytes(&mut self.bytes, labels.as_bytes());
        }
    }

    pub(crate) fn row(&mut self, time: Timestamp, series: &[u32], values: &[f64], starts: Option<&[Timestamp]>) {
        self.any_row(time, series, values, starts, false);
    }

    /// A row of samples that are out of order.
    pub(crate) fn late_row(&mut self, time: Timestamp, series: &[u32], values: &[f64]) {
        self.any_row(time, series, values, None, true);
    }

    fn any_row(&mut self, time: Timestamp, series: &[u32], values: &[f64], starts: Option<&[Timestamp]>, late: bool) {
        if series.is_empty() {
            return;
        }
        let out = &mut self.bytes;
        out.reserve(series.len() * 4 + 32);
        out.push(ROW);
        varint::put_signed(out, time);
        put_ids(out, series);
        out.push(if starts.is_some() { STARTS } else { 0 } | if late { LATE } else { 0 });
        put_values(out, values);
        starts.into_iter().flatten().for_each(|s| put_start(out, time, *s));
        self.cover(time);
    }

    /// Samples in any order, each with a time of its own.
    pub(crate) fn samples(
        &mut self,
        times: &[Timestamp],
        series: &[u32],
        values: &[f64],
        starts: Option<&[Timestamp]>,
    ) {
        let Some(first) = times.first() else { return };
        let out = &mut self.bytes;
        out.reserve(series.len() * 6 + 32);
        out.push(SAMPLES);
        put_ids(out, series);
        out.push(if starts.is_some() { STARTS } else { 0 });
        varint::put_signed(out, *first);
        let behind: Vec<i64> = times[1..].iter().map(|time| time.wrapping_sub(*first)).collect();
        frame_of_reference::encode(&behind, out);
        put_values(out, values);
        starts.into_iter().flatten().zip(times).for_each(|(start, time)| put_start(out, *time, *start));
        times.iter().for_each(|time| self.cover(*time));
    }

    pub(crate) fn histograms(&mut self, samples: &[(u32, Timestamp, Timestamp, HistogramSample)], late: bool) {
        if samples.is_empty() {
            return;
        }
        let out = &mut self.bytes;
        out.push(HISTOGRAMS);
        put_ids(out, &samples.iter().map(|s| s.0).collect::<Vec<_>>());
        out.push(if late { LATE } else { 0 });
        samples.iter().for_each(|s| varint::put_signed(out, s.1));
        samples.iter().for_each(|s| put_start(out, s.1, s.2));
        let mut column = Vec::new();
        histogram::encode(samples.iter().map(|s| &s.3), &mut column);
        varint::put_bytes(out, &column);
        samples.iter().for_each(|s| self.cover(s.1));
    }

    pub(crate) fn metadata<'a>(&mut self, entries: impl ExactSizeIterator<Item = (u32, &'a Metadata)>) {
        if entries.len() == 0 {
            return;
        }
        self.bytes.push(METADATA);
        varint::put(&mut self.bytes, entries.len() as u64);
        for (id, metadata) in entries {
            varint::put(&mut self.bytes, u64::from(id));
            self.bytes.push(type_number(metadata.metric_type));
            varint::put_bytes(&mut self.bytes, metadata.help.as_bytes());
            varint::put_bytes(&mut self.bytes, metadata.unit.as_bytes());
        }
    }

    pub(crate) fn exemplars(&mut self, exemplars: &[(u32, Exemplar)]) {
        if exemplars.is_empty() {
            return;
        }
        self.bytes.push(EXEMPLARS);
        varint::put(&mut self.bytes, exemplars.len() as u64);
        for (id, exemplar) in exemplars {
            varint::put(&mut self.bytes, u64::from(*id));
            varint::put_signed(&mut self.bytes, exemplar.timestamp);
            self.bytes.extend_from_slice(&exemplar.value.to_le_bytes());
            varint::put_bytes(&mut self.bytes, exemplar.labels.as_bytes());
        }
    }

    pub(crate) fn tombstones(&mut self, tombstones: &Tombstones) {
        if !tombstones.is_empty() {
            self.bytes.push(TOMBSTONES);
            tombstones.encode(&mut self.bytes);
        }
    }

    /// The record is the last of a checkpoint.
    pub(crate) fn end(&mut self) {
        self.bytes.push(END);
    }

    pub(crate) fn flushed(&mut self, time: Timestamp) {
        self.bytes.push(FLUSHED);
        varint::put_signed(&mut self.bytes, time);
    }
}

pub(crate) fn put_ids(out: &mut Vec<u8>, ids: &[u32]) {
    varint::put(out, ids.len() as u64);
    let mut end = 0i64;
    for run in ids.chunk_by(|a, b| a.wrapping_add(1) == *b) {
        varint::put_signed(out, i64::from(run[0]) - end);
        varint::put(out, run.len() as u64);
        end = i64::from(run[0]) + run.len() as i64;
    }
}

pub(crate) fn take_ids(reader: &mut Reader<'_>) -> Result<Vec<u32>, Damaged> {
    // each has a value of a byte at least
    take_ids_up_to(reader, reader.rest.len())
}

/// A series list of at most `limit` series.
pub(crate) fn take_ids_up_to(reader: &mut Reader<'_>, limit: usize) -> Result<Vec<u32>, Damaged> {
    let count = reader.count(limit)?;
    let mut ids = Vec::with_capacity(count.min(1 << 16));
    let mut end = 0i64;
    while ids.len() < count {
        let first = end.checked_add(reader.signed()?).ok_or(reader.damaged())?;
        let len = reader.count(count - ids.len())? as i64;
        end = first.checked_add(len).filter(|end| *end <= i64::from(u32::MAX)).ok_or(reader.damaged())?;
        if first < 0 || len == 0 {
            return Err(reader.damaged());
        }
        ids.extend(first as u32..end as u32);
    }
    Ok(ids)
}

fn put_start(out: &mut Vec<u8>, time: Timestamp, start: Timestamp) {
    varint::put(out, if start == 0 { 0 } else { varint::zigzag(time.wrapping_sub(start)).wrapping_add(1) });
}

fn take_start(reader: &mut Reader<'_>, time: Timestamp) -> Result<Timestamp, Damaged> {
    Ok(match reader.varint()? {
        0 => 0,
        z => time.wrapping_sub(varint::unzigzag(z - 1)),
    })
}

fn type_number(metric_type: MetricType) -> u8 {
    match metric_type {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}

fn type_of(number: u8) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

/// Reads a record whose checksum is right.
pub(crate) fn decode(payload: &[u8], each: &mut dyn FnMut(Section)) -> Result<(), Damaged> {
    let mut reader = Reader::new(payload, "log record");
    let labels = |reader: &mut Reader<'_>| {
        let bytes = reader.bytes()?;
        Labels::from_bytes(bytes).ok_or(reader.damaged())
    };
    while !reader.is_empty() {
        let tag = reader.byte()?;
        each(match tag {
            SERIES => {
                let count = reader.count(reader.rest.len())?;
                Section::Series(
                    (0..count).map(|_| Ok((reader.u32()?, labels(&mut reader)?))).collect::<Result<_, _>>()?,
                )
            }
            ROW | FIRST_ROW => {
                let time = reader.signed()?;
                let series = take_ids(&mut reader)?;
                let flags = reader.byte()?;
                let values = if tag == FIRST_ROW {
                    series.iter().map(|_| take_change(&mut reader, 0.0)).collect::<Result<_, _>>()?
                } else {
                    take_values(&mut reader, series.len())?
                };
                let starts = || (0..series.len()).map(|_| take_start(&mut reader, time)).collect::<Result<_, _>>();
                let starts = (flags & STARTS != 0).then(starts).transpose()?;
                Section::Row { time, series, values, starts, late: flags & LATE != 0 }
            }
            SAMPLES => {
                let series = take_ids(&mut reader)?;
                let flags = reader.byte()?;
                let mut times = Vec::with_capacity(series.len());
                if let Some(others) = series.len().checked_sub(1) {
                    let first = reader.signed()?;
                    times.push(first);
                    let behind = |time: i64| times.push(first.wrapping_add(time));
                    frame_of_reference::decode(&mut reader, others, behind)?;
                }
                let values = take_values(&mut reader, series.len())?;
                let starts = || times.iter().map(|time| take_start(&mut reader, *time)).collect::<Result<_, _>>();
                let starts = (flags & STARTS != 0).then(starts).transpose()?;
                Section::Samples { series, times, values, starts }
            }
            HISTOGRAMS => {
                let series = take_ids(&mut reader)?;
                let late = reader.byte()? & LATE != 0;
                let times = series.iter().map(|_| reader.signed()).collect::<Result<Vec<_>, _>>()?;
                let starts = times.iter().map(|t| take_start(&mut reader, *t)).collect::<Result<Vec<_>, _>>()?;
                let samples = histogram::decode(reader.bytes()?, series.len())?;
                let samples = series.into_iter().zip(times).zip(starts).zip(samples);
                let samples = samples.map(|(((id, time), start), sample)| (id, time, start, sample)).collect();
                Section::Histograms { samples, late }
            }
            METADATA => {
                let mut entries = Vec::new();
                for _ in 0..reader.count(reader.rest.len())? {
                    let id = reader.u32()?;
                    let metric_type = type_of(reader.byte()?);
                    entries
                        .push((id, Metadata { metric_type, help: reader.text()?.into(), unit: reader.text()?.into() }));
                }
                Section::Metadata(entries)
            }
            EXEMPLARS => {
                let mut exemplars = Vec::new();
                for _ in 0..reader.count(reader.rest.len())? {
                    let (id, timestamp, value) = (reader.u32()?, reader.signed()?, reader.f64()?);
                    exemplars.push((id, Exemplar { labels: labels(&mut reader)?, value, timestamp }));
                }
                Section::Exemplars(exemplars)
            }
            TOMBSTONES => Section::Tombstones(Tombstones::decode(&mut reader)?),
            FLUSHED => Section::Flushed(reader.signed()?),
            END => Section::End,
            LENGTH_FOLLOWS.. => {
                reader.bytes()?;
                continue;
            }
            _ => return Err(reader.damaged()),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tombstones::Interval;
    use std::sync::Arc;

    fn sections(bytes: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        decode(bytes, &mut |section| out.push(format!("{section:?}"))).unwrap();
        out
    }

    #[test]
    fn sections_read_back() {
        let labels = Labels::from_pairs([("__name__", "up")]);
        let (mut names, mut record) = (RecordBuilder::default(), RecordBuilder::default());
        names.series([(7, &labels)].into_iter());
        record.row(1000, &[7, 8, 9, 3], &[1.0, f64::NAN, -0.0, 1e300], Some(&[0, 999, 1000, -5]));
        let histogram = HistogramSample::Integer(Arc::default());
        record.histograms(&[(7, 1001, 0, histogram.clone()), (9, 1002, 5, histogram)], false);
        let metadata = Metadata { metric_type: MetricType::Gauge, help: "h".into(), unit: "".into() };
        record.metadata([(7, &metadata)].into_iter());
        record.exemplars(&[(7, Exemplar { labels, value: 1.5, timestamp: 3 })]);
        let mut tombstones = Tombstones::default();
        tombstones.add(7, Interval { min: -1, max: 1 });
        record.tombstones(&tombstones);
        record.flushed(-77);
        record.samples(&[1003, 7, 1003], &[8, 9, 8], &[0.5, 2.0, -0.0], Some(&[0, 3, 1000]));
        record.end();
        record.put_first(&names);
        assert_eq!(record.max_time, Some(1003));
        let shown = sections(&record.bytes);
        assert_eq!(shown.len(), 9);
        assert!(shown[0].starts_with("Series([(7,"), "{}", shown[0]);
        assert_eq!(
            shown[1],
            "Row { time: 1000, series: [7, 8, 9, 3], values: [1.0, NaN, -0.0, 1e300], starts: Some([0, 999, 1000, -5]), late: false }"
        );
        assert!(shown[2].contains("1001, 0,") && shown[2].contains("1002, 5,"), "{}", shown[2]);
        assert!(shown[3].contains("Gauge") && shown[4].contains("1.5") && shown[6] == "Flushed(-77)");
        assert_eq!(
            shown[7],
            "Samples { series: [8, 9, 8], times: [1003, 7, 1003], values: [0.5, 2.0, -0.0], starts: Some([0, 3, 1000]) }"
        );
        for len in 1..record.bytes.len() {
            let mut count = 0;
            let whole = decode(&record.bytes[..len], &mut |_| count += 1).is_ok();
            assert!(!whole || count < 9);
        }
    }

    #[test]
    fn rows_of_the_first_version_are_read() {
        // time 1000, series 7 to 9, start timestamps follow; 3, 200, -0; 0, 990, 0
        let xor = [0xff, 1 + 8 * 7, 0x80];
        let row = [&[2, 0xd0, 0x0f, 3, 14, 3, 1, 6, 0x82, 0x90, 1], &xor[..], &[0, 21, 0]].concat();
        let starts = "Some([0, 990, 0])";
        let expected = format!(
            "Row {{ time: 1000, series: [7, 8, 9], values: [3.0, 200.0, -0.0], starts: {starts}, late: false }}"
        );
        assert_eq!(sections(&row), [expected]);
    }

    #[test]
    fn what_a_newer_minor_version_adds_is_passed_over() {
        let mut record = RecordBuilder::default();
        record.flushed(1);
        record.bytes.extend([LENGTH_FOLLOWS, 3, 9, 9, 9, 0xff, 0]);
        record.flushed(2);
        assert_eq!(sections(&record.bytes), ["Flushed(1)", "Flushed(2)"]);
        assert_eq!(decode(&[LENGTH_FOLLOWS, 3, 9], &mut |_| ()), Err(Damaged("log record")));
        assert!(decode(&[LENGTH_FOLLOWS - 1, 0], &mut |_| ()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes, &mut |_| {});
        }

        #[test]
        fn series_read_back(ids: Vec<u16>) {
            let ids: Vec<u32> = ids.into_iter().map(u32::from).collect();
            let mut out = Vec::new();
            put_ids(&mut out, &ids);
            out.extend(std::iter::repeat_n(0, ids.len()));
            proptest::prop_assert_eq!(take_ids(&mut Reader::new(&out, "test")), Ok(ids));
        }
    }
}
