//! Targets and their `__meta_*` labels.

use std::fmt::Display;

use model::{Labels, LabelsBuilder};
use serde_json::Value;

use super::json;
use crate::config::TargetGroup;

/// A target while its labels are put together. Labels without a value are left out, as everywhere.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// What stands before the names of its labels.
    prefix: &'static str,
    labels: LabelsBuilder,
}

impl Target {
    /// A target whose labels begin with `prefix`.
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, labels: LabelsBuilder::default() }
    }

    /// Sets a label.
    pub(super) fn set(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.labels.set(&format!("{}{name}", self.prefix), &value.to_string());
        self
    }

    /// Sets a label from a string, number or truth value of an answer.
    pub(super) fn from(&mut self, name: &str, value: &Value) -> &mut Self {
        self.set(name, json::text(value))
    }

    /// Sets a label whose name ends in words that may hold any character.
    pub(super) fn named(&mut self, start: &str, rest: &str, value: impl Display) -> &mut Self {
        self.set(&format!("{start}{}", sanitize(rest)), value)
    }

    /// Sets a label for each entry of an object.
    pub(super) fn each(&mut self, start: &str, object: &Value) -> &mut Self {
        for (name, value) in object.as_object().into_iter().flatten() {
            self.named(start, name, json::text(value));
        }
        self
    }

    /// Sets a label for each entry, and another, `true`, that says that there is one: values may be empty.
    pub(super) fn each_present<'a>(
        &mut self,
        start: &str,
        present: &str,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> &mut Self {
        for (name, value) in entries {
            self.named(start, name, value).named(present, name, "true");
        }
        self
    }

    /// Sets a label whose name has no prefix.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.labels.set(name, &value.to_string());
        self
    }

    /// Adds all labels of another.
    pub(super) fn merge(&mut self, other: &Self) -> &mut Self {
        for (name, value) in other.labels.iter() {
            self.labels.set(name, value);
        }
        self
    }

    /// The value of a label, empty without it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.labels.get(&format!("{}{name}", self.prefix))
    }

    /// Sets the address.
    pub(super) fn address(&mut self, host: &str, port: impl Display) -> &mut Self {
        self.plain("__address__", host_port(host, port))
    }

    /// The finished labels.
    pub(super) fn build(&self) -> Labels {
        self.labels.build()
    }
}

/// A host with a port; IPv6 addresses get their brackets.
pub(super) fn host_port(host: &str, port: impl Display) -> String {
    if host.contains([':', '%']) { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Text as a part of a label's name: `_` for every character that is not allowed there.
pub(super) fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A list in one value, with the separator at both ends too, so that an expression finds each word between two of them. Empty for
/// an empty list.
pub(super) fn surrounded(words: impl IntoIterator<Item = impl AsRef<str>>, separator: &str) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
    if words.is_empty() { String::new() } else { format!("{separator}{}{separator}", words.join(separator)) }
}

/// One group of these targets.
pub(super) fn group(source: impl Into<String>, targets: Vec<Labels>) -> TargetGroup {
    TargetGroup { targets, labels: Labels::empty(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_have_their_prefix_and_allowed_names() {
        let mut target = Target::new("__meta_x_");
        target.set("id", 7).from("none", &Value::Null).each("tag_", &json!({"a-b.c/ü": "v", "n": 1, "e": ""}));
        target.address("::1", 80).each_present("l_", "lp_", [("z", "")]);
        let expected = r#"{__address__="[::1]:80", __meta_x_id="7", __meta_x_lp_z="true", __meta_x_tag_a_b_c__="v", __meta_x_tag_n="1"}"#;
        assert_eq!(target.build().to_string(), expected);
        assert_eq!((host_port("a", 1), host_port("fe80::1%eth0", 2)), ("a:1".into(), "[fe80::1%eth0]:2".into()));
    }

    #[test]
    fn lists_have_separators_all_around() {
        assert_eq!(surrounded(["a", "b"], ","), ",a,b,");
        assert_eq!(surrounded(Vec::<&str>::new(), ","), "");
    }
}
