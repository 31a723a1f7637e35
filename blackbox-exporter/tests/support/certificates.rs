//! Certificates, right and wrong ones.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// An authority, its intermediate, and the servers they vouch for.
pub struct Authority {
    root: Certificate,
    intermediate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What kind of certificate a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Right,
    Expired,
    NotYetValid,
    WrongName,
    SelfSigned,
    /// Without the intermediate.
    Incomplete,
    /// For clients only.
    WrongPurpose,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Firewatch, tests");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 6, 7);
    params
}

impl Authority {
    pub fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let mut params = named("root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2045, 1, 1);
        let root = params.self_signed(&root_key).expect("a root");
        let root_issuer = Issuer::new(params, root_key);
        let mut params = named("intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let intermediate = params.signed_by(&key, &root_issuer).expect("an intermediate");
        Self { root, intermediate, issuer: Issuer::new(params, key) }
    }

    /// The root, PEM.
    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// A server's settings for `localhost` and 127.0.0.1.
    pub fn server(&self, kind: Kind, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = named("leaf");
        let name = if kind == Kind::WrongName { "other.example" } else { "localhost" };
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
        if kind != Kind::WrongName {
            params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().expect("an address")));
        }
        match kind {
            Kind::Expired => params.not_after = rcgen::date_time_ymd(2024, 6, 1),
            Kind::NotYetValid => params.not_before = rcgen::date_time_ymd(2048, 6, 1),
            Kind::WrongPurpose => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => {}
        }
        let leaf = if kind == Kind::SelfSigned {
            params.self_signed(&key).expect("a certificate")
        } else {
            params.signed_by(&key, &self.issuer).expect("a certificate")
        };
        let mut chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
        if !matches!(kind, Kind::SelfSigned | Kind::Incomplete) {
            chain.push(self.intermediate.der().clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .expect("a certificate and its key");
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
