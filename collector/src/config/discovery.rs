//! Where targets come from: target groups in the file, and mechanisms that find them.

mod aws;
mod clouds;
mod containers;
mod directories;
mod kubernetes;
mod mechanisms;
mod openstack;
mod selectors;
mod zookeeper;

use std::path::PathBuf;

use common::http::client::HttpClientConfig;
use model::{Duration, Labels, NameValidation, is_valid_label_name, quote};
use serde::Deserialize;
use url::Url;

use self::mechanisms::Mechanism;
use super::keys::Settings;
use super::{Base, http_client};

/// Every mechanism, by what stands before `_sd_configs` or `_configs`.
pub(crate) fn discovery_mechanisms() -> impl Iterator<Item = &'static str> {
    Mechanism::all().map(Mechanism::name).chain(["file", "http", "static"])
}

/// Targets with labels in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetGroup {
    /// The addresses and other labels of each target.
    pub targets: Vec<Labels>,
    /// Labels of all of them.
    pub labels: Labels,
    /// What tells the group from others of the same source.
    pub source: String,
}

/// Where targets come from.
#[derive(Clone, Debug, PartialEq)]
pub enum DiscoveryConfig {
    /// Written in the file.
    Static(Vec<TargetGroup>),
    /// Read from files.
    File(FileDiscovery),
    /// Read from a URL.
    Http(Box<HttpDiscovery>),
    /// Found by another mechanism.
    Mechanism {
        /// What stands before `_sd_configs`.
        name: &'static str,
        /// Its settings.
        settings: Box<Settings>,
    },
}

/// `file_sd_configs`.
#[derive(Clone, Debug, PartialEq)]
pub struct FileDiscovery {
    /// Paths, the last part of which may have a `*`.
    pub files: Vec<PathBuf>,
    /// Time between readings beside those that a change causes.
    pub refresh_interval: Duration,
}

/// `http_sd_configs`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpDiscovery {
    /// Where target groups are fetched from.
    pub url: Url,
    /// Time between requests.
    pub refresh_interval: Duration,
    /// How requests are made.
    pub http_client: HttpClientConfig,
}

#[derive(Deserialize)]
#[serde(default, rename = "struct")]
#[derive(Default)]
struct WrittenGroup {
    targets: Vec<String>,
    labels: std::collections::BTreeMap<String, String>,
}

/// The same in JSON, where everything may be null.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JsonGroup {
    targets: Option<Vec<String>>,
    labels: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(default, rename = "file.plain")]
struct WrittenFile {
    files: Vec<String>,
    refresh_interval: Duration,
}

impl Default for WrittenFile {
    fn default() -> Self {
        Self { files: Vec::new(), refresh_interval: Duration::from_secs(300) }
    }
}

#[derive(Deserialize)]
#[serde(default, rename = "http.plain")]
struct WrittenHttp {
    url: String,
    refresh_interval: Duration,
}

impl Default for WrittenHttp {
    fn default() -> Self {
        Self { url: String::new(), refresh_interval: Duration::from_secs(60) }
    }
}

