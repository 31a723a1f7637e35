//! Which functions, operators and modifiers have been exercised, and with what kind of samples.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use promql::ast::{At, Cardinality, Expr, TimeShift, VectorSelector};
use promql::{Function, ValueType};

use crate::data::{Kind, METRICS};
use crate::generate::Language;

/// What kinds of samples may come out of an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flow {
    floats: bool,
    histograms: bool,
}

impl Flow {
    const FLOATS: Self = Self { floats: true, histograms: false };

    fn and(self, other: Self) -> Self {
        Self { floats: self.floats || other.floats, histograms: self.histograms || other.histograms }
    }
}

/// How often something was used with floats, with histograms, with mixtures of both, and with neither (constants).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// With floats only.
    pub floats: usize,
    /// With histograms only.
    pub histograms: usize,
    /// With both.
    pub mixtures: usize,
    /// With constants only.
    pub constants: usize,
}

/// Counts by category and name.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, String), Count>,
}

impl Coverage {
    /// Counts everything in an expression.
    pub fn add(&mut self, expr: &Expr) {
        self.walk(expr);
    }

    /// Takes in the counts of another.
    pub fn merge(&mut self, other: Self) {
        for (key, count) in other.counts {
            let sum = self.counts.entry(key).or_default();
            sum.floats += count.floats;
            sum.histograms += count.histograms;
            sum.mixtures += count.mixtures;
            sum.constants += count.constants;
        }
    }

    /// How often something was used.
    pub fn of(&self, category: &'static str, name: &str) -> Count {
        self.counts.get(&(category, name.to_owned())).copied().unwrap_or_default()
    }

    /// Functions and aggregations that have not been used with floats, histograms and mixtures of both each; those that take no
    /// vector are left out.
    pub fn gaps(&self, language: &Language) -> Vec<&'static str> {
        let covered = |category, name: &str| {
            let count = self.of(category, name);
            count.floats > 0 && count.histograms > 0 && count.mixtures > 0
        };
        let takes_vectors = |function: &&&'static Function| {
            function.arg_types.iter().any(|t| matches!(t, ValueType::Vector | ValueType::Matrix))
        };
        let functions = language.functions.iter().filter(takes_vectors).map(|f| f.name);
        let aggregations = language.aggregations.iter().copied();
        let mut gaps: Vec<_> = functions.filter(|name| !covered("function", name)).collect();
        gaps.extend(aggregations.filter(|name| !covered("aggregation", name)));
        gaps
    }

    fn note(&mut self, category: &'static str, name: &str, flow: Flow) {
        let count = self.counts.entry((category, name.to_owned())).or_default();
        *match (flow.floats, flow.histograms) {
            (true, false) => &mut count.floats,
            (false, true) => &mut count.histograms,
            (true, true) => &mut count.mixtures,
            (false, false) => &mut count.constants,
        } += 1;
    }

    fn shift(&mut self, shift: &TimeShift, flow: Flow) {
        match shift.offset {
            _ if shift.offset_expr.is_some() => self.note("modifier", "offset (expression)", flow),
            0 => {}
            1.. => self.note("modifier", "offset", flow),
            _ => self.note("modifier", "offset (negative)", flow),
        }
        match shift.at {
            Some(At::Time(_)) => self.note("modifier", "@ time", flow),
            Some(At::Start) => self.note("modifier", "@ start()", flow),
            Some(At::End) => self.note("modifier", "@ end()", flow),
            None => {}
        }
    }

    fn selector(&mut self, selector: &VectorSelector) -> Flow {
        let mut flow = Flow::default();
        for metric in METRICS.iter().filter(|metric| selects(selector, metric.name)) {
            flow = flow.and(match metric.kind {
                Kind::Floats => Flow::FLOATS,
                Kind::Histograms => Flow { floats: false, histograms: true },
                Kind::Mixture => Flow { floats: true, histograms: true },
            });
        }
        for matcher in &selector.matchers {
            self.note("matcher", matcher.op().as_str(), flow);
        }
        self.shift(&selector.shift, flow);
        flow
    }

    fn walk(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Number(_) => {
                self.note("literal", "number", Flow::default());
                Flow::default()
            }
            Expr::String(_) => {
                self.note("literal", "string", Flow::default());
                Flow::default()
            }
            Expr::Vector(selector) => {
                let flow = self.selector(selector);
                self.note("selector", "vector", flow);
                flow
            }
            Expr::Matrix(matrix) => {
                let flow = self.selector(&matrix.selector);
                self.note("selector", if matrix.range_expr.is_some() { "range (expression)" } else { "range" }, flow);
                flow
            }
            Expr::Subquery(subquery) => {
                let flow = self.walk(&subquery.expr);
                let name = if subquery.step == 0 { "subquery (default step)" } else { "subquery" };
                self.note("selector", name, flow);
                self.shift(&subquery.shift, flow);
                flow
            }
            Expr::Paren(paren) => {
                let flow = self.walk(&paren.expr);
                self.note("operator", "( )", flow);
                flow
            }
            Expr::Unary(unary) => {
                let flow = self.walk(&unary.expr);
                self.note("operator", if unary.negative { "unary -" } else { "unary +" }, flow);
                flow
            }
            Expr::Call(call) => {
                let flow = call.args.iter().fold(Flow::default(), |flow, argument| flow.and(self.walk(argument)));
                self.note("function", call.function.name, flow);
                after_function(call.function.name, flow)
            }
            Expr::Aggregate(aggregate) => {
                if let Some(parameter) = &aggregate.param {
                    self.walk(parameter);
                }
                let flow = self.walk(&aggregate.expr);
                let name = aggregate.op.as_str();
                self.note("aggregation", name, flow);
                match (aggregate.without, aggregate.grouping.is_empty()) {
                    (true, _) => self.note("modifier", "without", flow),
                    (false, false) => self.note("modifier", "by", flow),
                    (false, true) => {}
                }
                if ["sum", "avg", "limitk", "limit_ratio"].contains(&name) { flow } else { Flow::FLOATS }
            }
            Expr::Binary(binary) => {
                let flow = self.walk(&binary.lhs).and(self.walk(&binary.rhs));
                self.note("operator", binary.op.as_str(), flow);
                if binary.return_bool {
                    self.note("modifier", "bool", flow);
                }
                if let Some(matching) = &binary.matching {
                    if matching.on {
                        self.note("modifier", "on", flow);
                    } else if !matching.labels.is_empty() {
                        self.note("modifier", "ignoring", flow);
                    }
                    match matching.card {
                        Cardinality::ManyToOne => self.note("modifier", "group_left", flow),
                        Cardinality::OneToMany => self.note("modifier", "group_right", flow),
                        Cardinality::OneToOne | Cardinality::ManyToMany => {}
                    }
                }
                if binary.return_bool && flow.floats { Flow::FLOATS } else { flow }
            }
        }
    }
}

