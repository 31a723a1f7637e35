//! `ec2_sd_configs`: Amazon's virtual machines.

use std::collections::BTreeMap;

use model::Labels;
use serde_json::Value;

use super::aws::{Service, filters};
use super::json::string;
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use super::xml::elements;
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_ec2_";
const VERSION: &str = "2016-11-15";

/// Lists instances.
pub(super) struct Ec2 {
    service: Service,
    filters: Vec<(String, String)>,
    /// Names of availability zones and what they are called in all accounts; asked for until they are known.
    zones: BTreeMap<String, String>,
}

impl Ec2 {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let filters = filters(settings, "Filter", "Value");
        Ok(Self { service: Service::new(settings, "ec2")?, filters, zones: BTreeMap::new() })
    }

    async fn find_zones(&mut self) {
        match self.service.query(VERSION, "DescribeAvailabilityZones", &[]).await {
            Ok(answer) => {
                let zones = elements(&answer["availabilityZoneInfo"]["item"]);
                self.zones = zones
                    .into_iter()
                    .map(|zone| (string(&zone["zoneName"]).to_owned(), string(&zone["zoneId"]).to_owned()))
                    .collect();
            }
            // targets are worth having without them
            Err(error) => tracing::debug!(discovery = "ec2", err = %error, "Unable to describe availability zones"),
        }
    }

    fn target(&self, instance: &Value, owner: &Value, region: &str) -> Option<Labels> {
        let private_ip = string(&instance["privateIpAddress"]);
        let interfaces = elements(&instance["networkInterfaceSet"]["item"]);
        let (mut ipv6, mut primary_ipv6, mut subnets) = (Vec::new(), Vec::new(), Vec::new());
        for interface in &interfaces {
            let subnet = string(&interface["subnetId"]);
            if subnet.is_empty() {
                continue;
            }
            if !subnets.contains(&subnet) {
                subnets.push(subnet);
            }
            let device: usize = string(&interface["attachment"]["deviceIndex"]).parse().unwrap_or(0);
            for address in elements(&interface["ipv6AddressesSet"]["item"]) {
                let ip = string(&address["ipv6Address"]);
                ipv6.push(ip);
                if string(&address["isPrimaryIpv6"]) == "true" {
                    primary_ipv6.push((device, ip));
                }
            }
        }
        // in the order of the devices
        primary_ipv6.sort_by_key(|(device, _)| *device);
        let default_ipv6 = primary_ipv6.first().map(|(_, ip)| *ip).or(ipv6.first().copied()).unwrap_or_default();
        let address = if private_ip.is_empty() { default_ipv6 } else { private_ip };
        if address.is_empty() {
            return None;
        }
        let mut target = Target::new(PREFIX);
        target.address(address, self.service.port);
        target.from("instance_id", &instance["instanceId"]).from("owner_id", owner).set("region", region);
        target.set("private_ip", private_ip).from("private_dns_name", &instance["privateDnsName"]);
        target.from("platform", &instance["platform"]);
        if !string(&instance["ipAddress"]).is_empty() {
            target.from("public_ip", &instance["ipAddress"]).from("public_dns_name", &instance["dnsName"]);
        }
        let zone = string(&instance["placement"]["availabilityZone"]);
        target.from("ami", &instance["imageId"]).set("availability_zone", zone);
        target.set("availability_zone_id", self.zones.get(zone).map_or("", String::as_str));
        target.from("instance_state", &instance["instanceState"]["name"]);
        target.from("instance_type", &instance["instanceType"]);
        target
            .from("instance_lifecycle", &instance["instanceLifecycle"])
            .from("architecture", &instance["architecture"]);
        if !string(&instance["vpcId"]).is_empty() {
            target.from("vpc_id", &instance["vpcId"]).from("primary_subnet_id", &instance["subnetId"]);
            target.set("subnet_id", surrounded(subnets, ",")).set("ipv6_addresses", surrounded(ipv6, ","));
            target.set("primary_ipv6_addresses", surrounded(primary_ipv6.iter().map(|(_, ip)| *ip), ","));
            target.set("default_ipv6_address", default_ipv6);
        }
        for tag in elements(&instance["tagSet"]["item"]) {
            target.named("tag_", string(&tag["key"]), string(&tag["value"]));
        }
        Some(target.build())
    }
}