impl DiscoveryConfig {
    /// Reads the `static_configs` and `*_sd_configs` keys of a mapping.
    pub(super) fn read_all(node: &yaml::Node, base: &Base) -> Result<Vec<Self>, yaml::Error> {
        let yaml::Kind::Mapping(entries) = &node.kind else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for (key, list) in entries {
            let name = key.as_str().unwrap_or_default();
            let items = items_of(list, name)?;
            match name {
                "static_configs" => {
                    let groups = items
                        .iter()
                        .enumerate()
                        .map(|(at, item)| read_static_group(item, at.to_string()))
                        .collect::<Result<_, _>>()?;
                    all.push(Self::Static(groups));
                }
                "file_sd_configs" => {
                    for item in items {
                        all.push(Self::File(FileDiscovery::read(item, base)?));
                    }
                }
                "http_sd_configs" => {
                    for item in items {
                        all.push(Self::Http(Box::new(HttpDiscovery::read(item, base)?)));
                    }
                }
                other => {
                    let Some(mechanism) = Mechanism::of_key(other) else {
                        return Err(key.error(format!("field {other} not found in type config.ScrapeConfig")));
                    };
                    for item in items {
                        let settings = Box::new(mechanism.read(item, base)?);
                        all.push(Self::Mechanism { name: mechanism.name(), settings });
                    }
                }
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
impl DiscoveryConfig {
    /// The names of all mechanisms that are described by tables of their keys.
    pub(crate) fn mechanisms() -> impl Iterator<Item = &'static str> {
        Mechanism::all().map(Mechanism::name)
    }

    /// Reads the keys of a document that has nothing else, for tests of mechanisms.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, yaml::Error> {
        Self::read_all(&yaml::Node::parse(text)?, &Base::default())
    }
}

fn items_of<'a>(list: &'a yaml::Node, name: &str) -> Result<&'a [yaml::Node], yaml::Error> {
    let items = match &list.kind {
        yaml::Kind::Sequence(items) => items.as_slice(),
        _ if list.is_null() => &[],
        _ => return Err(list.error(format!("{name} must be a list"))),
    };
    match items.iter().find(|item| item.is_null()) {
        Some(empty) => Err(empty.error(format!("empty or null section in {name}"))),
        None => Ok(items),
    }
}

/// A group of the configuration itself, whose targets are checked when it is loaded.
fn read_static_group(node: &yaml::Node, source: String) -> Result<TargetGroup, yaml::Error> {
    let group = read_group(node, source)?;
    match group.targets.iter().map(|t| t.value("__address__")).find(|address| address.contains('/')) {
        Some(bad) => Err(node.error(format!("{} is not a valid hostname", quote(bad)))),
        None => Ok(group),
    }
}

fn read_group(node: &yaml::Node, source: String) -> Result<TargetGroup, yaml::Error> {
    node.read::<WrittenGroup>()?.group(source).map_err(|fault| node.error(fault))
}

impl WrittenGroup {
    fn group(self, source: String) -> Result<TargetGroup, String> {
        if let Some(bad) = self.labels.keys().find(|name| !is_valid_label_name(name, NameValidation::Utf8)) {
            return Err(format!("{} is not a valid label name", quote(bad)));
        }
        let targets = self.targets.iter().map(|t| Labels::from_pairs([("__address__", t)])).collect();
        Ok(TargetGroup { targets, labels: Labels::from_pairs(self.labels), source })
    }
}

/// Reads the target groups of a JSON text as files and HTTP answers hold them.
///
/// # Errors
/// When it is no JSON or no such list; the place is named.
pub fn read_json_groups(text: &str, source: &str) -> Result<Vec<TargetGroup>, String> {
    let items: Option<Vec<Option<JsonGroup>>> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let groups = items.unwrap_or_default().into_iter().enumerate().map(|(at, item)| {
        let JsonGroup { targets, labels } = item.ok_or("nil target group item found")?;
        let written = WrittenGroup { targets: targets.unwrap_or_default(), labels: labels.unwrap_or_default() };
        written.group(format!("{source}:{at}"))
    });
    groups.collect()
}

/// Reads the target groups of a YAML document as files hold them (a list of `targets` and `labels`).
///
/// # Errors
/// When it is no such list; the place is named.
pub fn read_groups(node: &yaml::Node, source: &str) -> Result<Vec<TargetGroup>, yaml::Error> {
    // a document without content is an empty mapping to the parser
    if node.is_null() || matches!(&node.kind, yaml::Kind::Mapping(entries) if entries.is_empty()) {
        return Ok(Vec::new());
    }
    let yaml::Kind::Sequence(items) = &node.kind else {
        return Err(node.error("expected a list of target groups"));
    };
    items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            if item.is_null() {
                Err(item.error("nil target group item found"))
            } else {
                read_group(item, format!("{source}:{at}"))
            }
        })
        .collect()
}

