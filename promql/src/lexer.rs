use crate::PosRange;
use crate::ast::{AggregateOp, BinaryOp};
use crate::go_text::quote_char;

/// What a piece of the query text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Eof,
    Error,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    EqualRegex,
    /// `!~`
    NotRegex,
    At,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Bool,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Offset,
    Anchored,
    Smoothed,
    Start,
    End,
    Step,
    Range,
}

/// A piece of the query text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) pos: PosRange,
}

/// Cuts a query into tokens. After an error it only gives end of input.
pub(crate) struct Lexer<'q> {
    input: &'q str,
    start: usize,
    pos: usize,
    paren_depth: i32,
    in_braces: bool,
    in_brackets: bool,
    after_bracket: bool,
    got_colon: bool,
    got_duration: bool,
    failed: bool,
    /// The text of the error token.
    pub(crate) error: String,
}

const EOF: char = '\0';

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

impl<'q> Lexer<'q> {
    pub(crate) fn new(input: &'q str) -> Self {
        Self {
            input,
            start: 0,
            pos: 0,
            paren_depth: 0,
            in_braces: false,
            in_brackets: false,
            after_bracket: false,
            got_colon: false,
            got_duration: false,
            failed: false,
            error: String::new(),
        }
    }

    fn at_end(&self) -> bool {
        self.pos >= self.input.len()
    }

    fn peek(&self) -> char {
        self.input[self.pos..].chars().next().unwrap_or(EOF)
    }

    fn bump(&mut self) -> char {
        let c = self.peek();
        if !self.at_end() {
            self.pos += c.len_utf8();
        }
        c
    }

    fn accept(&mut self, set: &str) -> bool {
        let yes = self.is(set);
        if yes {
            self.bump();
        }
        yes
    }

    fn is(&self, set: &str) -> bool {
        !self.at_end() && set.contains(self.peek())
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    fn emit(&mut self, kind: Kind) -> Token {
        let token = Token { kind, pos: PosRange::new(self.start as u32, self.pos as u32) };
        self.start = self.pos;
        token
    }

    /// An error at the start of the current token.
    fn fail(&mut self, message: impl Into<String>) -> Token {
        self.failed = true;
        self.error = message.into();
        Token { kind: Kind::Error, pos: PosRange::new(self.start as u32, self.input.len() as u32) }
    }

    pub(crate) fn next(&mut self) -> Token {
        if self.failed {
            return Token { kind: Kind::Eof, pos: PosRange::new(self.input.len() as u32, self.input.len() as u32) };
        }
        loop {
            while is_space(self.peek()) && !self.at_end() {
                self.bump();
            }
            if self.peek() != '#' || self.at_end() || self.in_brackets {
                break;
            }
            while !self.at_end() && self.peek() != '\n' {
                self.bump();
            }
        }
        self.start = self.pos;
        if self.in_braces {
            self.inside_braces()
        } else if self.in_brackets {
            self.inside_brackets()
        } else {
            self.statement()
        }
    }

    fn end_of_input(&mut self) -> Token {
        if self.paren_depth != 0 {
            self.fail("unclosed left parenthesis")
        } else if self.in_brackets {
            self.fail("unclosed left bracket")
        } else {
            self.emit(Kind::Eof)
        }
    }

    fn close_paren(&mut self) -> Token {
        self.paren_depth -= 1;
        let token = self.emit(Kind::RightParen);
        if self.paren_depth < 0 { self.fail("unexpected right parenthesis ')'") } else { token }
    }

    fn statement(&mut self) -> Token {
        if self.at_end() {
            return self.end_of_input();
        }
        let c = self.bump();
        let kind = match c {
            ',' => Kind::Comma,
            '*' => Kind::Op(BinaryOp::Mul),
            '/' => Kind::Op(BinaryOp::Div),
            '%' => Kind::Op(BinaryOp::Mod),
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            '^' => Kind::Op(BinaryOp::Pow),
            '@' => Kind::At,
            '=' if self.accept("=") => Kind::Op(BinaryOp::Eq),
            '=' if self.is("~") => return self.fail("unexpected character after '=': '~'"),
            '=' => Kind::Assign,
            '!' if self.accept("=") => Kind::Op(BinaryOp::Ne),
            '!' => {
                let next = if self.at_end() { char::REPLACEMENT_CHARACTER } else { self.peek() };
                return self.fail(format!("unexpected character after '!': {}", quote_char(next)));
            }
            '<' if self.accept("=") => Kind::Op(BinaryOp::Le),
            '<' if self.accept("/") => Kind::Op(BinaryOp::TrimUpper),
            '<' => Kind::Op(BinaryOp::Lt),
            '>' if self.accept("=") => Kind::Op(BinaryOp::Ge),
            '>' if self.accept("/") => Kind::Op(BinaryOp::TrimLower),
            '>' => Kind::Op(BinaryOp::Gt),
            '"' | '\'' | '`' => return self.string(c),
            '(' => {
                self.paren_depth += 1;
                Kind::LeftParen
            }
            ')' => return self.close_paren(),
            '{' => {
                self.in_braces = true;
                Kind::LeftBrace
            }
            '[' => {
                self.in_brackets = true;
                self.after_bracket = true;
                self.got_colon = false;
                self.got_duration = false;
                Kind::LeftBracket
            }
            ']' => return self.fail("unexpected right bracket ']'"),
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_ascii_digit()) => return self.number_or_duration(),
            c if is_alpha(c) || c == ':' => return self.word(),
            c => return self.fail(format!("unexpected character: {}", quote_char(c))),
        };
        self.emit(kind)
    }

