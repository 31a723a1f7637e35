//! TLS towards targets: one configuration a module, made when it is first needed, and what the handshake tells.

mod certificate;
mod chain;
mod verifier;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use common::http::client::{ClientError, TlsConfig, tls_client_config};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, SupportedCipherSuite};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use certificate::days_since_1970;
pub(crate) use chain::Roots;
pub(crate) use verifier::ChainProblem;

use crate::metrics::{self, Metrics};

/// TLS settings of a module with the configuration made of them. Files are read again when they change.
pub(crate) struct TlsClient {
    settings: TlsConfig,
    protocols: Vec<Vec<u8>>,
    built: ArcSwapOption<Built>,
}

struct Built {
    config: Arc<ClientConfig>,
    roots: Option<Arc<Roots>>,
    stamps: Vec<Stamp>,
}

/// A file's size and time of change.
type Stamp = Option<(u64, SystemTime)>;

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The settings do not work.
    #[error(transparent)]
    Settings(#[from] ClientError),
    /// The name cannot be one in a certificate.
    #[error("{0:?} is not a name that a certificate can have")]
    Name(String),
    /// The chain is not right.
    #[error("{0}")]
    Chain(verifier::ChainError),
    /// The handshake failed.
    #[error("{0}")]
    Handshake(std::io::Error),
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// `protocols` is what the client offers in its ALPN.
    pub(crate) fn new(settings: TlsConfig, protocols: &[&[u8]]) -> Self {
        let protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Self { settings, protocols, built: ArcSwapOption::empty() }
    }

    /// The name the settings want certificates to have, if they say so.
    pub(crate) fn server_name(&self) -> Option<&str> {
        Some(self.settings.server_name.as_str()).filter(|name| !name.is_empty())
    }

    /// The configuration and the authorities it knows.
    pub(crate) fn config(&self) -> Result<(Arc<ClientConfig>, Option<Arc<Roots>>), ClientError> {
        let stamps = self.stamps();
        if let Some(built) = self.built.load_full()
            && built.stamps == stamps
        {
            return Ok((built.config.clone(), built.roots.clone()));
        }
        let provider = Arc::new(provider());
        let roots = if self.settings.insecure_skip_verify { None } else { Some(Roots::of(&self.settings)?) };
        let verifier = verifier::verifier(roots.clone(), provider.clone())?;
        // the verifier is told the name of each connection
        let settings = TlsConfig { server_name: String::new(), ..self.settings.clone() };
        let mut config = tls_client_config(&settings, provider, verifier)?;
        config.alpn_protocols.clone_from(&self.protocols);
        // each probe is a handshake of its own
        config.resumption = rustls::client::Resumption::disabled();
        let built = Built { config: Arc::new(config), roots, stamps };
        let answer = (built.config.clone(), built.roots.clone());
        self.built.store(Some(Arc::new(built)));
        Ok(answer)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |file: &PathBuf| std::fs::metadata(file).ok().and_then(|m| Some((m.len(), m.modified().ok()?)));
        let files = [&self.settings.ca_file, &self.settings.cert_file, &self.settings.key_file];
        files.into_iter().filter(|file| !file.as_os_str().is_empty()).map(stamp).collect()
    }

    /// Speaks TLS on a connection. `host` is the name the certificate must have unless the settings say another.
    pub(crate) async fn connect<S>(&self, stream: S, host: &str) -> Result<(TlsStream<S>, Handshake), TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connect_as(stream, self.server_name().unwrap_or(host)).await
    }

    /// Speaks TLS on a connection to a server whose certificate must have this name, whatever the settings say.
    pub(crate) async fn connect_as<S>(&self, stream: S, name: &str) -> Result<(TlsStream<S>, Handshake), TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (config, roots) = self.config()?;
        let name = match server_name(name) {
            // no certificate is checked: a name that cannot be sent is not sent
            Err(_) if self.settings.insecure_skip_verify => ServerName::from(std::net::Ipv4Addr::UNSPECIFIED),
            name => name?,
        };
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(TlsError::of)?;
        let connection = stream.get_ref().1;
        let handshake = Handshake {
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
            version: connection.protocol_version(),
            cipher: connection.negotiated_cipher_suite().map(|suite| suite.suite()),
            chain: connection.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect(),
            roots,
        };
        Ok((stream, handshake))
    }
}

