//! Binary operators between two vectors. Which series match is found once per query.

use std::collections::HashMap;
use std::ops::Range;

use model::Labels;

use super::Evaluator;
use super::binary::{self, Outcome, samples};
use super::frame::{Cell, Frame, Row, is_absent, is_metadata_label, same_labelset, without_metadata};
use super::last_notes::LastNotes;
use super::pace::{LABELS_WORK, Pace};
use crate::annotations::Annotations;
use crate::ast::{Binary, Cardinality, VectorMatching};
use crate::memory::{Charge, Footprint, TABLE_ENTRY};
use crate::{PosRange, QueryError};

/// Which labels two series must have in common.
pub(super) struct Signature<'a> {
    matching: &'a VectorMatching,
}

impl<'a> Signature<'a> {
    pub(super) fn new(matching: &'a VectorMatching) -> Self {
        Self { matching }
    }

    pub(super) fn of(&self, labels: &Labels) -> Labels {
        let listed = |name: &str| self.matching.labels.iter().any(|l| l == name);
        if self.matching.on {
            labels.filter(listed)
        } else {
            labels.filter(|name| name != model::METRIC_NAME && !listed(name))
        }
    }
}

/// Series of both sides with the same signature.
struct MatchGroup {
    signature: Labels,
    /// Of the side that may have many.
    many: Vec<usize>,
    /// Of the side that has one.
    one: Vec<usize>,
}

/// One operation between two vectors, seen from the side that may have many series.
struct Match<'a> {
    evaluator: &'a Evaluator<'a>,
    binary: &'a Binary,
    matching: &'a VectorMatching,
    many: &'a Frame,
    one: &'a Frame,
    /// The "many" side is the right one.
    swapped: bool,
    pos: PosRange,
    out: Frame,
    /// Output row by labels.
    by_labels: HashMap<Labels, usize>,
    /// The group that made each output row.
    group_of: Vec<usize>,
    notes: LastNotes,
}

/// What a pair of samples counts for.
const PAIR_WORK: usize = 16;

/// So many steps are looked at at a time to find the first one with a result.
const FIRST_STEPS: usize = 64;

/// Stands for a series that is filled in.
const FILLED: usize = usize::MAX;

impl Evaluator<'_> {
    pub(super) fn match_vectors(
        &self,
        binary: &Binary,
        left: &Frame,
        right: &Frame,
        pos: PosRange,
        notes: &mut Annotations,
    ) -> Result<Frame, QueryError> {
        let default = VectorMatching::default();
        let matching = binary.matching.as_ref().unwrap_or(&default);
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let mut operation = Match {
            evaluator: self,
            binary,
            matching,
            many,
            one,
            swapped,
            pos,
            out: self.query.frame(),
            by_labels: HashMap::new(),
            group_of: Vec::new(),
            notes: LastNotes::new(self.steps.count),
        };
        operation.run()?;
        notes.merge(operation.notes.into_annotations());
        let mut out = operation.out;
        out.rows.retain(|row| !row.is_empty());
        Ok(out)
    }
}

impl<'a> Match<'a> {
    fn run(&mut self) -> Result<(), QueryError> {
        let (fill_many, fill_one) = self.fills();
        let steps = self.evaluator.steps.count;
        let any = |frame: &Frame| {
            let mut any = vec![false; steps];
            for row in &frame.rows {
                self.evaluator.query.check()?;
                for (step, any) in any.iter_mut().enumerate() {
                    *any |= row.has(step);
                }
            }
            Ok::<_, QueryError>(any)
        };
        let (any_many, any_one) = (any(self.many)?, any(self.one)?);
        // where one side is empty nothing can match, and nothing can be wrong either
        let live: Vec<bool> = any_many
            .iter()
            .zip(&any_one)
            .map(|(many, one)| (*many || fill_many.is_some()) && (*one || fill_one.is_some()))
            .collect();
        let (groups, _held) = self.groups()?;
        if let Err(error) = self.run_steps(&groups, 0..steps, &live) {
            if !matches!(error, QueryError::Execution(_)) {
                return Err(error);
            }
            // steps come one after another, so the error to report is that of the first step that has one
            self.out = self.evaluator.query.frame();
            self.by_labels.clear();
            self.group_of.clear();
            for step in 0..steps {
                self.run_steps(&groups, step..step + 1, &live)?;
            }
        }
        Ok(())
    }

