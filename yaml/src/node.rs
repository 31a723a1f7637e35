use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde::de::{DeserializeOwned, DeserializeSeed};

/// A value in a YAML document, and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The value.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A scalar. `plain` means without quotes, so that it may be a number, a boolean or null.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// Whether it was written without quotes and without a string tag.
        plain: bool,
    },
    /// Bytes written as `!!binary` that are no UTF-8 text.
    Binary(Vec<u8>),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file. Keys are scalars, each once.
    Mapping(Vec<(Node, Node)>),
}

/// Bounds for documents from untrusted hands.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Collections within collections.
    pub depth: usize,
    /// Nodes, counting each use of an anchor anew.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 100, nodes: 5_000_000 }
    }
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Line, from 1; 0 when unknown.
    pub line: usize,
    /// Column, from 1; 0 when unknown.
    pub column: usize,
    /// The fault in words.
    pub message: String,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.message) } else { write!(f, "line {}: {}", self.line, self.message) }
    }
}

impl Node {
    /// Reads one document; an empty one is an empty mapping.
    ///
    /// # Errors
    /// Syntax errors, duplicate keys, a second document, limits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_with(text, Limits::default())
    }

    /// As [`Node::parse`], with limits of one's own.
    ///
    /// # Errors
    /// As [`Node::parse`].
    pub fn parse_with(text: &str, limits: Limits) -> Result<Self, Error> {
        let mut documents = Self::parse_documents(text, limits)?.into_iter();
        let first = documents.next().unwrap_or_else(|| Self::empty_mapping(1, 1));
        match documents.next() {
            Some(second) => Err(second.error("only one document is expected")),
            None => Ok(first),
        }
    }

    /// Reads all documents of a stream.
    ///
    /// # Errors
    /// As [`Node::parse`].
    pub fn parse_documents(text: &str, limits: Limits) -> Result<Vec<Self>, Error> {
        Builder { limits, nodes: 0, anchors: HashMap::new() }.documents(text)
    }

    /// A mapping without keys.
    pub fn empty_mapping(line: usize, column: usize) -> Self {
        Self { line, column, kind: Kind::Mapping(Vec::new()) }
    }

    /// Converts the node.
    ///
    /// # Errors
    /// When it has unknown keys or values of the wrong kind.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(self)
    }

    /// Converts the node with a seed.
    ///
    /// # Errors
    /// As [`Node::read`].
    pub fn read_seed<'a, S: DeserializeSeed<'a>>(&'a self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    /// Whether it is null: nothing at all, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Binary(_) | Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v),
            Kind::Scalar { .. } | Kind::Binary(_) | Kind::Sequence(_) => None,
        }
    }

    /// Takes the keys `wanted` accepts out of a mapping: (those keys, the rest). A null counts as an empty mapping.
    ///
    /// # Errors
    /// When the node is no mapping.
    pub fn split(&self, wanted: impl Fn(&str) -> bool) -> Result<(Self, Self), Error> {
        let entries = match &self.kind {
            Kind::Mapping(entries) => entries.as_slice(),
            _ if self.is_null() => &[],
            _ => return Err(self.error(format!("cannot unmarshal {} into a mapping", self.describe()))),
        };
        let (taken, rest) = entries.iter().cloned().partition(|(key, _)| key.as_str().is_some_and(&wanted));
        let node = |entries| Self { line: self.line, column: self.column, kind: Kind::Mapping(entries) };
        Ok((node(taken), node(rest)))
    }

    /// An error at this node.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error { line: self.line, column: self.column, message: message.into() }
    }

    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar { text, .. } if text.len() > 40 => {
                format!("`{}...`", text.chars().take(37).collect::<String>())
            }
            Kind::Scalar { text, .. } => format!("`{text}`"),
            Kind::Binary(_) => "binary data".to_owned(),
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

struct Builder {
    limits: Limits,
    nodes: usize,
    /// Finished nodes by anchor, with the number of nodes in each.
    anchors: HashMap<usize, (Node, usize)>,
}

