//! The `otlp` section: how series are made of what OTLP senders push.

use std::collections::HashSet;

use model::{NameValidation, quote};

use super::Base;
use super::keys::{Key, Kind, Section, flag, text, texts};

const OTLP: Section = Section::new(
    "config.plain",
    &[
        flag("promote_all_resource_attributes"),
        texts("promote_resource_attributes"),
        texts("ignore_resource_attributes"),
        text("translation_strategy").or("UnderscoreEscapingWithSuffixes"),
        flag("keep_identifying_resource_attributes"),
        flag("convert_histograms_to_nhcb"),
        flag("promote_scope_metadata"),
        Key::new("label_name_underscore_sanitization", Kind::Bool).or("true"),
        Key::new("label_name_preserve_multiple_underscores", Kind::Bool).or("true"),
    ],
);

/// Checks the section; `names` is what `global` allows in names.
pub(super) fn check(node: &yaml::Node, names: NameValidation, base: &Base) -> Result<(), yaml::Error> {
    let otlp = OTLP.read(node, base)?;
    let strategy = otlp.text("translation_strategy");
    match strategy {
        "" | "UnderscoreEscapingWithSuffixes" | "UnderscoreEscapingWithoutSuffixes" => {}
        "NoUTF8EscapingWithSuffixes" | "NoTranslation" if names == NameValidation::Utf8 => {}
        "NoUTF8EscapingWithSuffixes" | "NoTranslation" => {
            let message = format!("OTLP translation strategy {} is not allowed when UTF8 is disabled", quote(strategy));
            return otlp.fault("translation_strategy", message);
        }
        other => {
            let message = format!("unsupported OTLP translation strategy {}", quote(other));
            return otlp.fault("translation_strategy", message);
        }
    }
    let (promoted, ignored) = ("promote_resource_attributes", "ignore_resource_attributes");
    let all = otlp.flag("promote_all_resource_attributes");
    if all && !otlp.texts(promoted).is_empty() {
        return otlp.fault(
            promoted,
            format!("'promote_all_resource_attributes' and '{promoted}' cannot be configured simultaneously"),
        );
    }
    if !all && !otlp.texts(ignored).is_empty() {
        return otlp.fault(
            ignored,
            format!("'{ignored}' cannot be configured unless 'promote_all_resource_attributes' is true"),
        );
    }
    for (key, adjective) in [(promoted, "promoted"), (ignored, "ignored")] {
        let faults = attribute_faults(otlp.texts(key), adjective);
        if !faults.is_empty() {
            return otlp.fault(key, format!("invalid '{key}': {}", faults.join("\n")));
        }
    }
    Ok(())
}

/// Names that are empty or there twice once white space around them is gone.
fn attribute_faults(attributes: &[String], adjective: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let fault = |name: &str, new: bool| match name {
        "" => Some(format!("empty {adjective} OTel resource attribute")),
        _ if !new => Some(format!("duplicated {adjective} OTel resource attribute {}", quote(name))),
        _ => None,
    };
    attributes.iter().map(|a| a.trim()).filter_map(|name| fault(name, seen.insert(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let (utf8, legacy) = (NameValidation::Utf8, NameValidation::Legacy);
        for (text, names, expected) in [
            ("{}", utf8, ""),
            ("translation_strategy: NoTranslation", utf8, ""),
            ("translation_strategy: NoTranslation", legacy, "strategy \"NoTranslation\" is not allowed when UTF8"),
            ("translation_strategy: x", legacy, "unsupported OTLP translation strategy \"x\""),
            ("promote_resource_attributes: [a, ' b']", utf8, ""),
            (
                "promote_resource_attributes: [a, ' a', '']",
                utf8,
                "attribute \"a\"\nempty promoted OTel resource attribute",
            ),
            ("ignore_resource_attributes: [a]", utf8, "cannot be configured unless"),
            ("{promote_all_resource_attributes: true, ignore_resource_attributes: [a, a]}", utf8, "duplicated ignored"),
            ("{promote_all_resource_attributes: true, promote_resource_attributes: [a]}", utf8, "simultaneously"),
            ("nope: 1", utf8, "line 1: field nope not found in type config.plain"),
        ] {
            let node = yaml::Node::parse(text).unwrap();
            let message = check(&node, names, &Base::default()).map_or_else(|e| e.to_string(), |()| String::new());
            assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{text}\n{message}");
        }
    }
}
