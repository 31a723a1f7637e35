use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, Error, RootCertStore};

use super::config::{TlsConfig, TlsVersion};
use super::connection::ClientError;

/// A rustls configuration of these settings, for HTTP/1.1 and, if wished, HTTP/2; reads the files.
///
/// # Errors
/// When a file cannot be read or does not hold what it should.
pub fn https_client_config(tls: &TlsConfig, http2: bool) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let mut config = tls_client_config(tls, provider.clone(), verifier(tls, provider)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

/// A rustls configuration of these settings with a verifier of the caller's, without protocols in its ALPN; reads the files.
///
/// # Errors
/// When a file cannot be read or does not hold what it should.
pub fn tls_client_config(
    tls: &TlsConfig,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, ClientError> {
    if let Some((name, _)) = tls.references().into_iter().find(|(_, value)| !value.is_empty()) {
        return Err(ClientError::NoSecretManager(name));
    }
    let min = tls.min_version.unwrap_or(TlsVersion::Tls12);
    let max = tls.max_version.unwrap_or(TlsVersion::Tls13);
    let all = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    let versions: Vec<_> = all.into_iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, v)| v).collect();
    let wrong = |what: &str, error: &dyn std::fmt::Display| ClientError::Tls(format!("{what}: {error}"));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|e| wrong("TLS versions", &e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let cert = pem(&tls.cert, &tls.cert_file, "certificate")?;
    let key = pem(tls.key.expose(), &tls.key_file, "key")?;
    let config = match (cert, key) {
        (Some(cert), Some(key)) => {
            let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert).collect();
            let certs = certs.map_err(|e| wrong("client certificate", &e))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| wrong("client key", &e))?;
            builder.with_client_auth_cert(certs, key).map_err(|e| wrong("client certificate and key", &e))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(config)
}

fn pem(inline: &str, file: &Path, what: &str) -> Result<Option<Vec<u8>>, ClientError> {
    if !inline.is_empty() {
        return Ok(Some(inline.as_bytes().to_vec()));
    }
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    std::fs::read(file).map(Some).map_err(|error| ClientError::File { what: what.to_owned(), path: file.into(), error })
}

/// The authorities that servers are checked against.
#[derive(Debug)]
pub struct Authorities {
    /// Their certificates.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Whether they come from the configuration; else they are the system's.
    pub configured: bool,
}

/// The authorities of these settings, or the system's.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn authorities(tls: &TlsConfig) -> Result<Authorities, ClientError> {
    let Some(pem) = pem(&tls.ca, &tls.ca_file, "CA")? else {
        let certificates = rustls_native_certs::load_native_certs().certs;
        return Ok(Authorities { certificates, configured: false });
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|e| ClientError::Tls(format!("CA: {e}")))?;
    if certificates.is_empty() {
        return Err(ClientError::Tls("CA: no certificate found".to_owned()));
    }
    Ok(Authorities { certificates, configured: true })
}

fn verifier(tls: &TlsConfig, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    if tls.insecure_skip_verify {
        return Ok(Arc::new(AnyServer(provider)));
    }
    let mut roots = RootCertStore::empty();
    let authorities = authorities(tls)?;
    for cert in authorities.certificates {
        match roots.add(cert) {
            Err(error) if authorities.configured => return Err(ClientError::Tls(format!("CA: {error}"))),
            // a certificate of the system that rustls does not take is one authority less
            _ => {}
        }
    }
    if roots.is_empty() {
        // a machine without authorities can still talk plain HTTP
        return Ok(Arc::new(NoAuthorities(provider)));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| ClientError::Tls(format!("CA: {e}")))?;
    if tls.server_name.is_empty() {
        return Ok(inner);
    }
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|e| ClientError::Tls(format!("server_name {:?}: {e}", tls.server_name)))?;
    Ok(Arc::new(NamedServer { inner, name }))
}

/// Takes any certificate (`insecure_skip_verify`).
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    crate::tls_signatures!(self by self.0.signature_verification_algorithms);
}

/// Takes none: there is no authority to check against.
#[derive(Debug)]
struct NoAuthorities(Arc<CryptoProvider>);

impl ServerCertVerifier for NoAuthorities {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Err(rustls::CertificateError::UnknownIssuer.into())
    }

    crate::tls_signatures!(self by self.0.signature_verification_algorithms);
}

/// Asks for the configured name instead of the host's.
#[derive(Debug)]
struct NamedServer {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    crate::tls_signatures!(self as self.inner);
}
