//! The syntax tree of an expression.
//!
//! Durations are in milliseconds. A duration given as an arithmetic expression is kept as such and has a value only once
//! the step and range of the query are known.

use std::borrow::Cow;

use model::{Matcher, Timestamp};

use crate::{Function, PosRange, ValueType};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `1.5`, `5m`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `up{job="node"} @ 3 offset 5m`
    Vector(VectorSelector),
    /// `up[5m]`
    Matrix(MatrixSelector),
    /// `rate(up[5m])[1h:1m]`
    Subquery(Subquery),
    /// `rate(up[5m])`
    Call(Call),
    /// `sum by (job) (up)`
    Aggregate(Aggregate),
    /// `a + on (job) b`
    Binary(Binary),
    /// `-a`
    Unary(Unary),
    /// `(a)`
    Paren(Paren),
}

/// A number, or a duration used as one.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// The number; seconds for a duration.
    pub value: f64,
    /// Written as a duration.
    pub is_duration: bool,
    /// Position in the query.
    pub pos: PosRange,
}

/// A text.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// The bytes: escapes such as `\xff` can make it other than UTF-8.
    pub bytes: Vec<u8>,
    /// Position in the query.
    pub pos: PosRange,
}

impl StringLiteral {
    /// The text, with replacement characters for what is not UTF-8.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// What `@` fixes the evaluation time to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// A timestamp in milliseconds.
    Time(Timestamp),
    /// `start()`: the start of the query's range.
    Start,
    /// `end()`: the end of the query's range.
    End,
}

/// `anchored` or `smoothed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extended {
    /// The sample before the range counts as its first.
    Anchored,
    /// Values at the bounds of the range are interpolated.
    Smoothed,
}

/// `@` and `offset`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeShift {
    /// `@`, if given.
    pub at: Option<At>,
    /// `offset` in milliseconds; 0 if not given, or if `offset_expr` is.
    pub offset: i64,
    /// `offset` as an expression.
    pub offset_expr: Option<Box<DurationExpr>>,
}

impl TimeShift {
    pub(crate) fn has_offset(&self) -> bool {
        self.offset != 0 || self.offset_expr.is_some()
    }
}

/// Selects series, with the latest sample of each.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name before the braces, empty if there is none.
    pub name: String,
    /// All conditions; the one for `name` is the last.
    pub matchers: Vec<Matcher>,
    /// `@` and `offset`.
    pub shift: TimeShift,
    /// `anchored` or `smoothed`.
    pub extended: Option<Extended>,
    /// May match everything (the label selector of `info`).
    pub(crate) may_be_empty: bool,
    /// Position of name and braces.
    pub pos: PosRange,
}

/// Selects series, with a range of samples of each.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// Which series, `@`, `offset` and the like included.
    pub selector: VectorSelector,
    /// Length of the range in milliseconds; 0 if `range_expr` gives it.
    pub range: i64,
    /// Length of the range as an expression.
    pub range_expr: Option<Box<DurationExpr>>,
    /// End of the closing bracket.
    pub end: u32,
}

/// Evaluates an expression at the steps of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// Length of the range in milliseconds; 0 if `range_expr` gives it.
    pub range: i64,
    /// Length of the range as an expression.
    pub range_expr: Option<Box<DurationExpr>>,
    /// Step in milliseconds; 0 for the default, or if `step_expr` gives it.
    pub step: i64,
    /// Step as an expression.
    pub step_expr: Option<Box<DurationExpr>>,
    /// `@` and `offset`.
    pub shift: TimeShift,
    /// End of the closing bracket.
    pub end: u32,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Position in the query.
    pub pos: PosRange,
}

/// An aggregation over the series of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The vector.
    pub expr: Box<Expr>,
    /// The parameter of those operators that have one.
    pub param: Option<Box<Expr>>,
    /// Labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// `without` instead of `by`.
    pub without: bool,
    /// Position in the query.
    pub pos: PosRange,
}

/// A binary operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Box<Expr>,
    /// Right operand.
    pub rhs: Box<Expr>,
    /// How series find each other; `None` unless both operands are vectors.
    pub matching: Option<VectorMatching>,
    /// `bool`: comparisons give 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// Position of the operator.
    pub(crate) op_pos: PosRange,
}

/// `-x` or `+x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// Whether the sign is a minus.
    pub negative: bool,
    /// The operand.
    pub expr: Box<Expr>,
    /// Position of the sign.
    pub start: u32,
}

/// An expression in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    /// What stands in them.
    pub expr: Box<Expr>,
    /// Position in the query.
    pub pos: PosRange,
}

/// How many series of each side may match one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// One and one.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// `one-to-one` and so on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// How the series of two vectors find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    /// One or many.
    pub card: Cardinality,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// `on` instead of `ignoring`.
    pub on: bool,
    /// Labels of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// Values for series that miss on the left.
    pub fill_left: Option<f64>,
    /// Values for series that miss on the right.
    pub fill_right: Option<f64>,
}

