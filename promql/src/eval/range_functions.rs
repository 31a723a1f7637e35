//! Functions over range vectors: windows, dispatch, and the small ones.

use std::sync::Arc;

use model::{Labels, Timestamp};

use super::frame::{Frame, Hist, Row, histogram_size};
use super::pace::{HISTOGRAM_WORK, SORT_WORK};
use super::parallel::Wants;
use super::subquery::SubqueryValue;
use super::windows::{WindowCache, WindowShape};
use super::{Evaluator, extended, over_time, rate, stats_only};
use crate::annotations::Annotations;
use crate::ast::{Call, Expr, Extended, VectorSelector};
use crate::go_text::format_general;
use crate::storage::{Column, KeptLabels, Samples, Wanted};
use crate::{Features, PosRange, QueryError, ValueType};

/// What a function computes for a step.
#[derive(Debug)]
pub(super) enum Output {
    None,
    Float(f64),
    Histogram(Hist),
}

/// The samples of one series that a step sees.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) times: &'a [Timestamp],
    pub(super) floats: &'a [f64],
    /// Start timestamps of the floats, if known and wanted.
    pub(super) starts: Option<&'a [Timestamp]>,
    pub(super) hist_times: &'a [Timestamp],
    pub(super) hists: &'a [Hist],
    pub(super) hist_starts: Option<&'a [Timestamp]>,
    /// Evaluation time.
    pub(super) at: Timestamp,
    pub(super) step: usize,
    /// Start (excluded) and end (included) of the range.
    pub(super) range: (Timestamp, Timestamp),
}

impl Window<'_> {
    pub(super) fn len(&self) -> usize {
        self.floats.len() + self.hists.len()
    }

    pub(super) fn is_mixed(&self) -> bool {
        !self.floats.is_empty() && !self.hists.is_empty()
    }

    fn samples(&self) -> usize {
        self.floats.len() + sizes(self.hists)
    }
}

/// A call of a function over a range vector, as its kernels see it.
pub(super) struct RangeCall<'a> {
    pub(super) name: &'static str,
    /// Length of the range in seconds.
    pub(super) range_secs: f64,
    pub(super) extended: Option<Extended>,
    /// Position of the range vector.
    pub(super) pos: PosRange,
    /// Values of the scalar arguments at each step.
    pub(super) params: &'a [Vec<f64>],
    /// Position of the first argument.
    pub(super) first_pos: PosRange,
    pub(super) features: Features,
}

/// Whether a function over range vectors keeps metric names.
pub(super) fn keeps_name(function: &str) -> bool {
    matches!(function, "last_over_time" | "first_over_time")
}

/// One series of a range vector.
pub(super) struct RangeSeries {
    pub(super) labels: Labels,
    pub(super) drop_name: bool,
    /// Without staleness markers.
    pub(super) samples: Samples,
}

/// A range vector, from storage or from a subquery.
pub(super) struct RangeSource {
    pub(super) shape: WindowShape,
    pub(super) extended: Option<Extended>,
    pub(super) pos: PosRange,
}

