//! The configuration file: modules, each with the settings of its prober. A file is taken whole or not at all.

mod cel;
mod dns;
mod http;
mod quantity;
mod query_response;
mod regexp;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::http::client::TlsConfig;
use serde::{Deserialize, Deserializer, de};

pub(crate) use cel::CelExpression;
pub(crate) use dns::{DnsOptions, RrValidator, Transport};
pub(crate) use http::{Compression, HttpOptions};
pub(crate) use quantity::{Bytes, GoDuration};
pub(crate) use query_response::QueryResponse;
pub(crate) use regexp::Regexp;

use crate::tls::TlsClient;

/// A configuration in force.
#[derive(Debug, Default)]
pub struct Config {
    modules: BTreeMap<String, Arc<Module>>,
    /// The file as read, secrets hidden.
    shown: String,
}

/// A way to probe.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its name.
    pub(crate) name: String,
    /// The longest time a probe may take; zero for what the scrape allows.
    pub(crate) timeout: Duration,
    /// The prober and its settings.
    pub(crate) prober: Prober,
    /// The section as written, secrets hidden.
    pub(crate) shown: String,
}

/// A prober with its settings.
#[derive(Debug)]
pub(crate) enum Prober {
    /// HTTP requests.
    Http(Box<HttpOptions>),
    /// TCP connections.
    Tcp(Box<TcpOptions>),
    /// Unix sockets.
    Unix(Box<UnixOptions>),
    /// ICMP echo.
    Icmp(IcmpOptions),
    /// DNS queries.
    Dns(Box<DnsOptions>),
    /// The gRPC health protocol.
    Grpc(Box<GrpcOptions>),
    /// WebSocket.
    Websocket(Box<WebsocketOptions>),
}

/// The version of IP to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IpProtocol {
    /// IPv6.
    #[default]
    V6,
    /// IPv4.
    V4,
}

/// Which addresses of a target count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpChoice {
    /// The version that is preferred.
    pub(crate) preferred: IpProtocol,
    /// Whether the other one will do.
    pub(crate) fallback: bool,
}

/// `tcp`.
#[derive(Debug)]
pub(crate) struct TcpOptions {
    /// Which addresses count.
    pub(crate) ip: IpChoice,
    /// The address to send from.
    pub(crate) source: Option<SourceAddress>,
    /// What is said and expected.
    pub(crate) query_response: Vec<QueryResponse>,
    /// Whether TLS begins at once.
    pub(crate) tls: bool,
    /// TLS settings.
    pub(crate) tls_client: TlsClient,
}

/// `unix`.
#[derive(Debug)]
pub(crate) struct UnixOptions {
    /// What is said and expected.
    pub(crate) query_response: Vec<QueryResponse>,
    /// Whether TLS begins at once.
    pub(crate) tls: bool,
    /// TLS settings.
    pub(crate) tls_client: TlsClient,
}

/// `icmp`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IcmpOptions {
    /// Which addresses count.
    pub(crate) ip: IpChoice,
    /// The address to send from.
    pub(crate) source: Option<SourceAddress>,
    /// Bytes after the ICMP header; 0 for those of the default text.
    pub(crate) payload_size: usize,
    /// Sets the don't-fragment bit.
    pub(crate) dont_fragment: bool,
    /// Time to live, hop limit.
    pub(crate) ttl: u8,
}

/// `grpc`.
#[derive(Debug)]
pub(crate) struct GrpcOptions {
    /// Which addresses count.
    pub(crate) ip: IpChoice,
    /// The service asked about; empty for the server as a whole.
    pub(crate) service: String,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// TLS settings.
    pub(crate) tls_client: TlsClient,
    /// Metadata of the request.
    pub(crate) metadata: BTreeMap<String, Vec<String>>,
}

/// `websocket`.
#[derive(Debug)]
pub(crate) struct WebsocketOptions {
    /// Which addresses count.
    pub(crate) ip: IpChoice,
    /// Client settings of the upgrade request.
    pub(crate) client: common::http::client::HttpClientConfig,
    /// TLS settings.
    pub(crate) tls_client: TlsClient,
    /// Headers of the upgrade request.
    pub(crate) headers: Vec<(String, String)>,
    /// What is said and expected.
    pub(crate) query_response: Vec<QueryResponse>,
}