impl Default for VectorMatching {
    fn default() -> Self {
        Self {
            card: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        }
    }
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
    /// `</`: keeps the observations of a histogram below a value.
    TrimUpper,
    /// `>/`: keeps the observations of a histogram above a value.
    TrimLower,
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Ge => ">=",
            Self::Le => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le)
    }

    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Whether the result is no longer the metric that the operand was.
    pub(crate) fn changes_metric(self) -> bool {
        matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Mod | Self::Pow | Self::Atan2)
    }

    /// Binding strength; `^` alone binds to the right.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le | Self::TrimUpper | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }
}

/// Aggregation operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    pub(crate) const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::Quantile,
        Self::CountValues,
        Self::Limitk,
        Self::LimitRatio,
    ];

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::Quantile => "quantile",
            Self::CountValues => "count_values",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// The type of its parameter, if it has one.
    pub fn param_type(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => Some(ValueType::Scalar),
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }

    /// Whether it needs the feature `promql-experimental-functions`.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// A duration computed from the query's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    /// What is computed.
    pub op: DurationOp,
    /// Whether it stands in parentheses.
    pub wrapped: bool,
    /// Position in the query.
    pub pos: PosRange,
}

/// A node of a [`DurationExpr`].
#[derive(Clone, Debug, PartialEq)]
pub enum DurationOp {
    /// A number of seconds.
    Number(NumberLiteral),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-x`
    Negate(Box<DurationExpr>),
    /// `min(a, b)` or `max(a, b)`, by the name as written.
    Extreme(Extreme, Box<DurationExpr>, Box<DurationExpr>),
    /// Arithmetic.
    Arithmetic(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
}

/// `min` and `max` in duration expressions, under both of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Extreme {
    Min,
    Max,
    MinOf,
    MaxOf,
}

impl Extreme {
    /// The name as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max => "max",
            Self::MinOf => "min_of",
            Self::MaxOf => "max_of",
        }
    }
}

impl Expr {
    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        let mut expr = self;
        loop {
            return match expr {
                Self::Number(_) => ValueType::Scalar,
                Self::String(_) => ValueType::String,
                Self::Vector(_) | Self::Aggregate(_) => ValueType::Vector,
                Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
                Self::Call(call) => call.function.return_type,
                Self::Binary(_) => {
                    // the left spine can be long, so it is walked and not recursed
                    while let Self::Binary(binary) = expr {
                        if binary.rhs.value_type() != ValueType::Scalar {
                            return ValueType::Vector;
                        }
                        expr = &binary.lhs;
                    }
                    if expr.value_type() == ValueType::Scalar { ValueType::Scalar } else { ValueType::Vector }
                }
                Self::Unary(unary) => {
                    expr = &unary.expr;
                    continue;
                }
                Self::Paren(paren) => {
                    expr = &paren.expr;
                    continue;
                }
            };
        }
    }

    /// The position in the query.
    pub fn pos(&self) -> PosRange {
        match self {
            Self::Number(n) => n.pos,
            Self::String(s) => s.pos,
            Self::Vector(v) => v.pos,
            Self::Matrix(m) => PosRange::new(m.selector.pos.start, m.end),
            Self::Subquery(s) => PosRange::new(s.expr.pos().start, s.end),
            Self::Call(c) => c.pos,
            Self::Aggregate(a) => a.pos,
            Self::Binary(b) => {
                let mut leftmost = &b.lhs;
                while let Self::Binary(inner) = &**leftmost {
                    leftmost = &inner.lhs;
                }
                leftmost.pos().to(b.rhs.pos())
            }
            Self::Unary(u) => PosRange::new(u.start, u.expr.pos().end),
            Self::Paren(p) => p.pos,
        }
    }

    /// The expression without parentheses around it.
    pub fn unparen(&self) -> &Self {
        let mut expr = self;
        while let Self::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }

    /// Calls `visit` for this expression and everything in it, operands before what stands after them, parents first.
    pub fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Self)) {
        let mut stack = vec![self];
        while let Some(expr) = stack.pop() {
            visit(expr);
            match expr {
                Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_) => {}
                Self::Subquery(s) => stack.push(&s.expr),
                Self::Call(c) => stack.extend(c.args.iter().rev()),
                Self::Aggregate(a) => {
                    stack.push(&a.expr);
                    stack.extend(a.param.as_deref());
                }
                Self::Binary(b) => stack.extend([&*b.rhs, &*b.lhs]),
                Self::Unary(u) => stack.push(&u.expr),
                Self::Paren(p) => stack.push(&p.expr),
            }
        }
    }

    /// All series selectors, in the order of the text.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        self.visit(&mut |expr| match expr {
            Self::Vector(v) => found.push(v),
            Self::Matrix(m) => found.push(&m.selector),
            _ => {}
        });
        found
    }
}