    fn run_steps(&mut self, groups: &[MatchGroup], steps: Range<usize>, live: &[bool]) -> Result<(), QueryError> {
        let (fill_many, fill_one) = self.fills();
        let whole = steps == (0..self.evaluator.steps.count);
        let mut column = Vec::new();
        let many_side: &'a Frame = self.many;
        for group in groups {
            self.evaluator.query.check()?;
            self.check_unique(group, steps.clone(), live)?;
        }
        let evaluator = self.evaluator;
        let mut pace = evaluator.query.pace();
        for (number, group) in groups.iter().enumerate() {
            evaluator.query.check()?;
            if group.one.is_empty() && fill_one.is_none() || group.many.is_empty() && fill_many.is_none() {
                continue;
            }
            if whole && self.run_columns(number, group, &mut column, &mut pace)? {
                continue;
            }
            let mut rows: HashMap<(usize, usize), usize> = HashMap::new();
            for step in steps.clone().filter(|step| live[*step]) {
                pace.done(PAIR_WORK * (group.one.len() + group.many.len()))?;
                let one = self.unique(group, step)?;
                let Some((one_at, one_cell)) = one.or_else(|| fill_one.map(|fill| (FILLED, Cell::Float(fill)))) else {
                    continue;
                };
                let mut matches = 0;
                for &many_at in &group.many {
                    let cell = many_side.rows[many_at].cell(step);
                    if matches!(cell, Cell::Empty) {
                        continue;
                    }
                    matches += 1;
                    if matches > 1 && self.matching.card == Cardinality::OneToOne {
                        return Err(QueryError::execution(
                            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                        ));
                    }
                    self.put(number, group, (many_at, cell), (one_at, one_cell), step, &mut rows)?;
                }
                if matches == 0
                    && one_at != FILLED
                    && let Some(fill) = fill_many
                {
                    let filled = (FILLED, Cell::Float(fill));
                    self.put(number, group, filled, (one_at, one_cell), step, &mut rows)?;
                }
            }
        }
        Ok(())
    }

