//! Every function of the language: name, argument types, result.

use crate::ValueType;

/// How many arguments a function takes beyond its fixed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly the listed arguments.
    Fixed,
    /// The last listed argument may be missing, or be given up to this many times.
    Optional(u8),
    /// The last listed argument may be given any number of times, also none.
    Variadic,
}

/// The signature of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Name as written in queries.
    pub name: &'static str,
    /// Types of the arguments; the last one repeats for a variadic function.
    pub arg_types: &'static [ValueType],
    /// See [`Arity`].
    pub arity: Arity,
    /// Type of the result.
    pub return_type: ValueType,
    /// Needs the feature `promql-experimental-functions`.
    pub experimental: bool,
}

impl Function {
    /// The function of that name (case matters).
    pub fn find(name: &str) -> Option<&'static Self> {
        FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
    }

    /// Prometheus' number for the arity: 0 fixed, -1 any number, else how many optional ones.
    pub fn variadic_code(&self) -> i32 {
        match self.arity {
            Arity::Fixed => 0,
            Arity::Optional(n) => i32::from(n),
            Arity::Variadic => -1,
        }
    }

    /// Whether the result depends on the evaluation time even when all arguments do not.
    pub(crate) fn depends_on_time(&self) -> bool {
        matches!(
            self.name,
            "days_in_month"
                | "day_of_month"
                | "day_of_week"
                | "day_of_year"
                | "hour"
                | "minute"
                | "month"
                | "year"
                | "predict_linear"
                | "time"
                | "timestamp"
                | "start"
                | "end"
                | "step"
                | "range"
        )
    }
}

use ValueType::{Matrix as M, Scalar as S, String as T, Vector as V};

const fn fixed(name: &'static str, arg_types: &'static [ValueType], return_type: ValueType) -> Function {
    Function { name, arg_types, arity: Arity::Fixed, return_type, experimental: false }
}

const fn vector(name: &'static str, arg_types: &'static [ValueType]) -> Function {
    fixed(name, arg_types, V)
}

const fn experimental(function: Function) -> Function {
    Function { experimental: true, ..function }
}

const fn optional(name: &'static str, arg_types: &'static [ValueType], n: u8) -> Function {
    Function { arity: Arity::Optional(n), ..vector(name, arg_types) }
}

const fn variadic(name: &'static str, arg_types: &'static [ValueType]) -> Function {
    Function { arity: Arity::Variadic, ..vector(name, arg_types) }
}

