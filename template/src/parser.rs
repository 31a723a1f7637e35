use std::collections::HashMap;

use crate::ast::{Command, Node, Operand, Pipeline, Pos};
use crate::lexer::{self, Token};
use crate::{Error, Value};

/// Nested actions and parentheses may go this deep.
const MAX_DEPTH: usize = 100;

/// A parsed template with the templates it defines.
#[derive(Debug, Default)]
pub struct Template {
    name: String,
    pub(crate) templates: HashMap<String, Source>,
}

/// One named template.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) nodes: Vec<Node>,
    /// Name and text of the file it stands in, for messages.
    pub(crate) file: std::sync::Arc<(String, String)>,
}

impl Template {
    /// Parses `text` as template `name`. `has_function` tells which functions will be there beside the predefined ones.
    ///
    /// # Errors
    /// `template: NAME:LINE: what is wrong`.
    pub fn parse(name: &str, text: &str, has_function: &dyn Fn(&str) -> bool) -> Result<Self, Error> {
        let mut template = Self { name: name.to_owned(), templates: HashMap::new() };
        template.add(name, text, has_function)?;
        Ok(template)
    }

    /// Adds the templates that another text defines; its own body becomes template `name`.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn add(&mut self, name: &str, text: &str, has_function: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let at = |pos: Pos, message: &str| Error(format!("{name}:{}: {message}", line_of(text, pos)));
        let tokens = lexer::tokens(text).map_err(|(message, pos)| at(pos, &message))?;
        let file = std::sync::Arc::new((name.to_owned(), text.to_owned()));
        let mut parser = Parser {
            text,
            tokens,
            at: 0,
            has_function,
            variables: vec!["$".to_owned()],
            defined: Vec::new(),
            depth: 0,
            loops: 0,
        };
        let nodes = parser.top().map_err(|(message, pos)| at(pos, &message))?;
        for (name, nodes) in parser.defined {
            self.templates.insert(name, Source { nodes, file: file.clone() });
        }
        self.templates.insert(name.to_owned(), Source { nodes, file });
        Ok(())
    }

    /// The name it was parsed under.
    pub fn name(&self) -> &str {
        &self.name
    }
}

pub(crate) fn line_of(text: &str, pos: Pos) -> usize {
    1 + text.as_bytes()[..pos.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

type Fault = (String, Pos);

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Pos)>,
    at: usize,
    has_function: &'a dyn Fn(&str) -> bool,
    variables: Vec<String>,
    defined: Vec<(String, Vec<Node>)>,
    depth: usize,
    loops: usize,
}