/// A source address. One that is none makes probes fail, not the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceAddress {
    /// An address.
    Valid(IpAddr),
    /// Something else.
    Invalid,
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("error reading config file: {}: {error}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The text is wrong.
    #[error("error parsing config file: {file}:{error}")]
    Parse {
        /// The file's name.
        file: String,
        /// What is wrong, and where.
        error: yaml::Error,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read or anything in it is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Checks a document. `file` is its name in errors.
    ///
    /// # Errors
    /// When anything in it is wrong.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        Self::read(text).map_err(|error| ConfigError::Parse { file: file.to_owned(), error })
    }

    fn read(text: &str) -> Result<Self, yaml::Error> {
        let mut document = yaml::Node::parse(text)?;
        let (own, rest) = document.split(|key| key == "modules")?;
        if let yaml::Kind::Mapping(entries) = &rest.kind
            && let Some((key, _)) = entries.first()
        {
            let name = key.as_str().unwrap_or_default();
            return Err(key.error(format!("field {name} not found in type config.Config")));
        }
        let mut modules = BTreeMap::new();
        match own.get("modules").map(|node| (node, &node.kind)) {
            Some((_, yaml::Kind::Mapping(entries))) => {
                for (key, value) in entries {
                    let name = key.as_str().ok_or_else(|| key.error("a module's name must be text"))?;
                    modules.insert(name.to_owned(), Arc::new(Module::read(name, value)?));
                }
            }
            Some((node, _)) if !node.is_null() => return Err(node.error("modules must be a mapping")),
            _ => {}
        }
        hide_secrets(&mut document);
        Ok(Self { modules, shown: document.to_yaml() })
    }

    /// A module.
    pub(crate) fn module(&self, name: &str) -> Option<&Arc<Module>> {
        self.modules.get(name)
    }

    /// The names of all modules, in order.
    pub fn module_names(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    /// The file as read, secrets hidden.
    pub(crate) fn to_yaml(&self) -> &str {
        &self.shown
    }
}

impl Prober {
    /// Its name in the file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Unix(_) => "unix",
            Self::Icmp(_) => "icmp",
            Self::Dns(_) => "dns",
            Self::Grpc(_) => "grpc",
            Self::Websocket(_) => "websocket",
        }
    }
}

const PROBERS: [&str; 7] = ["http", "tcp", "unix", "icmp", "dns", "grpc", "websocket"];

#[derive(Deserialize)]
#[serde(rename = "config.Module", deny_unknown_fields, default)]
#[derive(Default)]
struct ModuleHead {
    prober: String,
    timeout: GoDuration,
}

impl Module {
    fn read(name: &str, node: &yaml::Node) -> Result<Self, yaml::Error> {
        let (sections, head) = node.split(|key| PROBERS.contains(&key))?;
        let ModuleHead { prober, timeout } = head.read()?;
        if !PROBERS.contains(&prober.as_str()) {
            let place = head.get("prober").unwrap_or(node);
            return Err(place.error(format!("prober '{prober}' is not valid")));
        }
        let empty = yaml::Node::empty_mapping(node.line, node.column);
        // every section is checked, that of the prober is kept
        let mut chosen = None;
        for kind in PROBERS {
            let written = sections.get(kind).filter(|section| !section.is_null());
            if written.is_none() && kind != prober {
                continue;
            }
            let section = written.unwrap_or(&empty);
            let read = Prober::read(kind, section, written.is_some())?;
            if kind == prober {
                chosen = Some(read);
            }
        }
        let prober = chosen.ok_or_else(|| node.error("a module needs a prober"))?;
        let mut shown = node.clone();
        hide_secrets(&mut shown);
        Ok(Self { name: name.to_owned(), timeout: timeout.0, prober, shown: shown.to_yaml() })
    }
}

impl Prober {
    fn read(kind: &str, node: &yaml::Node, written: bool) -> Result<Self, yaml::Error> {
        Ok(match kind {
            "http" => Self::Http(Box::new(HttpOptions::read(node)?)),
            "tcp" => Self::Tcp(Box::new(TcpOptions::read(node)?)),
            "unix" => Self::Unix(Box::new(UnixOptions::read(node)?)),
            "icmp" => Self::Icmp(IcmpOptions::read(node)?),
            "dns" => Self::Dns(Box::new(DnsOptions::read(node, written)?)),
            "grpc" => Self::Grpc(Box::new(GrpcOptions::read(node)?)),
            _ => Self::Websocket(Box::new(WebsocketOptions::read(node)?)),
        })
    }
}

/// Reads an address; anything is taken here.
fn source_address(text: &str) -> Option<SourceAddress> {
    (!text.is_empty()).then(|| text.parse().map_or(SourceAddress::Invalid, SourceAddress::Valid))
}

