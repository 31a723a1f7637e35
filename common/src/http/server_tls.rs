//! TLS of the server: the web configuration as a rustls one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DistinguishedName, Error, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use super::web_config::{ClientAuthType, TlsServerConfig, WebConfig};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{what} {from}: {reason}")]
    Pem { what: &'static str, from: String, reason: String },
    #[error("{0}")]
    Setting(String),
    #[error("certificate and key: {0}")]
    Rustls(#[from] Error),
}

/// Builds the configuration; `None` without certificate. Reads the files anew each time.
pub(super) fn server_config(config: &WebConfig) -> Result<Option<ServerConfig>, TlsError> {
    let tls = &config.tls_server_config;
    if !tls.is_enabled() {
        return Ok(None);
    }
    let provider = Arc::new(provider(tls).map_err(TlsError::Setting)?);
    let versions = versions(tls).map_err(TlsError::Setting)?;
    let certs = read(&tls.cert, &tls.cert_file, "certificate", |pem| {
        let certs: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        if certs.is_empty() { Err("no certificate found".to_owned()) } else { Ok(certs) }
    })?;
    let key = read(tls.key.expose(), &tls.key_file, "key", |pem| {
        PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())
    })?;
    let verifier = verifier(tls, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions)?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut server = builder.with_single_cert(certs, key)?;
    server.ignore_client_order = tls.prefer_server_cipher_suites;
    if config.http_server_config.http2 {
        server.alpn_protocols.push(b"h2".to_vec());
    }
    server.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Some(server))
}

fn read<T>(
    inline: &str,
    file: &Path,
    what: &'static str,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, TlsError> {
    let error = |reason: String| {
        let from = if inline.is_empty() { file.display().to_string() } else { "(inline)".to_owned() };
        TlsError::Pem { what, from, reason }
    };
    if inline.is_empty() {
        let bytes = std::fs::read(file).map_err(|e: io::Error| error(e.to_string()))?;
        parse(&bytes).map_err(error)
    } else {
        parse(inline.as_bytes()).map_err(error)
    }
}

/// Checks versions, cipher suites and curves without reading a file.
pub(super) fn check_names(tls: &TlsServerConfig) -> Result<(), String> {
    versions(tls)?;
    provider(tls).map(|_| ())
}

/// TLS 1.0 and 1.1 are not spoken: as oldest version they mean 1.2, as newest they are an error.
fn versions(tls: &TlsServerConfig) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let number = |name: &str| match name {
        "TLS10" => Ok(0),
        "TLS11" => Ok(1),
        "TLS12" => Ok(2),
        "TLS13" => Ok(3),
        other => Err(format!("unknown TLS version: {other}")),
    };
    let (min, max) = (number(&tls.min_version)?, number(&tls.max_version)?);
    if max < 2 {
        return Err(format!("max_version {}: versions before TLS12 are not supported", tls.max_version));
    }
    let all = [(2, &rustls::version::TLS12), (3, &rustls::version::TLS13)];
    let versions: Vec<_> = all.into_iter().filter(|(n, _)| (min..=max).contains(n)).map(|(_, v)| v).collect();
    if versions.is_empty() { Err("min_version is newer than max_version".to_owned()) } else { Ok(versions) }
}

/// Go's names of cipher suites that it knows and we do not speak: those without forward secrecy or with CBC.
const UNSUPPORTED_SUITES: [&str; 13] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

fn provider(tls: &TlsServerConfig) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let mut suites: Vec<SupportedCipherSuite> = Vec::new();
        for name in &tls.cipher_suites {
            // Go's names end in _SHA256 for ChaCha20, but an older spelling does not; rustls says TLS13_ where Go says TLS_
            let same = |suite: &SupportedCipherSuite| {
                let known = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
                known == *name || known.strip_suffix("_SHA256") == Some(name.as_str())
            };
            match provider.cipher_suites.iter().find(|s| same(s)) {
                Some(suite) => suites.push(*suite),
                None if UNSUPPORTED_SUITES.contains(&name.as_str()) => {}
                None => return Err(format!("unknown cipher: {name}")),
            }
        }
        if suites.is_empty() {
            return Err("cipher_suites: none of the suites listed is supported".to_owned());
        }
        // Go does not let TLS 1.3 suites be chosen: they are always on.
        for suite in &provider.cipher_suites {
            if suite.version() == &rustls::version::TLS13 && !suites.contains(suite) {
                suites.push(*suite);
            }
        }
        provider.cipher_suites = suites;
    }
    if !tls.curve_preferences.is_empty() {
        let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
        for name in &tls.curve_preferences {
            match name.as_str() {
                "CurveP256" => groups.push(ring::kx_group::SECP256R1),
                "CurveP384" => groups.push(ring::kx_group::SECP384R1),
                "X25519" => groups.push(ring::kx_group::X25519),
                // known to Go and not to us: the others of the list are used
                "CurveP521" | "X25519MLKEM768" => {}
                other => return Err(format!("unknown curve: {other}")),
            }
        }
        if groups.is_empty() {
            return Err("curve_preferences: none of the curves listed is supported".to_owned());
        }
        provider.kx_groups = groups;
    }
    Ok(provider)
}

