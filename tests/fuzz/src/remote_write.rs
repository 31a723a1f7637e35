//! Remote-write bodies: snappy, then protobuf. Version 2.0 is not received; its messages are told apart by a header.

use collector::api::remote_write::{decode, labels_of};
use collector::api::{Label, Sample, TimeSeries, WireHistogram, WriteRequest};
use prost::Message;

use crate::{Target, kind_of};

pub(crate) const TARGET: Target = Target { name: "remote_write", run, words: &["__name__", "\n", "a"], seeds };

/// The input is the protobuf message where it is no snappy block.
fn run(input: &[u8]) -> u64 {
    let packed = || snap::raw::Encoder::new().compress_vec(input).expect("a small input");
    let result = decode(input).or_else(|_| decode(&packed()));
    match result {
        Ok(request) => {
            let mut kinds = request.timeseries.len() as u64;
            for series in &request.timeseries {
                kinds = kinds * 31
                    + match labels_of(&series.labels) {
                        Ok(labels) => labels.iter().count() as u64,
                        Err(error) => kind_of(&error),
                    };
                for histogram in &series.histograms {
                    let _ = histogram.to_sample();
                }
                kinds = kinds * 31 + (series.samples.len().min(3) * 4 + series.histograms.len().min(3)) as u64;
            }
            let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("a small message");
            let again = decode(&body).expect("our own message");
            // NaN equals nothing
            assert_eq!(again.encode_to_vec(), request.encode_to_vec());
            kinds
        }
        Err(error) => kind_of(&error),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    let request = WriteRequest {
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
