use common::http::client::TlsConfig;
use serde::Deserialize;

use super::{IpChoice, Regexp, SourceAddress, ip_choice, source_address};
use crate::prober::dns::names;
use crate::tls::TlsClient;

/// `dns`.
#[derive(Debug)]
pub(crate) struct DnsOptions {
    /// Which addresses count.
    pub(crate) ip: IpChoice,
    /// Whether the query goes over TLS.
    pub(crate) over_tls: bool,
    /// TLS settings.
    pub(crate) tls_client: TlsClient,
    /// The address to send from.
    pub(crate) source: Option<SourceAddress>,
    /// How the query travels.
    pub(crate) transport: Transport,
    /// What is asked for.
    pub(crate) query_name: String,
    /// The class asked for.
    pub(crate) query_class: RecordClass,
    /// The type asked for.
    pub(crate) query_type: RecordType,
    /// Whether recursion is desired.
    pub(crate) recursion_desired: bool,
    /// The codes that are right, as written; none for NOERROR.
    pub(crate) valid_rcodes: Vec<String>,
    /// What is expected of the answer section.
    pub(crate) validate_answer: RrValidator,
    /// What is expected of the authority section.
    pub(crate) validate_authority: RrValidator,
    /// What is expected of the additional section.
    pub(crate) validate_additional: RrValidator,
}

/// How a query travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Over UDP.
    Udp,
    /// Over TCP.
    Tcp,
    /// Something else: probes fail, not the file.
    Unknown(String),
}

/// A record's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordClass(pub u16);

/// A record's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordType(pub u16);

/// What is expected of a section's records, which are held against the expressions in their text form.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "config.DNSRRValidator", deny_unknown_fields, default)]
pub(crate) struct RrValidator {
    /// Fails if any record matches any of these.
    pub(crate) fail_if_matches_regexp: Vec<Regexp>,
    /// Fails if not all records match all of these.
    pub(crate) fail_if_all_match_regexp: Vec<Regexp>,
    /// Fails if any record does not match any of these.
    pub(crate) fail_if_not_matches_regexp: Vec<Regexp>,
    /// Fails if no record matches any of these.
    pub(crate) fail_if_none_matches_regexp: Vec<Regexp>,
}

#[derive(Deserialize)]
#[serde(rename = "config.DNSProbe", deny_unknown_fields, default)]
struct Section {
    preferred_ip_protocol: String,
    ip_protocol_fallback: bool,
    dns_over_tls: bool,
    tls_config: TlsConfig,
    source_ip_address: String,
    transport_protocol: String,
    query_class: String,
    query_name: String,
    query_type: String,
    recursion_desired: bool,
    valid_rcodes: Vec<String>,
    validate_answer_rrs: RrValidator,
    validate_authority_rrs: RrValidator,
    validate_additional_rrs: RrValidator,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            preferred_ip_protocol: String::new(),
            ip_protocol_fallback: true,
            dns_over_tls: false,
            tls_config: TlsConfig::default(),
            source_ip_address: String::new(),
            transport_protocol: String::new(),
            query_class: String::new(),
            query_name: String::new(),
            query_type: String::new(),
            recursion_desired: true,
            valid_rcodes: Vec::new(),
            validate_answer_rrs: RrValidator::default(),
            validate_authority_rrs: RrValidator::default(),
            validate_additional_rrs: RrValidator::default(),
        }
    }
}

impl DnsOptions {
    pub(super) fn read(node: &yaml::Node, written: bool) -> Result<Self, yaml::Error> {
        let section: Section = node.read()?;
        let at = |key: &str| node.get(key).unwrap_or(node);
        if written && section.query_name.is_empty() {
            return Err(node.error("query name must be set for DNS module"));
        }
        let query_class = match section.query_class.as_str() {
            "" => 1,
            name => names::class_of(name)
                .ok_or_else(|| at("query_class").error(format!("query class '{name}' is not valid")))?,
        };
        let query_type = match section.query_type.as_str() {
            "" => names::ANY,
            name => names::type_of(name)
                .ok_or_else(|| at("query_type").error(format!("query type '{name}' is not valid")))?,
        };
        section.tls_config.validate().map_err(|e| at("tls_config").error(e.to_string()))?;
        Ok(Self {
            ip: ip_choice(&section.preferred_ip_protocol, section.ip_protocol_fallback),
            over_tls: section.dns_over_tls,
            tls_client: TlsClient::new(section.tls_config, &[]),
            source: source_address(&section.source_ip_address),
            transport: match section.transport_protocol.as_str() {
                "" | "udp" => Transport::Udp,
                "tcp" => Transport::Tcp,
                _ => Transport::Unknown(section.transport_protocol),
            },
            query_name: section.query_name,
            query_class: RecordClass(query_class),
            query_type: RecordType(query_type),
            recursion_desired: section.recursion_desired,
            valid_rcodes: section.valid_rcodes,
            validate_answer: section.validate_answer_rrs,
            validate_authority: section.validate_authority_rrs,
            validate_additional: section.validate_additional_rrs,
        })
    }
}
