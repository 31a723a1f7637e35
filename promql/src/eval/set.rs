//! `and`, `or`, `unless`.

use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::binary_match::Signature;
use super::frame::Frame;
use crate::QueryError;
use crate::ast::{Binary, BinaryOp, VectorMatching};

impl Evaluator<'_> {
    pub(super) fn set_operation(&self, binary: &Binary, left: Frame, right: Frame) -> Result<Frame, QueryError> {
        let default = VectorMatching::default();
        let signature = Signature::new(binary.matching.as_ref().unwrap_or(&default));
        let presence = |frame: &Frame| {
            let mut by_signature: HashMap<Labels, Vec<bool>> = HashMap::new();
            for row in &frame.rows {
                let present =
                    by_signature.entry(signature.of(&row.labels)).or_insert_with(|| vec![false; self.steps.count]);
                for (step, present) in present.iter_mut().enumerate() {
                    *present |= row.has(step);
                }
            }
            by_signature
        };
        // keeps of a frame what the other side has, or has not
        let keep = |mut frame: Frame, other: &HashMap<Labels, Vec<bool>>, wanted: bool| {
            for row in &mut frame.rows {
                let present = other.get(&signature.of(&row.labels));
                for step in 0..self.steps.count {
                    if present.is_some_and(|present| present[step]) != wanted {
                        row.clear(step);
                    }
                }
            }
            frame.rows.retain(|row| !row.is_empty());
            frame
        };
        match binary.op {
            BinaryOp::And => Ok(keep(left, &presence(&right), true)),
            BinaryOp::Unless => Ok(keep(left, &presence(&right), false)),
            _ => {
                let rest = keep(right, &presence(&left), false);
                let mut all = left;
                all.rows.extend(rest.rows);
                all.merge_same_labels()?;
                Ok(all)
            }
        }
    }
}
