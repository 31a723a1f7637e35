//! Parameters of API requests, from the query string and from forms.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use model::{Duration, Matcher, Timestamp, now_millis};
use url::form_urlencoded;

use super::response::ApiError;

/// The earliest time that clients mean by "since ever" (upstream's `MinTime`).
pub(super) const MIN_TIME: Timestamp = i64::MIN / 1_000 + 1;
/// The latest time that clients mean by "until ever".
pub(super) const MAX_TIME: Timestamp = i64::MAX / 1_000 - 1;
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "+292277025-08-18T07:12:54.999999999Z";

/// A request's parameters in order; those of a form come first, as in Go.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let parse = |bytes: &[u8]| form_urlencoded::parse(bytes).into_owned().collect::<Vec<_>>();
        let query = parse(request.uri().query().unwrap_or_default().as_bytes());
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_form = content_type.starts_with("application/x-www-form-urlencoded");
        let mut params = Vec::new();
        if is_form && request.method() != http::Method::GET {
            let body = Bytes::from_request(request, state)
                .await
                .map_err(|e| ApiError::bad(format!("error parsing form values: {e}")))?;
            params = parse(&body);
        }
        params.extend(query);
        Ok(Self(params))
    }
}

impl Params {
    /// The first value of a parameter; empty counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A time, `default` if it is absent.
    ///
    /// # Errors
    /// When it is no time.
    pub(super) fn time(&self, name: &str, default: Timestamp) -> Result<Timestamp, ApiError> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => {
                parse_time(text).map_err(|e| ApiError::parameter(name, format!("invalid time value for '{name}': {e}")))
            }
        }
    }

    /// A time that must be there.
    ///
    /// # Errors
    /// When it is absent or no time.
    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        let text = self.get(name).unwrap_or_default();
        parse_time(text).map_err(|e| ApiError::parameter(name, e))
    }

    /// A number of results, 0 for no limit.
    ///
    /// # Errors
    /// When it is no number, or negative.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        match self.get("limit") {
            None => Ok(0),
            Some(text) => match text.parse::<i64>() {
                Ok(limit) if limit >= 0 => Ok(limit as usize),
                Ok(_) => Err(ApiError::parameter("limit", "limit must be non-negative")),
                Err(_) => Err(ApiError::parameter(
                    "limit",
                    format!("strconv.Atoi: parsing {}: invalid syntax", model::quote(text)),
                )),
            },
        }
    }

    /// A duration in milliseconds.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name).map(|text| parse_duration(text).map_err(|e| ApiError::parameter(name, e))).transpose()
    }

    /// The selectors of `match[]`.
    ///
    /// # Errors
    /// When one does not parse or would match everything.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all("match[]")
            .map(|text| {
                let matchers = promql::parse_metric_selector(text).map_err(|e| ApiError::parameter("match[]", e))?;
                if matchers.iter().all(Matcher::matches_empty) {
                    return Err(ApiError::parameter("match[]", "match[] must contain at least one non-empty matcher"));
                }
                Ok(matchers)
            })
            .collect()
    }
}

/// Seconds since the epoch with fractions, or RFC 3339.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let fault = || format!("cannot parse {} to a valid timestamp", model::quote(text));
    if let Some(seconds) = model::parse_float(text) {
        let millis = (seconds * 1000.0).round();
        return if millis.is_finite() && millis.abs() < i64::MAX as f64 / 1000.0 {
            Ok(millis as i64)
        } else {
            Err(fault())
        };
    }
    match text {
        MIN_TIME_TEXT => Ok(MIN_TIME),
        MAX_TIME_TEXT => Ok(MAX_TIME),
        _ => text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| fault()),
    }
}

/// Seconds with fractions, or a duration such as `5m`; in milliseconds.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = model::parse_float(text) {
        let millis = seconds * 1000.0;
        return if millis.abs() < i64::MAX as f64 / 1_000_000.0 {
            Ok(millis as i64)
        } else {
            Err(format!("cannot parse {} to a valid duration. It overflows int64", model::quote(text)))
        };
    }
    text.parse::<Duration>()
        .map(Duration::millis)
        .map_err(|_| format!("cannot parse {} to a valid duration", model::quote(text)))
}

/// Now, for parameters that default to it.
pub(super) fn now() -> Timestamp {
    now_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc3339() {
        for (text, millis) in [
            ("0", 0),
            ("1435781451.781", 1_435_781_451_781),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T22:10:51.781+02:00", 1_435_781_451_781),
            (MIN_TIME_TEXT, MIN_TIME),
            (MAX_TIME_TEXT, MAX_TIME),
        ] {
            assert_eq!(parse_time(text), Ok(millis), "{text}");
        }
        for text in ["", "x", "30s", "NaN", "Inf", "2015-07-01"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_units() {
        for (text, millis) in [("15", 15_000), ("0.5", 500), ("1m30s", 90_000), ("-1", -1000)] {
            assert_eq!(parse_duration(text), Ok(millis), "{text}");
        }
        assert!(parse_duration("x").is_err() && parse_duration("1e300").is_err());
    }
}
