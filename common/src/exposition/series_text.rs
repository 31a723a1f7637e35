//! Series as the text formats write them.

use model::{escape_label_value, is_legacy_label_name, is_legacy_metric_name};

/// Appends `name{a="b"}`, or `{"a name",a="b"}` where the name needs quotes.
pub(super) fn push_series<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>, out: &mut String) {
    let mut separator = push_name(name, "", out);
    for (name, value) in labels {
        out.push(separator);
        push_label(name, value, out);
        separator = ',';
    }
    close(separator, out);
}

/// Appends the name and gives the separator before the first label.
pub(super) fn push_name(name: &str, suffix: &str, out: &mut String) -> char {
    if is_legacy_metric_name(name) {
        out.push_str(name);
        out.push_str(suffix);
        return '{';
    }
    out.push_str("{\"");
    escape_label_value(name, out);
    out.push_str(suffix);
    out.push('"');
    ','
}

/// Appends a label.
pub(super) fn push_label(name: &str, value: &str, out: &mut String) {
    if is_legacy_label_name(name) {
        out.push_str(name);
    } else {
        out.push('"');
        escape_label_value(name, out);
        out.push('"');
    }
    out.push_str("=\"");
    escape_label_value(value, out);
    out.push('"');
}

/// Appends the closing brace, if one was opened: the separator is the one that another label would get.
pub(super) fn close(separator: char, out: &mut String) {
    if separator == ',' {
        out.push('}');
    }
}
