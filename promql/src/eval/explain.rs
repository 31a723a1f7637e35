//! Writes down what the nodes of a query come to, if that was asked for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::frame::{Row, is_absent};
use super::{Evaluated, Query};
use crate::ast::Expr;
use crate::memory::Footprint;
use crate::plan::{Extent, PlanNode};

/// The nodes under evaluation, the innermost one last, and the plan of the whole query when it is known.
#[derive(Default)]
pub(super) struct Plan {
    open: Vec<(PlanNode, Instant)>,
    whole: Option<PlanNode>,
}

/// The plan of a query that is to be explained.
pub(super) type Explained = Option<Mutex<Plan>>;

impl Query<'_> {
    fn plan(&self) -> Option<MutexGuard<'_, Plan>> {
        self.plan.as_ref().map(|plan| plan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is written down.
    pub(super) fn is_explained(&self) -> bool {
        self.plan.is_some()
    }

    /// A node is about to be evaluated.
    pub(super) fn begin_node(&self, expr: &Expr) {
        if let Some(mut plan) = self.plan() {
            let node = PlanNode {
                expr: expr.to_string(),
                given: Extent::default(),
                read: Extent::default(),
                time: std::time::Duration::ZERO,
                once: false,
                shared: false,
                operands: Vec::new(),
            };
            plan.open.push((node, Instant::now()));
        }
    }

    /// The node begun last has been evaluated.
    pub(super) fn end_node(&self, given: impl FnOnce() -> Extent) {
        let Some(mut plan) = self.plan() else { return };
        let Plan { open, whole } = &mut *plan;
        if let Some((mut node, begun)) = open.pop() {
            node.time = begun.elapsed();
            node.given.add(given());
            match (open.last_mut(), whole) {
                (Some((above, _)), _) => above.operands.push(node),
                (None, Some(whole)) => whole.add_slice(node),
                (None, whole) => *whole = Some(node),
            }
        }
    }

    /// The node under evaluation has read something.
    pub(super) fn note_read(&self, read: impl FnOnce() -> Extent) {
        self.note_node(|node| node.read.add(read()));
    }

    /// The node under evaluation hands on a row without keeping it.
    pub(super) fn note_given(&self, row: &Row) {
        self.note_node(|node| node.given.add(of_row(row)));
    }

    /// The node under evaluation has the same value at all steps.
    pub(super) fn note_once(&self) {
        self.note_node(|node| node.once = true);
    }

    /// The value of the node under evaluation is that of an equal one before.
    pub(super) fn note_shared(&self) {
        self.note_node(|node| node.shared = true);
    }

    fn note_node(&self, note: impl FnOnce(&mut PlanNode)) {
        if let Some(mut plan) = self.plan()
            && let Some((node, _)) = plan.open.last_mut()
        {
            note(node);
        }
    }

    /// Forgets nodes that were not evaluated to the end.
    pub(super) fn forget_open_nodes(&self) {
        if let Some(mut plan) = self.plan() {
            plan.open.clear();
        }
    }

    /// The plan, when all has been evaluated.
    pub(super) fn take_plan(&self) -> Option<PlanNode> {
        self.plan().and_then(|mut plan| plan.whole.take())
    }
}

/// How much there is of a row.
pub(super) fn of_row(row: &Row) -> Extent {
    let floats = row.floats.iter().filter(|value| !is_absent(**value)).count();
    Extent { series: 1, samples: floats + row.histograms.iter().flatten().count(), bytes: row.bytes() }
}

/// How much there is of a value.
pub(super) fn extent(value: &Evaluated) -> Extent {
    match value {
        Evaluated::Scalar(values) => Extent { series: 0, samples: values.len(), bytes: 8 * values.len() },
        Evaluated::String(bytes) => Extent { series: 0, samples: 0, bytes: bytes.len() },
        Evaluated::Vector(frame) => frame.rows.iter().fold(Extent::default(), |mut all, row| {
            all.add(of_row(row));
            all
        }),
    }
}
