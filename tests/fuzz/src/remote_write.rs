//! Remote-write bodies: snappy, then protobuf. Version 2.0 is not received; its messages are told apart by a header.

use collector::api::remote_write::{WriteRequest, decompress, labels_of};
use harness::write_request::{Label, Sample, TimeSeries, WireHistogram, WriteRequest as Reference};
use prost::Message;

use crate::{Target, kind_of};

pub(crate) const TARGET: Target = Target { name: "remote_write", run, words: &["__name__", "\n", "a"], seeds };

/// The input is the protobuf message where it is no snappy block.
fn run(input: &[u8]) -> u64 {
    let message = decompress(input).unwrap_or_else(|_| input.to_vec());
    match read(&message) {
        Ok((series, kinds)) => {
            // the library refuses wire types that a field of a known number does not have, also where we pass over it
            if let Ok(reference) = Reference::decode(message.as_slice()) {
                // NaN equals nothing
                assert_eq!(Reference { timeseries: series }.encode_to_vec(), reference.encode_to_vec());
            }
            kinds
        }
        Err(error) => {
            let known = error.contains("wire type") || error.contains("integer is too long");
            assert!(known || Reference::decode(message.as_slice()).is_err(), "{error}");
            kind_of(&error)
        }
    }
}

fn read(message: &[u8]) -> Result<(Vec<TimeSeries>, u64), String> {
    let mut request = WriteRequest::new(message);
    let mut all = Vec::new();
    let mut kinds = 0u64;
    while let Some(series) = request.next_series()? {
        let written = series.labels()?;
        let labels = match labels_of(&written) {
            Ok(labels) => labels.iter().count() as u64,
            Err(error) => kind_of(&error),
        };
        for histogram in &series.histograms {
            let _ = histogram.to_sample();
        }
        let counts = (series.samples.len().min(3) * 4 + series.histograms.len().min(3)) as u64;
        kinds = kinds.wrapping_mul(31).wrapping_add(labels).wrapping_mul(31).wrapping_add(counts);
        let label = |(name, value): &(&str, &str)| Label { name: (*name).to_owned(), value: (*value).to_owned() };
        all.push(TimeSeries {
            labels: written.iter().map(label).collect(),
            samples: series
                .samples
                .iter()
                .map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp })
                .collect(),
            histograms: series.histograms.iter().map(as_reference).collect(),
        });
    }
    Ok((all, kinds))
}

/// The histogram that the receiver has read, as the reference has it.
fn as_reference(histogram: &collector::api::WireHistogram) -> WireHistogram {
    WireHistogram::decode(histogram.encode_to_vec().as_slice()).expect("our own message")
}

fn seeds() -> Vec<Vec<u8>> {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    let request = Reference {
        timeseries: vec![
            TimeSeries {
                labels: vec![label("__name__", "up"), label("job", "a")],
                samples: vec![Sample { value: 1.5, timestamp: 1000 }, Sample { value: f64::NAN, timestamp: 2000 }],
                histograms: Vec::new(),
            },
            TimeSeries {
                labels: vec![label("__name__", "latency")],
                samples: Vec::new(),
                histograms: vec![WireHistogram { count_int: Some(3), timestamp: 2000, ..WireHistogram::default() }],
            },
        ],
    };
    let message = request.encode_to_vec();
    vec![snap::raw::Encoder::new().compress_vec(&message).expect("a small message"), message]
}
