//! Directories of services and machines that one runs oneself: Consul, DNS, Eureka, Kuma, Marathon, Nomad, PuppetDB, Triton, Uyuni.

use model::Duration;

use super::super::Base;
use super::super::keys::{Key, Kind, Section, Values, duration, file, flag, int, text, texts};
use super::super::web_address;
use super::mechanisms::{Mechanism, one_of};

const CONSUL: Section = Section::new(
    "consul.plain",
    &[
        text("server").or("localhost:8500"),
        text("path_prefix"),
        text("token"),
        text("datacenter"),
        text("namespace"),
        text("partition"),
        text("tag_separator").or(","),
        text("scheme").or("http"),
        text("username"),
        text("password"),
        Key::new("allow_stale", Kind::Bool).or("true"),
        duration("refresh_interval", "30s"),
        texts("services"),
        texts("tags"),
        Key::new("node_meta", Kind::TextMap),
        text("filter"),
        text("health_filter"),
    ],
)
.with_http_client();

const DNS: Section = Section::new(
    "dns.plain",
    &[texts("names"), duration("refresh_interval", "30s"), text("type").or("SRV"), int("port", "0")],
);

const EUREKA: Section =
    Section::new("eureka.plain", &[text("server"), duration("refresh_interval", "30s")]).with_http_client();

const KUMA: Section = Section::new(
    "xds.plain",
    &[text("server"), duration("refresh_interval", "15s"), duration("fetch_timeout", "2m"), text("client_id")],
)
.with_http_client();

const MARATHON: Section = Section::new(
    "marathon.plain",
    &[texts("servers"), duration("refresh_interval", "30s"), text("auth_token"), file("auth_token_file")],
)
.with_http_client();

const NOMAD: Section = Section::new(
    "nomad.plain",
    &[
        Key::new("allow_stale", Kind::Bool).or("true"),
        text("namespace").or("default"),
        duration("refresh_interval", "1m"),
        text("region").or("global"),
        text("server").or("http://localhost:4646"),
        text("tag_separator").or(","),
    ],
)
.with_http_client();

const PUPPETDB: Section = Section::new(
    "puppetdb.plain",
    &[duration("refresh_interval", "1m"), text("url"), text("query"), flag("include_parameters"), int("port", "80")],
)
.with_http_client();

const TRITON: Section = Section::new(
    "triton.plain",
    &[
        text("account"),
        text("role").or("container"),
        text("dns_suffix"),
        text("endpoint"),
        texts("groups"),
        int("port", "9163"),
        duration("refresh_interval", "1m"),
        Key::new("tls_config", Kind::Tls),
        int("version", "1"),
    ],
);

const UYUNI: Section = Section::new(
    "uyuni.plain",
    &[
        text("server"),
        text("username"),
        text("password"),
        text("entitlement").or("monitoring_entitled"),
        text("separator").or(","),
        duration("refresh_interval", "1m"),
    ],
)
.with_http_client();

pub(super) const MECHANISMS: [Mechanism; 9] = [
    Mechanism::new("consul", &CONSUL, check_consul),
    Mechanism::new("dns", &DNS, check_dns),
    Mechanism::new("eureka", &EUREKA, check_eureka),
    Mechanism::new("kuma", &KUMA, check_kuma),
    Mechanism::new("marathon", &MARATHON, check_marathon),
    Mechanism::new("nomad", &NOMAD, check_nomad),
    Mechanism::new("puppetdb", &PUPPETDB, check_puppetdb),
    Mechanism::new("triton", &TRITON, check_triton),
    Mechanism::new("uyuni", &UYUNI, check_uyuni),
];

fn check_consul(consul: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    if consul.text("server").trim().is_empty() {
        return consul.fault("server", "consul SD configuration requires a server address");
    }
    if (consul.has("username") || consul.has("password")) && consul.node("basic_auth").is_some() {
        let message = "at most one of consul SD configuration username and password and basic auth can be configured";
        return consul.fault("basic_auth", message);
    }
    if consul.has("token") && (consul.node("authorization").is_some() || consul.node("oauth2").is_some()) {
        return consul.fault("token", "at most one of consul SD token, authorization, or oauth2 must be configured");
    }
    Ok(())
}

fn check_dns(dns: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    if dns.texts("names").is_empty() {
        return dns.fault("names", "DNS-SD config must contain at least one name");
    }
    match dns.text("type").to_ascii_uppercase().as_str() {
        "SRV" => Ok(()),
        "A" | "AAAA" | "MX" | "NS" if dns.int("port") != 0 => Ok(()),
        "A" | "AAAA" | "MX" | "NS" => {
            dns.fault("port", "a port is required in DNS-SD configs for all record types except SRV")
        }
        other => dns.fault("type", format!("invalid DNS-SD records type {other}")),
    }
}

/// Whether it is a URL with a scheme and a host.
fn is_whole_url(text: &str) -> bool {
    web_address::parse(text).is_ok_and(|address| !address.scheme.is_empty() && !address.host.is_empty())
}

fn check_eureka(eureka: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    eureka.require("server", "eureka_sd: empty or null eureka server")?;
    if is_whole_url(eureka.text("server")) { Ok(()) } else { eureka.fault("server", "invalid eureka server URL") }
}

fn check_kuma(kuma: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    let server = kuma.text("server");
    if is_whole_url(server) {
        return Ok(());
    }
    kuma.fault("server", format!("kuma SD server must not be empty and have a scheme: {server}"))
}

