//! Go's `text/template` language, in which rules, alerts and notifications are written.
//!
//! A [`Template`] is parsed once and executed with data ([`Value`]) and functions ([`Functions`]). The language is the one of
//! Go 1.26: pipelines, variables, `if`, `range`, `with`, `define`, `block`, `template`, `break`, `continue`, comments, trim
//! markers and the predefined functions. Execution is bounded in steps, depth and output.
//!
//! This crate knows nothing of alerts: the functions and data of each user are the user's.

mod ast;
mod builtins;
mod exec;
mod lexer;
mod parser;
mod printf;
mod time;
mod value;

pub use exec::{Caller, Functions, Limits};
pub use parser::Template;
pub use printf::printf;
pub use time::Time;
pub use value::{Object, Value};

/// A template that does not parse, or fails while it runs. The text names template, line and place as Go's does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {0}")]
pub struct Error(pub(crate) String);
