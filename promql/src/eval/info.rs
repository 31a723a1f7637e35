//! `info(v, {labels})`: adds the labels of info series (`target_info`) to the series they belong to.

use std::collections::HashMap;

use model::{Labels, MatchOp, Matcher, Timestamp};

use super::Evaluator;
use super::durations::LookAt;
use super::frame::{Frame, Row, is_absent};
use super::range_functions::without_stale;
use crate::QueryError;
use crate::ast::{Call, Expr};
use crate::memory::{Charge, Footprint};

/// Labels by which info series belong to others.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The info metric if none is asked for.
const TARGET_INFO: &str = "target_info";

/// An info series: at each step the time of its sample, if it has one.
struct InfoSeries {
    labels: Labels,
    times: Vec<Option<Timestamp>>,
}

impl Evaluator<'_> {
    pub(super) fn info(&self, call: &Call) -> Result<Frame, QueryError> {
        let base = self.vector(&call.args[0])?;
        let selector: &[Matcher] = match call.args.get(1).map(Expr::unparen) {
            Some(Expr::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
            selector.iter().cloned().partition(|m| &*m.name == model::METRIC_NAME);
        if !names.iter().any(|m| matches!(m.op(), MatchOp::Equal | MatchOp::Regex)) {
            names.push(Matcher::equal(model::METRIC_NAME, TARGET_INFO));
        }
        let is_info = |row: &Row| names.iter().all(|m| m.matches(row.metric_name()));
        let plain: Vec<bool> = base.rows.iter().map(is_info).collect();
        let (infos, _held) = self.info_series(&call.args[0], &base, &plain, &names, &data)?;
        self.enrich(&base, &plain, &infos, &data)
    }

    /// The shifts from the evaluation time to the time at which the innermost selector of an expression looks.
    fn shifts(&self, expr: &Expr) -> Result<Vec<LookAt>, QueryError> {
        let mut shifts = Vec::new();
        let mut at = expr;
        loop {
            at = match at {
                Expr::Vector(selector) => {
                    shifts.push(self.look_at(&selector.shift)?);
                    return Ok(shifts);
                }
                Expr::Matrix(matrix) => {
                    shifts.push(self.look_at(&matrix.selector.shift)?);
                    return Ok(shifts);
                }
                Expr::Subquery(subquery) => {
                    shifts.push(self.look_at(&subquery.shift)?);
                    &subquery.expr
                }
                Expr::Paren(paren) => &paren.expr,
                Expr::Unary(unary) => &unary.expr,
                Expr::Aggregate(aggregate) => &aggregate.expr,
                Expr::Binary(binary) => &binary.lhs,
                Expr::Call(call) => match call.args.iter().find(|arg| !arg.selectors().is_empty()) {
                    Some(arg) => arg,
                    None => return Ok(shifts),
                },
                Expr::Number(_) | Expr::String(_) => return Ok(shifts),
            };
        }
    }

    /// The info series that may belong to any series of the vector, at the times its samples are of.
    fn info_series(
        &self,
        arg: &Expr,
        base: &Frame,
        plain: &[bool],
        names: &[Matcher],
        data: &[Matcher],
    ) -> Result<(Vec<InfoSeries>, Charge), QueryError> {
        let mut matchers: Vec<Matcher> = names.to_vec();
        let mut any_identity = false;
        for label in IDENTIFYING {
            let mut values: Vec<&str> = base
                .rows
                .iter()
                .zip(plain)
                .filter(|(_, plain)| !**plain)
                .filter_map(|(row, _)| row.labels.get(label))
                .collect();
            values.sort_unstable();
            values.dedup();
            if values.is_empty() {
                continue;
            }
            any_identity = true;
            let pattern: Vec<String> = values.into_iter().map(regex::escape).collect();
            let matcher = Matcher::new(MatchOp::Regex, label, &pattern.join("|"))
                .map_err(|error| QueryError::execution(error.to_string()))?;
            matchers.push(matcher);
        }
        if !any_identity {
            return Ok((Vec::new(), self.query.memory.charge()));
        }
        matchers.extend(data.iter().cloned());
        let shifts = self.shifts(arg)?;
        let times: Vec<Timestamp> =
            self.steps.times().map(|time| shifts.iter().fold(time, |time, shift| shift.time(time))).collect();
        let lookback = self.query.lookback;
        let first = times.iter().min().copied().unwrap_or(0).saturating_sub(lookback).saturating_add(1);
        let last = times.iter().max().copied().unwrap_or(0);
        let mut infos = Vec::new();
        let mut held = self.query.memory.charge();
        self.read_series(&matchers, (first, last), &mut |labels, samples| {
            let found = |column: &[Timestamp], time: Timestamp| {
                let at = column.partition_point(|t| *t <= time).checked_sub(1)?;
                (column[at] > time.saturating_sub(lookback)).then_some(at)
            };
            held.add(labels.bytes() + times.len() * size_of::<Option<Timestamp>>())?;
            let mut series = InfoSeries { labels: labels.clone(), times: vec![None; times.len()] };
            let has_histograms = !without_stale(samples.clone()).histograms.is_empty();
            for (step, time) in times.iter().enumerate() {
                if has_histograms && found(&samples.histograms.timestamps, *time).is_some() {
                    return Err(QueryError::execution("info sample should be float"));
                }
                if let Some(at) = found(&samples.floats.timestamps, *time)
                    && !is_absent(samples.floats.values[at])
                {
                    series.times[step] = Some(samples.floats.timestamps[at]);
                }
            }
            let found = || (0..times.len()).filter(|step| series.times[*step].is_some());
            let mut count = self.count_series();
            found().for_each(|step| count.add(step, 1, 1));
            drop(count);
            self.query.hold(found().count())?;
            infos.push(series);
            Ok(())
        })?;
        let points = |step: usize| infos.iter().filter(|info: &&InfoSeries| info.times[step].is_some()).count() as u32;
        self.note_gathered((0..times.len()).map(points).collect());
        Ok((infos, held))
    }

    fn enrich(
        &self,
        base: &Frame,
        plain: &[bool],
        infos: &[InfoSeries],
        data: &[Matcher],
    ) -> Result<Frame, QueryError> {
        // info series by metric name and identity
        let mut by_identity: HashMap<Labels, Vec<(&str, Vec<&InfoSeries>)>> = HashMap::new();
        for info in infos {
            let name = info.labels.metric_name();
            self.query.check()?;
            let metrics = by_identity.entry(identity(&info.labels)).or_default();
            match metrics.iter_mut().find(|(known, _)| *known == name) {
                Some((_, series)) => series.push(info),
                None => metrics.push((name, vec![info])),
            }
        }
        let all_may_be_empty = data.iter().all(Matcher::matches_empty);
        let wanted = |label: &str| data.is_empty() || data.iter().any(|m| &*m.name == label);
        let mut out = self.query.frame();
        let mut by_labels: HashMap<Labels, usize> = HashMap::new();
        for (row, plain) in base.rows.iter().zip(plain) {
            let metrics = by_identity.get(&identity(&row.labels)).filter(|_| !plain);
            // labels found before, by the info series they come from
            let mut known: Option<(Vec<*const InfoSeries>, Labels)> = None;
            for step in (0..self.steps.count).filter(|step| row.has(*step)) {
                let mut found: Vec<&InfoSeries> = Vec::new();
                for (_, series) in metrics.into_iter().flatten() {
                    found.extend(newest(series, step)?);
                }
                if found.is_empty() && !plain && !all_may_be_empty {
                    continue;
                }
                let sources: Vec<*const InfoSeries> = found.iter().map(|info| std::ptr::from_ref(*info)).collect();
                let labels = match &known {
                    Some((of, labels)) if *of == sources => labels.clone(),
                    _ => {
                        let labels = with_info_labels(&row.labels, &found, wanted)?;
                        known = Some((sources, labels.clone()));
                        labels
                    }
                };
                let at = match by_labels.get(&labels) {
                    Some(at) => *at,
                    None => {
                        out.push(Row::new(labels.clone(), row.drop_name, self.steps.count))?;
                        by_labels.insert(labels, out.rows.len() - 1);
                        out.rows.len() - 1
                    }
                };
                if out.rows[at].has(step) {
                    return Err(super::frame::same_labelset());
                }
                out.rows[at].set(step, row.cell(step));
            }
        }
        Ok(out)
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.filter(|name| IDENTIFYING.contains(&name))
}

/// The info series with the newest sample at a step.
fn newest<'a>(series: &[&'a InfoSeries], step: usize) -> Result<Option<&'a InfoSeries>, QueryError> {
    let mut best: Option<(&InfoSeries, Timestamp)> = None;
    for info in series {
        let Some(time) = info.times[step] else { continue };
        match best {
            Some((existing, known)) if known == time => {
                return Err(QueryError::execution(format!(
                    "found duplicate series for info metric: existing {} @ {known}, new {} @ {time}",
                    existing.labels, info.labels
                )));
            }
            Some((_, known)) if known > time => {}
            _ => best = Some((info, time)),
        }
    }
    Ok(best.map(|(info, _)| info))
}

fn with_info_labels(base: &Labels, infos: &[&InfoSeries], wanted: impl Fn(&str) -> bool) -> Result<Labels, QueryError> {
    let mut added = model::LabelsBuilder::default();
    for info in infos {
        for (name, value) in &info.labels {
            if name == model::METRIC_NAME || !wanted(name) {
                continue;
            }
            let known = added.get(name);
            if !known.is_empty() && known != value {
                return Err(QueryError::execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    let mut labels = base.to_builder();
    for (name, value) in added.iter() {
        labels.set(name, value);
    }
    Ok(labels.build())
}
