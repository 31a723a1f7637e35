//! From query text to a checked syntax tree.

mod binary;
mod check;
mod duration;
mod expr;
mod literal;
mod selector;

use std::fmt;

use model::Matcher;

use crate::ast::{AggregateOp, Expr};
use crate::lexer::{Kind, Lexer, Token};
use crate::{Features, PosRange};

/// Longest accepted query text in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;
/// How deep expressions may nest, so that no walk over a tree can exhaust the stack.
const MAX_NESTING: u32 = 150;
/// How high the tree may be, chains of binary operators included.
const MAX_HEIGHT: u32 = 2000;

/// One thing wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseProblem {
    /// Where.
    pub pos: PosRange,
    /// What.
    pub message: String,
}

/// Why a text is no PromQL expression. Shows the first problem as Prometheus does: `1:5: parse error: unexpected ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The text.
    pub query: String,
    /// Everything found, at least one.
    pub problems: Vec<ParseProblem>,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.first() {
            Some(first) => write!(f, "{}: parse error: {}", first.pos.start_in(&self.query), first.message),
            None => f.write_str("parse error"),
        }
    }
}

/// Parses and checks an expression.
///
/// # Errors
/// When the text is no valid expression, uses what `features` has off, or is too long or too deep.
pub fn parse(query: &str, features: &Features) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query, *features);
    let expr = parser.whole(|p| {
        if p.token.kind == Kind::Eof && p.errors.is_empty() {
            p.error(PosRange::default(), "no expression found in input");
            return Err(Abort);
        }
        Ok(p.expr(0)?.expr)
    });
    if let Some(mut expr) = expr
        && parser.errors.is_empty()
    {
        parser.check(&mut expr);
        if parser.errors.is_empty() {
            return Ok(expr);
        }
    }
    Err(parser.into_error())
}

/// Parses a series selector such as `up{job="node"}` (the `match[]` parameter of the HTTP API, federation).
///
/// # Errors
/// When the text is no series selector.
pub fn parse_metric_selector(selector: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(selector, Features::default());
    match parser.whole(Parser::vector_selector) {
        Some(selector) if parser.errors.is_empty() => Ok(selector.matchers),
        _ => Err(parser.into_error()),
    }
}

/// Parses a number as queries write it, with an optional sign.
pub(crate) fn parse_signed_number(text: &str) -> Result<f64, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut lexer = Lexer::new(unsigned);
    let token = lexer.next();
    if token.kind != Kind::Number || token.pos.end as usize != unsigned.len() {
        return Err(format!("not a number: {text}"));
    }
    let value = literal::parse_number(unsigned)?;
    Ok(if text.starts_with('-') { -value } else { value })
}

/// A syntax error has been recorded and parsing ends.
#[derive(Debug)]
struct Abort;

type Parsed<T> = Result<T, Abort>;

/// An expression with the depth of its tree.
struct Sub {
    expr: Expr,
    /// Levels without those along left operands.
    nesting: u32,
    /// All levels.
    height: u32,
}

impl Sub {
    fn leaf(expr: Expr) -> Self {
        Self { expr, nesting: 0, height: 0 }
    }
}

struct Parser<'q> {
    input: &'q str,
    lexer: Lexer<'q>,
    /// The token to be looked at next.
    token: Token,
    features: Features,
    errors: Vec<ParseProblem>,
    /// End of the last closing token, where calls and aggregations end.
    last_closing: u32,
    /// What surrounds the current token, for messages: where, and what was expected.
    contexts: Vec<(&'static str, &'static str)>,
    depth: u32,
}

impl<'q> Parser<'q> {
    fn new(input: &'q str, features: Features) -> Self {
        let mut parser = Self {
            input,
            lexer: Lexer::new(input),
            token: Token { kind: Kind::Eof, pos: PosRange::default() },
            features,
            errors: Vec::new(),
            last_closing: 0,
            contexts: Vec::new(),
            depth: 0,
        };
        if input.len() > MAX_QUERY_BYTES {
            parser.error(PosRange::default(), format!("query is longer than {MAX_QUERY_BYTES} bytes"));
        } else {
            parser.bump();
        }
        parser
    }

    /// Runs `parse` over the whole input.
    fn whole<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Option<T> {
        if self.input.len() > MAX_QUERY_BYTES {
            return None;
        }
        let result = parse(self).ok()?;
        if self.token.kind != Kind::Eof {
            let _: Parsed<()> = self.unexpected();
            return None;
        }
        Some(result)
    }

    fn into_error(self) -> ParseError {
        ParseError { query: self.input.to_owned(), problems: self.errors }
    }

    fn error(&mut self, pos: PosRange, message: impl Into<String>) {
        self.errors.push(ParseProblem { pos, message: message.into() });
    }

    /// Takes the next token.
    fn bump(&mut self) -> Token {
        let taken = self.token;
        self.token = self.lexer.next();
        if self.token.kind == Kind::Error {
            let message = std::mem::take(&mut self.lexer.error);
            self.error(self.token.pos, message);
        }
        if matches!(
            taken.kind,
            Kind::RightBrace | Kind::RightParen | Kind::RightBracket | Kind::Duration | Kind::Number
        ) {
            self.last_closing = taken.pos.end;
        }
        taken
    }