impl Source for Ec2 {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        if self.zones.is_empty() {
            self.find_zones().await;
        }
        let region = self.service.region().await?;
        let pages =
            self.service.query_pages(VERSION, "DescribeInstances", &self.filters, "", "NextToken", "nextToken").await?;
        let mut targets = Vec::new();
        for reservation in pages.iter().flat_map(|page| elements(&page["reservationSet"]["item"])) {
            for instance in elements(&reservation["instancesSet"]["item"]) {
                targets.extend(self.target(instance, &reservation["ownerId"], &region));
            }
        }
        Ok(vec![group(region, targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    const KEYS: &str = "endpoint: 'http://SERVER', region: eu-x-1, access_key: AK, secret_key: SK";

    fn instances(next: &str, items: &str) -> String {
        format!(
            "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item><ownerId>42</ownerId><instancesSet>{items}</instancesSet></item></reservationSet>{next}</DescribeInstancesResponse>"
        )
    }

    #[tokio::test]
    async fn instances_become_targets() {
        let stub = Stub::start([]).await;
        let full = "<item><instanceId>i-1</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>running</name></instanceState>
            <privateDnsName>p.int</privateDnsName><dnsName>p.ext</dnsName><instanceType>t3.small</instanceType><instanceLifecycle>spot</instanceLifecycle>
            <placement><availabilityZone>eu-x-1a</availabilityZone></placement><platform>windows</platform><subnetId>sub-1</subnetId><vpcId>vpc-1</vpcId>
            <privateIpAddress>10.0.0.1</privateIpAddress><ipAddress>1.2.3.4</ipAddress><architecture>x86_64</architecture>
            <networkInterfaceSet><item><subnetId>sub-1</subnetId><attachment><deviceIndex>0</deviceIndex></attachment><ipv6AddressesSet><item><ipv6Address>fd00::1</ipv6Address></item></ipv6AddressesSet></item>
            <item><subnetId>sub-2</subnetId><attachment><deviceIndex>1</deviceIndex></attachment><ipv6AddressesSet><item><ipv6Address>fd00::2</ipv6Address><isPrimaryIpv6>true</isPrimaryIpv6></item></ipv6AddressesSet></item>
            <item><subnetId>sub-1</subnetId></item></networkInterfaceSet>
            <tagSet><item><key>Name</key><value>web &amp; more</value></item><item><key>k8s/x</key><value>y</value></item></tagSet></item>";
        let only_ipv6 = "<item><instanceId>i-2</instanceId><vpcId>vpc-1</vpcId><networkInterfaceSet><item><subnetId>s</subnetId><ipv6AddressesSet><item><ipv6Address>fd00::9</ipv6Address></item></ipv6AddressesSet></item></networkInterfaceSet></item><item><instanceId>none</instanceId></item>";
        let zones = "<R><availabilityZoneInfo><item><zoneName>eu-x-1a</zoneName><zoneId>eux1-az2</zoneId></item></availabilityZoneInfo></R>";
        let text = format!("{{{KEYS}, port: 91, filters: [{{name: 'tag:a', values: [b, c]}}]}}");
        let mut ec2 = Ec2::new(&settings("ec2", &text, Some(&stub))).unwrap();
        stub.set("*", Reply::Raw(200, "", zones.into()));
        ec2.find_zones().await;
        stub.set("*", Reply::Raw(200, "", instances("", &format!("{full}{only_ipv6}"))));
        check(
            &ec2.refresh().await.unwrap(),
            PREFIX,
            "10.0.0.1:91 instance_id=i-1 owner_id=42 region=eu-x-1 private_ip=10.0.0.1 private_dns_name=p.int platform=windows public_ip=1.2.3.4 public_dns_name=p.ext ami=ami-1 availability_zone=eu-x-1a availability_zone_id=eux1-az2 instance_state=running instance_type=t3.small instance_lifecycle=spot architecture=x86_64 vpc_id=vpc-1 primary_subnet_id=sub-1 subnet_id=,sub-1,sub-2, ipv6_addresses=,fd00::1,fd00::2, primary_ipv6_addresses=,fd00::2, default_ipv6_address=fd00::2 'tag_Name=web & more' tag_k8s_x=y
             [fd00::9]:91 instance_id=i-2 owner_id=42 region=eu-x-1 vpc_id=vpc-1 subnet_id=,s, ipv6_addresses=,fd00::9, default_ipv6_address=fd00::9",
        );
        let last = stub.seen().pop().unwrap();
        assert_eq!(
            last.body,
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Aa&Filter.1.Value.1=b&Filter.1.Value.2=c"
        );
        let signature = last.headers.iter().find(|h| h.starts_with("authorization:")).unwrap();
        assert!(signature.contains("Credential=AK/") && signature.contains("/eu-x-1/ec2/aws4_request"), "{signature}");
    }

    #[tokio::test]
    async fn lists_without_an_end_and_refusals_are_faults() {
        let stub = Stub::start([]).await;
        let mut ec2 = Ec2::new(&settings("ec2", &format!("{{{KEYS}}}"), Some(&stub))).unwrap();
        stub.set(
            "*",
            Reply::Raw(
                403,
                "",
                "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>".into(),
            ),
        );
        let error = ec2.refresh().await.unwrap_err();
        assert!(error.starts_with("DescribeInstances: ") && error.contains("UnauthorizedOperation"), "{error}");
        ec2.zones.insert("a".into(), "b".into());
        stub.set("*", Reply::Raw(200, "", instances("<nextToken>again</nextToken>", "")));
        assert!(ec2.refresh().await.unwrap_err().contains("no end"));
        assert!(stub.seen()[3].body.ends_with("NextToken=again"));
    }
}
