//! Binary operators between two vectors. Which series match is found once per query.

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::ops::Range;

use model::Labels;

use super::Evaluator;
use super::binary::{Outcome, samples};
use super::frame::{Cell, Frame, Row, is_absent, same_labelset};
use super::last_notes::LastNotes;
use super::pace::{LABELS_WORK, Pace};
use super::pairing::{Pairing, Signature};
use crate::annotations::Annotations;
use crate::ast::{Binary, Cardinality, VectorMatching};
use crate::memory::{Charge, Footprint, TABLE_ENTRY};
use crate::{PosRange, QueryError};

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
    pairing: Pairing<'a>,
    many: &'a Frame,
    one: &'a Frame,
    pos: PosRange,
    out: Frame,
    /// Output row by labels.
    by_labels: HashMap<Labels, usize>,
    /// The group that made each output row.
    group_of: Vec<usize>,
    notes: LastNotes,
}

/// For each series of many the labels of its result, and whether its name is to be removed at the end; nothing if it has none.
type Results = Vec<Option<(Labels, bool)>>;

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
        (left, right): (Frame, Frame),
        pos: PosRange,
        notes: &mut Annotations,
    ) -> Result<Frame, QueryError> {
        let default = VectorMatching::default();
        let matching = binary.matching.as_ref().unwrap_or(&default);
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let delayed_name_removal = self.query.features.delayed_name_removal;
        let pairing = Pairing { binary, matching, swapped, delayed_name_removal };
        let (groups, _held) = self.match_groups(matching, &many, &one)?;
        if let Some((results, _held)) = self.distinct_results(pairing, &groups, &many, &one)? {
            return self.match_in_place(pairing, &groups, many, &one, results);
        }
        self.match_with_care(pairing, &groups, (&many, &one), pos, notes)
    }

    /// Any operation, step by step where that matters.
    fn match_with_care(
        &self,
        pairing: Pairing<'_>,
        groups: &[MatchGroup],
        (many, one): (&Frame, &Frame),
        pos: PosRange,
        notes: &mut Annotations,
    ) -> Result<Frame, QueryError> {
        let mut operation = Match {
            evaluator: self,
            pairing,
            many,
            one,
            pos,
            out: self.query.frame(),
            by_labels: HashMap::new(),
            group_of: Vec::new(),
            notes: LastNotes::new(self.steps.count),
        };
        operation.run(groups)?;
        notes.merge(operation.notes.into_annotations());
        let mut out = operation.out;
        out.rows.retain(|row| !row.is_empty());
        Ok(out)
    }

    /// Series by signature, in the order they come.
    fn match_groups(
        &self,
        matching: &VectorMatching,
        many: &Frame,
        one: &Frame,
    ) -> Result<(Vec<MatchGroup>, Charge), QueryError> {
        let mut held = self.query.memory.charge();
        let mut pace = self.query.pace();
        let signature = Signature::new(matching);
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
        for (at, row) in many.rows.iter().enumerate() {
            pace.done(LABELS_WORK)?;
            let group = group_of(&mut groups, &row.labels)?;
            groups[group].many.push(at);
        }
        for (at, row) in one.rows.iter().enumerate() {
            pace.done(LABELS_WORK)?;
            let group = group_of(&mut groups, &row.labels)?;
            groups[group].one.push(at);
        }
        Ok((groups, held))
    }

    /// For each series of many what its result is called, in the usual case in which nothing can go wrong: floats only, one series at most
    /// on the "one" side of each group, nothing filled in, and results that all have labels of their own.
    fn distinct_results(
        &self,
        pairing: Pairing<'_>,
        groups: &[MatchGroup],
        many: &Frame,
        one: &Frame,
    ) -> Result<Option<(Results, Charge)>, QueryError> {
        let one_to_one = pairing.matching.card == Cardinality::OneToOne;
        let is_usual = |group: &MatchGroup| group.one.len() < 2 && (group.many.len() < 2 || !one_to_one);
        let has_histograms = |frame: &Frame| frame.rows.iter().any(|row| !row.histograms.is_empty());
        if pairing.fills() != (None, None)
            || !groups.iter().all(is_usual)
            || has_histograms(many)
            || has_histograms(one)
            || !pairing.columns(&[], &[], &mut Vec::new())
        {
            return Ok(None);
        }
        let (mut held, mut pace) = (self.query.memory.charge(), self.query.pace());
        let mut results: Results = vec![None; many.rows.len()];
        let mut known = HashSet::with_capacity(many.rows.len());
        for group in groups {
            let [one_at] = group.one[..] else { continue };
            for &at in &group.many {
                pace.done(LABELS_WORK)?;
                let row = &many.rows[at];
                let (labels, drop_name) = pairing.labels((&row.labels, row.drop_name), &one.rows[one_at].labels);
                held.add(2 * TABLE_ENTRY + labels.bytes())?;
                if !known.insert(labels.clone()) {
                    return Ok(None);
                }
                results[at] = Some((labels, drop_name));
            }
        }
        Ok(Some((results, held)))
    }

    /// Works on all steps of a pair of series at once, and leaves the result in the place of the series of many. `results` are those of
    /// [`Self::distinct_results`].
    fn match_in_place(
        &self,
        pairing: Pairing<'_>,
        groups: &[MatchGroup],
        many: Frame,
        one: &Frame,
        mut results: Results,
    ) -> Result<Frame, QueryError> {
        let mut pace = self.query.pace();
        let (mut rows, held) = many.into_parts();
        let mut out = Vec::with_capacity(rows.len());
        let mut column = Vec::new();
        for group in groups {
            let [one_at] = group.one[..] else { continue };
            let one = &one.rows[one_at].floats;
            // in the order in which a step after the other would find them
            let mut found = Vec::with_capacity(group.many.len());
            for &at in &group.many {
                pace.done(2 * one.len())?;
                let row = &mut rows[at];
                pairing.columns(&row.floats, one, &mut column);
                row.floats.copy_from_slice(&column);
                if let Some(first) = column.iter().position(|value| !is_absent(*value)) {
                    found.push((first, at));
                }
            }
            found.sort_unstable();
            for (_, at) in found {
                let Some((labels, drop_name)) = results[at].take() else { continue };
                out.push(Row { labels, drop_name, floats: take(&mut rows[at].floats), histograms: Vec::new() });
            }
        }
        let mut out = Frame::of_parts(out, held);
        out.recount()?;
        Ok(out)
    }
}