/// What closed a list of nodes.
enum Closing {
    Eof,
    End,
    /// `else`, with the token after it still to read.
    Else,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(t, _)| t)
    }

    fn pos(&self) -> Pos {
        self.tokens.get(self.at).map_or(self.text.len(), |(_, p)| *p)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at)?.0.clone();
        self.at += 1;
        Some(token)
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.at += 1;
        }
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        Err((message.into(), self.pos()))
    }

    fn expect_close(&mut self, context: &str) -> Result<(), Fault> {
        self.skip_space();
        match self.peek() {
            Some(Token::Close) => {
                self.at += 1;
                Ok(())
            }
            other => {
                let shown = other.map_or("EOF".to_owned(), show);
                self.fault(format!("unexpected {shown} in {context}"))
            }
        }
    }

    fn top(&mut self) -> Result<Vec<Node>, Fault> {
        let (nodes, end) = self.nodes()?;
        match end {
            Closing::Eof => Ok(nodes),
            Closing::End => self.fault("unexpected {{end}}"),
            Closing::Else => self.fault("unexpected {{else}}"),
        }
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Closing), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fault(format!("nested deeper than {MAX_DEPTH}"));
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.next() {
                None => break Closing::Eof,
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(Token::Open) => {
                    self.skip_space();
                    let keyword = match self.peek() {
                        Some(Token::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match keyword.as_str() {
                        "end" => {
                            self.at += 1;
                            self.expect_close("end")?;
                            break Closing::End;
                        }
                        "else" => {
                            self.at += 1;
                            break Closing::Else;
                        }
                        _ => {
                            if let Some(node) = self.action(&keyword)? {
                                nodes.push(node);
                            }
                        }
                    }
                }
                Some(other) => return self.fault(format!("unexpected {}", show(&other))),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self, keyword: &str) -> Result<Option<Node>, Fault> {
        let pos = self.pos();
        let simple = |parser: &mut Self, node: Node| {
            parser.at += 1;
            parser.expect_close(keyword)?;
            if parser.loops == 0 {
                return Err((format!("{{{{{keyword}}}}} outside {{{{range}}}}"), pos));
            }
            Ok(Some(node))
        };
        match keyword {
            "if" | "with" | "range" => {
                self.at += 1;
                self.control(keyword).map(Some)
            }
            "break" => simple(self, Node::Break),
            "continue" => simple(self, Node::Continue),
            "define" | "block" | "template" => {
                self.at += 1;
                self.named(keyword, pos)
            }
            _ => {
                let pipeline = self.pipeline("command", &Token::Close)?;
                self.expect_close("command")?;
                Ok(Some(Node::Action(pipeline)))
            }
        }
    }

    /// `if`, `with` and `range`, with their `else` branches.
    fn control(&mut self, keyword: &str) -> Result<Node, Fault> {
        let scope = self.variables.len();
        let condition = self.pipeline(keyword, &Token::Close)?;
        self.expect_close(keyword)?;
        let in_loop = usize::from(keyword == "range");
        self.loops += in_loop;
        let (body, end) = self.nodes()?;
        self.loops -= in_loop;
        let otherwise = match end {
            Closing::Eof => return self.fault("unexpected EOF"),
            Closing::End => Vec::new(),
            Closing::Else => {
                self.skip_space();
                match self.peek() {
                    Some(Token::Word(word)) if (word == "if" || word == "with") && *word == keyword => {
                        // `else if` holds the rest of the chain and shares its end
                        self.at += 1;
                        self.depth += 1;
                        if self.depth > MAX_DEPTH {
                            return self.fault(format!("nested deeper than {MAX_DEPTH}"));
                        }
                        let rest = self.control(keyword)?;
                        self.depth -= 1;
                        vec![rest]
                    }
                    _ => {
                        self.expect_close("else")?;
                        let (nodes, end) = self.nodes()?;
                        match end {
                            Closing::End => nodes,
                            Closing::Eof => return self.fault("unexpected EOF"),
                            Closing::Else => return self.fault("expected end; found {{else}}"),
                        }
                    }
                }
            }
        };
        self.variables.truncate(scope);
        Ok(match keyword {
            "if" => Node::If { condition, body, otherwise },
            "with" => Node::With { condition, body, otherwise },
            _ => Node::Range { over: condition, body, otherwise },
        })
    }

    /// `define`, `block` and `template`.
    fn named(&mut self, keyword: &str, pos: Pos) -> Result<Option<Node>, Fault> {
        self.skip_space();
        let name = match self.next() {
            Some(Token::Str(name)) => name,
            other => {
                let shown = other.as_ref().map_or("EOF".to_owned(), show);
                return Err((format!("unexpected {shown} in {keyword} clause"), pos));
            }
        };
        self.skip_space();
        if keyword == "define" {
            self.expect_close("define clause")?;
            let nodes = self.definition()?;
            self.defined.push((name, nodes));
            return Ok(None);
        }
        let argument = match self.peek() {
            Some(Token::Close) if keyword == "template" => None,
            _ => Some(self.pipeline(keyword, &Token::Close)?),
        };
        self.expect_close(keyword)?;
        if keyword == "block" {
            let nodes = self.definition()?;
            self.defined.push((name.clone(), nodes));
        }
        Ok(Some(Node::Template { name, argument, pos }))
    }

    fn definition(&mut self) -> Result<Vec<Node>, Fault> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, end) = self.nodes()?;
        self.variables = variables;
        self.loops = loops;
        match end {
            Closing::End => Ok(nodes),
            Closing::Eof => self.fault("unexpected EOF"),
            Closing::Else => self.fault("unexpected {{else}} in define clause"),
        }
    }

    fn pipeline(&mut self, context: &str, until: &Token) -> Result<Pipeline, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fault(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.skip_space();
        let pos = self.pos();
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(token) if token == until => break,
                None => return self.fault(format!("unclosed action in {context}")),
                _ => {}
            }
            commands.push(self.command(context)?);
            self.skip_space();
            if self.peek() == Some(&Token::Pipe) {
                self.at += 1;
                self.skip_space();
                if self.peek() == Some(until) {
                    return self.fault(format!("missing value for {context}"));
                }
            }
        }
        if commands.is_empty() {
            return self.fault(format!("missing value for {context}"));
        }
        for command in &commands[1..] {
            if let Operand::Constant(_) | Operand::Dot | Operand::Nil = command.operands[0] {
                return Err((format!("non executable command in pipeline stage 2: {}", command.source), command.pos));
            }
        }
        // declared variables can be seen only from here on
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipeline { variables, assigns, commands, pos })
    }

    /// `$x :=`, `$x =` and, in a range, `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), Fault> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            names.push(name);
            self.skip_space();
            match self.peek() {
                Some(Token::Comma) if context == "range" && names.len() < 2 => {
                    self.at += 1;
                    self.skip_space();
                }
                Some(Token::Comma) => return self.fault(format!("too many declarations in {context}")),
                Some(Token::Declare) => {
                    self.at += 1;
                    return Ok((names, false));
                }
                Some(Token::Assign) => {
                    for name in &names {
                        self.known_variable(name)?;
                    }
                    self.at += 1;
                    return Ok((names, true));
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn known_variable(&self, name: &str) -> Result<(), Fault> {
        if self.variables.iter().any(|v| v == name) {
            return Ok(());
        }
        self.fault(format!("undefined variable {}", model::quote(name)))
    }

    fn command(&mut self, context: &str) -> Result<Command, Fault> {
        let pos = self.pos();
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(Token::Pipe | Token::Close | Token::RightParen) | None => break,
                _ => operands.push(self.operand(context)?),
            }
            match self.peek() {
                Some(Token::Space | Token::Pipe | Token::Close | Token::RightParen) | None => {}
                Some(other) => {
                    let shown = show(other);
                    return self.fault(format!("unexpected {shown} in operand"));
                }
            }
        }
        if operands.is_empty() {
            return self.fault("empty command");
        }
        let source = self.text[pos..self.pos()].trim_end().to_owned();
        Ok(Command { operands, pos, source })
    }

    fn operand(&mut self, context: &str) -> Result<Operand, Fault> {
        let before = self.at;
        let Some(token) = self.next() else { return self.fault("unclosed action") };
        Ok(match token {
            Token::Dot => Operand::Dot,
            Token::Str(text) => Operand::Constant(Value::from(text)),
            Token::Char(c) => Operand::Constant(Value::Int(i64::from(u32::from(c)))),
            Token::Number(text) => match number(&text) {
                Some(value) => Operand::Constant(value),
                None => {
                    self.at = before;
                    return self.fault(format!("bad number syntax: {}", model::quote(&text)));
                }
            },
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Constant(Value::Bool(true)),
                "false" => Operand::Constant(Value::Bool(false)),
                "nil" => Operand::Nil,
                _ => {
                    if !(crate::builtins::exists(&word) || (self.has_function)(&word)) {
                        self.at = before;
                        return self.fault(format!("function {} not defined", model::quote(&word)));
                    }
                    Operand::Function(word)
                }
            },
            Token::Variable(name) => {
                if let Err((message, _)) = self.known_variable(&name) {
                    self.at = before;
                    return self.fault(message);
                }
                Operand::Variable(name, self.fields())
            }
            Token::Field(first) => {
                let mut path = vec![first];
                path.extend(self.fields());
                Operand::Field(path)
            }
            Token::LeftParen => {
                let inner = self.pipeline("parenthesized pipeline", &Token::RightParen)?;
                self.at += 1;
                Operand::Group(inner, self.fields())
            }
            other => {
                self.at = before;
                return self.fault(format!("unexpected {} in {context}", show(&other)));
            }
        })
    }

    fn fields(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(Token::Field(name)) = self.peek() {
            path.push(name.clone());
            self.at += 1;
        }
        path
    }
}

