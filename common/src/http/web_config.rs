use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::secret::Secret;
use crate::yaml::{self, YamlError};

/// The exporter-toolkit's web configuration file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// TLS; without a certificate the server speaks plain HTTP.
    pub tls_server_config: TlsServerConfig,
    /// HTTP/2 and headers.
    pub http_server_config: HttpSettings,
    /// Users and their bcrypt hashes; without any, no authentication.
    pub basic_auth_users: BTreeMap<String, Secret>,
    /// The rate of requests that is answered.
    pub rate_limit: Option<RateLimit>,
}

/// `tls_server_config`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsServerConfig {
    /// The certificate chain, PEM.
    pub cert: String,
    /// File with the certificate chain.
    pub cert_file: PathBuf,
    /// The private key, PEM.
    pub key: Secret,
    /// File with the private key.
    pub key_file: PathBuf,
    /// What is asked of clients.
    pub client_auth_type: String,
    /// The authorities of client certificates, PEM.
    pub client_ca: String,
    /// File with the authorities of client certificates.
    pub client_ca_file: PathBuf,
    /// A client certificate must carry one of these alternative names.
    pub client_allowed_sans: Vec<String>,
    /// Oldest protocol version, `TLS12` by default.
    pub min_version: String,
    /// Newest protocol version, `TLS13` by default.
    pub max_version: String,
    /// TLS 1.2 cipher suites by their Go names; empty for all that are safe.
    pub cipher_suites: Vec<String>,
    /// Key exchange groups by their Go names; empty for all.
    pub curve_preferences: Vec<String>,
    /// Whether the server's order of cipher suites counts.
    pub prefer_server_cipher_suites: bool,
}

impl Default for TlsServerConfig {
    fn default() -> Self {
        Self {
            cert: String::new(),
            cert_file: PathBuf::new(),
            key: Secret::default(),
            key_file: PathBuf::new(),
            client_auth_type: String::new(),
            client_ca: String::new(),
            client_ca_file: PathBuf::new(),
            client_allowed_sans: Vec::new(),
            min_version: "TLS12".to_owned(),
            max_version: "TLS13".to_owned(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            prefer_server_cipher_suites: true,
        }
    }
}

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthType {
    /// No certificate.
    NoClientCert,
    /// A certificate, which may be missing and is not verified.
    RequestClientCert,
    /// A certificate, which is not verified.
    RequireAnyClientCert,
    /// A certificate, verified if there is one.
    VerifyClientCertIfGiven,
    /// A verified certificate.
    RequireAndVerifyClientCert,
}

/// `http_server_config`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Whether HTTP/2 is offered to TLS clients. Cannot change while the server runs.
    pub http2: bool,
    /// Headers of every response; a fixed list of security headers is allowed.
    pub headers: BTreeMap<String, String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { http2: true, headers: BTreeMap::new() }
    }
}

/// `rate_limit`: a token bucket over all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Requests that may come at once.
    pub burst: u32,
    /// Then one request every so often; zero for no limit.
    pub interval: model::Duration,
}

/// Why a web configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The file cannot be read or parsed.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A setting is wrong.
    #[error("{}: {reason}", file.display())]
    Setting {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The headers that may be set, with the values that are allowed (none: any).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

impl WebConfig {
    /// Reads a file; relative paths in it are relative to its folder. Checks everything but the content of certificates.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let config: Self = yaml::load(path)?;
        config.checked(path)
    }

    /// As [`WebConfig::load`], of text that stands for the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, WebConfigError> {
        let config: Self = yaml::parse(text, &path.display().to_string())?;
        config.checked(path)
    }

    fn checked(mut self, path: &Path) -> Result<Self, WebConfigError> {
        let config = &mut self;
        let folder = path.parent().unwrap_or(Path::new(""));
        let tls = &mut config.tls_server_config;
        for file in [&mut tls.cert_file, &mut tls.key_file, &mut tls.client_ca_file] {
            if !file.as_os_str().is_empty() && file.is_relative() {
                *file = folder.join(&*file);
            }
        }
        config.check().map_err(|reason| WebConfigError::Setting { file: path.to_owned(), reason })?;
        Ok(self)
    }

    /// Reads a file and loads its certificates: what `check web-config` does.
    pub fn validate(path: &Path) -> Result<(), WebConfigError> {
        let config = Self::load(path)?;
        super::server_tls::server_config(&config)
            .map(|_| ())
            .map_err(|error| WebConfigError::Setting { file: path.to_owned(), reason: error.to_string() })
    }

    fn check(&self) -> Result<(), String> {
        self.tls_server_config.check()?;
        for (name, value) in &self.http_server_config.headers {
            let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| known == name) else {
                return Err(format!("HTTP header {name:?} can not be configured"));
            };
            if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
                return Err(format!("invalid value for {name}. Expected one of: {allowed:?}, but got: {value:?}"));
            }
            if hyper::header::HeaderValue::from_str(value).is_err() {
                return Err(format!("invalid value for {name}: {value:?}"));
            }
        }
        for (user, hash) in &self.basic_auth_users {
            if let Err(error) = hash.expose().parse::<bcrypt::HashParts>() {
                return Err(format!("basic_auth_users: the password of {user:?} is no bcrypt hash: {error}"));
            }
        }
        Ok(())
    }
}

impl TlsServerConfig {
    /// Whether TLS is on.
    pub fn is_enabled(&self) -> bool {
        !self.cert.is_empty() || !self.cert_file.as_os_str().is_empty()
    }

    /// What is asked of clients.
    pub fn client_auth(&self) -> Result<ClientAuthType, String> {
        Ok(match self.client_auth_type.as_str() {
            "" | "NoClientCert" => ClientAuthType::NoClientCert,
            "RequestClientCert" => ClientAuthType::RequestClientCert,
            // the second spelling is an old one
            "RequireAnyClientCert" | "RequireClientCert" => ClientAuthType::RequireAnyClientCert,
            "VerifyClientCertIfGiven" => ClientAuthType::VerifyClientCertIfGiven,
            "RequireAndVerifyClientCert" => ClientAuthType::RequireAndVerifyClientCert,
            other => return Err(format!("Invalid ClientAuth: {other}")),
        })
    }

    fn check(&self) -> Result<(), String> {
        let set = |text: &str, file: &Path| !text.is_empty() || !file.as_os_str().is_empty();
        let both = |text: &str, file: &Path| !text.is_empty() && !file.as_os_str().is_empty();
        let cert = set(&self.cert, &self.cert_file);
        let key = set(self.key.expose(), &self.key_file);
        if both(&self.cert, &self.cert_file) {
            return Err("only one of cert or cert_file can be configured".to_owned());
        }
        if both(self.key.expose(), &self.key_file) {
            return Err("only one of key or key_file can be configured".to_owned());
        }
        if both(&self.client_ca, &self.client_ca_file) {
            return Err("only one of client_ca or client_ca_file can be configured".to_owned());
        }
        let auth = self.client_auth()?;
        if !cert && !key && self.client_auth_type.is_empty() {
            return Ok(());
        }
        if !cert {
            return Err("missing one of cert or cert_file".to_owned());
        }
        if !key {
            return Err("missing one of key or key_file".to_owned());
        }
        if set(&self.client_ca, &self.client_ca_file) && auth == ClientAuthType::NoClientCert {
            return Err("Client CA's have been configured without a Client Auth Policy".to_owned());
        }
        super::server_tls::check_names(self)
    }
}