/// Anything but `ip6` and nothing means IPv4, as in blackbox_exporter.
fn ip_choice(preferred: &str, fallback: bool) -> IpChoice {
    let preferred = if matches!(preferred, "" | "ip6") { IpProtocol::V6 } else { IpProtocol::V4 };
    IpChoice { preferred, fallback }
}

fn validated_tls(tls: TlsConfig, node: &yaml::Node) -> Result<TlsClient, yaml::Error> {
    let place = node.get("tls_config").unwrap_or(node);
    tls.validate().map_err(|e| place.error(e.to_string()))?;
    Ok(TlsClient::new(tls, &[]))
}

impl TcpOptions {
    fn read(node: &yaml::Node) -> Result<Self, yaml::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "config.TCPProbe", deny_unknown_fields, default)]
        struct Section {
            preferred_ip_protocol: String,
            ip_protocol_fallback: bool,
            source_ip_address: String,
            query_response: Vec<QueryResponse>,
            tls: bool,
            tls_config: TlsConfig,
        }
        impl Default for Section {
            fn default() -> Self {
                Self {
                    preferred_ip_protocol: String::new(),
                    ip_protocol_fallback: true,
                    source_ip_address: String::new(),
                    query_response: Vec::new(),
                    tls: false,
                    tls_config: TlsConfig::default(),
                }
            }
        }
        let section: Section = node.read()?;
        Ok(Self {
            ip: ip_choice(&section.preferred_ip_protocol, section.ip_protocol_fallback),
            source: source_address(&section.source_ip_address),
            query_response: section.query_response,
            tls: section.tls,
            tls_client: validated_tls(section.tls_config, node)?,
        })
    }
}

impl UnixOptions {
    fn read(node: &yaml::Node) -> Result<Self, yaml::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename = "config.UnixProbe", deny_unknown_fields, default)]
        struct Section {
            query_response: Vec<QueryResponse>,
            tls: bool,
            tls_config: TlsConfig,
        }
        let section: Section = node.read()?;
        Ok(Self {
            query_response: section.query_response,
            tls: section.tls,
            tls_client: validated_tls(section.tls_config, node)?,
        })
    }
}

/// The largest ICMP payload an IPv4 packet can carry.
const MAX_PAYLOAD: i64 = 65_507;

impl IcmpOptions {
    fn read(node: &yaml::Node) -> Result<Self, yaml::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "config.ICMPProbe", deny_unknown_fields, default)]
        struct Section {
            preferred_ip_protocol: String,
            ip_protocol_fallback: bool,
            source_ip_address: String,
            payload_size: i64,
            dont_fragment: bool,
            ttl: i64,
        }
        impl Default for Section {
            fn default() -> Self {
                Self {
                    preferred_ip_protocol: String::new(),
                    ip_protocol_fallback: true,
                    source_ip_address: String::new(),
                    payload_size: 0,
                    dont_fragment: false,
                    ttl: 64,
                }
            }
        }
        let section: Section = node.read()?;
        let at = |key: &str| node.get(key).unwrap_or(node);
        if section.ttl < 0 {
            return Err(at("ttl").error("\"ttl\" cannot be negative"));
        }
        let ttl = u8::try_from(section.ttl).map_err(|_| at("ttl").error("\"ttl\" cannot exceed 255"))?;
        if !(0..=MAX_PAYLOAD).contains(&section.payload_size) {
            return Err(at("payload_size").error(format!("\"payload_size\" must be between 0 and {MAX_PAYLOAD}")));
        }
        Ok(Self {
            ip: ip_choice(&section.preferred_ip_protocol, section.ip_protocol_fallback),
            source: source_address(&section.source_ip_address),
            payload_size: usize::try_from(section.payload_size).unwrap_or(0),
            dont_fragment: section.dont_fragment,
            ttl,
        })
    }
}

impl GrpcOptions {
    fn read(node: &yaml::Node) -> Result<Self, yaml::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "config.GRPCProbe", deny_unknown_fields, default)]
        struct Section {
            service: String,
            tls: bool,
            tls_config: TlsConfig,
            ip_protocol_fallback: bool,
            preferred_ip_protocol: String,
            metadata: BTreeMap<String, Vec<String>>,
        }
        impl Default for Section {
            fn default() -> Self {
                Self {
                    service: String::new(),
                    tls: false,
                    tls_config: TlsConfig::default(),
                    ip_protocol_fallback: true,
                    preferred_ip_protocol: String::new(),
                    metadata: BTreeMap::new(),
                }
            }
        }
        let section: Section = node.read()?;
        section.tls_config.validate().map_err(|e| node.error(e.to_string()))?;
        Ok(Self {
            ip: ip_choice(&section.preferred_ip_protocol, section.ip_protocol_fallback),
            service: section.service,
            tls: section.tls,
            tls_client: TlsClient::new(section.tls_config, &[b"h2".as_slice()]),
            metadata: section.metadata,
        })
    }
}

