use model::{Labels, LabelsBuilder, MatchOp, Matcher};

use super::Evaluator;
use super::frame::{Frame, Row};
use crate::QueryError;
use crate::ast::{Call, Expr};

/// The labels that what is absent would have: those that the selector fixes.
fn labels_of_absent(expr: &Expr) -> Labels {
    let matchers: &[Matcher] = match expr {
        Expr::Vector(selector) => &selector.matchers,
        Expr::Matrix(matrix) => &matrix.selector.matchers,
        _ => &[],
    };
    let mut labels = LabelsBuilder::default();
    for matcher in matchers.iter().filter(|m| &*m.name != model::METRIC_NAME) {
        // a label that several conditions are about is not known
        let alone = matchers.iter().filter(|other| other.name == matcher.name).count() == 1;
        if matcher.op() == MatchOp::Equal && alone {
            labels.set(&matcher.name, &matcher.value);
        }
    }
    labels.build()
}

impl Evaluator<'_> {
    pub(super) fn absent(&self, arg: &Expr) -> Result<Frame, QueryError> {
        let frame = self.vector(arg)?;
        let present = |step| frame.rows.iter().any(|row| row.has(step));
        Ok(self.ones_where(arg, |step| !present(step)))
    }

    pub(super) fn absent_over_time(&self, call: &Call) -> Result<Frame, QueryError> {
        let frame = self.range_call(call)?;
        let present = |step| frame.rows.iter().any(|row| row.has(step));
        Ok(self.ones_where(call.args[0].unparen(), |step| !present(step)))
    }

    fn ones_where(&self, arg: &Expr, is_absent: impl Fn(usize) -> bool) -> Frame {
        let mut row = Row::new(labels_of_absent(arg), false, self.steps.count);
        for step in (0..self.steps.count).filter(|step| is_absent(*step)) {
            row.set_float(step, 1.0);
        }
        Frame { rows: vec![row] }
    }
}
