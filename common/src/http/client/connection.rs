use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{NoProxy, Proxy, redirect};

use super::config::{HttpClientConfig, ProxyConfig, TlsConfig};
use super::credentials::{TokenSource, apply};
use super::tls::https_client_config;
use crate::http::server::FileStamp;

/// Why a client cannot be built or a request not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the configuration cannot be read.
    #[error("unable to read {what} {}: {error}", path.display())]
    File {
        /// What it is for.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The TLS settings do not work.
    #[error("TLS: {0}")]
    Tls(String),
    /// A setting names a secret of a secret manager.
    #[error("{0}: there is no secret manager here; use the setting with the value or the file")]
    NoSecretManager(&'static str),
    /// The proxy settings do not work.
    #[error("proxy: {0}")]
    Proxy(String),
    /// A value cannot stand in a header.
    #[error("the value of header {0} is not allowed in a header")]
    Header(String),
    /// The token server gave no token.
    #[error("oauth2: no token from {url}: {reason}")]
    Token {
        /// The token server.
        url: String,
        /// Why.
        reason: String,
    },
    /// There are no keys to sign a request with.
    #[error("{0}")]
    Credentials(String),
    /// The request failed.
    #[error("{}", error_chain(.0))]
    Request(#[from] reqwest::Error),
}

/// An error and its causes in one line: the text of an HTTP library's error holds the first only.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The number and the words of an answer's status: those that the server wrote, else those of the standard.
pub fn status_text(response: &reqwest::Response) -> String {
    let status = response.status();
    let written = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let words = written.map(|words| String::from_utf8_lossy(words.as_bytes()));
    let words = words.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().into());
    format!("{} {words}", status.as_u16())
}

/// What a client is used for.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// A Unix socket that all requests go to, whatever host they name.
    pub unix_socket: Option<PathBuf>,
}

/// A client with Prometheus' configuration. Cheap to clone; clones share connections.
///
/// Certificates are loaded again, and connections made anew, when their files change; credentials are read for each request.
/// Responses are not decompressed.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: HttpClientConfig,
    options: ClientOptions,
    current: ArcSwap<Connected>,
    token: TokenSource,
}

#[derive(Debug)]
struct Connected {
    client: reqwest::Client,
    stamps: Vec<FileStamp>,
}

impl Client {
    /// Builds a client from a validated configuration. Reads its certificates.
    pub fn new(config: HttpClientConfig, options: ClientOptions) -> Result<Self, ClientError> {
        let current = ArcSwap::from_pointee(connect(&config, &options)?);
        Ok(Self(Arc::new(Inner { config, options, current, token: TokenSource::default() })))
    }

    /// Sends a request with the configured credentials and headers. Dropping the future cancels the request.
    pub async fn execute(&self, mut request: reqwest::Request) -> Result<reqwest::Response, ClientError> {
        let inner = &*self.0;
        let client = inner.client()?;
        let token = match &inner.config.oauth2 {
            Some(oauth2) => Some(inner.token.header(oauth2, &inner.options.user_agent).await?),
            None => None,
        };
        apply(&inner.config, token.as_deref(), request.headers_mut())?;
        Ok(client.execute(request).await?)
    }

    /// Whether connections go where URLs say, and not to a proxy.
    pub fn is_direct(&self) -> bool {
        let proxy = self.0.config.proxy();
        proxy.url.is_none() && !proxy.from_environment
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &HttpClientConfig {
        &self.0.config
    }
}

impl Inner {
    fn client(&self) -> Result<reqwest::Client, ClientError> {
        let current = self.current.load();
        if current.stamps == stamps(&self.config.tls_config) {
            return Ok(current.client.clone());
        }
        let new = connect(&self.config, &self.options)?;
        let client = new.client.clone();
        self.current.store(Arc::new(new));
        Ok(client)
    }
}

fn stamps(tls: &TlsConfig) -> Vec<FileStamp> {
    let files = [&tls.ca_file, &tls.cert_file, &tls.key_file];
    files.into_iter().filter(|f| !f.as_os_str().is_empty()).map(|f| FileStamp::of(f)).collect()
}

fn connect(config: &HttpClientConfig, options: &ClientOptions) -> Result<Connected, ClientError> {
    if let Some(name) = config.secret_reference() {
        return Err(ClientError::NoSecretManager(name));
    }
    let stamps = stamps(&config.tls_config);
    let (http2, redirects) = (config.enable_http2, config.follow_redirects);
    let mut builder = builder(&config.tls_config, config.proxy(), http2, redirects, &options.user_agent)?;
    if let Some(socket) = &options.unix_socket {
        builder = builder.unix_socket(socket.as_path());
    }
    Ok(Connected { client: builder.build()?, stamps })
}

pub(super) fn builder(
    tls: &TlsConfig,
    proxy: ProxyConfig<'_>,
    http2: bool,
    follow_redirects: bool,
    user_agent: &str,
) -> Result<reqwest::ClientBuilder, ClientError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(https_client_config(tls, http2)?)
        .user_agent(user_agent)
        .redirect(if follow_redirects { redirect::Policy::limited(10) } else { redirect::Policy::none() })
        .referer(false)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .pool_idle_timeout(Duration::from_secs(300));
    if !http2 {
        builder = builder.http1_only();
    }
    let fault = |error: &dyn std::fmt::Display| ClientError::Proxy(error.to_string());
    if let Some(url) = proxy.url {
        let mut headers = HeaderMap::new();
        for (name, values) in proxy.connect_header {
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|e| fault(&e))?;
            for value in values {
                let mut value = HeaderValue::from_str(value.expose()).map_err(|e| fault(&e))?;
                value.set_sensitive(true);
                headers.append(&header, value);
            }
        }
        let to = Proxy::all(url.clone()).map_err(|e| fault(&e))?;
        let to = to.no_proxy(NoProxy::from_string(proxy.no_proxy)).headers(headers);
        builder = builder.no_proxy().proxy(to);
    } else if !proxy.from_environment {
        builder = builder.no_proxy();
    }
    Ok(builder)
}
