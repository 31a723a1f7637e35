//! `msk_sd_configs`: the nodes of Amazon's managed Kafka clusters.

use model::Labels;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::api::{MAX_PAGES, Question, several};
use super::aws::Service;
use super::json::{self, list_in, string, strings};
use super::refresh::Source;
use super::target::{Target, group};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_msk_";

/// Lists the nodes of clusters.
pub(super) struct Msk {
    service: Service,
    clusters: Vec<String>,
    /// Requests at once.
    concurrency: usize,
}

impl Msk {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            service: Service::new(settings, "kafka")?,
            clusters: settings.texts("clusters").to_vec(),
            // `aws_sd_configs` has no such key
            concurrency: usize::try_from(settings.int("request_concurrency")).unwrap_or(0),
        })
    }

    async fn pages(&self, path: &str, key: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, String> {
        let (mut items, mut token) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let mut query = query.to_vec();
            query.push(("maxResults", "100"));
            if !token.is_empty() {
                query.push(("nextToken", &token));
            }
            let answer = self.service.get(path, &query).await?;
            items.extend_from_slice(list_in(&answer, key)?);
            token = string(&answer["nextToken"]).to_owned();
            if token.is_empty() {
                return Ok(items);
            }
        }
        Err(format!("{path}: the list has no end"))
    }

    async fn clusters(&self) -> Result<Vec<Value>, String> {
        if self.clusters.is_empty() {
            return self.pages("api/v2/clusters", "clusterInfoList", &[("clusterTypeFilter", "PROVISIONED")]).await;
        }
        let paths: Vec<String> = self.clusters.iter().map(|arn| format!("api/v2/clusters/{}", encode(arn))).collect();
        let mut questions: Vec<Question<'_, Value>> = Vec::new();
        for path in &paths {
            questions.push(Box::pin(self.service.get(path, &[])));
        }
        let answers = several(questions, self.concurrency).await?;
        // others have no nodes to show
        let provisioned = |cluster: &Value| cluster["clusterType"] == "PROVISIONED";
        Ok(answers.into_iter().map(|mut answer| json::take(&mut answer, "clusterInfo")).filter(provisioned).collect())
    }

    fn targets(&self, cluster: &Value, nodes: &[Value]) -> Vec<Labels> {
        let provisioned = &cluster["provisioned"];
        let (software, monitoring) =
            (&provisioned["currentBrokerSoftwareInfo"], &provisioned["openMonitoring"]["prometheus"]);
        let mut common = Target::new(PREFIX);
        common.from("cluster_name", &cluster["clusterName"]).from("cluster_arn", &cluster["clusterArn"]);
        common.from("cluster_state", &cluster["state"]).from("cluster_type", &cluster["clusterType"]);
        common.from("cluster_version", &cluster["currentVersion"]);
        common.from("cluster_kafka_version", &software["kafkaVersion"]);
        common.from("cluster_configuration_arn", &software["configurationArn"]);
        common.from("cluster_configuration_revision", &software["configurationRevision"]);
        common.from("cluster_jmx_exporter_enabled", &monitoring["jmxExporter"]["enabledInBroker"]);
        common.each("cluster_tag_", &cluster["tags"]);
        let mut targets = Vec::new();
        for node in nodes {
            let mut base = common.clone();
            base.from("node_arn", &node["nodeARN"]).from("node_added_time", &node["addedToClusterTime"]);
            base.from("node_instance_type", &node["instanceType"]);
            let broker = &node["brokerNodeInfo"];
            let (kind, info) =
                if broker.is_object() { ("broker", broker) } else { ("controller", &node["controllerNodeInfo"]) };
            base.set("node_type", kind);
            if kind == "broker" {
                base.from("node_attached_eni", &broker["attachedENIId"]);
                base.set("broker_id", format!("{:.0}", broker["brokerId"].as_f64().unwrap_or(0.0)));
                base.from("broker_client_subnet", &broker["clientSubnet"]);
                base.from("broker_client_vpc_ip", &broker["clientVpcIpAddress"]);
                base.from("broker_node_exporter_enabled", &monitoring["nodeExporter"]["enabledInBroker"]);
            }
            for (at, endpoint) in strings(&info["endpoints"]).enumerate() {
                let mut target = base.clone();
                target.set(&format!("{kind}_endpoint_index"), at).address(endpoint, self.service.port);
                targets.push(target.build());
            }
        }
        targets
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Source for Msk {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let region = self.service.region().await?;
        let mut targets = Vec::new();
        for cluster in self.clusters().await? {
            let path = format!("v1/clusters/{}/nodes", encode(string(&cluster["clusterArn"])));
            let nodes = self.pages(&path, "nodeInfoList", &[]).await?;
            targets.extend(self.targets(&cluster, &nodes));
        }
        Ok(vec![group(region, targets)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn nodes_become_targets() {
        let cluster = json!({"clusterName": "k", "clusterArn": "arn:k/1", "state": "ACTIVE", "clusterType": "PROVISIONED", "currentVersion": "V", "tags": {"a.b": "c"},
            "provisioned": {"currentBrokerSoftwareInfo": {"kafkaVersion": "3.6", "configurationArn": "arn:x", "configurationRevision": 2},
                "openMonitoring": {"prometheus": {"jmxExporter": {"enabledInBroker": true}, "nodeExporter": {"enabledInBroker": false}}}}});
        let nodes = json!({"nodeInfoList": [
            {"nodeARN": "arn:n1", "addedToClusterTime": "2024", "instanceType": "m5", "brokerNodeInfo": {"attachedENIId": "eni", "brokerId": 1.0,
             "clientSubnet": "sub", "clientVpcIpAddress": "10.0.0.1", "endpoints": ["b-1.k", "b-1b.k"]}},
            {"nodeARN": "arn:n2", "controllerNodeInfo": {"endpoints": ["c-1.k"]}}, {"nodeARN": "arn:n3"}]});
        let stub = Stub::start([
            ("/v1/clusters/arn%3Ak%2F1/nodes", nodes),
            ("/api/v2/clusters", json!({"clusterInfoList": [cluster.clone()]})),
            ("/api/v2/clusters/arn%3Ak%2F1", json!({"clusterInfo": cluster})),
            ("/api/v2/clusters/arn%3Aserverless", json!({"clusterInfo": {"clusterType": "SERVERLESS"}})),
        ])
        .await;
        const COMMON: &str = "cluster_name=k cluster_arn=arn:k/1 cluster_state=ACTIVE cluster_type=PROVISIONED cluster_version=V cluster_kafka_version=3.6 cluster_configuration_arn=arn:x cluster_configuration_revision=2 cluster_jmx_exporter_enabled=true cluster_tag_a_b=c";
        const BROKER: &str = "node_arn=arn:n1 node_added_time=2024 node_instance_type=m5 node_type=broker node_attached_eni=eni broker_id=1 broker_client_subnet=sub broker_client_vpc_ip=10.0.0.1 broker_node_exporter_enabled=false";
        for more in ["", ", clusters: ['arn:k/1', 'arn:serverless']"] {
            let text =
                format!("{{endpoint: 'http://SERVER', region: r, access_key: a, secret_key: b, port: 11001{more}}}");
            let groups = Msk::new(&settings("msk", &text, Some(&stub))).unwrap().refresh().await.unwrap();
            check(
                &groups,
                PREFIX,
                &format!(
                    "b-1.k:11001 {COMMON} {BROKER} broker_endpoint_index=0
                     b-1b.k:11001 {COMMON} {BROKER} broker_endpoint_index=1
                     c-1.k:11001 {COMMON} node_arn=arn:n2 node_type=controller controller_endpoint_index=0"
                ),
            );
        }
        // the path as it was sent is what was signed: the server has it encoded once
        assert!(stub.lines().iter().any(|line| line.starts_with("GET /v1/clusters/arn%3Ak%2F1/nodes?maxResults=100")));
    }
}