impl FileDiscovery {
    fn read(node: &yaml::Node, base: &Base) -> Result<Self, yaml::Error> {
        let written: WrittenFile = node.read()?;
        if written.files.is_empty() {
            return Err(node.error("file service discovery config must contain at least one path name"));
        }
        for path in &written.files {
            if !valid_pattern(path) {
                return Err(node.error(format!("path name {} is not valid for file discovery", quote(path))));
            }
        }
        let files = written.files.iter().map(|f| base.join(f)).collect();
        Ok(Self { files, refresh_interval: written.refresh_interval })
    }
}

/// `*` only in the last part, and a known ending.
fn valid_pattern(path: &str) -> bool {
    let ending = path.rsplit_once('.').map_or("", |(_, e)| e);
    let star_in_folder = path.rsplit_once('/').is_some_and(|(folder, _)| folder.contains('*'));
    let stem = path.strip_suffix(ending).unwrap_or(path);
    matches!(ending, "json" | "yml" | "yaml" | "JSON" | "YML" | "YAML")
        && !star_in_folder
        && stem.matches('*').count() <= 1
}

impl HttpDiscovery {
    fn read(node: &yaml::Node, base: &Base) -> Result<Self, yaml::Error> {
        let (http_client, rest) = http_client::split(node, base)?;
        let written: WrittenHttp = rest.read()?;
        if written.url.is_empty() {
            return Err(node.error("URL is missing"));
        }
        let no_scheme = || node.error("URL scheme must be 'http' or 'https'");
        if !written.url.contains("://") {
            return Err(no_scheme());
        }
        let host =
            written.url.split("://").nth(1).unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
        if !written.url.starts_with("http://") && !written.url.starts_with("https://") {
            return Err(no_scheme());
        }
        if host.is_empty() {
            return Err(node.error("host is missing in URL"));
        }
        let url = Url::parse(&written.url).map_err(|e| node.error(format!("parse {}: {e}", quote(&written.url))))?;
        Ok(Self { url, refresh_interval: written.refresh_interval, http_client })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_patterns() {
        for (path, valid) in [
            ("a.json", true),
            ("x/*.yml", true),
            ("x/a*.yaml", true),
            ("*/a.yml", false),
            ("a.txt", false),
            ("x/**.yml", false),
        ] {
            assert_eq!(valid_pattern(path), valid, "{path}");
        }
    }

    #[test]
    fn groups_of_files_are_read() {
        let text = r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}]"#;
        let node = yaml::Node::parse(text).unwrap();
        let groups = read_groups(&node, "f").unwrap();
        assert_eq!(groups[0].targets[1].value("__address__"), "b:2");
        assert_eq!((groups[0].labels.value("x"), groups[0].source.as_str()), ("y", "f:0"));
        assert_eq!(read_json_groups(text, "f").unwrap(), groups);
        assert!(read_json_groups("null", "f").unwrap().is_empty());
        for nothing in ["", "# nothing", "null"] {
            assert!(read_groups(&yaml::Node::parse(nothing).unwrap(), "f").unwrap().is_empty(), "{nothing}");
        }
        for wrong in ["{a: b}", "[{targets: [a], more: b}]", "[null]"] {
            assert!(read_groups(&yaml::Node::parse(wrong).unwrap(), "f").is_err(), "{wrong}");
        }
        for wrong in [
            "{}",
            "",
            "[null]",
            "[{'targets': []}]",
            "[{\"targets\": []},]",
            "[] x",
            "[{\"more\": 1}]",
            "[{\"labels\": {\"a\": 1}}]",
        ] {
            assert!(read_json_groups(wrong, "f").is_err(), "{wrong}");
        }
        // one wrong target does no harm to the others, unless it stands in the configuration itself
        let node = yaml::Node::parse("[{targets: ['http://x']}]").unwrap();
        assert_eq!(read_groups(&node, "f").unwrap().len(), 1);
        assert!(DiscoveryConfig::parse("static_configs: [{targets: ['http://x']}]").is_err());
    }
}
