use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::secret::Secret;

/// `HTTPClientConfig`. May stand alone or be flattened into a section that denies unknown fields.
///
/// After parsing, call [`HttpClientConfig::resolve_paths`] with the folder of the file and [`HttpClientConfig::validate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpClientConfig {
    /// User and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// The `Authorization` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// A token from an OAuth 2.0 server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    /// Old spelling of `authorization: {credentials: ...}`.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub bearer_token: Secret,
    /// Old spelling of `authorization: {credentials_file: ...}`.
    #[serde(skip_serializing_if = "is_empty")]
    pub bearer_token_file: PathBuf,
    /// TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: TlsConfig,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 is used where the server offers it.
    pub enable_http2: bool,
    /// The proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<Url>,
    /// Hosts that are reached without the proxy, separated by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    /// Takes the proxy from the usual environment variables.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
    /// Headers for the proxy's CONNECT request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    /// Further headers of every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_headers: Option<BTreeMap<String, HeaderValues>>,
}

impl HttpClientConfig {
    /// The keys that sections which take these settings inline have for them.
    pub const KEYS: [&str; 13] = [
        "basic_auth",
        "authorization",
        "oauth2",
        "bearer_token",
        "bearer_token_file",
        "tls_config",
        "follow_redirects",
        "enable_http2",
        "proxy_url",
        "no_proxy",
        "proxy_from_environment",
        "proxy_connect_header",
        "http_headers",
    ];
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: PathBuf::new(),
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy_url: None,
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: BTreeMap::new(),
            http_headers: None,
        }
    }
}

/// `basic_auth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// File with the user.
    #[serde(skip_serializing_if = "is_empty")]
    pub username_file: PathBuf,
    /// Name of the user in a secret manager. There is none here: using it is an error.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username_ref: String,
    /// The password.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub password: Secret,
    /// File with the password.
    #[serde(skip_serializing_if = "is_empty")]
    pub password_file: PathBuf,
    /// Name of the password in a secret manager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password_ref: String,
}

/// `authorization`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// The scheme, `Bearer` if empty.
    #[serde(rename = "type")]
    pub scheme: String,
    /// The credentials.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub credentials: Secret,
    /// File with the credentials.
    #[serde(skip_serializing_if = "is_empty")]
    pub credentials_file: PathBuf,
    /// Name of the credentials in a secret manager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credentials_ref: String,
}

/// `oauth2`: the client credentials grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth2 {
    /// The client.
    pub client_id: String,
    /// Its secret.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub client_secret: Secret,
    /// File with its secret.
    #[serde(skip_serializing_if = "is_empty")]
    pub client_secret_file: PathBuf,
    /// Name of its secret in a secret manager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_secret_ref: String,
    /// Identifier of the key that signs assertions, their `kid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_certificate_key_id: String,
    /// The key that signs assertions, PEM.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub client_certificate_key: Secret,
    /// File with that key.
    #[serde(skip_serializing_if = "is_empty")]
    pub client_certificate_key_file: PathBuf,
    /// Name of that key in a secret manager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_certificate_key_ref: String,
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` for signed assertions; empty for client credentials.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grant_type: String,
    /// How assertions are signed: RS256, RS384 or RS512.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signature_algorithm: String,
    /// Who asserts; the client if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iss: String,
    /// Whom assertions are for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub audience: String,
    /// Further claims.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// What the token is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Where tokens are given.
    pub token_url: String,
    /// Further parameters of the request for a token.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_params: BTreeMap<String, String>,
    /// TLS towards the token server.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: TlsConfig,
    /// The proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<Url>,
    /// Hosts that are reached without the proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    /// Takes the proxy from the usual environment variables.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
    /// Headers for the proxy's CONNECT request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

/// `tls_config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Authorities that servers are checked against, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// File with the authorities.
    #[serde(skip_serializing_if = "is_empty")]
    pub ca_file: PathBuf,
    /// Name of the authorities in a secret manager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca_ref: String,
    /// The client's certificate, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// File with the client's certificate.
    #[serde(skip_serializing_if = "is_empty")]
    pub cert_file: PathBuf,
    /// Name of the certificate in a secret manager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_ref: String,
    /// The client's key, PEM.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub key: Secret,
    /// File with the client's key.
    #[serde(skip_serializing_if = "is_empty")]
    pub key_file: PathBuf,
    /// Name of the key in a secret manager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_ref: String,
    /// The name the server's certificate must have, if not the host's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
    /// Oldest protocol version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// Newest protocol version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
}