    fn accept(&mut self, kind: Kind) -> Option<Token> {
        (self.token.kind == kind).then(|| self.bump())
    }

    fn expect(&mut self, kind: Kind) -> Parsed<Token> {
        match self.accept(kind) {
            Some(token) => Ok(token),
            None => self.unexpected(),
        }
    }

    fn text(&self, token: Token) -> &'q str {
        &self.input[token.pos.start as usize..token.pos.end as usize]
    }

    /// Whether the character after the current token, blanks aside, is `c`.
    fn followed_by(&self, c: char) -> bool {
        self.input[self.token.pos.end as usize..].trim_start_matches([' ', '\t', '\n', '\r']).starts_with(c)
    }

    /// Complains about the current token in the innermost context.
    fn unexpected<T>(&mut self) -> Parsed<T> {
        let (context, expected) = self.contexts.last().copied().unwrap_or_default();
        self.unexpected_in(context, expected)
    }

    fn unexpected_in<T>(&mut self, context: &str, expected: &str) -> Parsed<T> {
        // a lexer error has been reported already
        if self.token.kind != Kind::Error {
            let mut message = format!("unexpected {}", self.describe(self.token));
            if !context.is_empty() {
                message.push_str(" in ");
                message.push_str(context);
            }
            if !expected.is_empty() {
                message.push_str(", expected ");
                message.push_str(expected);
            }
            self.error(self.token.pos, message);
        }
        Err(Abort)
    }

    /// Runs `parse` with a context for messages.
    fn within<T>(
        &mut self,
        context: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<T> {
        self.contexts.push((context, expected));
        let result = parse(self);
        self.contexts.pop();
        result
    }

    /// Runs `parse` one level deeper.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return self.too_deep();
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn too_deep<T>(&mut self) -> Parsed<T> {
        self.error(self.token.pos, format!("expression nests deeper than {MAX_NESTING} levels"));
        Err(Abort)
    }

    /// A node above others, unless it makes the tree too deep.
    fn parent(&mut self, expr: Expr, nesting: u32, height: u32) -> Parsed<Sub> {
        if nesting > MAX_NESTING {
            return self.too_deep();
        }
        if height > MAX_HEIGHT {
            self.error(self.token.pos, format!("expression has more than {MAX_HEIGHT} operators in a row"));
            return Err(Abort);
        }
        Ok(Sub { expr, nesting, height })
    }

    /// Names a token as Prometheus' messages do.
    fn describe(&self, token: Token) -> String {
        let text = self.text(token);
        let short = |text: &str| {
            let quoted = model::quote(&text.chars().take(10).collect::<String>());
            if text.len() > 10 { format!("{quoted}...") } else { quoted }
        };
        match token.kind {
            Kind::Eof => "end of input".to_owned(),
            Kind::Error => "error".to_owned(),
            Kind::Identifier => format!("identifier {}", model::quote(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", model::quote(text)),
            Kind::String => format!("string {}", short(text)),
            Kind::Number => format!("number {}", short(text)),
            Kind::Duration => format!("duration {}", short(text)),
            Kind::Op(_) | Kind::At | Kind::EqualRegex | Kind::NotRegex => format!("<op:{text}>"),
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            Kind::Bool
            | Kind::By
            | Kind::Without
            | Kind::On
            | Kind::Ignoring
            | Kind::GroupLeft
            | Kind::GroupRight
            | Kind::Fill
            | Kind::FillLeft
            | Kind::FillRight
            | Kind::Offset
            | Kind::Anchored
            | Kind::Smoothed => format!("<{text}>"),
            _ => short(text),
        }
    }
}

/// Whether a token can be a metric name by itself.
fn is_metric_name(kind: Kind) -> bool {
    use crate::ast::BinaryOp::{And, Or, Unless};
    matches!(
        kind,
        Kind::Identifier
            | Kind::MetricIdentifier
            | Kind::Aggregate(_)
            | Kind::By
            | Kind::Without
            | Kind::Offset
            | Kind::Anchored
            | Kind::Smoothed
            | Kind::Fill
            | Kind::FillLeft
            | Kind::FillRight
            | Kind::Start
            | Kind::End
            | Kind::Step
            | Kind::Range
            | Kind::Op(And | Or | Unless)
    )
}

/// Whether a token can be a label name in `by`, `on` and the like.
fn is_label_name(kind: Kind) -> bool {
    use crate::ast::BinaryOp::Atan2;
    is_metric_name(kind)
        || matches!(kind, Kind::Bool | Kind::On | Kind::Ignoring | Kind::GroupLeft | Kind::GroupRight | Kind::Op(Atan2))
}

/// The aggregation operators that a feature is needed for, by their names.
fn disabled_aggregation(op: AggregateOp) -> String {
    format!("{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions", op.as_str())
}