    /// Works on the usual group, all steps of a pair of series at once: floats only, and one series on the "one" side. `false` if it is
    /// another. An error may be another than that of the first step that has one.
    fn run_columns(
        &mut self,
        number: usize,
        group: &MatchGroup,
        column: &mut Vec<f64>,
        pace: &mut Pace<'_>,
    ) -> Result<bool, QueryError> {
        let &[one_at] = &group.one[..] else { return Ok(false) };
        let (many, one): (&'a Frame, &'a Row) = (self.many, &self.one.rows[one_at]);
        let several = group.many.len() > 1 && self.matching.card == Cardinality::OneToOne;
        let has_histograms = |row: &Row| !row.histograms.is_empty();
        if several
            || self.fills() != (None, None)
            || has_histograms(one)
            || group.many.iter().any(|at| has_histograms(&many.rows[*at]))
        {
            return Ok(false);
        }
        let (binary, swapped) = (self.binary, self.swapped);
        let sides = |many_at: usize, steps: Range<usize>| {
            let (many, one) = (&many.rows[many_at].floats[steps.clone()], &one.floats[steps]);
            if swapped { (one, many) } else { (many, one) }
        };
        let steps = one.floats.len();
        // in the order in which a step after the other would find them
        let mut found = Vec::with_capacity(group.many.len());
        for &many_at in &group.many {
            for from in (0..steps).step_by(FIRST_STEPS) {
                pace.done(FIRST_STEPS)?;
                let (left, right) = sides(many_at, from..steps.min(from + FIRST_STEPS));
                if !binary::columns(binary, left, right, column) {
                    return Ok(false);
                }
                if let Some(first) = column.iter().position(|value| !is_absent(*value)) {
                    found.push((from + first, many_at));
                    break;
                }
            }
        }
        found.sort_unstable();
        for (_, many_at) in found {
            pace.done(2 * steps)?;
            let (left, right) = sides(many_at, 0..steps);
            let known = self.out.rows.len();
            let at = self.output_row(number, group, many_at, one_at)?;
            let row = &mut self.out.rows[at];
            if at == known {
                binary::columns(binary, left, right, &mut row.floats);
                continue;
            }
            binary::columns(binary, left, right, column);
            for (step, value) in column.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                if row.has(step) {
                    return Err(same_labelset());
                }
                row.set_float(step, *value);
            }
        }
        Ok(true)
    }

    /// The values for series that miss: on the side of many, and on that of one.
    fn fills(&self) -> (Option<f64>, Option<f64>) {
        let VectorMatching { fill_left, fill_right, .. } = *self.matching;
        if self.swapped { (fill_right, fill_left) } else { (fill_left, fill_right) }
    }

    /// Series by signature, in the order they come.
    fn groups(&self) -> Result<(Vec<MatchGroup>, Charge), QueryError> {
        let mut held = self.evaluator.query.memory.charge();
        let mut pace = self.evaluator.query.pace();
        let signature = Signature::new(self.matching);
        let mut groups: Vec<MatchGroup> = Vec::new();
        let mut by_signature: HashMap<Labels, usize> = HashMap::new();
        let mut group_of = |groups: &mut Vec<MatchGroup>, labels: &Labels| {
            let signature = signature.of(labels);
            if let Some(at) = by_signature.get(&signature) {
                return Ok::<_, QueryError>(*at);
            }
            held.add(size_of::<MatchGroup>() + signature.bytes() + 2 * TABLE_ENTRY)?;
            by_signature.insert(signature.clone(), groups.len());
            groups.push(MatchGroup { signature, many: Vec::new(), one: Vec::new() });
            Ok(groups.len() - 1)
        };
        for (at, row) in self.many.rows.iter().enumerate() {
            pace.done(LABELS_WORK)?;
            let group = group_of(&mut groups, &row.labels)?;
            groups[group].many.push(at);
        }
        for (at, row) in self.one.rows.iter().enumerate() {
            pace.done(LABELS_WORK)?;
            let group = group_of(&mut groups, &row.labels)?;
            groups[group].one.push(at);
        }
        Ok((groups, held))
    }

    fn check_unique(&self, group: &MatchGroup, steps: Range<usize>, live: &[bool]) -> Result<(), QueryError> {
        if group.one.len() > 1 {
            let mut pace = self.evaluator.query.pace();
            for step in steps.filter(|step| live[*step]) {
                pace.done(group.one.len())?;
                self.unique(group, step)?;
            }
        }
        Ok(())
    }

    /// The only sample of the "one" side at a step.
    fn unique(&self, group: &MatchGroup, step: usize) -> Result<Option<(usize, Cell<'a>)>, QueryError> {
        let frame: &'a Frame = self.one;
        let mut found: Option<(usize, Cell<'a>)> = None;
        for &at in &group.one {
            let cell = frame.rows[at].cell(step);
            if matches!(cell, Cell::Empty) {
                continue;
            }
            if let Some((first, _)) = found {
                let side = if self.swapped { "left" } else { "right" };
                return Err(QueryError::execution(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];\
                     many-to-many matching not allowed: matching labels must be unique on one side",
                    group.signature, self.one.rows[first].labels, self.one.rows[at].labels
                )));
            }
            found = Some((at, cell));
        }
        Ok(found)
    }

    /// Computes one pair of samples and puts the result into its row.
    #[allow(clippy::too_many_arguments)]
    fn put(
        &mut self,
        number: usize,
        group: &MatchGroup,
        (many_at, many): (usize, Cell<'_>),
        (one_at, one): (usize, Cell<'_>),
        step: usize,
        rows: &mut HashMap<(usize, usize), usize>,
    ) -> Result<(), QueryError> {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let op = self.binary.op;
        let mut found = Annotations::default();
        let outcome = samples(op, left, right, self.pos, &mut found);
        self.notes.note(step, many_at, found);
        let (keep, float, histogram) = match outcome {
            Outcome::None => return Ok(()),
            Outcome::Float { value, keep } => (keep, value, None),
            Outcome::Histogram { value, keep } => (keep, 0.0, Some(value)),
        };
        if !keep && !self.binary.return_bool {
            return Ok(());
        }
        let at = match rows.get(&(many_at, one_at)) {
            Some(at) => *at,
            None => {
                let at = self.output_row(number, group, many_at, one_at)?;
                rows.insert((many_at, one_at), at);
                at
            }
        };
        let row = &mut self.out.rows[at];
        if row.has(step) {
            return Err(if self.group_of[at] == number && self.matching.card != Cardinality::OneToOne {
                QueryError::execution("multiple matches for labels: grouping labels must ensure unique matches")
            } else {
                same_labelset()
            });
        }
        match histogram {
            _ if self.binary.return_bool => row.set_float(step, if keep { 1.0 } else { 0.0 }),
            Some(histogram) => row.set_histogram(step, histogram),
            None => row.set_float(step, float),
        }
        Ok(())
    }

    /// The row for results of two series.
    fn output_row(
        &mut self,
        number: usize,
        group: &MatchGroup,
        many_at: usize,
        one_at: usize,
    ) -> Result<usize, QueryError> {
        let (many, drop_many) = match self.many.rows.get(many_at) {
            Some(row) => (&row.labels, row.drop_name),
            None => (&group.signature, false),
        };
        let one = self.one.rows.get(one_at).map_or(&group.signature, |row| &row.labels);
        let listed = |name: &str| self.matching.labels.iter().any(|l| l == name);
        let changes = self.binary.op.changes_metric();
        let kept = many.iter().filter(|(name, _)| {
            if changes && is_metadata_label(name) {
                return false;
            }
            self.matching.card != Cardinality::OneToOne || listed(name) == self.matching.on
        });
        let mut pairs: Vec<(&str, &str)> = kept.collect();
        for name in &self.matching.include {
            let value = one.value(name);
            match (pairs.binary_search_by(|(known, _)| (*known).cmp(name)), value.is_empty()) {
                (Ok(at), false) => pairs[at].1 = value,
                (Ok(at), true) => {
                    pairs.remove(at);
                }
                (Err(at), false) => pairs.insert(at, (name, value)),
                (Err(_), true) => {}
            }
        }
        let mut labels = Labels::from_sorted(pairs);
        let mut drop_name = drop_many;
        if self.binary.return_bool {
            drop_name = true;
            if !self.evaluator.query.features.delayed_name_removal {
                labels = without_metadata(&labels);
            }
        }
        if let Some(at) = self.by_labels.get(&labels) {
            return Ok(*at);
        }
        let at = self.out.rows.len();
        self.out.push(Row::new(labels.clone(), drop_name, self.evaluator.steps.count))?;
        self.by_labels.insert(labels, at);
        self.group_of.push(number);
        Ok(at)
    }
}
