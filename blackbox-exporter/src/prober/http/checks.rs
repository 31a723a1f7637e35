//! What an answer must be like: expressions on headers and body.

use http::HeaderMap;

use crate::config::{CelExpression, HttpOptions};
use crate::log::{ProbeLog, note};

/// Whether headers are as they must be.
pub(super) fn headers_match(options: &HttpOptions, headers: &HeaderMap, log: &mut ProbeLog) -> bool {
    let lists = [(&options.fail_if_header_matches, true), (&options.fail_if_header_not_matches, false)];
    for (list, must_not) in lists {
        for spec in list {
            let values: Vec<_> = headers.get_all(&spec.header).iter().collect();
            if values.is_empty() {
                if spec.allow_missing {
                    continue;
                }
                note!(log, Error, "Missing required header", "header" = spec.header);
                return false;
            }
            let found = values.iter().any(|value| spec.regexp.is_match(value.as_bytes()));
            if found == must_not {
                let count = values.len();
                if must_not {
                    note!(
                        log,
                        Error,
                        "Header matched regular expression",
                        "header" = spec.header,
                        "regexp" = spec.regexp,
                        "value_count" = count
                    );
                } else {
                    note!(
                        log,
                        Error,
                        "Header did not match regular expression",
                        "header" = spec.header,
                        "regexp" = spec.regexp,
                        "value_count" = count
                    );
                }
                return false;
            }
        }
    }
    true
}

/// Whether a body matches what it must and nothing it must not.
pub(super) fn body_matches(options: &HttpOptions, body: &[u8], log: &mut ProbeLog) -> bool {
    if let Some(regexp) = options.fail_if_body_matches.iter().find(|r| r.is_match(body)) {
        note!(log, Error, "Body matched regular expression", "regexp" = regexp);
        return false;
    }
    if let Some(regexp) = options.fail_if_body_not_matches.iter().find(|r| !r.is_match(body)) {
        note!(log, Error, "Body did not match regular expression", "regexp" = regexp);
        return false;
    }
    true
}

/// Whether the CEL expressions are content with the JSON object of a body.
pub(super) fn json_matches(options: &HttpOptions, body: &[u8], log: &mut ProbeLog) -> bool {
    let object: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(body) {
        Ok(object) => object,
        Err(error) => {
            note!(log, Error, "Error unmarshalling HTTP body", "err" = error);
            return false;
        }
    };
    let mut context = cel::Context::default();
    if let Err(error) = context.add_variable("body", object) {
        note!(log, Error, "Error evaluating CEL expression", "err" = error);
        return false;
    }
    let mut holds = |expression: &CelExpression| match expression.program().execute(&context) {
        Ok(cel::Value::Bool(value)) => Some(value),
        Ok(_) => {
            note!(log, Error, "CEL evaluation result is not a boolean", "expression" = expression);
            None
        }
        Err(error) => {
            note!(log, Error, "Error evaluating CEL expression", "expression" = expression, "err" = error);
            None
        }
    };
    if let Some(expression) = &options.fail_if_body_json_matches_cel {
        match holds(expression) {
            Some(false) => {}
            Some(true) => {
                note!(log, Error, "Body matched CEL expression", "expression" = expression);
                return false;
            }
            None => return false,
        }
    }
    if let Some(expression) = &options.fail_if_body_json_not_matches_cel {
        match holds(expression) {
            Some(true) => {}
            Some(false) => {
                note!(log, Error, "Body did not match CEL expression", "expression" = expression);
                return false;
            }
            None => return false,
        }
    }
    true
}