/// A TLS version. 1.0 and 1.1 are not spoken: as oldest version they mean 1.2, as newest they are an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// 1.0.
    #[serde(rename = "TLS10")]
    Tls10,
    /// 1.1.
    #[serde(rename = "TLS11")]
    Tls11,
    /// 1.2.
    #[serde(rename = "TLS12")]
    Tls12,
    /// 1.3.
    #[serde(rename = "TLS13")]
    Tls13,
}

/// The values of a header of `http_headers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderValues {
    /// Values that may be shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Values that may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Files with a value each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// A configuration that contradicts itself, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientConfigError(pub String);

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn is_default(tls: &TlsConfig) -> bool {
    *tls == TlsConfig::default()
}

fn at_most_one(set: &[bool], message: &str) -> Result<(), ClientConfigError> {
    if set.iter().filter(|s| **s).count() > 1 { Err(ClientConfigError(message.to_owned())) } else { Ok(()) }
}

fn refuse(when: bool, message: &str) -> Result<(), ClientConfigError> {
    if when { Err(ClientConfigError(message.to_owned())) } else { Ok(()) }
}

/// Headers that `http_headers` may not set, in lower case: they are the client's own.
const RESERVED_HEADERS: [&str; 17] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "user-agent",
    "www-authenticate",
    "x-prometheus-scrape-timeout-seconds",
    "x-prometheus-remote-write-version",
];

impl HttpClientConfig {
    /// Makes relative paths relative to a folder, that of the configuration file.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let mut paths = vec![&mut self.bearer_token_file];
        paths.extend(self.tls_config.paths());
        if let Some(basic) = &mut self.basic_auth {
            paths.extend([&mut basic.username_file, &mut basic.password_file]);
        }
        paths.extend(self.authorization.as_mut().map(|a| &mut a.credentials_file));
        if let Some(oauth2) = &mut self.oauth2 {
            paths.extend([&mut oauth2.client_secret_file, &mut oauth2.client_certificate_key_file]);
            paths.extend(oauth2.tls_config.paths());
        }
        paths.extend(self.http_headers.iter_mut().flat_map(|h| h.values_mut()).flat_map(|h| &mut h.files));
        for path in paths {
            if !is_empty(path) && path.is_relative() {
                *path = folder.join(&*path);
            }
        }
    }

    /// Checks the settings against each other and turns the old bearer fields into `authorization`.
    pub fn validate(&mut self) -> Result<(), ClientConfigError> {
        let bearer = !self.bearer_token.is_empty();
        let bearer_file = !is_empty(&self.bearer_token_file);
        let (basic, oauth2) = (self.basic_auth.is_some(), self.oauth2.is_some());
        refuse(bearer && bearer_file, "at most one of bearer_token & bearer_token_file must be configured")?;
        refuse(
            (basic || oauth2) && (bearer || bearer_file),
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        )?;
        if let Some(auth) = &self.basic_auth {
            at_most_one(
                &[!auth.username.is_empty(), !is_empty(&auth.username_file), !auth.username_ref.is_empty()],
                "at most one of basic_auth username, username_file & username_ref must be configured",
            )?;
            at_most_one(
                &[!auth.password.is_empty(), !is_empty(&auth.password_file), !auth.password_ref.is_empty()],
                "at most one of basic_auth password, password_file & password_ref must be configured",
            )?;
        }
        if let Some(auth) = &mut self.authorization {
            refuse(bearer || bearer_file, "authorization is not compatible with bearer_token & bearer_token_file")?;
            at_most_one(
                &[!auth.credentials.is_empty(), !is_empty(&auth.credentials_file), !auth.credentials_ref.is_empty()],
                "at most one of authorization credentials & credentials_file must be configured",
            )?;
            auth.scheme = auth.scheme.trim().to_owned();
            if auth.scheme.is_empty() {
                "Bearer".clone_into(&mut auth.scheme);
            }
            refuse(
                auth.scheme.eq_ignore_ascii_case("basic"),
                "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
            )?;
            refuse(basic || oauth2, "at most one of basic_auth, oauth2 & authorization must be configured")?;
        } else if bearer || bearer_file {
            self.authorization = Some(Authorization {
                scheme: "Bearer".to_owned(),
                credentials: std::mem::take(&mut self.bearer_token),
                credentials_file: std::mem::take(&mut self.bearer_token_file),
                credentials_ref: String::new(),
            });
        }
        if let Some(auth) = &self.oauth2 {
            refuse(basic, "at most one of basic_auth, oauth2 & authorization must be configured")?;
            refuse(auth.client_id.is_empty(), "oauth2 client_id must be configured")?;
            refuse(auth.token_url.is_empty(), "oauth2 token_url must be configured")?;
            at_most_one(
                &[
                    !auth.client_secret.is_empty(),
                    !is_empty(&auth.client_secret_file),
                    !auth.client_secret_ref.is_empty(),
                ],
                "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured",
            )?;
            auth.validate_assertions()?;
            auth.tls_config.validate()?;
            auth.proxy().validate()?;
        }
        self.tls_config.validate()?;
        self.proxy().validate()?;
        for name in self.http_headers.iter().flat_map(BTreeMap::keys) {
            let reserved = RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str());
            refuse(reserved, &format!("setting header {} is not allowed", model::quote(&canonical(name))))?;
            let wrong = reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err();
            refuse(wrong, &format!("{} is not a header's name", model::quote(name)))?;
        }
        Ok(())
    }

    /// Names of the settings that want a secret manager, which there is none of.
    pub(super) fn secret_reference(&self) -> Option<&'static str> {
        let mut references = self.tls_config.references();
        if let Some(basic) = &self.basic_auth {
            references.extend([("username_ref", &basic.username_ref), ("password_ref", &basic.password_ref)]);
        }
        references.extend(self.authorization.as_ref().map(|a| ("credentials_ref", &a.credentials_ref)));
        if let Some(oauth2) = &self.oauth2 {
            references.push(("client_secret_ref", &oauth2.client_secret_ref));
            references.push(("client_certificate_key_ref", &oauth2.client_certificate_key_ref));
            references.extend(oauth2.tls_config.references());
        }
        references.into_iter().find(|(_, value)| !value.is_empty()).map(|(name, _)| name)
    }

    pub(super) fn proxy(&self) -> ProxyConfig<'_> {
        ProxyConfig {
            url: self.proxy_url.as_ref(),
            no_proxy: &self.no_proxy,
            from_environment: self.proxy_from_environment,
            connect_header: &self.proxy_connect_header,
        }
    }
}