impl WebsocketOptions {
    fn read(node: &yaml::Node) -> Result<Self, yaml::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "config.WebsocketProbe", deny_unknown_fields, default)]
        struct Section {
            http_config: common::http::client::HttpClientConfig,
            headers: BTreeMap<String, HeaderValueOrList>,
            query_response: Vec<QueryResponse>,
            preferred_ip_protocol: String,
            ip_protocol_fallback: bool,
        }
        impl Default for Section {
            fn default() -> Self {
                Self {
                    http_config: common::http::client::HttpClientConfig::default(),
                    headers: BTreeMap::new(),
                    query_response: Vec::new(),
                    preferred_ip_protocol: String::new(),
                    ip_protocol_fallback: true,
                }
            }
        }
        let mut section: Section = node.read()?;
        let place = node.get("http_config").unwrap_or(node);
        section.http_config.validate().map_err(|e| place.error(e.to_string()))?;
        let mut headers = Vec::new();
        for (name, values) in section.headers {
            match values {
                HeaderValueOrList::Plain(values) => {
                    headers.extend(values.into_iter().map(|value| (name.clone(), value)));
                }
                // secrets and files are the client's business
                HeaderValueOrList::Full(values) => {
                    section.http_config.http_headers.get_or_insert_default().insert(name, values);
                }
            }
        }
        Ok(Self {
            ip: ip_choice(&section.preferred_ip_protocol, section.ip_protocol_fallback),
            tls_client: TlsClient::new(section.http_config.tls_config.clone(), &[b"http/1.1".as_slice()]),
            client: section.http_config,
            headers,
            query_response: section.query_response,
        })
    }
}

/// A header's value, a list of them, or a section that tells values, secrets and files apart.
enum HeaderValueOrList {
    Plain(Vec<String>),
    Full(common::http::client::HeaderValues),
}

impl<'de> Deserialize<'de> for HeaderValueOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> de::Visitor<'de> for Values {
            type Value = HeaderValueOrList;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a header's value or a list of values")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(HeaderValueOrList::Plain(vec![text.to_owned()]))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(de::value::MapAccessDeserializer::new(map)).map(HeaderValueOrList::Full)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(HeaderValueOrList::Plain(values))
            }
        }
        deserializer.deserialize_any(Values)
    }
}

/// Keys whose values are not shown.
const SECRET_KEYS: [&str; 7] =
    ["password", "credentials", "client_secret", "client_certificate_key", "bearer_token", "key", "secrets"];

/// Replaces secret values by `<secret>`.
fn hide_secrets(node: &mut yaml::Node) {
    match &mut node.kind {
        yaml::Kind::Mapping(entries) => {
            for (key, value) in entries {
                match key.as_str() {
                    Some(name) if SECRET_KEYS.contains(&name) => hide(value),
                    Some("proxy_connect_header") => hide(value),
                    Some("proxy_url" | "token_url") => hide_userinfo(value),
                    _ => hide_secrets(value),
                }
            }
        }
        yaml::Kind::Sequence(items) => items.iter_mut().for_each(hide_secrets),
        yaml::Kind::Scalar { .. } | yaml::Kind::Binary(_) => {}
    }
}

fn hide(node: &mut yaml::Node) {
    match &mut node.kind {
        yaml::Kind::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| hide(value)),
        yaml::Kind::Sequence(items) => items.iter_mut().for_each(hide),
        kind => *kind = yaml::Kind::Scalar { text: "<secret>".to_owned(), plain: false },
    }
}

fn hide_userinfo(node: &mut yaml::Node) {
    let Some(mut url) = node.as_str().and_then(|text| url::Url::parse(text).ok()) else { return };
    if url.password().is_some() && url.set_password(Some("xxxxx")).is_ok() {
        let mut text = String::new();
        let _ = write!(text, "{url}");
        node.kind = yaml::Kind::Scalar { text, plain: false };
    }
}

#[cfg(test)]
mod tests;
