//! `ovhcloud_sd_configs`: OVHcloud's virtual private and dedicated servers.

use std::fmt::Write as _;
use std::net::IpAddr;

use common::http::client::HttpClientConfig;
use http::header::HeaderValue;
use model::Labels;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Request};
use ring::digest;
use serde_json::Value;
use url::Url;

use super::api::{Api, parse_url, set_secret, with_path};
use super::json::{list, strings, text};
use super::refresh::{Source, interval};
use super::target::{Target, group};
use crate::config::{Settings, TargetGroup};

/// What a server's name may be made of besides letters and digits.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');
/// The endpoints that have names.
const ENDPOINTS: [(&str, &str); 7] = [
    ("ovh-eu", "https://eu.api.ovh.com/1.0"),
    ("ovh-ca", "https://ca.api.ovh.com/1.0"),
    ("ovh-us", "https://api.us.ovhcloud.com/1.0"),
    ("kimsufi-eu", "https://eu.api.kimsufi.com/1.0"),
    ("kimsufi-ca", "https://ca.api.kimsufi.com/1.0"),
    ("soyoustart-eu", "https://eu.api.soyoustart.com/1.0"),
    ("soyoustart-ca", "https://ca.api.soyoustart.com/1.0"),
];

/// Lists the servers of one kind.
pub(super) struct OvhCloud {
    api: Api,
    base: Url,
    settings: Settings,
    /// How far the service's clock is ahead of ours, in seconds.
    ahead: Option<i64>,
}

impl OvhCloud {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let endpoint = settings.text("endpoint");
        let named = ENDPOINTS.iter().find(|(name, _)| *name == endpoint).map(|(_, url)| *url);
        let url = named.or(endpoint.contains("://").then_some(endpoint));
        let base = parse_url(url.ok_or_else(|| format!("unknown endpoint {}", model::quote(endpoint)))?)?;
        // the section has no keys of the HTTP client
        let api = Api::with_client(&HttpClientConfig::default(), interval(settings.duration("refresh_interval")))?;
        Ok(Self { api, base, settings: settings.clone(), ahead: None })
    }

    async fn get(&mut self, path: &str) -> Result<Value, String> {
        let ahead = match self.ahead {
            Some(ahead) => ahead,
            None => {
                let answer = self.api.get(&with_path(&self.base, "auth/time")).await?;
                let time = answer.as_i64().ok_or("the service does not know the time")?;
                *self.ahead.insert(time - model::now_millis() / 1000)
            }
        };
        let url = with_path(&self.base, path);
        let time = (model::now_millis() / 1000 + ahead).to_string();
        let (secret, consumer) = (self.settings.text("application_secret"), self.settings.text("consumer_key"));
        let signature = signature(secret, consumer, url.as_str(), &time);
        let mut request = Request::new(Method::GET, url);
        set_secret(&mut request, "x-ovh-application", self.settings.text("application_key"))?;
        set_secret(&mut request, "x-ovh-consumer", consumer)?;
        set_secret(&mut request, "x-ovh-signature", &signature)?;
        let time = HeaderValue::from_str(&time).map_err(|e| e.to_string())?;
        request.headers_mut().insert("x-ovh-timestamp", time);
        self.api.json(request).await
    }

    /// What is said about a server, and its addresses.
    async fn server(&mut self, path: &str) -> Result<(Value, Addresses), String> {
        let server = self.get(path).await?;
        let addresses = self.get(&format!("{path}/ips")).await?;
        let mut found = Addresses::default();
        for address in list(&addresses, "addresses")?.iter().filter_map(Value::as_str) {
            // some are networks
            let address = address.split('/').next().unwrap_or_default();
            match address.parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() || ip.is_loopback() => {}
                Ok(IpAddr::V4(ip)) => found.ipv4 = ip.to_string(),
                Ok(IpAddr::V6(ip)) => found.ipv6 = ip.to_string(),
                Err(_) => return Err(format!("could not parse IP address {}", model::quote(address))),
            }
        }
        Ok((server, found))
    }
}

#[derive(Default)]
struct Addresses {
    ipv4: String,
    ipv6: String,
}

