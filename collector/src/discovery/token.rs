//! Tokens that are asked for, and used until they run out.

use std::future::Future;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use serde_json::Value;
use url::Url;

use super::api::Api;

/// Tokens are renewed this long before they run out.
const MARGIN: Duration = Duration::from_secs(60);

/// A token and the time until which it is good.
#[derive(Debug, Default)]
pub(super) struct TokenCache(Option<(String, Instant)>);

impl TokenCache {
    /// The token held, or the one that `fetch` gives with its seconds.
    pub(super) async fn get(
        &mut self,
        fetch: impl Future<Output = Result<(String, u64), String>>,
    ) -> Result<String, String> {
        if let Some((token, until)) = &self.0
            && Instant::now() + MARGIN < *until
        {
            return Ok(token.clone());
        }
        let (token, seconds) = fetch.await?;
        // nobody means more than a year
        let until = Instant::now() + Duration::from_secs(seconds.min(31_536_000));
        self.0 = Some((token.clone(), until));
        Ok(token)
    }

    /// Forgets the token, which was not taken.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

/// Posts a form, and reads the token of the answer as OAuth 2.0 has it.
pub(super) async fn by_form(api: &Api, url: &Url, form: &[(&str, &str)]) -> Result<(String, u64), String> {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut request = Request::new(Method::POST, url.clone());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    *request.body_mut() = Some(body.into());
    read(&api.json(request).await?)
}

/// The token of an answer, and its seconds.
pub(super) fn read(answer: &Value) -> Result<(String, u64), String> {
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty()).ok_or("the answer has no token")?;
    // some services write numbers as text
    let seconds = &answer["expires_in"];
    let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok()).unwrap_or(300);
    Ok((token.to_owned(), seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn tokens_are_asked_for_when_they_run_out() {
        let mut cache = TokenCache::default();
        let give = |token: &str, seconds| std::future::ready(Ok((token.to_owned(), seconds)));
        assert_eq!(cache.get(give("a", 3600)).await.unwrap(), "a");
        assert_eq!(cache.get(give("b", 3600)).await.unwrap(), "a");
        cache.forget();
        assert_eq!(cache.get(give("c", 30)).await.unwrap(), "c");
        assert_eq!(cache.get(give("d", 3600)).await.unwrap(), "d");
        assert_eq!(read(&json!({"access_token": "t", "expires_in": "86399"})), Ok(("t".into(), 86_399)));
        assert!(read(&json!({"error": "x"})).is_err());
    }
}
