//! Checks certificate chains, and names what is wrong with one.

use std::fmt;
use std::sync::Arc;

use common::http::client::ClientError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError};

use super::certificate::{Certificate, name_text};
use super::chain::Roots;

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainProblem {
    Expired,
    NotYetValid,
    WrongName,
    SelfSigned,
    UntrustedRoot,
    IncompleteChain,
    WrongPurpose,
    BadSignature,
    Revoked,
    Malformed,
    NoAuthorities,
}

impl ChainProblem {
    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongName => "wrong_name",
            Self::SelfSigned => "self_signed",
            Self::UntrustedRoot => "untrusted_root",
            Self::IncompleteChain => "incomplete_chain",
            Self::WrongPurpose => "wrong_purpose",
            Self::BadSignature => "bad_signature",
            Self::Revoked => "revoked",
            Self::Malformed => "malformed",
            Self::NoAuthorities => "no_authorities",
        }
    }
}

/// A problem with its particulars.
#[derive(Clone, Debug)]
pub(crate) struct ChainError {
    pub(crate) problem: ChainProblem,
    text: String,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ChainError {}

/// The problem that a handshake has failed of.
pub(super) fn chain_error(error: &Error) -> Option<ChainError> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref::<ChainError>().cloned()
        }
        _ => None,
    }
}

/// A verifier that trusts these authorities; without any (`insecure_skip_verify`) it takes every chain.
pub(super) fn verifier(
    roots: Option<Arc<Roots>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    let Some(roots) = roots else { return Ok(Arc::new(Verifier { roots: None, inner: None, provider })) };
    let inner = if roots.store.is_empty() {
        None
    } else {
        let inner = WebPkiServerVerifier::builder_with_provider(roots.store.clone(), provider.clone()).build();
        Some(inner.map_err(|e| ClientError::Tls(format!("CA: {e}")))?)
    };
    Ok(Arc::new(Verifier { roots: Some(roots), inner, provider }))
}

struct Verifier {
    roots: Option<Arc<Roots>>,
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("verifies", &self.roots.is_some()).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let Some(inner) = &self.inner else {
            return Err(failure(ChainProblem::NoAuthorities, "there is no authority to check the certificate against"));
        };
        let error = match inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        let Some(leaf) = Certificate::parse(end_entity) else {
            return Err(failure(ChainProblem::Malformed, "the certificate cannot be read"));
        };
        let seconds = now.as_secs() as i64;
        // a certificate that is itself trusted needs no issuer, even if it may issue others
        if roots.contains(end_entity, &leaf) && leaf.holds_at(seconds) {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            return match rustls::client::verify_server_name(&parsed, name) {
                Ok(()) => Ok(ServerCertVerified::assertion()),
                Err(error) => Err(named(&error, &leaf, intermediates, name, seconds, roots)),
            };
        }
        Err(named(&error, &leaf, intermediates, name, seconds, roots))
    }

    common::tls_signatures!(self by self.provider.signature_verification_algorithms);
}

fn failure(problem: ChainProblem, text: impl Into<String>) -> Error {
    let error = ChainError { problem, text: format!("tls: failed to verify certificate: {}", text.into()) };
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// An error of the verifier with its cause in words.
fn named(
    error: &Error,
    leaf: &Certificate,
    intermediates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: i64,
    roots: &Roots,
) -> Error {
    let time = |seconds: i64| model::format_rfc3339_millis(seconds * 1000);
    let Error::InvalidCertificate(kind) = error else {
        return failure(ChainProblem::Malformed, error.to_string());
    };
    match kind {
        _ if leaf.not_after < now => failure(
            ChainProblem::Expired,
            format!("certificate has expired: {} is after {}", time(now), time(leaf.not_after)),
        ),
        _ if leaf.not_before > now => failure(
            ChainProblem::NotYetValid,
            format!("certificate is not yet valid: {} is before {}", time(now), time(leaf.not_before)),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            failure(ChainProblem::Expired, "a certificate of the chain has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            failure(ChainProblem::NotYetValid, "a certificate of the chain is not yet valid")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = leaf.dns_names.join(", ");
            failure(ChainProblem::WrongName, format!("certificate is valid for {names}, not {}", name.to_str()))
        }
        CertificateError::Revoked => failure(ChainProblem::Revoked, "certificate is revoked"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            failure(ChainProblem::WrongPurpose, "certificate is not meant for servers")
        }
        CertificateError::BadSignature => failure(ChainProblem::BadSignature, "a signature of the chain is wrong"),
        CertificateError::BadEncoding => failure(ChainProblem::Malformed, "certificate is malformed"),
        _ => unknown_issuer(leaf, intermediates, roots, kind),
    }
}

/// Why no authority was found.
fn unknown_issuer(
    leaf: &Certificate,
    intermediates: &[CertificateDer<'_>],
    roots: &Roots,
    kind: &CertificateError,
) -> Error {
    if leaf.is_self_issued() {
        return failure(ChainProblem::SelfSigned, "certificate signed by unknown authority: it is self-signed");
    }
    let sent: Vec<Certificate> = intermediates.iter().filter_map(|der| Certificate::parse(der)).collect();
    // climbs as far as the server's certificates lead
    let mut top = leaf;
    for _ in 0..=sent.len() {
        match sent.iter().find(|c| top.may_be_issued_by(c) && *c != top) {
            Some(next) if !top.is_self_issued() => top = next,
            _ => break,
        }
    }
    let issuer = name_text(&top.issuer);
    if top.is_self_issued() {
        return failure(
            ChainProblem::UntrustedRoot,
            format!("certificate signed by unknown authority: {issuer} is not trusted"),
        );
    }
    if roots.may_have_issued(top) {
        return failure(ChainProblem::BadSignature, format!("certificate signed by unknown authority: {kind:?}"));
    }
    failure(
        ChainProblem::IncompleteChain,
        format!(
            "certificate signed by unknown authority: the server sent no certificate of {issuer}, nor is it trusted"
        ),
    )
}