impl TlsError {
    fn of(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).and_then(verifier::chain_error) {
            Some(chain) => Self::Chain(chain),
            None => Self::Handshake(error),
        }
    }

    /// What is wrong with the chain, if that is what is wrong.
    pub(crate) fn chain_problem(&self) -> Option<ChainProblem> {
        match self {
            Self::Chain(error) => Some(error.problem),
            _ => None,
        }
    }
}

/// A host as a name in certificates; brackets of IPv6 addresses are left out.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let plain = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    ServerName::try_from(plain.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// Cipher suites in Go's order of preference, so that servers that leave the choice to the client choose as they do for it.
fn provider() -> CryptoProvider {
    use ring::cipher_suite as suite;
    let cipher_suites: Vec<SupportedCipherSuite> = vec![
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

/// What a handshake has agreed on.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) cipher: Option<CipherSuite>,
    /// What the server chose of the ALPN.
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) roots: Option<Arc<Roots>>,
}

/// Go's zero time, which stands for a chain that was not verified.
const NO_TIME: f64 = -62_135_596_800.0;

/// Which metrics of a handshake a prober reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// All, with the cipher.
    Http,
    /// All but the cipher.
    Dialogue,
    /// Neither cipher nor the expiry of the verified chain.
    Grpc,
}

impl Handshake {
    /// Sets the metrics about certificates, version and cipher.
    pub(crate) fn report(&self, metrics: &mut Metrics, report: Report) {
        let chain: Vec<_> = self.chain.iter().filter_map(|der| certificate::Certificate::parse(der)).collect();
        let earliest = chain.iter().map(|c| c.not_after).min();
        metrics.set(&metrics::SSL_EARLIEST_EXPIRY, earliest.map_or(NO_TIME, |t| t as f64));
        if report != Report::Grpc {
            let now = model::now_millis() / 1000;
            let last = self.roots.as_ref().and_then(|roots| roots.last_chain_expiry(&chain, &self.chain, now));
            metrics.set(&metrics::SSL_CHAIN_EXPIRY, last.map_or(NO_TIME, |t| t as f64));
        }
        if let (Some(leaf), Some(der)) = (chain.first(), self.chain.first()) {
            let fingerprint = ::ring::digest::digest(&::ring::digest::SHA256, der);
            metrics.set_info(
                &metrics::SSL_CHAIN_INFO,
                vec![
                    ("fingerprint_sha256".into(), certificate::hex(fingerprint.as_ref()).into()),
                    ("issuer".into(), certificate::name_text(&leaf.issuer).into()),
                    ("serialnumber".into(), certificate::hex(&leaf.serial).into()),
                    ("subject".into(), certificate::name_text(&leaf.subject).into()),
                    ("subjectalternative".into(), leaf.dns_names.join(",").into()),
                ],
            );
        }
        let version = match self.version {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "unknown",
        };
        metrics.set_label(&metrics::TLS_VERSION, "version", version, 1.0);
        if report == Report::Http
            && let Some(cipher) = self.cipher.and_then(|c| c.as_str())
        {
            // rustls marks the suites of TLS 1.3, their names have no such mark
            let name: Cow<'static, str> = match cipher.strip_prefix("TLS13_") {
                Some(rest) => format!("TLS_{rest}").into(),
                None => cipher.into(),
            };
            metrics.set_info(&metrics::TLS_CIPHER, vec![("cipher".into(), name)]);
        }
    }
}