/// A collection being read.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<Node>,
    keys: HashSet<String>,
    nodes_before: usize,
}

impl Builder {
    fn documents(&mut self, text: &str) -> Result<Vec<Node>, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut documents = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        for item in Parser::new_from_str(text) {
            let (event, span) = item.map_err(|e| Error {
                line: e.marker().line(),
                column: e.marker().col() + 1,
                message: e.info().to_owned(),
            })?;
            let (line, column) = (span.start.line(), span.start.col() + 1);
            let start = |kind| Node { line, column, kind };
            let finished = match event {
                Event::SequenceStart(anchor, _) => {
                    self.open(&mut open, start(Kind::Sequence(Vec::new())), anchor)?;
                    continue;
                }
                Event::MappingStart(anchor, _) => {
                    self.open(&mut open, start(Kind::Mapping(Vec::new())), anchor)?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(done) = open.pop() else { continue };
                    if done.anchor != 0 {
                        self.anchors.insert(done.anchor, (done.node.clone(), self.nodes - done.nodes_before));
                    }
                    done.node
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let node =
                        start(scalar(text, style, tag.as_deref()).map_err(|m| start(Kind::Sequence(vec![])).error(m))?);
                    self.count(&node, 1)?;
                    if anchor != 0 {
                        self.anchors.insert(anchor, (node.clone(), 1));
                    }
                    node
                }
                Event::Alias(anchor) => {
                    let place = start(Kind::Sequence(Vec::new()));
                    let (node, size) =
                        self.anchors.get(&anchor).cloned().ok_or_else(|| place.error("unknown anchor"))?;
                    self.count(&place, size)?;
                    node
                }
                Event::DocumentStart(_) => {
                    self.anchors.clear();
                    continue;
                }
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            };
            match open.last_mut() {
                None => documents.push(finished),
                Some(parent) => parent.add(finished)?,
            }
        }
        // a document of comments only reads as one null
        if let [only] = documents.as_slice()
            && only.is_null()
        {
            documents.clear();
        }
        Ok(documents)
    }

    fn open(&mut self, open: &mut Vec<Open>, node: Node, anchor: usize) -> Result<(), Error> {
        if open.len() >= self.limits.depth {
            return Err(node.error(format!("nested deeper than {}", self.limits.depth)));
        }
        let nodes_before = self.nodes;
        self.count(&node, 1)?;
        open.push(Open { node, anchor, key: None, keys: HashSet::new(), nodes_before });
        Ok(())
    }

    fn count(&mut self, at: &Node, nodes: usize) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.limits.nodes {
            return Err(at.error("document contains excessive aliasing or is too large"));
        }
        Ok(())
    }
}

impl Open {
    fn add(&mut self, child: Node) -> Result<(), Error> {
        match &mut self.node.kind {
            Kind::Sequence(items) => items.push(child),
            Kind::Mapping(entries) => match self.key.take() {
                None => {
                    if child.as_str().is_none() {
                        return Err(child.error("a key must be a scalar"));
                    }
                    self.key = Some(child);
                }
                Some(key) if is_merge(&key) => merge(entries, &self.keys, &child)?,
                Some(key) => {
                    let name = key.as_str().unwrap_or_default();
                    if !self.keys.insert(name.to_owned()) {
                        return Err(key.error(format!("key {name:?} already set in map")));
                    }
                    // an explicit key wins over one merged earlier
                    entries.retain(|(k, _)| k.as_str() != Some(name));
                    entries.push((key, child));
                }
            },
            Kind::Scalar { .. } | Kind::Binary(_) => {}
        }
        Ok(())
    }
}

fn is_merge(key: &Node) -> bool {
    matches!(&key.kind, Kind::Scalar { text, plain: true } if text == "<<")
}

