use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::aggregate::Grouping;
use super::frame::{Cell, Frame, Row};
use crate::QueryError;
use crate::ast::Aggregate;
use crate::go_text::{format_plain, quote_bytes};

impl Evaluator<'_> {
    /// `count_values("label", v)`: how often each value occurs in a group.
    pub(super) fn count_values(&self, aggregate: &Aggregate) -> Result<Frame, QueryError> {
        let Some(param) = &aggregate.param else { return Err(QueryError::execution("aggregation needs a parameter")) };
        let bytes = self.string(param)?;
        let label = match std::str::from_utf8(&bytes) {
            Ok(label) if !label.is_empty() => label.to_owned(),
            _ => return Err(QueryError::execution(format!("invalid label name {}", quote_bytes(&bytes)))),
        };
        let mut grouping = aggregate.grouping.clone();
        if !aggregate.without {
            grouping.push(label.clone());
        }
        let with_label = Aggregate { grouping, ..aggregate.clone() };
        let grouping = Grouping::of(&with_label);
        let frame = self.vector(&aggregate.expr)?;
        let mut rows: Vec<Row> = Vec::new();
        let mut by_key: HashMap<Labels, usize> = HashMap::new();
        for row in &frame.rows {
            // the group of the last value, as values often stay
            let mut last: Option<(u64, usize)> = None;
            for step in 0..self.steps.count {
                let (bits, text) = match row.cell(step) {
                    Cell::Empty => continue,
                    Cell::Float(value) => (Some(value.to_bits()), value),
                    Cell::Histogram(_) => (None, 0.0),
                };
                let at = match last {
                    Some((known, at)) if Some(known) == bits => at,
                    _ => {
                        let text = match row.cell(step) {
                            Cell::Histogram(histogram) => histogram.to_string(),
                            _ => format_plain(text),
                        };
                        let key = grouping.key(&row.labels.to_builder().set(&label, &text).build());
                        *by_key.entry(key.clone()).or_insert_with(|| {
                            rows.push(Row::new(key, false, self.steps.count));
                            rows.len() - 1
                        })
                    }
                };
                last = bits.map(|bits| (bits, at));
                rows[at].drop_name |= row.drop_name;
                let count = if rows[at].has(step) { rows[at].floats[step] } else { 0.0 };
                rows[at].set_float(step, count + 1.0);
            }
        }
        Ok(Frame { rows })
    }
}