impl Evaluator<'_> {
    /// The shape of a range vector's windows.
    pub(super) fn range_source(&self, arg: &Expr) -> Result<RangeSource, QueryError> {
        match arg {
            Expr::Matrix(matrix) => {
                let look = self.look_at(&matrix.selector.shift)?;
                let range = self.range_millis(matrix.range, matrix.range_expr.as_deref())?;
                let lookback = self.query.lookback;
                let extended = matrix.selector.extended;
                let before = if extended.is_some() { lookback } else { 0 };
                let after = if extended == Some(Extended::Smoothed) { lookback } else { 0 };
                Ok(RangeSource { shape: WindowShape { look, range, before, after }, extended, pos: arg.pos() })
            }
            Expr::Subquery(subquery) => {
                let look = self.look_at(&subquery.shift)?;
                let range = self.range_millis(subquery.range, subquery.range_expr.as_deref())?;
                let shape = WindowShape { look, range, before: 0, after: 0 };
                Ok(RangeSource { shape, extended: None, pos: arg.pos() })
            }
            _ => Err(QueryError::execution("expected a range vector")),
        }
    }

    /// The value that a range vector is cut from, if it is one of a subquery.
    pub(super) fn subquery_of(&self, arg: &Expr, source: &RangeSource) -> Result<Option<SubqueryValue>, QueryError> {
        match arg {
            Expr::Subquery(subquery) => self.subquery_value(subquery, source).map(Some),
            _ => Ok(None),
        }
    }

    /// Calls `each` for every series of a range vector; `subquery` is the value that [`Self::subquery_of`] has given for it.
    pub(super) fn range_series(
        &self,
        arg: &Expr,
        source: &RangeSource,
        subquery: Option<SubqueryValue>,
        each: &mut dyn FnMut(RangeSeries) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        match (arg, subquery) {
            (Expr::Matrix(matrix), _) => {
                let span = source.shape.span(self.steps);
                self.read_series(&matrix.selector.matchers, span, &mut |labels, samples| {
                    each(self.ready(&matrix.selector, labels, samples))
                })
            }
            (_, Some(value)) => self.subquery_series(value, each),
            _ => Err(QueryError::execution("expected a range vector")),
        }
    }

    pub(super) fn range_call(&self, call: &Call) -> Result<Frame, QueryError> {
        let mut frame = self.query.frame();
        self.range_call_rows(call, KeptLabels::All, &mut |row| frame.push(row.take()))?;
        Ok(frame)
    }

    /// Evaluates the call series by series; at least the labels `kept` are needed, the metric name among them.
    pub(super) fn range_call_rows(
        &self,
        call: &Call,
        kept: KeptLabels<'_>,
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let name = call.function.name;
        let at = call.function.arg_types.iter().position(|t| *t == ValueType::Matrix).unwrap_or(0);
        let arg = call.args[at].unparen();
        let source = self.range_source(arg)?;
        let subquery = self.subquery_of(arg, &source)?;
        let mut params = Vec::new();
        for (_, param) in call.args.iter().enumerate().filter(|(i, _)| *i != at) {
            params.push(self.scalar(param)?);
        }
        extended::check_function(source.extended, name)?;
        let range_call = RangeCall {
            name,
            range_secs: source.shape.range as f64 / 1000.0,
            extended: source.extended,
            pos: source.pos,
            params: &params,
            first_pos: call.args[0].pos(),
            features: self.query.features,
        };
        let keeps_name = keeps_name(name);
        let kernel = range_call.kernel()?;
        let state = || WindowCache::new(source.shape, self.steps);
        let work = |windows: &mut WindowCache, series: RangeSeries, notes: &mut Annotations| {
            let mut row = Row::new(series.labels.clone(), series.drop_name, self.steps.count);
            let loaded = self.run_kernel(&range_call, kernel, &series, &source.shape, windows, &mut row, notes)?;
            if loaded.any && !keeps_name {
                self.drop_name(&mut row);
            }
            let samples = row.samples();
            Ok((loaded.largest > 0).then_some((row, (samples, loaded))))
        };
        let mut keep = |(row, (samples, loaded)): &mut (Row, (usize, Loaded))| {
            self.query.touch(loaded.largest)?;
            self.query.hold(*samples)?;
            self.query.touch(loaded.last)?;
            if loaded.any { each(row) } else { Ok(()) }
        };
        match (arg, subquery) {
            (Expr::Matrix(matrix), _) => {
                let span = source.shape.span(self.steps);
                let ready = |labels: &Labels, samples| self.ready(&matrix.selector, labels, samples);
                let work = |windows: &mut WindowCache, labels: &Labels, samples: Samples, notes: &mut Annotations| {
                    work(windows, ready(labels, samples), notes)
                };
                let wants = Wants { samples: Wanted::Samples, labels: kept };
                self.work_on_series(&matrix.selector.matchers, span, wants, state, work, &mut keep)
            }
            (_, Some(value)) => {
                let (mut windows, mut notes) = (state(), Annotations::default());
                let result = self.subquery_series(value, &mut |series| match work(&mut windows, series, &mut notes)? {
                    Some(mut done) => keep(&mut done),
                    None => Ok(()),
                });
                self.query.merge_annotations(notes);
                result
            }
            _ => Err(QueryError::execution("expected a range vector")),
        }
    }

    /// The samples of a range selector, without those that say that there is none.
    fn ready(&self, selector: &VectorSelector, labels: &Labels, samples: Samples) -> RangeSeries {
        let mut samples = without_stale(samples);
        if self.query.stats_only.contains(&stats_only::key(selector)) {
            stats_only::resolve_hints(&mut samples.histograms);
        }
        RangeSeries { labels: labels.clone(), drop_name: false, samples }
    }

    /// Computes one series.
    #[allow(clippy::too_many_arguments)]
    fn run_kernel(
        &self,
        call: &RangeCall<'_>,
        kernel: Kernel,
        series: &RangeSeries,
        shape: &WindowShape,
        windows: &mut WindowCache,
        row: &mut Row,
        notes: &mut Annotations,
    ) -> Result<Loaded, QueryError> {
        let Samples { floats, histograms } = &series.samples;
        if let Kernel::Rate { counter, per_second } = kernel
            && histograms.is_empty()
            && !floats.is_empty()
            && (floats.start_timestamps.is_none() || !self.query.features.use_start_timestamps)
        {
            return self.rate_of_floats(call, (counter, per_second), series, windows, row, notes);
        }
        let float_bounds = (!floats.is_empty()).then(|| windows.bounds(&floats.timestamps));
        let hist_bounds = (!histograms.is_empty()).then(|| windows.bounds(&histograms.timestamps));
        if float_bounds.is_none() && hist_bounds.is_none() {
            return Ok(Loaded::default());
        }
        let with_starts = self.query.features.use_start_timestamps;
        let metric = series.labels.metric_name();
        let resets = rate::ResetIndex::new(call.name, &floats.values);
        let (mut any, mut any_float, mut largest, mut last) = (false, false, 0usize, 0usize);
        let (mut seen, mut hist_seen) = (0, 0);
        let mut count = self.count_series();
        let mut pace = self.query.pace();
        for step in 0..self.steps.count {
            let (from, to) = float_bounds.as_ref().map_or((0, 0), |b| (b[step].0 as usize, b[step].1 as usize));
            let (hist_from, hist_to) =
                hist_bounds.as_ref().map_or((0, 0), |b| (b[step].0 as usize, b[step].1 as usize));
            last = 0;
            if from == to && hist_from == hist_to {
                continue;
            }
            pace.done(kernel.work() * (to - from) + HISTOGRAM_WORK * (hist_to - hist_from))?;
            let at = self.steps.time(step);
            let window = Window {
                times: &floats.timestamps[from..to],
                floats: &floats.values[from..to],
                starts: floats.start_timestamps.as_ref().filter(|_| with_starts).map(|s| &s[from..to]),
                hist_times: &histograms.timestamps[hist_from..hist_to],
                hists: &histograms.values[hist_from..hist_to],
                hist_starts: histograms
                    .start_timestamps
                    .as_ref()
                    .filter(|_| with_starts)
                    .map(|s| &s[hist_from..hist_to]),
                at,
                step,
                range: shape.range_at(at),
            };
            let samples = window.samples();
            (largest, last) = (largest.max(samples), samples);
            let (new, new_hists) = (seen.clamp(from, to)..to, hist_seen.clamp(hist_from, hist_to)..hist_to);
            (seen, hist_seen) = (to, hist_to);
            count.add(step, samples, new.len() + sizes(&histograms.values[new_hists]));
            let output = match kernel {
                Kernel::Rate { counter, per_second } => {
                    let may_reset = resets.any_in(from, to);
                    rate::extrapolated(call, &window, counter, per_second, may_reset, metric, notes)
                }
                Kernel::Smoothing => {
                    call.check_factor(0, step, "smoothing")?;
                    call.check_factor(1, step, "trend")?;
                    over_time::double_exponential_smoothing(call, &window, metric, notes)
                }
                Kernel::Other(compute) => compute(call, &window, metric, notes),
            };
            match output {
                Output::None => {}
                Output::Float(value) => {
                    row.set_float(step, value);
                    (any, any_float) = (true, true);
                }
                Output::Histogram(histogram) => {
                    row.set_histogram(step, histogram);
                    any = true;
                }
            }
        }
        if any_float && matches!(call.name, "rate" | "increase") {
            rate::note_non_counter(call, &series.labels, notes);
        }
        Ok(Loaded { any, largest, last })
    }
}

