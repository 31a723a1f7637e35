//! Sections as tables: the keys a section may have, what their values are, and what holds when a key is not written.
//!
//! For sections that no part of the program has a structure of its own for: they are checked, and those of discovery mechanisms give
//! their values as [`Settings`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use common::http::client::{HttpClientConfig, TlsConfig};
use model::Duration;

use super::{Base, http_client, web_address};

/// What the value of a key is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    Int,
    Float,
    Duration,
    Url,
    /// A path, relative to the folder of the configuration file.
    File,
    Texts,
    TextMap,
    Tls,
    Object(&'static Section),
    Objects(&'static Section),
}

/// A key of a section; the default is written as the file would write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    name: &'static str,
    kind: Kind,
    default: &'static str,
}

/// The keys of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Name of the section's type in messages about unknown fields.
    type_name: &'static str,
    keys: &'static [Key],
    /// Whether the keys of the HTTP client stand among the section's own.
    http_client: bool,
}

/// A section whose keys and kinds of values are right, while it is checked further.
#[derive(Debug)]
pub(super) struct Values<'a> {
    node: &'a yaml::Node,
    settings: Settings,
}

/// The values of a section, with its defaults. Where they stood is forgotten: equal settings are equal.
#[derive(Clone, Default, PartialEq)]
pub struct Settings {
    values: BTreeMap<&'static str, Value>,
    /// The HTTP client, with its defaults; of `tls_config` alone where the section has nothing else of it.
    pub(crate) http_client: HttpClientConfig,
}

/// The value of a key.
#[derive(Clone, PartialEq)]
enum Value {
    Null,
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    Duration(Duration),
    Texts(Vec<String>),
    TextMap(BTreeMap<String, String>),
    Tls(Box<TlsConfig>),
    Objects(Vec<Settings>),
}

impl fmt::Debug for Settings {
    /// Names only: some values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Key {
    pub(super) const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, default: "" }
    }

    pub(super) const fn or(self, default: &'static str) -> Self {
        Self { default, ..self }
    }
}

pub(super) const fn text(name: &'static str) -> Key {
    Key::new(name, Kind::Text)
}

pub(super) const fn file(name: &'static str) -> Key {
    Key::new(name, Kind::File)
}

pub(super) const fn texts(name: &'static str) -> Key {
    Key::new(name, Kind::Texts)
}

pub(super) const fn flag(name: &'static str) -> Key {
    Key::new(name, Kind::Bool).or("false")
}

pub(super) const fn int(name: &'static str, default: &'static str) -> Key {
    Key::new(name, Kind::Int).or(default)
}

pub(super) const fn duration(name: &'static str, default: &'static str) -> Key {
    Key::new(name, Kind::Duration).or(default)
}

impl Section {
    pub(super) const fn new(type_name: &'static str, keys: &'static [Key]) -> Self {
        Self { type_name, keys, http_client: false }
    }

    /// The same with the keys of the HTTP client.
    pub(super) const fn with_http_client(self) -> Self {
        Self { http_client: true, ..self }
    }

    /// Checks the keys of `node` and the kinds of their values.
    pub(super) fn read<'a>(&'static self, node: &'a yaml::Node, base: &Base) -> Result<Values<'a>, yaml::Error> {
        let (http_client, own) = if self.http_client {
            http_client::split(node, base)?
        } else {
            (HttpClientConfig::default(), node.split(|_| true)?.0)
        };
        let mut settings = Settings { values: BTreeMap::new(), http_client };
        if let yaml::Kind::Mapping(entries) = &own.kind {
            for (name, value) in entries {
                let written = name.as_str().unwrap_or_default();
                let Some(key) = self.keys.iter().find(|key| key.name == written) else {
                    return Err(name.error(format!("field {written} not found in type {}", self.type_name)));
                };
                // a value by itself does not know where it stands
                let read =
                    key.kind.read(value, base).map_err(|e| if e.line == 0 { value.error(e.message) } else { e })?;
                if let Value::Tls(tls) = &read {
                    settings.http_client.tls_config = (**tls).clone();
                    settings.http_client.resolve_paths(&base.folder);
                }
                settings.values.insert(key.name, read);
            }
        }
        for key in self.keys.iter().filter(|key| !key.default.is_empty()) {
            settings.values.entry(key.name).or_insert_with(|| key.kind.default(key.default));
        }
        Ok(Values { node, settings })
    }
}

