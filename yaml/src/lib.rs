//! The configuration loader: YAML text to a tree whose nodes know their place, and from there into serde types.
//!
//! Configuration files are written for Go's `yaml.v2`, so its habits count: a scalar becomes what the target wants (`port: 80`
//! is a fine string, `yes` a fine boolean), `null` leaves a field at its default, keys stand once, unknown keys are errors.
//! Every error names line and column.
//!
//! Trees make inlined sections possible: [`Node::split`] parts a mapping by keys, without losing places or the text of scalars
//! as serde's `flatten` does.

mod de;
mod node;

pub use node::{Error, Kind, Limits, Node};

use serde::de::DeserializeOwned;

/// Reads one document into `T`. An empty document reads as an empty mapping.
///
/// # Errors
/// Syntax errors, duplicate or unknown keys, values of the wrong kind, each with its place.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    Node::parse(text)?.read()
}