impl<'a> Match<'a> {
    fn run(&mut self, groups: &[MatchGroup]) -> Result<(), QueryError> {
        let (fill_many, fill_one) = self.pairing.fills();
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
        if let Err(error) = self.run_steps(groups, 0..steps, &live) {
            if !matches!(error, QueryError::Execution(_)) {
                return Err(error);
            }
            // steps come one after another, so the error to report is that of the first step that has one
            self.out = self.evaluator.query.frame();
            self.by_labels.clear();
            self.group_of.clear();
            for step in 0..steps {
                self.run_steps(groups, step..step + 1, &live)?;
            }
        }
        Ok(())
    }

    fn run_steps(&mut self, groups: &[MatchGroup], steps: Range<usize>, live: &[bool]) -> Result<(), QueryError> {
        let (fill_many, fill_one) = self.pairing.fills();
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
                    if matches > 1 && self.pairing.matching.card == Cardinality::OneToOne {
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
        let several = group.many.len() > 1 && self.pairing.matching.card == Cardinality::OneToOne;
        let has_histograms = |row: &Row| !row.histograms.is_empty();
        if several
            || self.pairing.fills() != (None, None)
            || has_histograms(one)
            || group.many.iter().any(|at| has_histograms(&many.rows[*at]))
        {
            return Ok(false);
        }
        let pairing = self.pairing;
        let columns = |many_at: usize, steps: Range<usize>, out: &mut Vec<f64>| {
            pairing.columns(&many.rows[many_at].floats[steps.clone()], &one.floats[steps], out)
        };
        let steps = one.floats.len();
        // in the order in which a step after the other would find them
        let mut found = Vec::with_capacity(group.many.len());
        for &many_at in &group.many {
            for from in (0..steps).step_by(FIRST_STEPS) {
                pace.done(FIRST_STEPS)?;
                if !columns(many_at, from..steps.min(from + FIRST_STEPS), column) {
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
            let known = self.out.rows.len();
            let at = self.output_row(number, group, many_at, one_at)?;
            let row = &mut self.out.rows[at];
            if at == known {
                columns(many_at, 0..steps, &mut row.floats);
                continue;
            }
            columns(many_at, 0..steps, column);
            for (step, value) in column.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                if row.has(step) {
                    return Err(same_labelset());
                }
                row.set_float(step, *value);
            }
        }
        Ok(true)
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
                let side = if self.pairing.swapped { "left" } else { "right" };
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
        let (left, right) = if self.pairing.swapped { (one, many) } else { (many, one) };
        let op = self.pairing.binary.op;
        let mut found = Annotations::default();
        let outcome = samples(op, left, right, self.pos, &mut found);
        self.notes.note(step, many_at, found);
        let (keep, float, histogram) = match outcome {
            Outcome::None => return Ok(()),
            Outcome::Float { value, keep } => (keep, value, None),
            Outcome::Histogram { value, keep } => (keep, 0.0, Some(value)),
        };
        if !keep && !self.pairing.binary.return_bool {
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
            return Err(if self.group_of[at] == number && self.pairing.matching.card != Cardinality::OneToOne {
                QueryError::execution("multiple matches for labels: grouping labels must ensure unique matches")
            } else {
                same_labelset()
            });
        }
        match histogram {
            _ if self.pairing.binary.return_bool => row.set_float(step, if keep { 1.0 } else { 0.0 }),
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
        let (labels, drop_name) = self.pairing.labels((many, drop_many), one);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Expr;
    use crate::eval::{Evaluated, Query, Steps};
    use crate::search::Patience;
    use crate::testing::MemoryStorage;
    use crate::{Engine, EngineOptions, QueryOptions};

    /// Series of `a` and `b` with gaps, most of which have a match.
    fn storage() -> MemoryStorage {
        let mut storage = MemoryStorage::new();
        for n in 0..60i64 {
            for name in ["a", "b"] {
                let labels = [
                    ("__name__", name.to_owned()),
                    ("n", if name == "a" { n } else { n * 2 }.to_string()),
                    ("g", (n % 7).to_string()),
                    ("only_b", if name == "b" { (n * 3).to_string() } else { String::new() }),
                ];
                for i in (0..40).filter(|i| (i + n) % 11 > 2 && i + n % 13 > 6) {
                    let value = if i % 9 == 4 { f64::NAN } else { (i * n % 23) as f64 };
                    storage.add_float(&Labels::from_pairs(labels.clone()), i * 1000, value, 0);
                }
            }
        }
        storage
    }

    /// Rows in order, values by their bits.
    fn shown(frame: &Frame) -> Vec<(String, bool, Vec<u64>)> {
        let bits = |row: &Row| row.floats.iter().map(|value| value.to_bits()).collect();
        frame.rows.iter().map(|row| (row.labels.to_string(), row.drop_name, bits(row))).collect()
    }

    #[test]
    fn what_is_left_in_place_is_what_care_finds() {
        let (storage, engine) = (storage(), Engine::default());
        let (engine_options, options) = (EngineOptions::default(), QueryOptions::default());
        let steps = Steps { start: -1000, interval: 1000, count: 45 };
        for (text, in_place) in [
            ("a * on (n) group_left () b", true),
            ("a / ignoring (g, only_b) b", true),
            ("a > on (n) b", true),
            ("a >= bool on (n) b", true),
            ("b - on (n) group_right (only_b) a", true),
            ("a - on (n) group_left (only_b) b", true),
            ("b ^ on (n) group_right (only_b) a", true),
            ("sum by (g) (a) % on (g) group_right () b", true),
            ("a + on (g) group_left () sum by (g) (b)", true),
            // histograms' operators, and results that are called alike
            ("a </ on (n) b", false),
            ("a + on (n) group_left (g) sum by (n) (b)", true),
            ("a + on (g) group_left (n) label_replace(sum by (g) (b), \"n\", \"x\", \"\", \"\")", false),
        ] {
            let expr = engine.parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let range = (steps.start, steps.last(), steps.interval);
            let patience = Patience::default();
            let query = Query::new(&storage, &expr, &engine_options, &options, &patience, range, steps);
            let evaluator = Evaluator { query: &query, steps };
            let Expr::Binary(binary) = &expr else { panic!("{text}: an operator") };
            let eval = |expr: &Expr| match evaluator.eval(expr) {
                Ok(Evaluated::Vector(frame)) => frame,
                _ => panic!("{text}: a vector"),
            };
            let (left, right) = (eval(&binary.lhs), eval(&binary.rhs));
            let matching = binary.matching.as_ref().unwrap();
            let swapped = matching.card == Cardinality::OneToMany;
            let (many, one) = if swapped { (right, left) } else { (left, right) };
            let pairing = Pairing { binary, matching, swapped, delayed_name_removal: false };
            let (groups, _held) = evaluator.match_groups(matching, &many, &one).unwrap();
            let results = evaluator.distinct_results(pairing, &groups, &many, &one).unwrap();
            assert_eq!(results.is_some(), in_place, "{text}");
            let mut notes = Annotations::default();
            let with_care = evaluator.match_with_care(pairing, &groups, (&many, &one), expr.pos(), &mut notes);
            if let Some((results, _held)) = results {
                let found = evaluator.match_in_place(pairing, &groups, many, &one, results).unwrap();
                assert!(!found.rows.is_empty(), "{text}");
                assert_eq!(shown(&found), shown(&with_care.unwrap()), "{text}");
            }
        }
    }
}