/// The service's signature of a GET request.
fn signature(secret: &str, consumer: &str, url: &str, time: &str) -> String {
    let signed = format!("{secret}+{consumer}+GET+{url}++{time}");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes());
    hash.as_ref().iter().fold("$1$".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A list as Go prints it.
fn words(value: &Value) -> String {
    format!("[{}]", strings(value).collect::<Vec<_>>().join(" "))
}

fn begin(prefix: &'static str, server: &Value, addresses: &Addresses) -> Target {
    let mut target = Target::new(prefix);
    let address = if addresses.ipv4.is_empty() { &addresses.ipv6 } else { &addresses.ipv4 };
    target.plain("__address__", address).plain("instance", text(&server["name"]));
    target.set("ipv4", &addresses.ipv4).set("ipv6", &addresses.ipv6);
    target
}

fn vps(server: &Value, addresses: &Addresses) -> Labels {
    let model = &server["model"];
    let mut target = begin("__meta_ovhcloud_vps_", server, addresses);
    for (label, key) in [
        ("offer", "offer"),
        ("model_vcore", "vcore"),
        ("maximum_additional_ip", "maximumAdditionnalIp"),
        ("version", "version"),
        ("model_name", "name"),
        ("disk", "disk"),
        ("memory", "memory"),
    ] {
        target.from(label, &model[key]);
    }
    for (label, key) in [
        ("zone", "zone"),
        ("display_name", "displayName"),
        ("cluster", "cluster"),
        ("state", "state"),
        ("name", "name"),
        ("netboot_mode", "netbootMode"),
        ("memory_limit", "memoryLimit"),
        ("offer_type", "offerType"),
        ("vcore", "vcore"),
        ("keymap", "keymap"),
    ] {
        target.from(label, &server[key]);
    }
    target.set("datacenter", words(&model["datacenter"]));
    if server["monitoringIpBlocks"].is_array() {
        target.set("monitoring_ip_blocks", words(&server["monitoringIpBlocks"]));
    }
    target.build()
}

fn dedicated(server: &Value, addresses: &Addresses) -> Labels {
    let mut target = begin("__meta_ovhcloud_dedicated_server_", server, addresses);
    for (label, key) in [
        ("state", "state"),
        ("commercial_range", "commercialRange"),
        ("link_speed", "linkSpeed"),
        ("rack", "rack"),
        ("os", "os"),
        ("support_level", "supportLevel"),
        ("server_id", "serverId"),
        ("reverse", "reverse"),
        ("datacenter", "datacenter"),
        ("name", "name"),
    ] {
        target.from(label, &server[key]);
    }
    target.set("no_intervention", server["noIntervention"] == true);
    target.build()
}

impl Source for OvhCloud {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let service = self.settings.text("service").to_owned();
        let (root, make): (&str, fn(&Value, &Addresses) -> Labels) =
            if service == "vps" { ("vps", vps) } else { ("dedicated/server", dedicated) };
        let names = self.get(root).await?;
        let mut targets = Vec::new();
        for name in list(&names, "servers")?.iter().filter_map(Value::as_str) {
            let path = format!("{root}/{}", utf8_percent_encode(name, NAME));
            match self.server(&path).await {
                Ok((server, addresses)) => targets.push(make(&server, &addresses)),
                // one server that cannot be asked about does no harm to the others, as upstream has it
                Err(error) => tracing::warn!(discovery = "ovhcloud", name, err = %error, "Could not get details"),
            }
        }
        Ok(vec![group(format!("ovhcloud_{service}"), targets)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    const KEYS: &str = "endpoint: 'http://SERVER/1.0', application_key: ak, application_secret: as, consumer_key: ck";

    #[test]
    fn requests_are_signed() {
        assert_eq!(signature("as", "ck", "http://x/1.0/vps", "100"), "$1$7a468458b8ef1ee3abe320b5334cb16fc1acbfcb");
    }

    #[tokio::test]
    async fn private_servers_become_targets() {
        let server = json!({"name": "vps-1.net", "displayName": "d", "zone": "rbx", "cluster": "c", "state": "running", "netbootMode": "local", "memoryLimit": 2048, "offerType": "ssd", "vcore": 1,
            "keymap": null, "monitoringIpBlocks": [], "model": {"offer": "VPS", "datacenter": ["a", "b"], "vcore": 1, "version": "2019", "name": "v1", "disk": 40, "memory": 2048, "maximumAdditionnalIp": 16}});
        let stub = Stub::start([
            ("/1.0/auth/time", json!(1_700_000_000)),
            ("/1.0/vps", json!(["vps-1.net", "broken"])),
            ("/1.0/vps/vps-1.net", server),
            ("/1.0/vps/vps-1.net/ips", json!(["1.1.1.1", "fd00::1"])),
        ])
        .await;
        let text = format!("{{service: vps, {KEYS}}}");
        check(
            &OvhCloud::new(&settings("ovhcloud", &text, Some(&stub))).unwrap().refresh().await.unwrap(),
            "__meta_ovhcloud_vps_",
            "1.1.1.1 /instance=vps-1.net ipv4=1.1.1.1 ipv6=fd00::1 name=vps-1.net display_name=d zone=rbx cluster=c state=running netboot_mode=local memory_limit=2048 offer_type=ssd vcore=1 monitoring_ip_blocks=[] offer=VPS 'datacenter=[a b]' model_vcore=1 version=2019 model_name=v1 disk=40 memory=2048 maximum_additional_ip=16",
        );
        let headers = &stub.seen()[1].headers;
        assert!(
            headers.contains(&"x-ovh-application: ak".to_owned()) && headers.contains(&"x-ovh-consumer: ck".to_owned())
        );
        assert!(headers.iter().any(|h| h.starts_with("x-ovh-timestamp: 17000000")), "{headers:?}");
    }

    #[tokio::test]
    async fn dedicated_servers_become_targets() {
        let server = json!({"name": "ns1", "state": "ok", "commercialRange": "Advance", "linkSpeed": 1000, "rack": "R1", "os": "debian12", "supportLevel": "pro", "serverId": 1234, "reverse": "ns1.", "datacenter": "gra3", "noIntervention": false});
        let stub = Stub::start([
            ("/1.0/auth/time", json!(1_700_000_000)),
            ("/1.0/dedicated/server", json!(["ns1"])),
            ("/1.0/dedicated/server/ns1", server),
            ("/1.0/dedicated/server/ns1/ips", json!(["fd00::/64", "1.2.3.4/32"])),
        ])
        .await;
        let text = format!("{{service: dedicated_server, {KEYS}}}");
        let mut cloud = OvhCloud::new(&settings("ovhcloud", &text, Some(&stub))).unwrap();
        check(
            &cloud.refresh().await.unwrap(),
            "__meta_ovhcloud_dedicated_server_",
            "1.2.3.4 /instance=ns1 ipv4=1.2.3.4 ipv6=fd00:: name=ns1 state=ok commercial_range=Advance link_speed=1000 rack=R1 os=debian12 support_level=pro server_id=1234 reverse=ns1. datacenter=gra3 no_intervention=false",
        );
        stub.set("/1.0/dedicated/server", Reply::Raw(403, "", "bad key".into()));
        assert!(cloud.refresh().await.unwrap_err().contains("bad key"));
    }
}
