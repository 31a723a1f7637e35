//! From the value of the whole expression to the result.

use std::sync::Arc;

use model::Timestamp;

use super::frame::{Frame, Row, is_absent, same_labelset, without_metadata};
use super::pace::LABELS_WORK;
use super::{Evaluated, Evaluator};
use crate::ast::Expr;
use crate::memory::{Charge, Footprint, TABLE_ENTRY, ValueBytes};
use crate::plan::Extent;
use crate::result::{MatrixSeries, Points, QueryResult, SampleValue, Value, VectorSample};
use crate::{QueryError, ValueType};

impl Evaluator<'_> {
    /// Evaluates the whole query.
    pub(crate) fn answer(&self, expr: &Expr, text: &str, instant: bool) -> Result<QueryResult, QueryError> {
        let _steps = self.query.charge_for_steps(self.steps.count)?;
        let mut held = self.query.memory.charge();
        let value = if expr.value_type() == ValueType::Matrix {
            self.query.begin_node(expr);
            let (matrix, charge) = self.raw_matrix(expr.unparen())?;
            held.absorb(charge);
            self.query.end_node(|| Extent {
                series: matrix.len(),
                samples: matrix.iter().map(|series| series.floats.len() + series.histograms.len()).sum(),
                bytes: held.bytes(),
            });
            Value::Matrix(matrix)
        } else {
            match self.eval(expr)? {
                Evaluated::String(bytes) => {
                    Value::String(self.steps.start, String::from_utf8_lossy(&bytes).into_owned())
                }
                Evaluated::Scalar(values) if instant => Value::Scalar(self.steps.start, values[0]),
                Evaluated::Scalar(values) => {
                    held.add(16 * values.len())?;
                    Value::Matrix(vec![MatrixSeries {
                        labels: model::Labels::empty(),
                        floats: Points { timestamps: self.steps.times().collect(), values },
                        histograms: Points::default(),
                    }])
                }
                Evaluated::Vector(frame) => {
                    let (rows, charge) = self.finish_names(frame)?.into_parts();
                    held.absorb(charge);
                    if instant {
                        Value::Vector(self.vector_value(rows, &mut held)?)
                    } else {
                        Value::Matrix(self.matrix_value(rows, &mut held)?)
                    }
                }
            }
        };
        Ok(self.finish(value, held, text))
    }

    /// The result, with what is to be said about it.
    pub(super) fn finish(&self, value: Value, held: Charge, text: &str) -> QueryResult {
        let annotations = self.query.annotations.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let (mut warnings, infos) = annotations.into_texts(text);
        warnings.extend(
            self.query.storage_warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().cloned(),
        );
        let mut stats = self.query.budget.stats();
        stats.peak_bytes = self.query.memory.peak() as u64;
        QueryResult { value, warnings, infos, stats, plan: self.query.take_plan(), held: Some(Arc::new(held)) }
    }

    /// Removes the metric names that were left for the end.
    pub(super) fn finish_names(&self, mut frame: Frame) -> Result<Frame, QueryError> {
        let mut pace = self.query.pace();
        let mut renamed = false;
        for row in &mut frame.rows {
            if row.drop_name {
                pace.done(LABELS_WORK)?;
                row.labels = without_metadata(&row.labels);
                renamed = true;
            }
        }
        if renamed {
            frame.merge_same_labels(pace)?;
        }
        Ok(frame)
    }

    fn vector_value(&self, rows: Vec<Row>, held: &mut Charge) -> Result<Vec<VectorSample>, QueryError> {
        let timestamp = self.steps.start;
        held.add(rows.len() * (size_of::<VectorSample>() + TABLE_ENTRY))?;
        let mut seen = std::collections::HashSet::with_capacity(rows.len());
        let mut samples = Vec::with_capacity(rows.len());
        let mut pace = self.query.pace();
        for mut row in rows {
            pace.done(LABELS_WORK)?;
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

    /// The rows as series. A row may end before the last step.
    pub(super) fn matrix_value(&self, rows: Vec<Row>, held: &mut Charge) -> Result<Vec<MatrixSeries>, QueryError> {
        let times: Arc<[Timestamp]> = self.steps.times().collect();
        let mut bytes = 8 * times.len();
        held.add(bytes)?;
        let mut matrix = Vec::with_capacity(rows.len());
        for row in rows.into_iter().filter(|row| !row.is_empty()) {
            self.query.check()?;
            let Row { labels, floats, histograms, .. } = row;
            let floats = if floats.len() == times.len() && floats.iter().all(|v| !is_absent(*v)) {
                Points { timestamps: times.clone(), values: floats }
            } else {
                let present = || floats.iter().zip(times.iter()).filter(|(v, _)| !is_absent(**v));
                let points = Points {
                    timestamps: present().map(|(_, t)| *t).collect(),
                    values: present().map(|(v, _)| *v).collect(),
                };
                // the values take the place of the row's
                held.add(8 * points.timestamps.len())?;
                bytes += 8 * points.timestamps.len();
                points
            };
            let histograms = if histograms.iter().any(Option::is_some) {
                let timestamps = histograms.iter().zip(times.iter()).filter(|(h, _)| h.is_some()).map(|(_, t)| *t);
                let timestamps: Arc<[Timestamp]> = timestamps.collect();
                held.add(8 * timestamps.len())?;
                bytes += 8 * timestamps.len();
                Points { timestamps, values: histograms.iter().flatten().cloned().collect() }
            } else {
                Points::default()
            };
            bytes += size_of::<MatrixSeries>() + labels.bytes();
            bytes += f64::bytes_of(&floats.values) + <Arc<_>>::bytes_of(&histograms.values);
            matrix.push(MatrixSeries { labels, floats, histograms });
        }
        held.set(bytes)?;
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(matrix)
    }
}
