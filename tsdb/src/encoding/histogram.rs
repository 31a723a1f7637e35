//! A column of native histograms: each one's layout is written where it changes, counts as differences to the one before.
//!
//! ```text
//! for each histogram:
//! flags        u8   bit 0 float counts, bit 1 layout follows, bits 2-3 counter reset hint
//! layout       schema (zigzag), zero threshold (f64), positive spans, negative spans (number, then offset (zigzag) and
//!              length each), number of custom values + 1 or 0 for none, custom values (f64 each)
//! sum          xor with the one before
//! integer      count, zero count (zigzag differences), buckets (zigzag differences, bucket by bucket, to the one before,
//!              or to 0 where a layout or the kind of counts has just changed)
//! float        count, zero count, buckets: xor with the one before, or with 0
//! ```
//! Numbers are varints if nothing else is said.

use std::sync::Arc;

use model::{CounterResetHint, FloatHistogram, Histogram, Span};

use crate::HistogramSample;
use crate::encoding::floats::{put_xor, take_xor};
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

const FLOAT: u8 = 1;
const LAYOUT: u8 = 2;
/// No histogram has more buckets than this; what says so is damaged.
const MAX_BUCKETS: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq)]
struct Layout {
    schema: i32,
    zero_threshold: u64,
    positive: Vec<Span>,
    negative: Vec<Span>,
    custom: Option<Arc<[f64]>>,
}

impl Layout {
    fn of(sample: &HistogramSample) -> Self {
        match sample {
            HistogramSample::Integer(h) => Self {
                schema: h.schema,
                zero_threshold: h.zero_threshold.to_bits(),
                positive: h.positive_spans.clone(),
                negative: h.negative_spans.clone(),
                custom: h.custom_values.clone(),
            },
            HistogramSample::Float(h) => Self {
                schema: h.schema,
                zero_threshold: h.zero_threshold.to_bits(),
                positive: h.positive_spans.clone(),
                negative: h.negative_spans.clone(),
                custom: h.custom_values.clone(),
            },
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        varint::put_signed(out, i64::from(self.schema));
        out.extend_from_slice(&self.zero_threshold.to_le_bytes());
        for spans in [&self.positive, &self.negative] {
            varint::put(out, spans.len() as u64);
            for span in spans {
                varint::put_signed(out, i64::from(span.offset));
                varint::put(out, u64::from(span.length));
            }
        }
        match &self.custom {
            None => varint::put(out, 0),
            Some(values) => {
                varint::put(out, values.len() as u64 + 1);
                values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut layout = Self {
            schema: i32::try_from(reader.signed()?).map_err(|_| reader.damaged())?,
            zero_threshold: reader.fixed_u64()?,
            ..Self::default()
        };
        for spans in [&mut layout.positive, &mut layout.negative] {
            let count = reader.count(reader.rest.len())?;
            for _ in 0..count {
                let offset = i32::try_from(reader.signed()?).map_err(|_| reader.damaged())?;
                spans.push(Span { offset, length: reader.u32()? });
            }
        }
        let custom = reader.count(reader.rest.len() / 8 + 1)?;
        if custom > 0 {
            let values = (1..custom).map(|_| reader.f64()).collect::<Result<Vec<_>, _>>()?;
            layout.custom = Some(values.into());
        }
        Ok(layout)
    }

    /// Numbers of positive and of negative buckets.
    fn buckets(&self, reader: &Reader<'_>) -> Result<(usize, usize), Damaged> {
        let sum = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
        let (positive, negative) = (sum(&self.positive), sum(&self.negative));
        // a bucket takes a byte at least
        if positive + negative > reader.rest.len().min(MAX_BUCKETS) {
            Err(reader.damaged())
        } else {
            Ok((positive, negative))
        }
    }
}

fn hint_bits(hint: CounterResetHint) -> u8 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1 << 2,
        CounterResetHint::NotReset => 2 << 2,
        CounterResetHint::Gauge => 3 << 2,
    }
}

fn hint_of(flags: u8) -> CounterResetHint {
    match (flags >> 2) & 3 {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        _ => CounterResetHint::Gauge,
    }
}

/// Counts of the histogram before, as integers or as float bits.
#[derive(Default)]
struct Before {
    float: bool,
    layout: Option<Layout>,
    sum: u64,
    /// count, zero count, positive buckets, negative buckets
    counts: Vec<u64>,
}

/// Appends a column.
pub(crate) fn encode<'a>(samples: impl Iterator<Item = &'a HistogramSample>, out: &mut Vec<u8>) {
    let mut before = Before::default();
    for sample in samples {
        let (float, hint, sum, counts) = match sample {
            HistogramSample::Integer(h) => {
                let mut counts = vec![h.count, h.zero_count];
                counts.extend(h.positive_buckets.iter().chain(&h.negative_buckets).map(|b| *b as u64));
                (false, h.counter_reset_hint, h.sum, counts)
            }
            HistogramSample::Float(h) => {
                let mut counts = vec![h.count.to_bits(), h.zero_count.to_bits()];
                counts.extend(h.positive_buckets.iter().chain(&h.negative_buckets).map(|b| b.to_bits()));
                (true, h.counter_reset_hint, h.sum, counts)
            }
        };
        let layout = Layout::of(sample);
        // bucket numbers that contradict the spans have been refused before
        let fresh = before.layout.as_ref() != Some(&layout) || before.float != float;
        out.push(hint_bits(hint) | if float { FLOAT } else { 0 } | if fresh { LAYOUT } else { 0 });
        if fresh {
            layout.put(out);
            before.counts = vec![0; counts.len()];
        }
        put_xor(out, sum.to_bits() ^ before.sum);
        for (count, last) in counts.iter().zip(&before.counts) {
            if float {
                put_xor(out, count ^ last);
            } else {
                varint::put_signed(out, count.wrapping_sub(*last) as i64);
            }
        }
        before = Before { float, layout: Some(layout), sum: sum.to_bits(), counts };
    }
}