fn verifier(
    tls: &TlsServerConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let auth = tls.client_auth().map_err(TlsError::Setting)?;
    let inner: Arc<dyn ClientCertVerifier> = match auth {
        ClientAuthType::NoClientCert => return Ok(None),
        ClientAuthType::RequestClientCert | ClientAuthType::RequireAnyClientCert => Arc::new(AnyClientCert {
            mandatory: auth == ClientAuthType::RequireAnyClientCert,
            algorithms: provider.signature_verification_algorithms,
        }),
        ClientAuthType::VerifyClientCertIfGiven | ClientAuthType::RequireAndVerifyClientCert => {
            let mut roots = RootCertStore::empty();
            if tls.client_ca.is_empty() && tls.client_ca_file.as_os_str().is_empty() {
                // as in Go: the system's authorities
                for cert in rustls_native_certs::load_native_certs().certs {
                    roots.add(cert).ok();
                }
            } else {
                roots = read(&tls.client_ca, &tls.client_ca_file, "client CA", |pem| {
                    let mut roots = RootCertStore::empty();
                    for cert in CertificateDer::pem_slice_iter(pem) {
                        roots.add(cert.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
                    }
                    if roots.is_empty() { Err("no certificate found".to_owned()) } else { Ok(roots) }
                })?;
            }
            let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            if auth == ClientAuthType::VerifyClientCertIfGiven {
                builder = builder.allow_unauthenticated();
            }
            builder.build().map_err(|e| TlsError::Setting(format!("client CA: {e}")))?
        }
    };
    if tls.client_allowed_sans.is_empty() {
        return Ok(Some(inner));
    }
    Ok(Some(Arc::new(AllowedSans { inner, allowed: tls.client_allowed_sans.clone() })))
}

/// Takes any certificate whose key the client holds.
#[derive(Debug)]
struct AnyClientCert {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClientCert {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    crate::tls_signatures!(self by self.algorithms);
}

/// Asks for one of the allowed alternative names besides what the inner verifier asks for.
#[derive(Debug)]
struct AllowedSans {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl ClientCertVerifier for AllowedSans {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let found = alternative_names(end_entity);
        if found.iter().any(|name| self.allowed.contains(name)) {
            Ok(verified)
        } else {
            tracing::debug!(?found, "could not find allowed SANs in client cert");
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    crate::tls_signatures!(self as self.inner);
}

/// DNS names, e-mail addresses, IP addresses and URIs of a certificate's subject alternative names.
fn alternative_names(cert: &[u8]) -> Vec<String> {
    // SEQUENCE { OID 2.5.29.17, [BOOLEAN critical], OCTET STRING { SEQUENCE of names } }
    const OID: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];
    let mut names = Vec::new();
    let Some(at) = memchr::memmem::find(cert, &OID) else { return names };
    let mut rest = &cert[at + OID.len()..];
    if let Some((0x01, _, after)) = element(rest) {
        rest = after;
    }
    let Some((0x04, octets, _)) = element(rest) else { return names };
    let Some((0x30, mut list, _)) = element(octets) else { return names };
    while let Some((tag, value, after)) = element(list) {
        list = after;
        match (tag, value.len()) {
            // rfc822Name, dNSName, uniformResourceIdentifier
            (0x81 | 0x82 | 0x86, _) => names.extend(std::str::from_utf8(value).map(str::to_owned)),
            (0x87, 4) => names.extend(<[u8; 4]>::try_from(value).map(|a| std::net::Ipv4Addr::from(a).to_string())),
            (0x87, 16) => names.extend(<[u8; 16]>::try_from(value).map(|a| std::net::Ipv6Addr::from(a).to_string())),
            _ => {}
        }
    }
    names
}

/// A DER element: its tag, its content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        let bytes = rest.get(..count).filter(|b| b.len() <= 4)?;
        len = bytes.iter().fold(0, |len, b| len << 8 | usize::from(*b));
        rest = &rest[count..];
    }
    let (value, rest) = rest.split_at_checked(len)?;
    Some((tag, value, rest))
}
