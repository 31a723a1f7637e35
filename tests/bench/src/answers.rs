//! Comparison of what two stores answer.

use conformance::compare::{Rules, compare};
use serde_json::Value;

/// What an answer holds, as far as a benchmark must know.
pub(crate) fn is_empty(body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return true };
    let result = if answer["data"].is_array() { &answer["data"] } else { &answer["data"]["result"] };
    result.as_array().is_some_and(Vec::is_empty)
}

/// The first difference, or none.
pub(crate) fn difference(ours: &[u8], theirs: &[u8], tolerance: f64) -> Option<String> {
    let parse = |body: &[u8]| {
        serde_json::from_slice::<Value>(body)
            .map_err(|e| format!("not JSON ({e}): {}", String::from_utf8_lossy(&body[..body.len().min(200)])))
    };
    let (ours, theirs) = match (parse(ours), parse(theirs)) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(fault), _) | (_, Err(fault)) => return Some(fault),
    };
    if theirs["data"].is_array() {
        let set = |answer: &Value| {
            let mut texts: Vec<String> =
                answer["data"].as_array().into_iter().flatten().map(|v| sorted(v).to_string()).collect();
            texts.sort();
            texts
        };
        let (ours, theirs) = (set(&ours), set(&theirs));
        if ours == theirs {
            return None;
        }
        let odd = ours.iter().find(|o| theirs.binary_search(o).is_err());
        let odd = odd.or_else(|| theirs.iter().find(|t| ours.binary_search(t).is_err()));
        return Some(format!("{} and {} values; one has {odd:?} only", ours.len(), theirs.len()));
    }
    // annotations are words about the answer and the same for any storage
    let rules = Rules { tolerance, unordered_pairs: true, ..Rules::default() };
    let mut found = compare(&without_annotations(ours), &without_annotations(theirs), rules).into_iter();
    found.next().map(|d| format!("{}: {}", d.what.as_str(), d.detail.chars().take(300).collect::<String>()))
}

fn without_annotations(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("warnings");
        fields.remove("infos");
    }
    answer
}

/// Label sets with their names in order.
fn sorted(value: &Value) -> Value {
    match value.as_object() {
        Some(fields) => {
            let mut pairs: Vec<_> = fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.into_iter().collect()
        }
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_say_the_same_are_equal() {
        let labels = |values: &str| format!("{{\"status\":\"success\",\"data\":{values}}}");
        let vector = |result: &str| {
            labels(&format!("{{\"resultType\":\"vector\",\"result\":{result}}}"))
                .replace("\"success\"", "\"success\",\"infos\":[\"x\"]")
        };
        for (ours, theirs, same) in [
            (labels("[\"a\",\"b\"]"), labels("[\"b\",\"a\"]"), true),
            (labels("[\"a\"]"), labels("[\"a\",\"b\"]"), false),
            (labels("[{\"x\":\"1\",\"y\":\"2\"}]"), labels("[{\"y\":\"2\",\"x\":\"1\"}]"), true),
            (labels("[{\"x\":\"1\"}]"), labels("[{\"x\":\"2\"}]"), false),
            (vector("[]"), vector("[]"), true),
            (
                vector("[{\"metric\":{},\"value\":[1,\"1\"]}]"),
                vector("[{\"metric\":{},\"value\":[1.0,\"1.0000000000001\"]}]"),
                true,
            ),
            (vector("[{\"metric\":{},\"value\":[1,\"1\"]}]"), vector("[{\"metric\":{},\"value\":[1,\"2\"]}]"), false),
            ("nonsense".to_owned(), vector("[]"), false),
        ] {
            let found = difference(ours.as_bytes(), theirs.as_bytes(), 1e-12);
            assert_eq!(found.is_none(), same, "{ours} {theirs} {found:?}");
        }
        assert!(is_empty(vector("[]").as_bytes()) && is_empty(labels("[]").as_bytes()));
        assert!(!is_empty(labels("[\"a\"]").as_bytes()));
    }
}
