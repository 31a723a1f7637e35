//! The authorities a module trusts, and the chains that lead to them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use common::http::client::{ClientError, TlsConfig, authorities};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::certificate::Certificate;

/// Authorities, with what the verifier does not keep of them: when they end.
pub(crate) struct Roots {
    pub(crate) store: Arc<RootCertStore>,
    by_subject: HashMap<Vec<u8>, Vec<Root>>,
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roots({})", self.store.len())
    }
}

struct Root {
    certificate: Certificate,
    fingerprint: ring::digest::Digest,
}

/// Certificates of a chain, and chains looked at: a server could send a maze.
const MAX_DEPTH: usize = 8;
const MAX_STEPS: usize = 256;

/// The system's authorities, which do not change while the program runs, as in Go's client.
static SYSTEM: OnceLock<Arc<Roots>> = OnceLock::new();

impl Roots {
    /// The authorities of these settings.
    pub(crate) fn of(settings: &TlsConfig) -> Result<Arc<Self>, ClientError> {
        let of_system = settings.ca.is_empty() && settings.ca_file.as_os_str().is_empty() && settings.ca_ref.is_empty();
        if let (true, Some(roots)) = (of_system, SYSTEM.get()) {
            return Ok(roots.clone());
        }
        let found = authorities(settings)?;
        let mut store = RootCertStore::empty();
        let mut by_subject: HashMap<Vec<u8>, Vec<Root>> = HashMap::new();
        for der in found.certificates {
            if let Some(certificate) = Certificate::parse(&der) {
                let fingerprint = digest(&der);
                by_subject.entry(certificate.subject.clone()).or_default().push(Root { certificate, fingerprint });
            }
            match store.add(der) {
                Err(error) if found.configured => return Err(ClientError::Tls(format!("CA: {error}"))),
                _ => {}
            }
        }
        let roots = Arc::new(Self { store: Arc::new(store), by_subject });
        if of_system {
            return Ok(SYSTEM.get_or_init(|| roots).clone());
        }
        Ok(roots)
    }

    /// Whether a certificate is itself one of the authorities.
    pub(crate) fn contains(&self, der: &[u8], certificate: &Certificate) -> bool {
        let found = digest(der);
        let same = |root: &Root| root.fingerprint.as_ref() == found.as_ref();
        self.by_subject.get(&certificate.subject).is_some_and(|roots| roots.iter().any(same))
    }

    /// Whether an authority may have issued a certificate.
    pub(crate) fn may_have_issued(&self, certificate: &Certificate) -> bool {
        let roots = self.by_subject.get(&certificate.issuer);
        roots.is_some_and(|roots| roots.iter().any(|r| certificate.may_be_issued_by(&r.certificate)))
    }

    /// Of all chains from the first certificate to an authority: the end of the one that holds longest. A chain ends with the first
    /// of its certificates. Chains are told by names and key identifiers; their signatures have been checked for one of them.
    pub(crate) fn last_chain_expiry(
        &self,
        chain: &[Certificate],
        ders: &[CertificateDer<'_>],
        now: i64,
    ) -> Option<i64> {
        let leaf = chain.first()?;
        if let Some(der) = ders.first()
            && self.contains(der, leaf)
        {
            return Some(leaf.not_after);
        }
        let mut search = Search { roots: self, chain, now, steps: 0, last: None };
        search.walk(leaf, leaf.not_after, &mut vec![0]);
        search.last
    }
}

struct Search<'a> {
    roots: &'a Roots,
    chain: &'a [Certificate],
    now: i64,
    steps: usize,
    last: Option<i64>,
}

impl Search<'_> {
    fn walk(&mut self, certificate: &Certificate, earliest: i64, path: &mut Vec<usize>) {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return;
        }
        for root in self.roots.by_subject.get(&certificate.issuer).into_iter().flatten() {
            if certificate.may_be_issued_by(&root.certificate) && root.certificate.holds_at(self.now) {
                let end = earliest.min(root.certificate.not_after);
                self.last = Some(self.last.map_or(end, |last| last.max(end)));
            }
        }
        if path.len() >= MAX_DEPTH {
            return;
        }
        let chain = self.chain;
        for (at, issuer) in chain.iter().enumerate() {
            if !path.contains(&at) && certificate.may_be_issued_by(issuer) && issuer.holds_at(self.now) {
                path.push(at);
                self.walk(issuer, earliest.min(issuer.not_after), path);
                path.pop();
            }
        }
    }
}

fn digest(der: &[u8]) -> ring::digest::Digest {
    ring::digest::digest(&ring::digest::SHA256, der)
}
