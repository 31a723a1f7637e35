//! `prometheus.WriteRequest`, read where it lies: requests are large, and most of their labels are known.

use common::exposition::protobuf::wire::{Field, Fields, WireError};
use model::Timestamp;
use prost::Message;

use super::histogram::WireHistogram;

/// A series with its samples.
#[derive(Debug, Default, PartialEq)]
pub struct WrittenSeries<'a> {
    message: &'a [u8],
    /// How much of the message its labels are, if all of them come first.
    labels_end: Option<usize>,
    /// Float samples.
    pub samples: Vec<(Timestamp, f64)>,
    /// Native histograms.
    pub histograms: Vec<WireHistogram>,
}

impl<'a> WrittenSeries<'a> {
    /// The bytes of the labels, if they lie together as those of all known writers do: equal bytes are equal labels.
    pub fn label_bytes(&self) -> Option<&'a [u8]> {
        self.labels_end.map(|end| &self.message[..end])
    }

    /// Labels as they were sent, the metric name included.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn labels(&self) -> Result<Vec<(&'a str, &'a str)>, String> {
        let mut labels = Vec::new();
        let mut fields = Fields::new(self.message);
        while let Some((number, field)) = fields.next().map_err(fault)? {
            if number == LABELS {
                labels.push(label(field).map_err(fault)?);
            }
        }
        Ok(labels)
    }
}

fn fault(fault: impl std::fmt::Display) -> String {
    format!("protobuf: {fault}")
}

/// The series of a request, one after another.
#[derive(Debug)]
pub struct WriteRequest<'a> {
    fields: Fields<'a>,
    series: WrittenSeries<'a>,
}

const TIMESERIES: u32 = 1;
const LABELS: u32 = 1;
const SAMPLES: u32 = 2;
const HISTOGRAMS: u32 = 4;

impl<'a> WriteRequest<'a> {
    /// Of the bytes of the message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { fields: Fields::new(message), series: WrittenSeries::default() }
    }

    /// The next series.
    ///
    /// # Errors
    /// What is wrong with the message; there is nothing to be had behind that.
    pub fn next_series(&mut self) -> Result<Option<&WrittenSeries<'a>>, String> {
        while let Some((number, field)) = self.fields.next().map_err(fault)? {
            if number == TIMESERIES {
                let bytes = field.bytes().map_err(fault)?;
                self.read_series(bytes).map_err(fault)?;
                return Ok(Some(&self.series));
            }
        }
        Ok(None)
    }

    fn read_series(&mut self, bytes: &'a [u8]) -> Result<(), String> {
        let WrittenSeries { message, labels_end, samples, histograms } = &mut self.series;
        *message = bytes;
        *labels_end = Some(0);
        samples.clear();
        histograms.clear();
        let mut fields = Fields::new(bytes);
        let mut before = bytes.len();
        while let Some((number, field)) = fields.next()? {
            let start = bytes.len() - std::mem::replace(&mut before, fields.rest().len());
            match number {
                LABELS => {
                    field.bytes()?;
                    let together = *labels_end == Some(start);
                    *labels_end = together.then(|| bytes.len() - fields.rest().len());
                }
                SAMPLES => samples.push(sample(field)?),
                HISTOGRAMS => histograms.push(WireHistogram::decode(field.bytes()?).map_err(|e| e.to_string())?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn label<'a>(field: Field<'a>) -> Result<(&'a str, &'a str), WireError> {
    let (mut name, mut value) = ("", "");
    let mut fields = Fields::new(field.bytes()?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn sample(field: Field<'_>) -> Result<(Timestamp, f64), WireError> {
    let (mut time, mut value) = (0, 0.0);
    let mut fields = Fields::new(field.bytes()?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => value = field.double()?,
            2 => time = field.int()?,
            _ => {}
        }
    }
    Ok((time, value))
}