/// `<<: *anchor`: keys that are not there yet.
fn merge(entries: &mut Vec<(Node, Node)>, explicit: &HashSet<String>, from: &Node) -> Result<(), Error> {
    match &from.kind {
        Kind::Mapping(more) => {
            for (key, value) in more {
                let known = entries.iter().any(|(k, _)| k.as_str() == key.as_str());
                if !known && !explicit.contains(key.as_str().unwrap_or_default()) {
                    entries.push((key.clone(), value.clone()));
                }
            }
            Ok(())
        }
        Kind::Sequence(items) => items.iter().try_for_each(|item| merge(entries, explicit, item)),
        Kind::Scalar { .. } | Kind::Binary(_) => {
            Err(from.error("map merge requires map or sequence of maps as the value"))
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, String> {
    let core = tag.filter(|t| t.is_yaml_core_schema()).map(|t| t.suffix.as_str());
    if core == Some("binary") {
        let bytes = base64(&text).ok_or("!!binary value contains invalid base64 data")?;
        return Ok(match String::from_utf8(bytes) {
            Ok(text) => Kind::Scalar { text, plain: false },
            Err(error) => Kind::Binary(error.into_bytes()),
        });
    }
    Ok(Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain && core != Some("str") })
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64, white space allowed.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for (at, four) in digits.chunks(4).enumerate() {
        let padding = four.iter().rev().take_while(|b| **b == b'=').count();
        if padding > 2 || (padding > 0 && (at + 1) * 4 != digits.len()) {
            return None;
        }
        let mut word = 0u32;
        for byte in &four[..4 - padding] {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(value);
        }
        word <<= 6 * padding;
        out.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}

impl Node {
    /// Writes the tree as YAML in block style.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, indent: usize) {
        let pad = |out: &mut String, n: usize| out.extend(std::iter::repeat_n(' ', n));
        match &self.kind {
            Kind::Scalar { .. } => {
                self.write_scalar(out);
                out.push('\n');
            }
            Kind::Binary(bytes) => {
                out.push_str("!!binary \"");
                for three in bytes.chunks(3) {
                    let word = (0..3).fold(0, |word, at| word << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
                    for at in 0..4 {
                        let digit = (word >> (18 - 6 * at) & 63) as usize;
                        out.push(if at <= three.len() { char::from(BASE64[digit]) } else { '=' });
                    }
                }
                out.push_str("\"\n");
            }
            Kind::Sequence(items) if items.is_empty() => out.push_str("[]\n"),
            Kind::Mapping(entries) if entries.is_empty() => out.push_str("{}\n"),
            Kind::Sequence(items) => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        pad(out, indent);
                    }
                    out.push_str("- ");
                    item.write(out, indent + 2);
                }
            }
            Kind::Mapping(entries) => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        pad(out, indent);
                    }
                    key.write_scalar(out);
                    out.push(':');
                    let (nested, deeper) = match &value.kind {
                        Kind::Sequence(items) => (!items.is_empty(), indent),
                        Kind::Mapping(entries) => (!entries.is_empty(), indent + 2),
                        Kind::Scalar { .. } | Kind::Binary(_) => (false, indent),
                    };
                    if nested {
                        out.push('\n');
                        pad(out, deeper);
                    } else {
                        out.push(' ');
                    }
                    value.write(out, deeper);
                }
            }
        }
    }

    fn write_scalar(&self, out: &mut String) {
        let Kind::Scalar { text, plain } = &self.kind else { return };
        let simple = |c: char| c.is_ascii_alphanumeric() || "_-./<>".contains(c);
        let looks_typed =
            || Node { line: 0, column: 0, kind: Kind::Scalar { text: text.clone(), plain: true } }.is_typed();
        if (*plain && !text.contains(['\n', '#', ':', '\'', '"']))
            || (!text.is_empty() && text.chars().all(simple) && !text.starts_with('-') && !looks_typed())
        {
            out.push_str(text);
            return;
        }
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        out.push('"');
    }
}