impl Kind {
    fn read(self, node: &yaml::Node, base: &Base) -> Result<Value, yaml::Error> {
        // what has no value is nothing, or what its kind says that nothing is
        let or_null = |value: Value| if node.is_null() { Value::Null } else { value };
        Ok(match self {
            Self::Text => or_null(Value::Text(node.read()?)),
            Self::File => {
                let path: String = node.read()?;
                let joined = if path.is_empty() { path } else { base.join(&path).to_string_lossy().into_owned() };
                or_null(Value::Text(joined))
            }
            Self::Bool => or_null(Value::Bool(node.read()?)),
            Self::Int => or_null(Value::Int(node.read()?)),
            Self::Float => or_null(Value::Float(node.read()?)),
            Self::Duration => or_null(Value::Duration(node.read()?)),
            Self::Url if node.is_null() => Value::Null,
            Self::Url => {
                let text: String = node.read()?;
                web_address::parse(&text).map_err(|m| node.error(m))?;
                Value::Text(text)
            }
            Self::Texts => or_null(Value::Texts(node.read()?)),
            Self::TextMap => or_null(Value::TextMap(node.read()?)),
            Self::Tls => {
                let tls: TlsConfig = node.read()?;
                tls.validate().map_err(|e| node.error(e.to_string()))?;
                Value::Tls(Box::new(tls))
            }
            Self::Object(section) => Value::Objects(vec![section.read(node, base)?.settings]),
            Self::Objects(section) => match &node.kind {
                yaml::Kind::Sequence(items) => {
                    let read = |item| section.read(item, base).map(|values| values.settings);
                    Value::Objects(items.iter().map(read).collect::<Result<_, _>>()?)
                }
                _ if node.is_null() => Value::Null,
                _ => return Err(node.error("expected a list")),
            },
        })
    }

    /// A default, as a table writes it.
    fn default(self, text: &str) -> Value {
        match self {
            Self::Bool => Value::Bool(text == "true"),
            Self::Int => Value::Int(text.parse().unwrap_or_default()),
            Self::Float => Value::Float(text.parse().unwrap_or_default()),
            Self::Duration => Value::Duration(text.parse().unwrap_or_default()),
            _ => Value::Text(text.to_owned()),
        }
    }
}

impl Settings {
    /// The value of a key as text, or its default; empty for a null.
    pub(crate) fn text(&self, name: &str) -> &str {
        if let Some(Value::Text(text)) = self.values.get(name) { text } else { "" }
    }

    /// Whether a key has a value that is not empty, of itself or by default.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| match value {
            Value::Null => false,
            Value::Text(text) => !text.is_empty(),
            _ => true,
        })
    }

    /// The number under a key, or its default.
    pub(crate) fn int(&self, name: &str) -> i64 {
        if let Some(Value::Int(number)) = self.values.get(name) { *number } else { 0 }
    }

    /// The span under a key, or its default.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        if let Some(Value::Duration(span)) = self.values.get(name) { *span } else { Duration::ZERO }
    }

    /// The truth value under a key, or its default.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Bool(true)))
    }

    /// The strings under a key.
    pub(crate) fn texts(&self, name: &str) -> &[String] {
        if let Some(Value::Texts(texts)) = self.values.get(name) { texts } else { &[] }
    }

    /// The strings under a key, by name.
    pub(crate) fn text_map(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let map = if let Some(Value::TextMap(map)) = self.values.get(name) { Some(map) } else { None };
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The section under a key.
    pub(crate) fn object(&self, name: &str) -> Option<&Self> {
        self.objects(name).first()
    }

    /// The sections of the list under a key.
    pub(crate) fn objects(&self, name: &str) -> &[Self] {
        if let Some(Value::Objects(objects)) = self.values.get(name) { objects } else { &[] }
    }
}