impl OAuth2 {
    /// Whether tokens are asked for with signed assertions (RFC 7523).
    pub(super) fn asserts(&self) -> bool {
        self.grant_type == JWT_BEARER
    }

    fn validate_assertions(&self) -> Result<(), ClientConfigError> {
        if self.asserts() {
            at_most_one(
                &[
                    !self.client_certificate_key.is_empty(),
                    !is_empty(&self.client_certificate_key_file),
                    !self.client_certificate_key_ref.is_empty(),
                ],
                "at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be \
                 configured using grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer",
            )?;
            refuse(
                !matches!(self.signature_algorithm.as_str(), "" | "RS256" | "RS384" | "RS512"),
                "valid signature algorithms are RS256, RS384 and RS512",
            )?;
        }
        Ok(())
    }

    pub(super) fn proxy(&self) -> ProxyConfig<'_> {
        ProxyConfig {
            url: self.proxy_url.as_ref(),
            no_proxy: &self.no_proxy,
            from_environment: self.proxy_from_environment,
            connect_header: &self.proxy_connect_header,
        }
    }
}

/// The grant type of RFC 7523.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The proxy settings of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyConfig<'a> {
    pub(super) url: Option<&'a Url>,
    pub(super) no_proxy: &'a str,
    pub(super) from_environment: bool,
    pub(super) connect_header: &'a BTreeMap<String, Vec<Secret>>,
}

impl ProxyConfig<'_> {
    fn validate(&self) -> Result<(), ClientConfigError> {
        refuse(
            !self.connect_header.is_empty() && !self.from_environment && self.url.is_none(),
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
        )?;
        refuse(
            self.from_environment && self.url.is_some(),
            "if proxy_from_environment is configured, proxy_url must not be configured",
        )?;
        refuse(
            self.from_environment && !self.no_proxy.is_empty(),
            "if proxy_from_environment is configured, no_proxy must not be configured",
        )?;
        refuse(
            self.url.is_none() && !self.no_proxy.is_empty(),
            "if no_proxy is configured, proxy_url must also be configured",
        )
    }
}

impl TlsConfig {
    fn paths(&mut self) -> [&mut PathBuf; 3] {
        [&mut self.ca_file, &mut self.cert_file, &mut self.key_file]
    }

    /// The settings that want a secret manager, with their values.
    pub(super) fn references(&self) -> Vec<(&'static str, &String)> {
        vec![("ca_ref", &self.ca_ref), ("cert_ref", &self.cert_ref), ("key_ref", &self.key_ref)]
    }

