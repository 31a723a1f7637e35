//! Parts of a query that are written several times are evaluated once: `m / (m + n)`.
//!
//! What they count for (samples held, loaded and read) is counted each time, as upstream evaluates them each time. Annotations name the
//! place of their part, so one that has any is evaluated each time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::counting::Spent;
use super::frame::{Frame, Row, Steps};
use super::stats_only::key;
use super::{Evaluated, Evaluator, Query, explain};
use crate::QueryError;
use crate::annotations::Annotations;
use crate::ast::Expr;
use crate::memory::{Charge, Footprint};

/// Values that are kept take no more than this part of the memory a query may take.
const PART_OF_MEMORY: usize = 8;

/// The parts of a query that are written several times.
#[derive(Default)]
pub(super) struct Shared {
    /// What each is, by the address of each place where it is written.
    parts: HashMap<usize, usize>,
    /// How often each is written.
    places: Vec<usize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often each is still to be evaluated.
    left: Vec<usize>,
    kept: HashMap<(usize, StepsKey), Kept>,
}

type StepsKey = (i64, i64, usize);

/// The value of a part, and what it has taken to find it.
struct Kept {
    rows: Vec<Row>,
    held: Charge,
    spent: Spent,
}

impl Shared {
    /// Finds the parts of an expression that are the same. Selectors of which only a part is read are told from others by `marks`.
    pub(super) fn of(expr: &Expr, marks: impl Fn(usize) -> u8) -> Self {
        let selectors = expr.selectors();
        // most queries ask for nothing twice
        let alike = |at: usize| selectors[at + 1..].iter().any(|other| other.matchers == selectors[at].matchers);
        if !(0..selectors.len()).any(alike) {
            return Self::default();
        }
        let mut found: HashMap<String, Vec<usize>> = HashMap::new();
        let mut open = vec![expr];
        while let Some(expr) = open.pop() {
            let address = std::ptr::from_ref(expr).addr();
            match expr {
                Expr::Number(_) | Expr::String(_) | Expr::Matrix(_) => {}
                Expr::Paren(paren) => open.push(&paren.expr),
                Expr::Subquery(subquery) => open.push(&subquery.expr),
                Expr::Unary(unary) => open.push(&unary.expr),
                Expr::Vector(_) | Expr::Call(_) | Expr::Aggregate(_) => {
                    let selectors = expr.selectors();
                    if selectors.is_empty() {
                        continue;
                    }
                    let mut text = expr.to_string();
                    text.push('\n');
                    text.extend(selectors.iter().map(|selector| char::from(b'0' + marks(key(selector)))));
                    let places = found.entry(text).or_default();
                    places.push(address);
                    // what is in the second is evaluated with the first
                    if places.len() == 1 {
                        open.extend(operands(expr));
                    }
                }
                Expr::Binary(_) => {
                    let mut at = expr;
                    while let Expr::Binary(binary) = at {
                        open.push(&binary.rhs);
                        at = &binary.lhs;
                    }
                    open.push(at);
                }
            }
        }
        let mut shared = Self::default();
        for places in found.into_values().filter(|places| places.len() > 1) {
            shared.parts.extend(places.iter().map(|place| (*place, shared.places.len())));
            shared.places.push(places.len());
        }
        shared.forget();
        shared
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew: before other steps are looked at, or the same ones again.
    pub(super) fn forget(&self) {
        *self.state() = State { left: self.places.clone(), kept: HashMap::new() };
    }

    /// The number of a part that is written several times.
    pub(super) fn part(&self, expr: &Expr) -> Option<usize> {
        if self.parts.is_empty() { None } else { self.parts.get(&std::ptr::from_ref(expr).addr()).copied() }
    }
}

/// The operands of a node that it has evaluated. Aggregations take series as they come from the storage.
fn operands(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Call(call) => call.args.iter().collect(),
        Expr::Aggregate(aggregate) => {
            let inner = aggregate.expr.unparen();
            let read = match inner {
                Expr::Vector(_) => true,
                Expr::Call(call) => call.args.iter().any(|arg| matches!(arg.unparen(), Expr::Matrix(_))),
                _ => false,
            };
            aggregate.param.as_deref().into_iter().chain((!read).then_some(inner)).collect()
        }
        _ => Vec::new(),
    }
}

fn steps_key(steps: Steps) -> StepsKey {
    (steps.start, steps.interval, steps.count)
}

impl Query<'_> {
    /// The value of a part at some steps if it is known, with what it has taken; the last who asks for it gets it without a copy.
    fn known_part(&self, part: usize, steps: Steps) -> Result<Option<(Frame, Spent)>, QueryError> {
        let mut state = self.shared.state();
        let State { left, kept } = &mut *state;
        left[part] = left[part].saturating_sub(1);
        let key = (part, steps_key(steps));
        if left[part] == 0
            && let Some(Kept { rows, held, spent }) = kept.remove(&key)
        {
            return Ok(Some((Frame::of_parts(rows, held), spent)));
        }
        let Some(Kept { rows, spent, .. }) = kept.get(&key) else { return Ok(None) };
        let mut frame = self.frame();
        rows.iter().try_for_each(|row| frame.push(row.clone()))?;
        Ok(Some((frame, spent.clone())))
    }

    /// Keeps the value of a part if it is asked for again, and if there is memory for it.
    fn keep_part(&self, part: usize, steps: Steps, frame: &Frame, spent: Spent) {
        let mut state = self.shared.state();
        let bytes: usize = frame.rows.iter().map(Footprint::bytes).sum();
        if state.left[part] == 0 || bytes > self.memory.limit() / PART_OF_MEMORY {
            return;
        }
        let mut held = self.memory.charge();
        if held.add(bytes).is_ok() {
            state.kept.insert((part, steps_key(steps)), Kept { rows: frame.rows.clone(), held, spent });
        }
    }
}

impl Evaluator<'_> {
    /// The value of a part that is written several times.
    pub(super) fn eval_part(&self, expr: &Expr, part: usize) -> Result<Evaluated, QueryError> {
        self.query.begin_node(expr);
        if let Some((frame, spent)) = self.query.known_part(part, self.steps)? {
            self.query.spend(&spent)?;
            self.query.note_shared();
            let value = Evaluated::Vector(frame);
            self.query.end_node(|| explain::extent(&value));
            return Ok(value);
        }
        let before = self.query.swap_annotations(Annotations::default());
        let (value, spent) = self.query.measure(|| self.eval_node(expr));
        let notes = self.query.swap_annotations(before);
        let quiet = notes.is_empty();
        self.query.merge_annotations(notes);
        let value = value?;
        if let (true, Evaluated::Vector(frame), Some(spent)) = (quiet, &value, spent) {
            self.query.keep_part(part, self.steps, frame, spent);
        }
        self.query.end_node(|| explain::extent(&value));
        Ok(value)
    }
}
