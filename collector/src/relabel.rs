//! Relabelling: rewriting, keeping and dropping label sets by rules (`relabel_configs` and its siblings).

use md5::{Digest, Md5};
use model::{LabelRegex, Labels, LabelsBuilder, NameValidation, is_valid_label_name, quote};
use serde::Deserialize;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Set the target label to the expanded replacement if the regex matches.
    Replace,
    /// Drop unless the regex matches.
    Keep,
    /// Drop if the regex matches.
    Drop,
    /// Drop unless the source equals the target label.
    KeepEqual,
    /// Drop if the source equals the target label.
    DropEqual,
    /// Set the target label to a hash of the source, modulo `modulus`.
    HashMod,
    /// Copy each label whose name matches to the name the replacement gives.
    LabelMap,
    /// Remove each label whose name matches.
    LabelDrop,
    /// Remove each label whose name does not match.
    LabelKeep,
    /// Set the target label to the source in lower case.
    Lowercase,
    /// Set the target label to the source in upper case.
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl Action {
    /// The name in configuration files.
    pub fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }
}

/// One relabelling rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RelabelRule {
    /// Labels whose values are joined to the source.
    pub source_labels: Vec<String>,
    /// Text between the joined values.
    pub separator: String,
    /// What the source must match.
    pub regex: LabelRegex,
    /// Divisor for [`Action::HashMod`].
    pub modulus: u64,
    /// Label that is set; `$1` expands in [`Action::Replace`].
    pub target_label: String,
    /// New value, with `$1` and `${name}`.
    pub replacement: String,
    /// What to do.
    pub action: Action,
}

const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REPLACEMENT: &str = "$1";

/// A rule as written.
#[derive(Deserialize)]
#[serde(default, rename = "relabel.plain")]
struct Written {
    source_labels: Option<Vec<String>>,
    separator: String,
    regex: String,
    modulus: u64,
    target_label: String,
    replacement: String,
    action: String,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            source_labels: None,
            separator: DEFAULT_SEPARATOR.into(),
            regex: DEFAULT_REGEX.into(),
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.into(),
            action: "replace".into(),
        }
    }
}

impl RelabelRule {
    /// Reads and checks a rule. A field that is present without a value counts as the empty text.
    ///
    /// # Errors
    /// With upstream's words, at the rule's place in the file.
    pub fn read(node: &yaml::Node, names: NameValidation) -> Result<Self, yaml::Error> {
        let mut written: Written = node.read()?;
        let emptied = |key: &str| node.get(key).is_some_and(yaml::Node::is_null);
        for (key, field) in [
            ("regex", &mut written.regex),
            ("separator", &mut written.separator),
            ("replacement", &mut written.replacement),
            ("action", &mut written.action),
        ] {
            if emptied(key) {
                field.clear();
            }
        }
        written.check(names).map_err(|message| node.error(message))
    }
}

impl Written {
    fn check(self, names: NameValidation) -> Result<RelabelRule, String> {
        if self.action.is_empty() {
            return Err("relabel action cannot be empty".into());
        }
        let lower = self.action.to_lowercase();
        let action = ACTIONS
            .iter()
            .find(|(name, _)| *name == lower)
            .map(|(_, action)| *action)
            .ok_or_else(|| format!("unknown relabel action {}", quote(&self.action)))?;
        let regex = LabelRegex::new(&self.regex).map_err(|e| e.to_string())?;
        let name = action.as_str();
        let valid = |label: &str| is_valid_label_name(label, names);
        if action == Action::HashMod && self.modulus == 0 {
            return Err("relabel configuration for hashmod requires non-zero modulus".into());
        }
        let sets_target = matches!(
            action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if sets_target && self.target_label.is_empty() {
            return Err(format!("relabel configuration for {name} action requires 'target_label' value"));
        }
        let target_valid = match action {
            Action::Replace => valid_with_variables(&self.target_label, names),
            _ => !sets_target || valid(&self.target_label),
        };
        if !target_valid {
            return Err(format!("{} is invalid 'target_label' for {name} action", quote(&self.target_label)));
        }
        if matches!(action, Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual)
            && self.replacement != DEFAULT_REPLACEMENT
        {
            return Err(format!("'replacement' can not be set for {name} action"));
        }
        if action == Action::LabelMap && !valid_with_variables(&self.replacement, names) {
            return Err(format!("{} is invalid 'replacement' for {name} action", quote(&self.replacement)));
        }
        let changed =
            self.modulus != 0 || self.separator != DEFAULT_SEPARATOR || self.replacement != DEFAULT_REPLACEMENT;
        if matches!(action, Action::KeepEqual | Action::DropEqual) && (changed || self.regex != DEFAULT_REGEX) {
            return Err(format!("{name} action requires only 'source_labels' and `target_label`, and no other fields"));
        }
        if matches!(action, Action::LabelDrop | Action::LabelKeep)
            && (changed || self.source_labels.is_some() || !self.target_label.is_empty())
        {
            return Err(format!("{name} action requires only 'regex', and no other fields"));
        }
        let source_labels = self.source_labels.unwrap_or_default();
        if let Some(bad) = source_labels.iter().find(|l| !valid(l)) {
            return Err(format!("{} is not a valid label name", quote(bad)));
        }
        Ok(RelabelRule {
            source_labels,
            separator: self.separator,
            regex,
            modulus: self.modulus,
            target_label: self.target_label,
            replacement: self.replacement,
            action,
        })
    }
}

/// Whether a text with `$1` and `${1}` in it can become a label name.
fn valid_with_variables(text: &str, names: NameValidation) -> bool {
    if names == NameValidation::Utf8 {
        return !text.is_empty();
    }
    let mut rest = text;
    let mut plain = String::new();
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let word = |t: &str| t.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let len = match rest.strip_prefix('{') {
            Some(inner) if inner[word(inner)..].starts_with('}') && word(inner) > 0 => word(inner) + 2,
            Some(_) => return false,
            None if word(rest) > 0 => word(rest),
            None => return false,
        };
        plain.push('x');
        rest = &rest[len..];
    }
    plain.push_str(rest);
    is_valid_label_name(&plain, names)
}

