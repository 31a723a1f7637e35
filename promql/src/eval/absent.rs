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
        self.ones_where_none(arg, &frame)
    }

    pub(super) fn absent_over_time(&self, call: &Call) -> Result<Frame, QueryError> {
        let frame = self.range_call(call)?;
        self.ones_where_none(call.args[0].unparen(), &frame)
    }

    /// 1 at the steps where no row of `frame` has a sample.
    fn ones_where_none(&self, arg: &Expr, frame: &Frame) -> Result<Frame, QueryError> {
        let mut present = vec![false; self.steps.count];
        for row in &frame.rows {
            self.query.check()?;
            present.iter_mut().enumerate().for_each(|(step, present)| *present |= row.has(step));
        }
        let mut ones = Row::new(labels_of_absent(arg), false, self.steps.count);
        for (step, _) in present.iter().enumerate().filter(|(_, present)| !**present) {
            ones.set_float(step, 1.0);
        }
        self.query.frame_of(ones)
    }
}