fn number(text: &str) -> Option<Value> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |prefix: &str, radix| digits.strip_prefix(prefix).and_then(|d| i64::from_str_radix(d, radix).ok());
    let lower = digits.to_ascii_lowercase();
    let integer = match lower.get(..2) {
        Some("0x") => i64::from_str_radix(&lower[2..], 16).ok(),
        Some("0b") => i64::from_str_radix(&lower[2..], 2).ok(),
        Some("0o") => i64::from_str_radix(&lower[2..], 8).ok(),
        _ if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => radix("0", 8),
        _ => digits.parse().ok(),
    };
    if let Some(value) = integer {
        return Some(Value::Int(if negative { -value } else { value }));
    }
    let starts_well = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    plain.parse().ok().filter(|_| starts_well).map(Value::Float)
}

fn show(token: &Token) -> String {
    match token {
        Token::Text(t) | Token::Word(t) | Token::Number(t) | Token::Variable(t) => format!("<{t}>"),
        Token::Field(t) => format!("<.{t}>"),
        Token::Str(t) => model::quote(&model::quote(t)),
        Token::Char(c) => format!("{c:?}"),
        Token::Open => "{{".to_owned(),
        Token::Close => "}}".to_owned(),
        Token::Dot => "<.>".to_owned(),
        Token::Pipe => "\"|\"".to_owned(),
        Token::LeftParen => "\"(\"".to_owned(),
        Token::RightParen => "\")\"".to_owned(),
        Token::Comma => "\",\"".to_owned(),
        Token::Declare => "\":=\"".to_owned(),
        Token::Assign => "\"=\"".to_owned(),
        Token::Space => "space".to_owned(),
    }
}
