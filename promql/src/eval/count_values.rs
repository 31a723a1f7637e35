use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::aggregate::Grouping;
use super::frame::{Cell, Frame, Row};
use super::pace::LABELS_WORK;
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
        let mut counts = self.query.frame();
        let mut by_key: HashMap<Labels, usize> = HashMap::new();
        let mut pace = self.query.pace();
        for row in &frame.rows {
            // the group of the last value, as values often stay
            let mut last: Option<(u64, usize)> = None;
            for step in 0..self.steps.count {
                pace.done(1)?;
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
                        pace.done(2 * LABELS_WORK)?;
                        let key = grouping.key(&row.labels.to_builder().set(&label, &text).build());
                        match by_key.get(&key) {
                            Some(at) => *at,
                            None => {
                                counts.push(Row::new(key.clone(), false, self.steps.count))?;
                                by_key.insert(key, counts.rows.len() - 1);
                                counts.rows.len() - 1
                            }
                        }
                    }
                };
                last = bits.map(|bits| (bits, at));
                let counted = &mut counts.rows[at];
                counted.drop_name |= row.drop_name;
                let count = if counted.has(step) { counted.floats[step] } else { 0.0 };
                counted.set_float(step, count + 1.0);
            }
        }
        Ok(counts)
    }
}
