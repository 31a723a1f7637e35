//! Which proxy a request goes through: the settings', or the environment's, with the exceptions that Go's client knows.

use std::net::IpAddr;

use common::http::client::HttpClientConfig;
use url::Url;

use crate::guard::Network;

/// The proxy for an address, if it has one.
pub(super) fn proxy_for(
    config: &HttpClientConfig,
    url: &Url,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<Url> {
    if let Some(proxy) = &config.proxy_url {
        // exceptions, and with them the one of this machine, count only where some are given
        let direct = !config.no_proxy.is_empty() && is_direct(&config.no_proxy, url);
        return (!direct).then(|| proxy.clone());
    }
    if !config.proxy_from_environment {
        return None;
    }
    let variable =
        |upper: &str| environment(upper).or_else(|| environment(&upper.to_lowercase())).filter(|v| !v.is_empty());
    let proxy = variable(if url.scheme() == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" })?;
    if is_direct(&variable("NO_PROXY").unwrap_or_default(), url) {
        return None;
    }
    let with_scheme = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
    Url::parse(&with_scheme).ok()
}

fn is_direct(exceptions: &str, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|a| a.to_canonical().is_loopback()) {
        return true;
    }
    exceptions.split(',').map(|e| e.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).any(|exception| {
        if exception == "*" {
            return true;
        }
        if let Ok(network) = exception.parse::<Network>() {
            return address.is_some_and(|a| network.contains(a));
        }
        let (name, port) = match exception.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name.to_owned(), port.parse::<u16>().ok()),
            _ => (exception.clone(), None),
        };
        if port.is_some() && port != url.port_or_known_default() {
            return false;
        }
        let name = name.strip_prefix('*').unwrap_or(&name);
        match name.strip_prefix('.') {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_proxy_and_its_exceptions() {
        for (no_proxy, url, direct) in [
            ("", "http://127.0.0.1/", false),
            ("x", "http://127.0.0.1/", true),
            ("example.com", "http://example.com/", true),
            ("example.com", "http://a.example.com/", true),
            ("example.com", "http://badexample.com/", false),
            (".example.com", "http://example.com/", false),
            ("*.example.com", "http://a.example.com/", true),
            ("10.0.0.0/8, other", "http://10.1.1.1/", true),
            ("10.0.0.0/8", "http://11.1.1.1/", false),
            ("example.com:8080", "http://example.com/", false),
            ("example.com:443", "https://example.com/", true),
            ("*", "http://anything/", true),
        ] {
            let config = HttpClientConfig {
                proxy_url: Some("http://proxy:3128".parse().unwrap()),
                no_proxy: no_proxy.to_owned(),
                ..HttpClientConfig::default()
            };
            let found = proxy_for(&config, &url.parse().unwrap(), |_| None);
            assert_eq!(found.is_none(), direct, "{no_proxy} {url}");
        }
    }

    #[test]
    fn the_environments_proxy() {
        let environment = |name: &str| match name {
            "HTTP_PROXY" => Some("proxy:1".to_owned()),
            "https_proxy" => Some("socks5://proxy:2".to_owned()),
            "NO_PROXY" => Some("direct".to_owned()),
            _ => None,
        };
        let config = HttpClientConfig { proxy_from_environment: true, ..HttpClientConfig::default() };
        let found = |url: &str| proxy_for(&config, &url.parse().unwrap(), environment).map(|u| u.to_string());
        assert_eq!(found("http://a/").unwrap(), "http://proxy:1/");
        assert_eq!(found("https://a/").unwrap(), "socks5://proxy:2");
        assert_eq!((found("http://direct/"), found("http://localhost/")), (None, None));
        assert_eq!(proxy_for(&HttpClientConfig::default(), &"http://a/".parse().unwrap(), environment), None);
    }
}
