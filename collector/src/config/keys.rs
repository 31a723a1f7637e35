//! Sections as tables: the keys a section may have, what their values are, and what holds when a key is not written.
//!
//! For sections that are checked but that no part of the program reads as a structure.

use std::collections::BTreeMap;

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

/// A section whose keys and kinds of values are right.
#[derive(Debug)]
pub(super) struct Values<'a> {
    node: &'a yaml::Node,
    section: &'static Section,
    /// The HTTP client, with its defaults.
    pub(super) http_client: HttpClientConfig,
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
        if let yaml::Kind::Mapping(entries) = &own.kind {
            for (name, value) in entries {
                let written = name.as_str().unwrap_or_default();
                let Some(key) = self.keys.iter().find(|key| key.name == written) else {
                    return Err(name.error(format!("field {written} not found in type {}", self.type_name)));
                };
                // a value by itself does not know where it stands
                key.kind.check(value, base).map_err(|e| if e.line == 0 { value.error(e.message) } else { e })?;
            }
        }
        Ok(Values { node, section: self, http_client })
    }
}

impl Kind {
    fn check(self, node: &yaml::Node, base: &Base) -> Result<(), yaml::Error> {
        match self {
            Self::Text => node.read::<String>().map(drop),
            Self::Bool => node.read::<bool>().map(drop),
            Self::Int => node.read::<i64>().map(drop),
            Self::Float => node.read::<f64>().map(drop),
            Self::Duration => node.read::<Duration>().map(drop),
            Self::Url if node.is_null() => Ok(()),
            Self::Url => web_address::parse(&node.read::<String>()?).map(drop).map_err(|m| node.error(m)),
            Self::Texts => node.read::<Vec<String>>().map(drop),
            Self::TextMap => node.read::<BTreeMap<String, String>>().map(drop),
            Self::Tls => {
                let tls: TlsConfig = node.read()?;
                tls.validate().map_err(|e| node.error(e.to_string()))
            }
            Self::Object(section) => section.read(node, base).map(drop),
            Self::Objects(section) => match &node.kind {
                yaml::Kind::Sequence(items) => items.iter().try_for_each(|item| section.read(item, base).map(drop)),
                _ if node.is_null() => Ok(()),
                _ => Err(node.error("expected a list")),
            },
        }
    }
}

impl<'a> Values<'a> {
    /// The value of a key as text, or its default; empty for a null.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.node.get(name) {
            Some(node) if node.is_null() => "",
            Some(node) => node.as_str().unwrap_or_default(),
            None => self.section.keys.iter().find(|key| key.name == name).map_or("", |key| key.default),
        }
    }

    /// Whether a key has a value that is not empty, of itself or by default.
    pub(super) fn has(&self, name: &str) -> bool {
        !self.text(name).is_empty()
    }

    /// The number under a key, or its default.
    pub(super) fn int(&self, name: &str) -> i64 {
        match self.node.get(name) {
            Some(node) => node.read().unwrap_or_default(),
            None => self.text(name).parse().unwrap_or_default(),
        }
    }

    /// The span under a key, or its default.
    pub(super) fn duration(&self, name: &str) -> Duration {
        match self.node.get(name) {
            Some(node) => node.read().unwrap_or_default(),
            None => self.text(name).parse().unwrap_or_default(),
        }
    }

    /// The truth value under a key, or its default.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.node.get(name) {
            Some(node) => node.read().unwrap_or_default(),
            None => self.text(name) == "true",
        }
    }

    /// The strings under a key.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.node.get(name).and_then(|node| node.read().ok()).unwrap_or_default()
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
