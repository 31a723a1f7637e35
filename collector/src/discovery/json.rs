//! Reading answers as leniently as upstream does: what is missing or null is empty, numbers and truth values have their text.

use std::borrow::Cow;

use serde_json::Value;

/// The text of a string, number or truth value; empty for everything else.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Number(number) => Cow::Owned(number.to_string()),
        Value::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Value::Null | Value::Array(_) | Value::Object(_) => Cow::Borrowed(""),
    }
}

/// The string there; empty for everything else.
pub(super) fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list; none for everything else. For parts of an answer.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// The strings of a list.
pub(super) fn strings(value: &Value) -> impl Iterator<Item = &str> + Clone {
    items(value).filter_map(Value::as_str)
}

/// What stands under a key, taken out; null where there is nothing, and for values that have no keys.
pub(super) fn take(value: &mut Value, key: &str) -> Value {
    value.get_mut(key).map(Value::take).unwrap_or_default()
}

/// The list that an answer is about: what is missing is empty, what is no list is an error, lest an answer of another kind be taken
/// for the news that there is nothing any more.
pub(super) fn list<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], String> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(&[]),
        _ => Err(format!("the answer has no list of {what}")),
    }
}

/// The list under a key of an object, as [`list`] has it.
pub(super) fn list_in<'a>(value: &'a Value, key: &str) -> Result<&'a [Value], String> {
    if value.is_object() { list(&value[key], key) } else { Err(format!("the answer has no list of {key}")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_read_leniently_but_not_lists() {
        let shown =
            [json!("a"), json!(1.5), json!(true), json!(null), json!([1])].map(|value| text(&value).into_owned());
        assert_eq!(shown, ["a", "1.5", "true", "", ""]);
        assert_eq!(list_in(&json!({"other": 1}), "items"), Ok(&[][..]));
        for wrong in [json!({"items": "x"}), json!([]), json!("x"), json!(null)] {
            assert!(list_in(&wrong, "items").is_err(), "{wrong}");
        }
        for mut odd in [json!("x"), json!([]), json!(null), json!({})] {
            assert_eq!(take(&mut odd, "key"), Value::Null);
        }
        assert_eq!(take(&mut json!({"key": 1}), "key"), 1);
    }
}