fn check_marathon(marathon: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    if marathon.texts("servers").is_empty() {
        return marathon.fault("servers", "marathon_sd: must contain at least one Marathon server");
    }
    let (token, file) = (marathon.has("auth_token"), marathon.has("auth_token_file"));
    if token && file {
        let message = "marathon_sd: at most one of auth_token & auth_token_file must be configured";
        return marathon.fault("auth_token_file", message);
    }
    if !token && !file {
        return Ok(());
    }
    for (other, message) in [
        ("basic_auth", "marathon_sd: at most one of basic_auth, auth_token & auth_token_file must be configured"),
        ("bearer_token", MARATHON_BEARER),
        ("bearer_token_file", MARATHON_BEARER),
        ("authorization", "marathon_sd: at most one of auth_token, auth_token_file & authorization must be configured"),
    ] {
        if marathon.node(other).is_some() {
            return marathon.fault(other, message);
        }
    }
    Ok(())
}

const MARATHON_BEARER: &str =
    "marathon_sd: at most one of bearer_token, bearer_token_file, auth_token & auth_token_file must be configured";

fn check_nomad(nomad: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    if nomad.text("server").trim().is_empty() {
        return nomad.fault("server", "nomad SD configuration requires a server address");
    }
    Ok(())
}

fn check_puppetdb(puppetdb: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    puppetdb.require("url", "URL is missing")?;
    let address = web_address::parse(puppetdb.text("url")).or_else(|m| puppetdb.fault("url", m))?;
    if address.scheme != "http" && address.scheme != "https" {
        return puppetdb.fault("url", "URL scheme must be 'http' or 'https'");
    }
    if address.host.is_empty() {
        return puppetdb.fault("url", "host is missing in URL");
    }
    puppetdb.require("query", "query missing")
}

fn check_triton(triton: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    one_of(triton, "role", &["container", "cn"], |_| {
        "triton SD configuration requires role to be 'container' or 'cn'".into()
    })?;
    triton.require("account", "triton SD configuration requires an account")?;
    triton.require("dns_suffix", "triton SD configuration requires a dns_suffix")?;
    triton.require("endpoint", "triton SD configuration requires an endpoint")?;
    if triton.duration("refresh_interval") == Duration::ZERO {
        let message = "triton SD configuration requires RefreshInterval to be a positive integer";
        return triton.fault("refresh_interval", message);
    }
    Ok(())
}

fn check_uyuni(uyuni: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    uyuni.require("server", "Uyuni SD configuration requires server host")?;
    web_address::parse(uyuni.text("server")).map(drop).or_else(|m| uyuni.fault("server", m))?;
    uyuni.require("username", "Uyuni SD configuration requires a username")?;
    uyuni.require("password", "Uyuni SD configuration requires a password")
}

#[cfg(test)]
mod tests {
    use super::super::mechanisms::check_table;

    #[test]
    fn faults_are_named() {
        check_table(&[
            ("consul", "{}", ""),
            ("consul", "{server: x, token: t, services: [a], node_meta: {a: 1}, bearer_token: b}", ""),
            ("consul", "server: ' '", "consul SD configuration requires a server address"),
            ("consul", "{username: a, basic_auth: {username: b}}", "at most one of consul SD configuration username"),
            ("consul", "{token: a, authorization: {credentials: b}}", "at most one of consul SD token, authorization"),
            ("dns", "names: [a]", ""),
            ("dns", "{names: [a], type: aaaa, port: 9}", ""),
            ("dns", "type: A", "DNS-SD config must contain at least one name"),
            ("dns", "{names: [a], type: MX}", "a port is required in DNS-SD configs"),
            ("dns", "{names: [a], type: TXT}", "invalid DNS-SD records type TXT"),
            ("eureka", "server: http://x/eureka", ""),
            ("eureka", "server:", "eureka_sd: empty or null eureka server"),
            ("eureka", "server: x.com", "invalid eureka server URL"),
            ("kuma", "{server: 'http://x:1', client_id: c}", ""),
            ("kuma", "server: x", "kuma SD server must not be empty and have a scheme: x"),
            ("marathon", "{servers: [a], auth_token: t}", ""),
            ("marathon", "servers: []", "marathon_sd: must contain at least one Marathon server"),
            (
                "marathon",
                "{servers: [a], auth_token: t, auth_token_file: f}",
                "marathon_sd: at most one of auth_token & a",
            ),
            ("marathon", "{servers: [a], auth_token: t, basic_auth: {}}", "marathon_sd: at most one of basic_auth"),
            ("marathon", "{servers: [a], auth_token: t, bearer_token: b}", "marathon_sd: at most one of bearer_token"),
            (
                "marathon",
                "{servers: [a], auth_token_file: t, authorization: {}}",
                "marathon_sd: at most one of auth_tok",
            ),
            ("nomad", "{}", ""),
            ("nomad", "server: ''", "nomad SD configuration requires a server address"),
            ("puppetdb", "{url: 'http://x', query: q}", ""),
            ("puppetdb", "query: q", "URL is missing"),
            ("puppetdb", "url: http://x", "query missing"),
            ("puppetdb", "{url: 'ftp://x', query: q}", "URL scheme must be 'http' or 'https'"),
            ("puppetdb", "{url: 'http://', query: q}", "host is missing in URL"),
            ("triton", "{account: a, dns_suffix: b, endpoint: c, role: cn}", ""),
            ("triton", "{account: a, dns_suffix: b}", "triton SD configuration requires an endpoint"),
            ("triton", "{role: x}", "triton SD configuration requires role to be 'container' or 'cn'"),
            (
                "triton",
                "{account: a, dns_suffix: b, endpoint: c, refresh_interval: 0s}",
                "triton SD configuration requires",
            ),
            ("uyuni", "{server: 'https://x', username: u, password: p}", ""),
            ("uyuni", "{username: u, password: p}", "Uyuni SD configuration requires server host"),
            ("uyuni", "{server: x, username: u}", "Uyuni SD configuration requires a password"),
        ]);
    }
}
