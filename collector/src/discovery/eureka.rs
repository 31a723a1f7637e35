//! `eureka_sd_configs`: the instances of applications that are registered with Netflix' Eureka.

use http::header::{ACCEPT, HeaderValue};
use model::Labels;
use reqwest::{Method, Request};
use serde_json::Value;
use url::Url;

use super::api::{Api, parse_url, with_path};
use super::json::string;
use super::refresh::Source;
use super::target::{Target, group};
use super::xml::{self, elements};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_eureka_app_";

/// Lists the instances of applications.
pub(super) struct Eureka {
    api: Api,
    url: Url,
}

impl Eureka {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self { api: Api::new(settings)?, url: with_path(&parse_url(settings.text("server"))?, "apps") })
    }
}

/// The text of an element that may have attributes.
fn text(value: &Value) -> &str {
    if value.is_object() { string(&value["$"]) } else { string(value) }
}

fn target(application: &str, instance: &Value) -> Labels {
    let host = text(&instance["hostName"]);
    let port = &instance["port"];
    let mut target = Target::new(PREFIX);
    target.address(host, if port.is_null() { "80" } else { text(port) });
    target.plain("instance", text(&instance["instanceId"])).set("name", application);
    for (label, element) in [
        ("id", "instanceId"),
        ("hostname", "hostName"),
        ("homepage_url", "homePageUrl"),
        ("statuspage_url", "statusPageUrl"),
        ("healthcheck_url", "healthCheckUrl"),
        ("ip_addr", "ipAddr"),
        ("vip_address", "vipAddress"),
        ("secure_vip_address", "secureVipAddress"),
        ("status", "status"),
    ] {
        target.set(&format!("instance_{label}"), text(&instance[element]));
    }
    let country = text(&instance["countryId"]);
    target.set("instance_country_id", if country.is_empty() { "0" } else { country });
    for (label, port) in [("port", port), ("secure_port", &instance["securePort"])] {
        if !port.is_null() {
            target.set(&format!("instance_{label}"), text(port));
            target.set(&format!("instance_{label}_enabled"), string(&port["@enabled"]) == "true");
        }
    }
    let place = &instance["dataCenterInfo"];
    target.set("instance_datacenterinfo_name", text(&place["name"]));
    for (start, metadata) in
        [("instance_datacenterinfo_", &place["metadata"]), ("instance_metadata_", &instance["metadata"])]
    {
        for (name, value) in
            metadata.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with(['@', '$']))
        {
            target.named(start, name, text(value));
        }
    }
    target.build()
}

impl Source for Eureka {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let mut request = Request::new(Method::GET, self.url.clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/xml"));
        let answer = self.api.send(request).await?.good()?;
        let answer = xml::parse(&answer.body)?;
        let mut targets = Vec::new();
        for application in elements(&answer["application"]) {
            let name = text(&application["name"]);
            targets.extend(elements(&application["instance"]).into_iter().map(|instance| target(name, instance)));
        }
        Ok(vec![group("eureka", targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn instances_become_targets() {
        let answer = r#"<applications><versions__delta>1</versions__delta><application><name>SHOP</name>
            <instance><instanceId>i1</instanceId><hostName>h1</hostName><ipAddr>10.0.0.1</ipAddr><status>UP</status><port enabled="true">8080</port>
            <securePort enabled="false">443</securePort><countryId>1</countryId><dataCenterInfo class="x"><name>Amazon</name><metadata><availability-zone>a</availability-zone></metadata></dataCenterInfo>
            <metadata class="y"><management.port>8090</management.port></metadata><homePageUrl>http://h1/</homePageUrl><statusPageUrl>http://h1/s</statusPageUrl>
            <healthCheckUrl>http://h1/h</healthCheckUrl><vipAddress>shop</vipAddress><secureVipAddress>sshop</secureVipAddress></instance>
            <instance><instanceId>i2</instanceId><hostName>h2</hostName></instance></application></applications>"#;
        let stub = Stub::start([]).await;
        stub.set("/eureka/apps", Reply::Raw(200, "", answer.into()));
        let groups = Eureka::new(&settings("eureka", "server: http://SERVER/eureka", Some(&stub)))
            .unwrap()
            .refresh()
            .await
            .unwrap();
        check(
            &groups,
            PREFIX,
            "h1:8080 /instance=i1 name=SHOP instance_id=i1 instance_hostname=h1 instance_homepage_url=http://h1/ instance_statuspage_url=http://h1/s instance_healthcheck_url=http://h1/h instance_ip_addr=10.0.0.1 instance_vip_address=shop instance_secure_vip_address=sshop instance_status=UP instance_country_id=1 instance_port=8080 instance_port_enabled=true instance_secure_port=443 instance_secure_port_enabled=false instance_datacenterinfo_name=Amazon instance_datacenterinfo_availability_zone=a instance_metadata_management_port=8090
             h2:80 /instance=i2 name=SHOP instance_id=i2 instance_hostname=h2 instance_country_id=0",
        );
        stub.set("/eureka/apps", Reply::Raw(200, "", "{}".into()));
        assert!(
            Eureka::new(&settings("eureka", "server: http://SERVER/eureka", Some(&stub)))
                .unwrap()
                .refresh()
                .await
                .is_err()
        );
    }
}