/// Applies rules in order. `None` when one drops the set.
pub fn relabel(labels: &Labels, rules: &[RelabelRule], names: NameValidation) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels.clone());
    }
    let mut builder = labels.to_builder();
    apply(&mut builder, rules, names).then(|| builder.build())
}

/// Applies rules in order to labels being built; `false` when one drops the set.
pub fn apply(labels: &mut LabelsBuilder, rules: &[RelabelRule], names: NameValidation) -> bool {
    rules.iter().all(|rule| step(labels, rule, names))
}

fn step(labels: &mut LabelsBuilder, rule: &RelabelRule, names: NameValidation) -> bool {
    let source = match rule.source_labels.as_slice() {
        [] => String::new(),
        [one] => labels.get(one).to_owned(),
        many => many.iter().map(|name| labels.get(name)).collect::<Vec<_>>().join(&rule.separator),
    };
    match rule.action {
        Action::Drop => return !rule.regex.is_match(&source),
        Action::Keep => return rule.regex.is_match(&source),
        Action::DropEqual => return labels.get(&rule.target_label) != source,
        Action::KeepEqual => return labels.get(&rule.target_label) == source,
        Action::Replace => replace(labels, rule, &source, names),
        Action::Lowercase => {
            labels.set(&rule.target_label, &source.to_lowercase());
        }
        Action::Uppercase => {
            labels.set(&rule.target_label, &source.to_uppercase());
        }
        Action::HashMod => {
            let digest = Md5::digest(source.as_bytes());
            let tail: [u8; 8] = digest[8..].try_into().expect("an MD5 digest has 16 bytes");
            labels.set(&rule.target_label, &(u64::from_be_bytes(tail) % rule.modulus).to_string());
        }
        Action::LabelMap => {
            let mapped: Vec<(String, String)> = labels
                .iter()
                .filter(|(name, _)| rule.regex.is_match(name))
                .map(|(name, value)| (expand(rule, name, &rule.replacement).unwrap_or_default(), value.to_owned()))
                .collect();
            for (name, value) in mapped {
                labels.set(&name, &value);
            }
        }
        Action::LabelDrop => {
            labels.retain(|name, _| !rule.regex.is_match(name));
        }
        Action::LabelKeep => {
            labels.retain(|name, _| rule.regex.is_match(name));
        }
    }
    true
}

fn replace(labels: &mut LabelsBuilder, rule: &RelabelRule, source: &str, names: NameValidation) {
    // a constant needs no regex engine
    if rule.regex.as_str() == DEFAULT_REGEX && !rule.target_label.contains('$') {
        if !rule.replacement.contains('$') {
            labels.set(&rule.target_label, &rule.replacement);
            return;
        }
        if rule.replacement == DEFAULT_REPLACEMENT {
            labels.set(&rule.target_label, source);
            return;
        }
    }
    let Some(target) = expand(rule, source, &rule.target_label) else { return };
    if !is_valid_label_name(&target, names) {
        return;
    }
    let value = expand(rule, source, &rule.replacement).unwrap_or_default();
    labels.set(&target, &value);
}

