use std::cmp::Ordering;

use super::Evaluator;
use super::frame::{Frame, is_absent};
use crate::QueryError;
use crate::ast::Call;

impl Evaluator<'_> {
    /// The `sort` functions. Only the result of an instant query keeps an order.
    pub(super) fn sort(&self, call: &Call) -> Result<Frame, QueryError> {
        let mut frame = self.vector(&call.args[0])?;
        let by_label = call.function.name.starts_with("sort_by_label");
        if !by_label {
            for row in &mut frame.rows {
                row.histograms = Vec::new();
            }
            frame.rows.retain(|row| row.floats.iter().any(|v| !is_absent(*v)));
        }
        if self.steps.count > 1 {
            self.query.annotate(|notes| notes.sort_in_range_query(call.pos));
            return Ok(frame);
        }
        let descending = call.function.name.ends_with("desc");
        if by_label {
            let mut labels = Vec::new();
            for arg in &call.args[1..] {
                labels.push(String::from_utf8_lossy(&self.string(arg)?).into_owned());
            }
            frame.rows.sort_by(|a, b| {
                let order = labels
                    .iter()
                    .map(|label| natural(a.labels.value(label), b.labels.value(label)))
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a.labels.cmp(&b.labels));
                if descending { order.reverse() } else { order }
            });
        } else {
            frame.rows.sort_by(|a, b| by_value(a.floats[0], b.floats[0], descending));
        }
        Ok(frame)
    }
}

/// Compares by value, NaN last in either direction.
pub(super) fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}

/// Compares as people sort: runs of digits by their number.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let (x, y) = (chunk(left), chunk(right));
        let order = match (x.parse::<i64>(), y.parse::<i64>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (&left[x.len()..], &right[y.len()..]);
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The run of digits or of other characters that a text starts with.
fn chunk(text: &str) -> &str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_sort_by_value() {
        let mut texts = ["4m1000", "4m5", "4m600", "1.11.3", "1.2.3", "1.111.3", "", "4m"];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["", "1.2.3", "1.11.3", "1.111.3", "4m", "4m5", "4m600", "4m1000"]);
    }

    #[test]
    fn nan_is_last_either_way() {
        for descending in [false, true] {
            assert_eq!(by_value(f64::NAN, 1.0, descending), Ordering::Greater);
        }
    }
}