impl Deref for Values<'_> {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl<'a> Values<'a> {
    /// The values alone.
    pub(super) fn into_settings(self) -> Settings {
        self.settings
    }

    /// The items of the list under a key.
    pub(super) fn items(&self, name: &str) -> &'a [yaml::Node] {
        match self.node.get(name).map(|node| &node.kind) {
            Some(yaml::Kind::Sequence(items)) => items,
            _ => &[],
        }
    }

    /// The keys, as written, of the mapping under a key.
    pub(super) fn names(&self, name: &str) -> impl Iterator<Item = &'a yaml::Node> + use<'a> {
        match self.node.get(name).map(|node| &node.kind) {
            Some(yaml::Kind::Mapping(entries)) => entries.as_slice(),
            _ => &[],
        }
        .iter()
        .map(|(key, _)| key)
    }

    /// The node under a key, unless null.
    pub(super) fn node(&self, name: &str) -> Option<&'a yaml::Node> {
        self.node.get(name).filter(|node| !node.is_null())
    }

    /// An error at the value of a key, or at the section where the key is not written.
    pub(super) fn fault<T>(&self, name: &str, message: impl Into<String>) -> Result<T, yaml::Error> {
        Err(self.node.get(name).unwrap_or(self.node).error(message))
    }

    /// An error unless the key has a value.
    pub(super) fn require(&self, name: &str, message: &str) -> Result<(), yaml::Error> {
        if self.has(name) { Ok(()) } else { self.fault(name, message) }
    }

    /// An error unless exactly one of a secret and a file with it is given.
    pub(super) fn require_secret(&self, name: &str, file: &str) -> Result<(), yaml::Error> {
        match (self.has(name), self.has(file)) {
            (false, false) => self.fault(name, format!("one of {name} & {file} must be configured")),
            (true, true) => self.fault(file, format!("at most one of {name} & {file} must be configured")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: Section = Section::new("inner", &[text("name"), texts("values")]);
    const OUTER: Section = Section::new(
        "outer",
        &[
            text("role").or("node"),
            int("port", "80"),
            duration("every", "1m"),
            flag("on"),
            Key::new("factor", Kind::Float),
            Key::new("api", Kind::Url),
            Key::new("headers", Kind::TextMap),
            Key::new("tls_config", Kind::Tls),
            Key::new("one", Kind::Object(&INNER)),
            Key::new("many", Kind::Objects(&INNER)),
        ],
    )
    .with_http_client();

    #[test]
    fn keys_and_kinds_are_checked() {
        for (text, expected) in [
            ("role: x\nport: 1\nevery: 5s\non: true\nfactor: .5\nbearer_token: t", ""),
            ("many: [{name: a, values: [b]}]\none: {name: c}\nheaders: {a: b}\napi: http://x", ""),
            ("role: x\nnope: 1", "line 2: field nope not found in type outer"),
            ("one:\n  nope: 1", "line 2: field nope not found in type inner"),
            ("many:\n- name: a\n- nope: 1", "line 3: field nope not found in type inner"),
            ("many: {name: a}", "line 1: expected a list"),
            ("port: x", "line 1: cannot unmarshal `x` into an integer"),
            ("every: 1x", "line 1: not a valid duration string: \"1x\""),
            ("on: maybe", "line 1: cannot unmarshal `maybe` into bool"),
            ("one: {values: a}", "line 1: cannot unmarshal `a` into a list"),
            ("api: '://x'", "line 1: parse \"://x\": missing protocol scheme"),
            ("bearer_token: a\nbearer_token_file: b", "line 1: at most one of bearer_token & bearer_token_file"),
        ] {
            let node = yaml::Node::parse(text).unwrap();
            let message = OUTER.read(&node, &Base::default()).map_or_else(|e| e.to_string(), |_| String::new());
            assert!(message.starts_with(expected) && message.is_empty() == expected.is_empty(), "{text}\n{message}");
        }
    }

    #[test]
    fn defaults_hold_for_what_is_not_written() {
        let node = yaml::Node::parse("port:\non: true").unwrap();
        let values = OUTER.read(&node, &Base::default()).unwrap();
        assert_eq!((values.text("role"), values.int("port"), values.flag("on")), ("node", 0, true));
        assert_eq!(values.duration("every"), Duration::from_secs(60));
        assert!(!values.has("port") && values.has("role"));
    }
}
