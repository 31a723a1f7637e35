//! From the value of the whole expression to the result.

use std::sync::Arc;

use model::Timestamp;

use super::frame::{Frame, Row, is_absent, same_labelset, without_metadata};
use super::{Evaluated, Evaluator};
use crate::ast::Expr;
use crate::result::{MatrixSeries, Points, QueryResult, SampleValue, Value, VectorSample};
use crate::{QueryError, ValueType};

impl Evaluator<'_> {
    /// Evaluates the whole query.
    pub(crate) fn answer(&self, expr: &Expr, text: &str, instant: bool) -> Result<QueryResult, QueryError> {
        let value = if expr.value_type() == ValueType::Matrix {
            Value::Matrix(self.raw_matrix(expr.unparen())?)
        } else {
            match self.eval(expr)? {
                Evaluated::String(bytes) => {
                    Value::String(self.steps.start, String::from_utf8_lossy(&bytes).into_owned())
                }
                Evaluated::Scalar(values) if instant => Value::Scalar(self.steps.start, values[0]),
                Evaluated::Scalar(values) => Value::Matrix(vec![MatrixSeries {
                    labels: model::Labels::empty(),
                    floats: Points { timestamps: self.steps.times().collect(), values },
                    histograms: Points::default(),
                }]),
                Evaluated::Vector(frame) => {
                    let frame = finish_names(frame)?;
                    if instant {
                        Value::Vector(self.vector_value(frame)?)
                    } else {
                        Value::Matrix(self.matrix_value(frame))
                    }
                }
            }
        };
        let annotations = self.query.annotations.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let (mut warnings, infos) = annotations.into_texts(text);
        warnings.extend(
            self.query.storage_warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().cloned(),
        );
        let stats = self.query.budget.stats();
        Ok(QueryResult { value, warnings, infos, stats })
    }

    fn vector_value(&self, frame: Frame) -> Result<Vec<VectorSample>, QueryError> {
        let timestamp = self.steps.start;
        let mut seen = std::collections::HashSet::with_capacity(frame.rows.len());
        let mut samples = Vec::with_capacity(frame.rows.len());
        for mut row in frame.rows {
            let value = if !is_absent(row.floats[0]) {
                SampleValue::Float(row.floats[0])
            } else if let Some(Some(histogram)) = row.histograms.first_mut().map(Option::take) {
                SampleValue::Histogram(histogram)
            } else {
                continue;
            };
            if !seen.insert(row.labels.clone()) {
                return Err(same_labelset());
            }
            samples.push(VectorSample { labels: row.labels, timestamp, value });
        }
        Ok(samples)
    }

    fn matrix_value(&self, frame: Frame) -> Vec<MatrixSeries> {
        let times: Arc<[Timestamp]> = self.steps.times().collect();
        let mut series: Vec<MatrixSeries> = frame
            .rows
            .into_iter()
            .filter(|row| !row.is_empty())
            .map(|row| {
                let Row { labels, floats, histograms, .. } = row;
                let floats = if floats.iter().all(|v| !is_absent(*v)) {
                    Points { timestamps: times.clone(), values: floats }
                } else {
                    let present = || floats.iter().zip(times.iter()).filter(|(v, _)| !is_absent(**v));
                    Points {
                        timestamps: present().map(|(_, t)| *t).collect(),
                        values: present().map(|(v, _)| *v).collect(),
                    }
                };
                let histograms = if histograms.iter().any(Option::is_some) {
                    let timestamps = histograms.iter().zip(times.iter()).filter(|(h, _)| h.is_some()).map(|(_, t)| *t);
                    Points { timestamps: timestamps.collect(), values: histograms.iter().flatten().cloned().collect() }
                } else {
                    Points::default()
                };
                MatrixSeries { labels, floats, histograms }
            })
            .collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        series
    }
}

/// Removes the metric names that were left for the end.
fn finish_names(mut frame: Frame) -> Result<Frame, QueryError> {
    let mut renamed = false;
    for row in &mut frame.rows {
        if row.drop_name {
            row.labels = without_metadata(&row.labels);
            renamed = true;
        }
    }
    if renamed {
        frame.merge_same_labels()?;
    }
    Ok(frame)
}
