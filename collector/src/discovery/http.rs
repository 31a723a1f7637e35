//! `http_sd_configs`: target groups as JSON from a URL.

use common::http::client::Client;
use reqwest::{Method, Request};
use url::Url;

use http::header::{ACCEPT, HeaderValue};

use super::Slot;
use crate::config::{HttpDiscovery, TargetGroup, read_groups};

/// An answer larger than this is refused.
const MAX_BODY: usize = 256 << 20;

/// Runs for ever; cancelling loses nothing.
pub(super) async fn run(config: HttpDiscovery, slot: Slot) {
    let client = match crate::client::build(&config.http_client) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(url = %config.url, %error, "cannot set up HTTP discovery");
            return;
        }
    };
    let mut ticks = tokio::time::interval(config.refresh_interval.as_std().max(std::time::Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let refresh = tokio::time::timeout(config.refresh_interval.as_std(), fetch(&client, &config));
        match refresh.await.unwrap_or_else(|_| Err("no answer within the refresh interval".into())) {
            Ok(groups) => slot.set(groups),
            // what came before stays in force
            Err(error) => tracing::error!(url = %config.url, %error, "Unable to refresh target groups"),
        }
    }
}

async fn fetch(client: &Client, config: &HttpDiscovery) -> Result<Vec<TargetGroup>, String> {
    let mut request = Request::new(Method::GET, config.url.clone());
    let refresh = HeaderValue::from_str(&config.refresh_interval.as_secs_f64().to_string());
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    request.headers_mut().insert("x-prometheus-refresh-interval-seconds", refresh.map_err(|e| e.to_string())?);
    let mut response = client.execute(request).await.map_err(|e| e.to_string())?;
    let status = response.status();
    if status != http::StatusCode::OK {
        return Err(format!("server returned HTTP status {status}"));
    }
    let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !is_json(content_type) {
        return Err(format!("unsupported content type {}", model::quote(content_type)));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| e.to_string())? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(format!("the answer is larger than {MAX_BODY} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    parse(&text, &config.url)
}

fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn parse(text: &str, url: &Url) -> Result<Vec<TargetGroup>, String> {
    // JSON is YAML
    let node = yaml::Node::parse(text).map_err(|e| e.to_string())?;
    let mut groups = read_groups(&node, url.as_str()).map_err(|e| e.to_string())?;
    for group in &mut groups {
        group.labels = group.labels.to_builder().set("__meta_url", url.as_str()).build();
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_groups() {
        let url = Url::parse("http://x/sd").unwrap();
        let groups = parse(r#"[{"targets": ["a:1"], "labels": {"zone": "b"}}, {"targets": []}]"#, &url).unwrap();
        assert_eq!(groups[0].labels.to_string(), r#"{__meta_url="http://x/sd", zone="b"}"#);
        assert_eq!((groups.len(), groups[0].source.as_str()), (2, "http://x/sd:0"));
        assert!(parse("{\"a\": 1}", &url).is_err());
        assert!(parse("nonsense", &url).is_err());
        assert!(is_json("application/json; charset=utf-8") && !is_json("text/html"));
    }
}
