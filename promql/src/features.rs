/// Parts of the language that Prometheus has behind `--enable-feature`. All are off by default, as there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `promql-experimental-functions`: functions and aggregations marked experimental.
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub binop_fill_modifiers: bool,
    /// `promql-delayed-name-removal`: `__name__` is removed at the end of the evaluation instead of in each operation.
    pub delayed_name_removal: bool,
    /// `type-and-unit-labels`: `__type__` tells which metrics are counters.
    pub type_and_unit_labels: bool,
    /// `use-start-timestamps`: rate-like functions find counter resets by start timestamps.
    pub use_start_timestamps: bool,
    /// `promql-per-step-stats`: queries may ask for the samples read at each step.
    pub per_step_stats: bool,
}

impl Features {
    /// Everything on.
    pub fn all() -> Self {
        Self {
            experimental_functions: true,
            extended_range_selectors: true,
            binop_fill_modifiers: true,
            delayed_name_removal: true,
            type_and_unit_labels: true,
            use_start_timestamps: true,
            per_step_stats: true,
        }
    }
}