/// Reads a column of `count` histograms.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<HistogramSample>, Damaged> {
    let mut reader = Reader::new(bytes, "histogram column");
    let mut samples = Vec::with_capacity(count.min(bytes.len()));
    let mut before = Before::default();
    for _ in 0..count {
        let flags = reader.byte()?;
        let float = flags & FLOAT != 0;
        if flags & LAYOUT != 0 {
            before.layout = Some(Layout::take(&mut reader)?);
            before.counts.clear();
        } else if float != before.float {
            return Err(reader.damaged());
        }
        before.float = float;
        before.sum ^= take_xor(&mut reader)?;
        let Some(layout) = &before.layout else { return Err(reader.damaged()) };
        let (positive, negative) = layout.buckets(&reader)?;
        before.counts.resize(2 + positive + negative, 0);
        for last in &mut before.counts {
            *last = if float { *last ^ take_xor(&mut reader)? } else { last.wrapping_add(reader.signed()? as u64) };
        }
        let (pos, neg) = before.counts[2..].split_at(positive);
        let sum = f64::from_bits(before.sum);
        let zero_threshold = f64::from_bits(layout.zero_threshold);
        samples.push(if float {
            HistogramSample::Float(Arc::new(FloatHistogram {
                counter_reset_hint: hint_of(flags),
                schema: layout.schema,
                zero_threshold,
                zero_count: f64::from_bits(before.counts[1]),
                count: f64::from_bits(before.counts[0]),
                sum,
                positive_spans: layout.positive.clone(),
                negative_spans: layout.negative.clone(),
                positive_buckets: pos.iter().map(|b| f64::from_bits(*b)).collect(),
                negative_buckets: neg.iter().map(|b| f64::from_bits(*b)).collect(),
                custom_values: layout.custom.clone(),
            }))
        } else {
            HistogramSample::Integer(Arc::new(Histogram {
                counter_reset_hint: hint_of(flags),
                schema: layout.schema,
                zero_threshold,
                zero_count: before.counts[1],
                count: before.counts[0],
                sum,
                positive_spans: layout.positive.clone(),
                negative_spans: layout.negative.clone(),
                positive_buckets: pos.iter().map(|b| *b as i64).collect(),
                negative_buckets: neg.iter().map(|b| *b as i64).collect(),
                custom_values: layout.custom.clone(),
            }))
        });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(buckets: &[i64], hint: CounterResetHint) -> HistogramSample {
        HistogramSample::Integer(Arc::new(Histogram {
            counter_reset_hint: hint,
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: 2,
            count: 9,
            sum: 12.5,
            positive_spans: vec![Span { offset: -2, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..Histogram::default()
        }))
    }

    fn float(buckets: &[f64]) -> HistogramSample {
        HistogramSample::Float(Arc::new(FloatHistogram {
            schema: model::CUSTOM_BUCKETS_SCHEMA,
            count: 4.5,
            sum: model::STALE_NAN,
            negative_spans: vec![Span { offset: 1, length: 1 }, Span { offset: 3, length: buckets.len() as u32 - 1 }],
            negative_buckets: buckets.to_vec(),
            custom_values: Some(Arc::from([0.5, 1.0])),
            ..FloatHistogram::default()
        }))
    }

    #[test]
    fn columns_read_back() {
        let samples = [
            integer(&[1, 2, -1], CounterResetHint::Unknown),
            integer(&[2, 2, 0], CounterResetHint::NotReset),
            float(&[1.5, 2.0]),
            float(&[1.5, 2.5]),
            integer(&[5], CounterResetHint::Gauge),
            HistogramSample::Float(Arc::new(FloatHistogram::stale())),
        ];
        let mut out = Vec::new();
        encode(samples.iter(), &mut out);
        let back = decode(&out, samples.len()).unwrap();
        for (a, b) in samples.iter().zip(&back) {
            assert!(a.same(b), "{a:?} {b:?}");
            assert_eq!(a.is_stale(), b.is_stale());
        }
        for len in 0..out.len() {
            assert!(decode(&out[..len], samples.len()).is_err(), "{len}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0usize..20) {
            let _ = decode(&bytes, count);
        }
    }
}