/// All functions, sorted by name.
pub static FUNCTIONS: &[Function] = &[
    vector("abs", &[V]),
    vector("absent", &[V]),
    vector("absent_over_time", &[M]),
    vector("acos", &[V]),
    vector("acosh", &[V]),
    vector("asin", &[V]),
    vector("asinh", &[V]),
    vector("atan", &[V]),
    vector("atanh", &[V]),
    vector("avg_over_time", &[M]),
    vector("ceil", &[V]),
    vector("changes", &[M]),
    vector("clamp", &[V, S, S]),
    vector("clamp_max", &[V, S]),
    vector("clamp_min", &[V, S]),
    vector("cos", &[V]),
    vector("cosh", &[V]),
    vector("count_over_time", &[M]),
    optional("day_of_month", &[V], 1),
    optional("day_of_week", &[V], 1),
    optional("day_of_year", &[V], 1),
    optional("days_in_month", &[V], 1),
    vector("deg", &[V]),
    vector("delta", &[M]),
    vector("deriv", &[M]),
    experimental(vector("double_exponential_smoothing", &[M, S, S])),
    experimental(fixed("end", &[], S)),
    vector("exp", &[V]),
    vector("first_over_time", &[M]),
    vector("floor", &[V]),
    vector("histogram_avg", &[V]),
    vector("histogram_count", &[V]),
    vector("histogram_fraction", &[S, S, V]),
    vector("histogram_quantile", &[S, V]),
    experimental(optional("histogram_quantiles", &[V, T, S, S], 9)),
    vector("histogram_stddev", &[V]),
    vector("histogram_stdvar", &[V]),
    vector("histogram_sum", &[V]),
    optional("hour", &[V], 1),
    vector("idelta", &[M]),
    vector("increase", &[M]),
    experimental(optional("info", &[V, V], 1)),
    vector("irate", &[M]),
    variadic("label_join", &[V, T, T, T]),
    vector("label_replace", &[V, T, T, T, T]),
    vector("last_over_time", &[M]),
    vector("ln", &[V]),
    vector("log10", &[V]),
    vector("log2", &[V]),
    experimental(vector("mad_over_time", &[M])),
    experimental(fixed("max_of", &[S, S], S)),
    vector("max_over_time", &[M]),
    experimental(fixed("min_of", &[S, S], S)),
    vector("min_over_time", &[M]),
    optional("minute", &[V], 1),
    optional("month", &[V], 1),
    fixed("pi", &[], S),
    vector("predict_linear", &[M, S]),
    vector("present_over_time", &[M]),
    vector("quantile_over_time", &[S, M]),
    vector("rad", &[V]),
    experimental(fixed("range", &[], S)),
    vector("rate", &[M]),
    vector("resets", &[M]),
    optional("round", &[V, S], 1),
    fixed("scalar", &[V], S),
    vector("sgn", &[V]),
    vector("sin", &[V]),
    vector("sinh", &[V]),
    vector("sort", &[V]),
    experimental(variadic("sort_by_label", &[V, T])),
    experimental(variadic("sort_by_label_desc", &[V, T])),
    vector("sort_desc", &[V]),
    vector("sqrt", &[V]),
    experimental(fixed("start", &[], S)),
    experimental(vector("start_timestamp", &[V])),
    vector("stddev_over_time", &[M]),
    vector("stdvar_over_time", &[M]),
    experimental(fixed("step", &[], S)),
    vector("sum_over_time", &[M]),
    vector("tan", &[V]),
    vector("tanh", &[V]),
    fixed("time", &[], S),
    vector("timestamp", &[V]),
    experimental(vector("ts_of_first_over_time", &[M])),
    experimental(vector("ts_of_last_over_time", &[M])),
    experimental(vector("ts_of_max_over_time", &[M])),
    experimental(vector("ts_of_min_over_time", &[M])),
    vector("vector", &[S]),
    optional("year", &[V], 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_so_that_names_are_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(Function::find("rate").map(|f| f.arg_types), Some(&[M][..]));
        assert_eq!(Function::find("Rate"), None);
        assert_eq!(Function::find("histogram_quantiles").map(Function::variadic_code), Some(9));
    }

    /// Compares with the conformance folder's table, if it is at hand.
    #[test]
    fn table_is_prometheus_own() {
        let Some(folder) = std::env::var_os("FIREWATCH_CONFORMANCE") else {
            eprintln!("skipped: FIREWATCH_CONFORMANCE is not set");
            return;
        };
        let path = std::path::Path::new(&folder).join("prometheus/functions.tsv");
        let table = std::fs::read_to_string(&path).unwrap();
        let mut seen = 0;
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let function = Function::find(columns[0]).unwrap_or_else(|| panic!("{} is missing", columns[0]));
            let types: Vec<&str> = function.arg_types.iter().map(|t| t.as_str()).collect();
            assert_eq!(types.join(","), columns[1], "{line}");
            let (arity, min, max) = match function.arity {
                Arity::Fixed => ("fixed", types.len(), types.len().to_string()),
                Arity::Optional(n) => ("optional", types.len() - 1, (types.len() - 1 + usize::from(n)).to_string()),
                Arity::Variadic => ("variadic", types.len() - 1, "any".to_owned()),
            };
            // sort_by_label and info count otherwise in the table
            if columns[2] != "variadic" || columns[3] == min.to_string() {
                assert_eq!(
                    (arity, min.to_string(), max),
                    (columns[2], columns[3].to_owned(), columns[4].to_owned()),
                    "{line}"
                );
            }
            assert_eq!(
                (function.return_type.as_str(), function.experimental),
                (columns[5], columns[6] == "yes"),
                "{line}"
            );
            seen += 1;
        }
        assert_eq!(seen, FUNCTIONS.len());
    }
}