impl Evaluator<'_> {
    /// A rate of a series that has only floats.
    fn rate_of_floats(
        &self,
        call: &RangeCall<'_>,
        (counter, per_second): (bool, bool),
        series: &RangeSeries,
        windows: &mut WindowCache,
        row: &mut Row,
        notes: &mut Annotations,
    ) -> Result<Loaded, QueryError> {
        let floats = &series.samples.floats;
        let resets = rate::ResetIndex::new(call.name, &floats.values);
        let resets = counter.then_some(&resets);
        let rates = windows.rates(&floats.timestamps, per_second.then_some(call.range_secs));
        self.count_series().add_rates(&rates);
        let mut loaded = Loaded { any: false, largest: rates.largest, last: rates.last };
        let mut pace = self.query.pace();
        pace.done(rates.steps.len())?;
        for (at, step) in rates.steps.iter().enumerate() {
            let reach = || windows.reach(&floats.timestamps[step.from as usize..step.to as usize], at);
            if let Some(value) = rate::of_floats(call, step, &floats.values, resets, per_second, reach, &mut pace)? {
                row.set_float(at, value);
                loaded.any = true;
            }
        }
        if loaded.any && counter {
            rate::note_non_counter(call, &series.labels, notes);
        }
        Ok(loaded)
    }
}