    /// Makes relative paths relative to a folder.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for path in self.paths() {
            if !is_empty(path) && path.is_relative() {
                *path = folder.join(&*path);
            }
        }
    }

    /// Checks the settings against each other.
    pub fn validate(&self) -> Result<(), ClientConfigError> {
        let count = |inline: bool, file: &Path, name: &str| {
            usize::from(inline) + usize::from(!is_empty(file)) + usize::from(!name.is_empty())
        };
        let ca = count(!self.ca.is_empty(), &self.ca_file, &self.ca_ref);
        let cert = count(!self.cert.is_empty(), &self.cert_file, &self.cert_ref);
        let key = count(!self.key.is_empty(), &self.key_file, &self.key_ref);
        refuse(ca > 1, "at most one of ca, ca_file & ca_ref must be configured")?;
        refuse(cert > 1, "at most one of cert, cert_file & cert_ref must be configured")?;
        refuse(key > 1, "at most one of key and key_file must be configured")?;
        refuse(
            cert > 0 && key == 0,
            "exactly one of key or key_file must be configured when a client certificate is configured",
        )?;
        refuse(
            key > 0 && cert == 0,
            "exactly one of cert or cert_file must be configured when a client key is configured",
        )?;
        let (min, max) = (self.min_version.unwrap_or(TlsVersion::Tls12), self.max_version.unwrap_or(TlsVersion::Tls13));
        refuse(max < TlsVersion::Tls12, "tls_config max_version: versions before TLS12 are not supported")?;
        refuse(
            min > max,
            "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified",
        )
    }
}

/// `Content-Type` for `content-type`.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let c = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            upper = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn check(text: &str, expected: Result<(), &str>) {
        let validated = yaml::parse::<HttpClientConfig>(text, "c.yml")
            .map_err(|e| e.to_string())
            .and_then(|mut c| c.validate().map_err(|e| e.to_string()));
        assert_eq!(validated, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        check("", Ok(()));
        check("basic_auth: {username: a, password_file: b}\ntls_config: {cert: x, key: y, min_version: TLS13}", Ok(()));
        let one = "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured";
        check(
            "bearer_token: a\nbearer_token_file: b",
            Err("at most one of bearer_token & bearer_token_file must be configured"),
        );
        check("bearer_token: a\nbasic_auth: {username: b}", Err(one));
        check("bearer_token_file: a\noauth2: {client_id: b}", Err(one));
        check(
            "basic_auth: {password: a, password_file: b}",
            Err("at most one of basic_auth password, password_file & password_ref must be configured"),
        );
        check(
            "authorization: {type: Basic}",
            Err("authorization type cannot be set to \"basic\", use \"basic_auth\" instead"),
        );
        check(
            "authorization: {}\nbasic_auth: {}",
            Err("at most one of basic_auth, oauth2 & authorization must be configured"),
        );
        check(
            "authorization: {}\nbearer_token: x",
            Err("authorization is not compatible with bearer_token & bearer_token_file"),
        );
        check("oauth2: {token_url: x}", Err("oauth2 client_id must be configured"));
        check("oauth2: {client_id: x}", Err("oauth2 token_url must be configured"));
        check("no_proxy: x", Err("if no_proxy is configured, proxy_url must also be configured"));
        check(
            "proxy_url: http://x\nproxy_from_environment: true",
            Err("if proxy_from_environment is configured, proxy_url must not be configured"),
        );
        check("http_headers: {authorization: {values: [a]}}", Err("setting header \"Authorization\" is not allowed"));
        check(
            "tls_config: {cert_file: a}",
            Err("exactly one of key or key_file must be configured when a client certificate is configured"),
        );
        check("tls_config: {ca: a, ca_file: b}", Err("at most one of ca, ca_file & ca_ref must be configured"));
    }

    #[test]
    fn unknown_fields_are_refused_alone_and_flattened() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Outer {
            name: String,
            #[serde(flatten)]
            http: HttpClientConfig,
        }
        let outer: Outer = yaml::parse("name: x\nenable_http2: false\nproxy_url: http://p:1", "c.yml").unwrap();
        assert_eq!((outer.name.as_str(), outer.http.enable_http2, outer.http.follow_redirects), ("x", false, true));
        for text in ["name: x\nfoo: 1", "name: x\nbasic_auth: {foo: 1}"] {
            let error = yaml::parse::<Outer>(text, "c.yml").unwrap_err().to_string();
            assert!(error.contains("foo"), "{error}");
        }
        assert!(
            yaml::parse::<HttpClientConfig>("foo: 1", "c.yml").unwrap_err().to_string().contains("field foo not found")
        );
    }

    #[test]
    fn the_old_bearer_fields_become_an_authorization() {
        let mut config: HttpClientConfig = yaml::parse("bearer_token_file: token", "c.yml").unwrap();
        config.resolve_paths(Path::new("/etc/p"));
        config.validate().unwrap();
        let auth = config.authorization.unwrap();
        assert_eq!((auth.scheme.as_str(), auth.credentials_file), ("Bearer", PathBuf::from("/etc/p/token")));
    }
}