/// The template with the captures of the regex on `source`; `None` if it does not match.
fn expand(rule: &RelabelRule, source: &str, template: &str) -> Option<String> {
    let captures = rule.regex.captures(source)?;
    let mut out = String::new();
    captures.expand(template, &mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Vec<RelabelRule>, String> {
        let node = yaml::Node::parse(text).map_err(|e| e.to_string())?;
        let yaml::Kind::Sequence(items) = &node.kind else { panic!("a list of rules") };
        items.iter().map(|n| RelabelRule::read(n, NameValidation::Utf8).map_err(|e| e.message)).collect()
    }

    fn check(input: &[(&str, &str)], text: &str, expected: Option<&[(&str, &str)]>) {
        let rules = rules(text).unwrap();
        let got = relabel(&Labels::from_pairs(input.iter().copied()), &rules, NameValidation::Utf8);
        assert_eq!(got, expected.map(|pairs| Labels::from_pairs(pairs.iter().copied())), "{text}");
    }

    const ABC: &[(&str, &str)] = &[("a", "foo"), ("b", "bar"), ("c", "baz")];

    #[test]
    fn every_action_does_what_it_says() {
        let with = |more: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
            ABC.iter().chain(more).copied().collect()
        };
        check(
            ABC,
            "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
            Some(&with(&[("d", "choo-choo")])),
        );
        check(
            ABC,
            "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'}]",
            Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz")]),
        );
        check(ABC, "[{source_labels: [a], regex: 'nope', target_label: d}]", Some(ABC));
        check(
            ABC,
            "[{source_labels: [a], regex: '(f).*', target_label: '${1}x', replacement: y}]",
            Some(&with(&[("fx", "y")])),
        );
        check(ABC, "[{target_label: d, replacement: constant}]", Some(&with(&[("d", "constant")])));
        check(ABC, "[{source_labels: [zzz], target_label: a}]", Some(&[("b", "bar"), ("c", "baz")]));
        check(ABC, "[{source_labels: [a], regex: foo, action: drop}]", None);
        check(ABC, "[{source_labels: [a], regex: fo, action: drop}]", Some(ABC));
        check(ABC, "[{source_labels: [a], regex: 'f|x', action: keep}]", None);
        check(ABC, "[{source_labels: [a], regex: 'f.*|x', action: keep}]", Some(ABC));
        check(&[("a", "x"), ("b", "x")], "[{source_labels: [a], target_label: b, action: dropequal}]", None);
        check(&[("a", "x"), ("b", "y")], "[{source_labels: [a], target_label: b, action: keepequal}]", None);
        check(
            &[("c", "baz")],
            "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
            Some(&[("c", "baz"), ("d", "976")]),
        );
        check(
            &[("__meta_x", "1"), ("y", "2")],
            "[{regex: '__meta_(.+)', action: labelmap}]",
            Some(&[("__meta_x", "1"), ("x", "1"), ("y", "2")]),
        );
        check(ABC, "[{regex: '(a|b)', action: labeldrop}]", Some(&[("c", "baz")]));
        check(ABC, "[{regex: '(a|b)', action: labelkeep}]", Some(&[("a", "foo"), ("b", "bar")]));
        check(
            &[("a", "MiXed")],
            "[{source_labels: [a], target_label: l, action: lowercase},{source_labels: [a], target_label: u, action: Uppercase}]",
            Some(&[("a", "MiXed"), ("l", "mixed"), ("u", "MIXED")]),
        );
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for (text, expected) in [
            ("[{action: ''}]", "relabel action cannot be empty"),
            ("[{action: nope}]", "unknown relabel action \"nope\""),
            ("[{action: hashmod, target_label: x}]", "relabel configuration for hashmod requires non-zero modulus"),
            ("[{source_labels: [a]}]", "relabel configuration for replace action requires 'target_label' value"),
            (
                "[{action: labeldrop, regex: x, target_label: y}]",
                "labeldrop action requires only 'regex', and no other fields",
            ),
            (
                "[{action: lowercase, target_label: y, replacement: z}]",
                "'replacement' can not be set for lowercase action",
            ),
            (
                "[{action: keepequal, target_label: y, regex: z}]",
                "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
            ),
        ] {
            assert_eq!(rules(text).unwrap_err(), expected, "{text}");
        }
        assert!(rules("[{regex: '(', target_label: x}]").unwrap_err().contains("error parsing regexp"));
    }
}