    /// Between `[` and `]` stand durations and arithmetic with them.
    fn inside_brackets(&mut self) -> Token {
        if self.at_end() {
            return if self.after_bracket && self.paren_depth == 0 {
                self.fail("unexpected end of input in duration expression")
            } else {
                self.end_of_input()
            };
        }
        self.after_bracket = false;
        let c = self.bump();
        let kind = match c {
            ']' => {
                self.in_brackets = false;
                Kind::RightBracket
            }
            '[' => return self.fail("unexpected left bracket '['"),
            ':' if self.got_colon => return self.fail("unexpected colon ':'"),
            ':' => {
                self.got_colon = true;
                let token = self.emit(Kind::Colon);
                return if self.got_duration {
                    token
                } else {
                    self.fail("unexpected colon before duration in duration expression")
                };
            }
            '(' => {
                self.paren_depth += 1;
                Kind::LeftParen
            }
            ')' => return self.close_paren(),
            ',' => Kind::Comma,
            '*' => Kind::Op(BinaryOp::Mul),
            '/' => Kind::Op(BinaryOp::Div),
            '%' => Kind::Op(BinaryOp::Mod),
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            '^' => Kind::Op(BinaryOp::Pow),
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_ascii_digit()) => {
                self.got_duration = true;
                return self.number_or_duration();
            }
            c if is_alpha(c) => {
                while is_alphanumeric(self.peek()) {
                    self.bump();
                }
                self.got_duration = true;
                match self.input[self.start..self.pos].to_ascii_lowercase().as_str() {
                    "step" => Kind::Step,
                    "range" => Kind::Range,
                    "min" => Kind::Aggregate(AggregateOp::Min),
                    "max" => Kind::Aggregate(AggregateOp::Max),
                    "min_of" | "max_of" => Kind::Identifier,
                    "inf" | "nan" => Kind::Number,
                    _ => return self.fail(format!("unexpected character in duration expression: {}", quote_char(c))),
                }
            }
            c => return self.fail(format!("unexpected character in duration expression: {}", quote_char(c))),
        };
        self.emit(kind)
    }

    fn inside_braces(&mut self) -> Token {
        if self.at_end() {
            return self.fail("unexpected end of input inside braces");
        }
        let c = self.bump();
        let kind = match c {
            ',' => Kind::Comma,
            '"' | '\'' | '`' => return self.string(c),
            '=' if self.accept("~") => Kind::EqualRegex,
            '=' => Kind::Assign,
            '!' if self.accept("~") => Kind::NotRegex,
            '!' if self.accept("=") => Kind::Op(BinaryOp::Ne),
            '!' => {
                let next = if self.at_end() { char::REPLACEMENT_CHARACTER } else { self.peek() };
                return self.fail(format!("unexpected character after '!' inside braces: {}", quote_char(next)));
            }
            '{' => return self.fail("unexpected left brace '{'"),
            '}' => {
                self.in_braces = false;
                Kind::RightBrace
            }
            c if is_alpha(c) => {
                while is_alphanumeric(self.peek()) {
                    self.bump();
                }
                Kind::Identifier
            }
            c => return self.fail(format!("unexpected character inside braces: {}", quote_char(c))),
        };
        self.emit(kind)
    }

    fn string(&mut self, quote: char) -> Token {
        loop {
            if self.at_end() {
                let what = if quote == '`' { "unterminated raw string" } else { "unterminated quoted string" };
                return self.fail(what);
            }
            match self.bump() {
                c if c == quote => return self.emit(Kind::String),
                char::REPLACEMENT_CHARACTER => return self.fail("invalid UTF-8 rune"),
                '\n' if quote != '`' => return self.fail("unterminated quoted string"),
                '\\' if quote != '`' => {
                    if let Some(message) = self.escape(quote) {
                        return self.fail(message);
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads what follows a backslash; gives the reason if it is no escape.
    fn escape(&mut self, quote: char) -> Option<String> {
        if self.at_end() {
            return Some("escape sequence not terminated".to_owned());
        }
        let c = self.bump();
        let describe = |c: char| match c {
            c if c.is_control() => format!("U+{:04X}", u32::from(c)),
            c => format!("U+{:04X} '{c}'", u32::from(c)),
        };
        let (digits, radix, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return None,
            c if c == quote => return None,
            '0'..='7' => (2, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            c => return Some(format!("unknown escape sequence {}", describe(c))),
        };
        let mut code = if radix == 8 { c.to_digit(8).unwrap_or(0) } else { 0 };
        for _ in 0..digits {
            if self.at_end() {
                return Some("escape sequence not terminated".to_owned());
            }
            let c = self.bump();
            let Some(digit) = c.to_digit(radix) else {
                return Some(format!("illegal character {} in escape sequence", describe(c)));
            };
            code = code.saturating_mul(radix).saturating_add(digit);
        }
        (code > max || (0xd800..0xe000).contains(&code))
            .then(|| "escape sequence is an invalid Unicode code point".to_owned())
    }

    fn number_or_duration(&mut self) -> Token {
        self.pos = self.start;
        if self.number() {
            return self.emit(Kind::Number);
        }
        if self.rest_of_duration() {
            return self.emit(Kind::Duration);
        }
        let text = model::quote(&self.input[self.start..self.pos]);
        self.fail(format!("bad number or duration syntax: {text}"))
    }

    fn number(&mut self) -> bool {
        let mut digits = "0123456789";
        let mut hex = false;
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
            hex = true;
        }
        self.accept(".");
        self.accept(digits);
        let (mut dot, mut exponent) = (false, false);
        while self.is(digits) || self.is("._eE") {
            if self.is(".") {
                if dot {
                    self.bump();
                    return false;
                }
                self.bump();
                dot = true;
                if self.accept("_.") || hex {
                    return false;
                }
            } else if self.is("eE") {
                if exponent {
                    self.bump();
                    return false;
                }
                self.bump();
                exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.at_end() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.at_end() {
                    return false;
                }
            } else {
                self.accept_run(digits);
            }
        }
        self.pos > self.start && !is_alphanumeric(self.peek())
    }

    fn rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.accept_run("0123456789");
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if is_alphanumeric(self.peek()) {
            // the message shows it
            self.bump();
            return false;
        }
        true
    }

    fn word(&mut self) -> Token {
        while is_alphanumeric(self.peek()) || self.peek() == ':' {
            self.bump();
        }
        let word = &self.input[self.start..self.pos];
        let lower = word.to_ascii_lowercase();
        let kind = match lower.as_str() {
            "and" => Kind::Op(BinaryOp::And),
            "or" => Kind::Op(BinaryOp::Or),
            "unless" => Kind::Op(BinaryOp::Unless),
            "atan2" => Kind::Op(BinaryOp::Atan2),
            "bool" => Kind::Bool,
            "by" => Kind::By,
            "without" => Kind::Without,
            "on" => Kind::On,
            "ignoring" => Kind::Ignoring,
            "group_left" => Kind::GroupLeft,
            "group_right" => Kind::GroupRight,
            "fill" => Kind::Fill,
            "fill_left" => Kind::FillLeft,
            "fill_right" => Kind::FillRight,
            "offset" => Kind::Offset,
            "anchored" => Kind::Anchored,
            "smoothed" => Kind::Smoothed,
            "start" => Kind::Start,
            "end" => Kind::End,
            "step" => Kind::Step,
            "range" => Kind::Range,
            "inf" | "nan" => Kind::Number,
            _ => match AggregateOp::ALL.into_iter().find(|op| op.as_str() == lower) {
                Some(op) => Kind::Aggregate(op),
                None if word.contains(':') => Kind::MetricIdentifier,
                None => Kind::Identifier,
            },
        };
        self.emit(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &[Kind]) {
        let mut lexer = Lexer::new(input);
        let mut kinds = Vec::new();
        loop {
            let token = lexer.next();
            if token.kind == Kind::Eof {
                break;
            }
            kinds.push(token.kind);
        }
        assert_eq!(kinds, expected, "{input}");
    }

    #[test]
    fn words_numbers_and_durations_are_told_apart() {
        use Kind::{Duration, Error, Identifier, MetricIdentifier, Number, Op};
        check("1 .5 1e3 0x1F 1_0 Inf nan", &[Number; 7]);
        check("5m 1h30m 10ms 1y2w", &[Duration; 4]);
        check("up a:b :x", &[Identifier, MetricIdentifier, MetricIdentifier]);
        check("1__0", &[Error]);
        check("a # comment\n+ b", &[Identifier, Op(BinaryOp::Add), Identifier]);
        check("a </ 1 >/ 2", &[Identifier, Op(BinaryOp::TrimUpper), Number, Op(BinaryOp::TrimLower), Number]);
    }

    #[test]
    fn keywords_do_not_count_inside_braces() {
        use Kind::{Assign, Identifier, LeftBrace, RightBrace, String};
        check("{by=\"x\"}", &[LeftBrace, Identifier, Assign, String, RightBrace]);
    }
}