/// Whether a selector can select series of a metric.
fn selects(selector: &VectorSelector, metric: &str) -> bool {
    selector.matchers.iter().filter(|m| &*m.name == "__name__").all(|m| m.matches(metric))
}

/// What comes out of a function.
fn after_function(name: &str, flow: Flow) -> Flow {
    const KEEP: [&str; 14] = [
        "avg_over_time",
        "delta",
        "first_over_time",
        "idelta",
        "increase",
        "info",
        "irate",
        "label_join",
        "label_replace",
        "last_over_time",
        "rate",
        "sort_by_label",
        "sort_by_label_desc",
        "sum_over_time",
    ];
    if KEEP.contains(&name) { flow } else { Flow::FLOATS }
}

impl Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = ["floats", "histograms", "mixtures", "constants"];
        writeln!(f, "{:<12} {:<30} {:>8} {:>10} {:>8} {:>9}", "", "", columns[0], columns[1], columns[2], columns[3])?;
        for ((category, name), count) in &self.counts {
            let Count { floats, histograms, mixtures, constants } = count;
            writeln!(f, "{category:<12} {name:<30} {floats:>8} {histograms:>10} {mixtures:>8} {constants:>9}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use promql::{Features, parse};

    use super::*;

    fn check(expr: &str, category: &'static str, name: &str, expected: [usize; 4]) {
        let mut coverage = Coverage::default();
        coverage.add(&parse(expr, &Features::all()).unwrap());
        let count = coverage.of(category, name);
        assert_eq!([count.floats, count.histograms, count.mixtures, count.constants], expected, "{expr}: {name}");
    }

    #[test]
    fn uses_are_counted_by_the_kind_of_their_samples() {
        check("rate(requests_total[5m])", "function", "rate", [1, 0, 0, 0]);
        check("rate(duration_seconds[5m])", "function", "rate", [0, 1, 0, 0]);
        check("sum(mixed) by (job)", "aggregation", "sum", [0, 0, 1, 0]);
        check("sum(mixed) by (job)", "modifier", "by", [0, 0, 1, 0]);
        check("abs(histogram_count(duration_seconds))", "function", "abs", [1, 0, 0, 0]);
        check("temperature + on (job) group_left balance", "modifier", "group_left", [0, 0, 1, 0]);
        check("{__name__=~\"capacity|balance\"} offset -5m", "modifier", "offset (negative)", [0, 0, 1, 0]);
        check("1 + 2", "operator", "+", [0, 0, 0, 1]);
    }
}
