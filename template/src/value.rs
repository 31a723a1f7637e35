use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::Labels;

/// A value that a template works with.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// No value: a missing map key, a `nil`.
    #[default]
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// A list.
    List(Arc<[Value]>),
    /// A map with text keys; ranges visit it in key order.
    Map(Arc<BTreeMap<String, Value>>),
    /// A map from texts to texts, Go's `map[string]string`: what is not in it is the empty text.
    Labels(Labels),
    /// Something with fields and methods of its own.
    Object(Arc<dyn Object>),
}

/// Data with fields and methods, as Go structs have them.
pub trait Object: fmt::Debug + Send + Sync {
    /// The value of field `name`, or the result of method `name` with `args`. `None` when there is neither.
    ///
    /// # Errors
    /// What the method reports, as text.
    fn get(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>>;

    /// How the object is printed.
    fn display(&self) -> String;

    /// The type's name, for messages.
    fn type_name(&self) -> &'static str;

    /// The elements a `range` visits, if it can be ranged over.
    fn elements(&self) -> Option<Vec<Value>> {
        None
    }
}

impl Value {
    /// A text value.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Str(Arc::from(text.as_ref()))
    }

    /// A list value.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// A map value.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(k, v)| (k.into(), v)).collect()))
    }

    /// Go's notion of truth: not the zero value, not empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Float(f) => *f != 0.0,
            Self::Str(s) => !s.is_empty(),
            Self::List(l) => !l.is_empty(),
            Self::Map(m) => !m.is_empty(),
            Self::Labels(l) => !l.is_empty(),
            Self::Object(o) => o.elements().is_none_or(|e| !e.is_empty()),
        }
    }

    /// The kind, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Labels(_) => "map[string]string",
            Self::Object(o) => o.type_name(),
        }
    }

    /// The number of elements or bytes, as `len` gives it.
    pub(crate) fn len(&self) -> Option<usize> {
        match self {
            Self::Str(s) => Some(s.len()),
            Self::List(l) => Some(l.len()),
            Self::Map(m) => Some(m.len()),
            Self::Labels(l) => Some(l.len()),
            Self::Object(o) => o.elements().map(|e| e.len()),
            Self::Nil | Self::Bool(_) | Self::Int(_) | Self::Float(_) => None,
        }
    }
}

fn show_map<K: fmt::Display, V: fmt::Display>(
    entries: impl Iterator<Item = (K, V)>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.write_str("map[")?;
    for (at, (key, value)) in entries.enumerate() {
        write!(f, "{}{key}:{value}", if at > 0 { " " } else { "" })?;
    }
    f.write_str("]")
}

impl fmt::Display for Value {
    /// Prints as Go's `%v`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(v) => {
                let mut out = String::new();
                model::format_float(*v, &mut out);
                f.write_str(&out)
            }
            Self::Str(s) => f.write_str(s),
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => show_map(map.iter(), f),
            Self::Labels(labels) => show_map(labels.iter(), f),
            Self::Object(o) => f.write_str(&o.display()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Float(v)
    }
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