/// What a series came to.
#[derive(Clone, Copy, Default)]
struct Loaded {
    /// There is a result at some step.
    any: bool,
    /// Samples of the largest window.
    largest: usize,
    /// Samples of the last window, which are held until the next series is begun.
    last: usize,
}

/// How many samples histograms count for.
fn sizes(histograms: &[Hist]) -> usize {
    histograms.iter().map(|h| histogram_size(h)).sum()
}

/// How a function is computed.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    /// `rate` and its kin, which take a short cut where no counter reset can be.
    Rate {
        counter: bool,
        per_second: bool,
    },
    /// `double_exponential_smoothing`, which fails when it has samples and factors out of range.
    Smoothing,
    Other(KernelFn),
}

impl Kernel {
    /// What a float of a window counts for: some functions sort, or add with care.
    fn work(self) -> usize {
        match self {
            Self::Rate { .. } | Self::Smoothing => 1,
            Self::Other(_) => SORT_WORK / 2,
        }
    }
}

pub(super) type KernelFn = fn(&RangeCall<'_>, &Window<'_>, &str, &mut Annotations) -> Output;

impl RangeCall<'_> {
    fn kernel(&self) -> Result<Kernel, QueryError> {
        let extended = self.extended.is_some();
        Ok(Kernel::Other(match self.name {
            "rate" | "increase" | "delta" => {
                let (counter, per_second) = (self.name != "delta", self.name == "rate");
                if !extended {
                    return Ok(Kernel::Rate { counter, per_second });
                }
                extended::rate
            }
            "resets" => over_time::resets,
            "changes" => over_time::changes,
            "irate" => rate::irate,
            "idelta" => rate::idelta,
            "sum_over_time" => over_time::sum,
            "avg_over_time" => over_time::avg,
            "min_over_time" => over_time::min,
            "max_over_time" => over_time::max,
            "count_over_time" => |_, w, _, _| Output::Float(w.len() as f64),
            "present_over_time" | "absent_over_time" => |_, _, _, _| Output::Float(1.0),
            "last_over_time" => over_time::last,
            "first_over_time" => over_time::first,
            "stddev_over_time" => over_time::stddev,
            "stdvar_over_time" => over_time::stdvar,
            "mad_over_time" => over_time::mad,
            "quantile_over_time" => over_time::quantile,
            "ts_of_first_over_time" => over_time::time_of_first,
            "ts_of_last_over_time" => over_time::time_of_last,
            "ts_of_max_over_time" => over_time::time_of_max,
            "ts_of_min_over_time" => over_time::time_of_min,
            "deriv" => over_time::deriv,
            "predict_linear" => over_time::predict_linear,
            "double_exponential_smoothing" => return Ok(Kernel::Smoothing),
            name => return Err(QueryError::execution(format!("function {name:?} takes no range vector"))),
        }))
    }

    /// The value of a scalar argument at a step.
    pub(super) fn param(&self, at: usize, step: usize) -> f64 {
        self.params.get(at).and_then(|values| values.get(step)).copied().unwrap_or(f64::NAN)
    }

    fn check_factor(&self, at: usize, step: usize, what: &str) -> Result<(), QueryError> {
        let value = self.param(at, step);
        if value <= 0.0 || value >= 1.0 {
            let short = if what == "trend" { "tf" } else { "sf" };
            // as Go prints it
            let value = if value.is_finite() { format!("{value:.6}") } else { format_general(value) };
            let text = format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {value}");
            return Err(QueryError::execution(text));
        }
        Ok(())
    }
}

/// Samples without staleness markers.
pub(super) fn without_stale(mut samples: Samples) -> Samples {
    // many at a time, without a branch for each
    let stale = |part: &[f64]| part.iter().fold(false, |any, value| any | model::is_stale(*value));
    if samples.floats.values.chunks(64).any(stale) {
        samples.floats = filter(&samples.floats, |v| !model::is_stale(*v));
    }
    if samples.histograms.values.iter().any(|h| h.is_stale()) {
        samples.histograms = filter(&samples.histograms, |h| !h.is_stale());
    }
    samples
}

fn filter<V: Clone>(column: &Column<V>, keep: impl Fn(&V) -> bool) -> Column<V> {
    let kept: Vec<usize> = (0..column.len()).filter(|at| keep(&column.values[*at])).collect();
    let pick = |times: &Arc<[Timestamp]>| kept.iter().map(|at| times[*at]).collect::<Arc<[Timestamp]>>();
    Column {
        timestamps: pick(&column.timestamps),
        values: kept.iter().map(|at| column.values[*at].clone()).collect(),
        start_timestamps: column.start_timestamps.as_ref().map(pick),
    }
}
