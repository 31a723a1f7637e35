//! What a request for `/probe` asks for.

use std::path::{Component, Path};
use std::time::Duration;

use axum::http::HeaderMap;

use crate::config::{IpProtocol, Module, Prober};

/// A request that can be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) module: String,
    pub(crate) targets: Vec<String>,
    /// A list of targets in the folder for those.
    pub(crate) targets_file: Option<String>,
    pub(crate) hostname: String,
    pub(crate) debug: bool,
    pub(crate) extended: bool,
    /// The versions of IP to probe; `None` for what the module says.
    pub(crate) protocols: Vec<Option<IpProtocol>>,
}

impl Parameters {
    /// Reads a query string. Parameters that are not known are passed over.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut parameters = Self {
            module: String::new(),
            targets: Vec::new(),
            targets_file: None,
            hostname: String::new(),
            debug: false,
            extended: false,
            protocols: vec![None],
        };
        for (name, value) in common::http::query_pairs(query) {
            match name.as_ref() {
                "module" if parameters.module.is_empty() => parameters.module = value.into_owned(),
                "target" if !value.is_empty() => parameters.targets.push(value.into_owned()),
                "targets_file" => parameters.targets_file = Some(value.into_owned()),
                "hostname" if parameters.hostname.is_empty() => parameters.hostname = value.into_owned(),
                "debug" => parameters.debug = value == "true",
                "extended" => parameters.extended = value == "true",
                "ip_protocol" => {
                    parameters.protocols = match value.as_ref() {
                        "ip4" => vec![Some(IpProtocol::V4)],
                        "ip6" => vec![Some(IpProtocol::V6)],
                        "both" => vec![Some(IpProtocol::V6), Some(IpProtocol::V4)],
                        _ => return Err(format!("ip_protocol is {value:?}: want ip4, ip6 or both")),
                    }
                }
                _ => {}
            }
        }
        if parameters.module.is_empty() {
            "http_2xx".clone_into(&mut parameters.module);
        }
        Ok(parameters)
    }
}

/// The time a probe may take: the module's, but less than the scrape's, which is 120 s unless its header says otherwise.
pub(crate) fn timeout(headers: &HeaderMap, module: &Module, offset: f64) -> Result<Duration, String> {
    let mut seconds = 0.0;
    if let Some(value) = headers.get("x-prometheus-scrape-timeout-seconds") {
        let text = value.to_str().unwrap_or_default();
        seconds = match text.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => seconds,
            _ => return Err(format!("parsing {text:?}: invalid syntax")),
        };
    }
    if seconds == 0.0 {
        seconds = 120.0;
    }
    let most = seconds - offset;
    let own = module.timeout.as_secs_f64();
    let chosen = if (own < most && own > 0.0) || most < 0.0 { own } else { most };
    // a day is for ever
    Ok(Duration::from_secs_f64(chosen.clamp(0.0, 86_400.0)))
}

/// Refuses a `hostname` that contradicts the module.
pub(crate) fn check_hostname(hostname: &str, module: &Module) -> Result<(), String> {
    let Prober::Http(options) = &module.prober else { return Ok(()) };
    let own = options.headers.iter().find(|(name, value)| name.eq_ignore_ascii_case("host") && value != hostname);
    match own {
        Some((_, value)) if !hostname.is_empty() => Err(format!(
            "host header defined both in module configuration ({value}) and with URL-parameter 'hostname' ({hostname})"
        )),
        _ => Ok(()),
    }
}

/// The largest list of targets.
const MAX_LIST: u64 = 16 << 20;

/// Reads a list of targets: one a line, `#` begins a comment.
pub(crate) fn read_targets(folder: Option<&Path>, name: &str) -> Result<Vec<String>, String> {
    let folder = folder.ok_or("targets_file is not allowed: the exporter runs without --probe.targets-dir")?;
    let mut parts = Path::new(name).components();
    // a plain name only: the folder is not to be left
    let (Some(Component::Normal(file)), None) = (parts.next(), parts.next()) else {
        return Err(format!("targets_file {name:?}: want the name of a file"));
    };
    let path = folder.join(file);
    let fault = |error: std::io::Error| format!("targets_file {name:?}: {error}");
    if std::fs::metadata(&path).map_err(fault)?.len() > MAX_LIST {
        return Err(format!("targets_file {name:?}: the file is too large"));
    }
    let text = std::fs::read_to_string(&path).map_err(fault)?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn queries_are_read() {
        let parameters =
            Parameters::parse("target=a&target=b&module=m&debug=true&ip_protocol=both&x=y&hostname=h").unwrap();
        assert_eq!(
            (parameters.targets.as_slice(), parameters.module.as_str()),
            (&["a".to_owned(), "b".to_owned()][..], "m")
        );
        assert_eq!((parameters.debug, parameters.extended, parameters.protocols.len()), (true, false, 2));
        assert_eq!(Parameters::parse("").unwrap().module, "http_2xx");
        assert!(Parameters::parse("ip_protocol=5").is_err());
    }

    #[test]
    fn timeouts() {
        for (own, header, offset, expected) in [
            ("0s", None, 0.5, 119.5),
            ("5s", None, 0.5, 5.0),
            ("5s", Some("3"), 0.5, 2.5),
            ("5s", Some("10"), 0.5, 5.0),
            ("0s", Some("10"), 1.0, 9.0),
            // less time than the offset: the module's own counts
            ("5s", Some("0.2"), 0.5, 5.0),
            ("0s", Some("0"), 0.0, 120.0),
        ] {
            let config = Config::parse(&format!("modules: {{m: {{prober: tcp, timeout: {own}}}}}"), "x").unwrap();
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert("x-prometheus-scrape-timeout-seconds", value.parse().unwrap());
            }
            let found = timeout(&headers, config.module("m").unwrap(), offset).unwrap();
            assert_eq!(found, Duration::from_secs_f64(expected), "{own} {header:?} {offset}");
        }
        let config = Config::parse("modules: {m: {prober: tcp}}", "x").unwrap();
        for wrong in ["x", "", "NaN", "inf"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-prometheus-scrape-timeout-seconds", wrong.parse().unwrap());
            assert!(timeout(&headers, config.module("m").unwrap(), 0.5).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_of_targets_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list"), "a:1\n\n# note\n b:2 # more\n").unwrap();
        assert_eq!(read_targets(Some(folder.path()), "list").unwrap(), ["a:1", "b:2"]);
        for name in ["../list", "/etc/passwd", "a/b", "", "..", "missing"] {
            assert!(read_targets(Some(folder.path()), name).is_err(), "{name}");
        }
        assert!(read_targets(None, "list").is_err());
    }
}
