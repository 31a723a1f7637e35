//! `and`, `or`, `unless`.

use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::frame::Frame;
use super::pairing::Signature;
use crate::QueryError;
use crate::ast::{Binary, BinaryOp, VectorMatching};
use crate::memory::Footprint;

impl Evaluator<'_> {
    pub(super) fn set_operation(&self, binary: &Binary, left: Frame, right: Frame) -> Result<Frame, QueryError> {
        let default = VectorMatching::default();
        let signature = Signature::new(binary.matching.as_ref().unwrap_or(&default));
        let mut held = self.query.memory.charge();
        let mut presence = |frame: &Frame| {
            let mut by_signature: HashMap<Labels, Vec<bool>> = HashMap::new();
            for row in &frame.rows {
                self.query.check()?;
                let signature = signature.of(&row.labels);
                held.add(signature.bytes() + self.steps.count)?;
                let present = by_signature.entry(signature).or_insert_with(|| vec![false; self.steps.count]);
                for (step, present) in present.iter_mut().enumerate() {
                    *present |= row.has(step);
                }
            }
            Ok::<_, QueryError>(by_signature)
        };
        // keeps of a frame what the other side has, or has not
        let keep = |mut frame: Frame, other: &HashMap<Labels, Vec<bool>>, wanted: bool| {
            for row in &mut frame.rows {
                self.query.check()?;
                let present = other.get(&signature.of(&row.labels));
                for step in 0..self.steps.count {
                    if present.is_some_and(|present| present[step]) != wanted {
                        row.clear(step);
                    }
                }
            }
            frame.rows.retain(|row| !row.is_empty());
            Ok(frame)
        };
        match binary.op {
            BinaryOp::And => keep(left, &presence(&right)?, true),
            BinaryOp::Unless => keep(left, &presence(&right)?, false),
            _ => {
                let rest = keep(right, &presence(&left)?, false)?;
                let mut all = left;
                all.append(rest);
                all.merge_same_labels(self.query.pace())?;
                Ok(all)
            }
        }
    }
}
