//! `dockerswarm_sd_configs`: the services, tasks and nodes of a swarm.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Labels;
use serde_json::Value;

use super::docker::{Engine, filters, networks};
use super::json::{items, list, string, text};
use super::refresh::Source;
use super::target::{Target, group};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_dockerswarm_";

/// Lists what its role says.
pub(super) struct DockerSwarm {
    engine: Engine,
    filters: String,
    role: String,
    port: i64,
}

impl DockerSwarm {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            engine: Engine::new(settings)?,
            filters: filters(settings),
            role: settings.text("role").to_owned(),
            port: settings.int("port"),
        })
    }

    async fn services(&mut self) -> Result<Vec<Labels>, String> {
        let services = self.engine.get("services", &self.filters).await;
        let services = services.map_err(|e| format!("error while listing swarm services: {e}"))?;
        let networks = networks(&mut self.engine, PREFIX).await;
        let networks = networks.map_err(|e| format!("error while computing swarm network labels: {e}"))?;
        let mut targets = Vec::new();
        for service in list(&services, "services")? {
            let mut common = service_labels(service);
            let container = &service["Spec"]["TaskTemplate"]["ContainerSpec"];
            common.from("service_task_container_hostname", &container["Hostname"]);
            common.from("service_task_container_image", &container["Image"]);
            common.from("service_updating_status", &service["UpdateStatus"]["State"]);
            for address in items(&service["Endpoint"]["VirtualIPs"]) {
                let ip = address_of(&address["Addr"])?;
                let mut base = common.clone();
                if let Some(labels) = networks.get(string(&address["NetworkID"])) {
                    base.merge(labels);
                }
                let before = targets.len();
                for port in tcp_ports(&service["Endpoint"]["Ports"]) {
                    let mut target = base.clone();
                    target.from("service_endpoint_port_name", &port["Name"]);
                    target.from("service_endpoint_port_publish_mode", &port["PublishMode"]);
                    target.address(&ip, published(port));
                    targets.push(target.build());
                }
                if targets.len() == before {
                    targets.push(base.address(&ip, self.port).build());
                }
            }
        }
        Ok(targets)
    }

    async fn tasks(&mut self) -> Result<Vec<Labels>, String> {
        let tasks = self.engine.get("tasks", &self.filters).await;
        let tasks = tasks.map_err(|e| format!("error while listing swarm tasks: {e}"))?;
        let tasks = list(&tasks, "tasks")?;
        let services = self.engine.get("services", "").await;
        let services = services.map_err(|e| format!("error while computing services labels and ports: {e}"))?;
        let services: BTreeMap<&str, &Value> =
            list(&services, "services")?.iter().map(|service| (string(&service["ID"]), service)).collect();
        let nodes = self.engine.get("nodes", "").await;
        let nodes = nodes.map_err(|e| format!("error while computing nodes labels and ports: {e}"))?;
        let nodes: BTreeMap<&str, Target> =
            list(&nodes, "nodes")?.iter().map(|node| (string(&node["ID"]), node_labels(node))).collect();
        let networks = networks(&mut self.engine, PREFIX).await;
        let networks = networks.map_err(|e| format!("error while computing swarm network labels: {e}"))?;
        let containers = self.container_labels(tasks).await;
        let mut targets = Vec::new();
        for task in tasks {
            let container = string(&task["Status"]["ContainerStatus"]["ContainerID"]);
            let service = services.get(string(&task["ServiceID"]));
            let mut common = Target::new(PREFIX);
            common.from("task_id", &task["ID"]).from("task_desired_state", &task["DesiredState"]);
            common.from("task_state", &task["Status"]["State"]).set("task_container_id", container);
            common.set("task_slot", task["Slot"].as_i64().unwrap_or(0));
            if let Some(spec) = task["Spec"]["ContainerSpec"].as_object() {
                if let Some(labels) = containers.get(container) {
                    common.merge(labels);
                }
                // those of the specification win over those of the image
                common.each("container_label_", spec.get("Labels").unwrap_or(&Value::Null));
            }
            if let Some(service) = service {
                common.merge(&service_labels(service));
            }
            if let Some(node) = nodes.get(string(&task["NodeID"])) {
                common.merge(node);
            }
            for port in tcp_ports(&task["Status"]["PortStatus"]["Ports"]) {
                let mut target = common.clone();
                target.from("task_port_publish_mode", &port["PublishMode"]);
                let host = target.get("node_address").to_owned();
                targets.push(target.address(&host, published(port)).build());
            }
            for attachment in items(&task["NetworksAttachments"]) {
                let mut base = common.clone();
                if let Some(labels) = networks.get(string(&attachment["Network"]["ID"])) {
                    base.merge(labels);
                }
                for address in items(&attachment["Addresses"]) {
                    let ip = address_of(address)?;
                    let before = targets.len();
                    for port in service.map(|service| tcp_ports(&service["Endpoint"]["Ports"])).into_iter().flatten() {
                        let mut target = base.clone();
                        target.from("task_port_publish_mode", &port["PublishMode"]);
                        targets.push(target.address(&ip, published(port)).build());
                    }
                    if targets.len() == before {
                        targets.push(base.clone().address(&ip, self.port).build());
                    }
                }
            }
        }
        Ok(targets)
    }

    /// The labels of the tasks' containers, by container. A manager knows only those that run on its own node.
    async fn container_labels(&mut self, tasks: &[Value]) -> BTreeMap<String, Target> {
        let mut known: BTreeMap<String, Target> = BTreeMap::new();
        for task in tasks {
            let id = string(&task["Status"]["ContainerStatus"]["ContainerID"]);
            let hexadecimal = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
            if !hexadecimal || known.contains_key(id) {
                continue;
            }
            if let Ok(container) = self.engine.get(&format!("containers/{id}/json"), "").await {
                let mut labels = Target::new(PREFIX);
                labels.each("container_label_", &container["Config"]["Labels"]);
                known.insert(id.to_owned(), labels);
            }
        }
        known
    }

    async fn nodes(&mut self) -> Result<Vec<Labels>, String> {
        let nodes = self.engine.get("nodes", &self.filters).await;
        let nodes = nodes.map_err(|e| format!("error while listing swarm nodes: {e}"))?;
        let targets = list(&nodes, "nodes")?.iter().map(|node| {
            let mut target = node_labels(node);
            target.from("node_engine_version", &node["Description"]["Engine"]["EngineVersion"]);
            if let Some(manager) = node["ManagerStatus"].as_object() {
                let value = |key| manager.get(key).unwrap_or(&Value::Null);
                target.set("node_manager_leader", *value("Leader") == true);
                target.from("node_manager_reachability", value("Reachability"));
                target.from("node_manager_address", value("Addr"));
            }
            target.address(string(&node["Status"]["Addr"]), self.port).build()
        });
        Ok(targets.collect())
    }
}

/// The labels that a service gives to itself and its tasks.
fn service_labels(service: &Value) -> Target {
    let spec = &service["Spec"];
    let mut target = Target::new(PREFIX);
    target.from("service_id", &service["ID"]).from("service_name", &spec["Name"]);
    let mode = ["Global", "Replicated"].into_iter().find(|mode| !spec["Mode"][mode].is_null());
    target.set("service_mode", mode.unwrap_or_default().to_ascii_lowercase());
    target.each("service_label_", &spec["Labels"]);
    target
}

/// The labels that a node gives to itself and its tasks.
fn node_labels(node: &Value) -> Target {
    let (spec, description) = (&node["Spec"], &node["Description"]);
    let mut target = Target::new(PREFIX);
    target.from("node_id", &node["ID"]).from("node_role", &spec["Role"]);
    target.from("node_availability", &spec["Availability"]).from("node_hostname", &description["Hostname"]);
    target.from("node_platform_architecture", &description["Platform"]["Architecture"]);
    target.from("node_platform_os", &description["Platform"]["OS"]);
    target.from("node_status", &node["Status"]["State"]).from("node_address", &node["Status"]["Addr"]);
    target.each("node_label_", &spec["Labels"]);
    target
}

fn tcp_ports(ports: &Value) -> impl Iterator<Item = &Value> {
    items(ports).filter(|port| port["Protocol"] == "tcp")
}

fn published(port: &Value) -> u64 {
    port["PublishedPort"].as_u64().unwrap_or(0)
}

/// The address of `address/length`.
fn address_of(value: &Value) -> Result<String, String> {
    let whole = text(value);
    let address = whole.split_once('/').and_then(|(address, _)| address.parse::<IpAddr>().ok());
    address.map(|a| a.to_string()).ok_or_else(|| format!("error while parsing address {whole}"))
}

impl Source for DockerSwarm {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let targets = match self.role.as_str() {
            "services" => self.services().await?,
            "tasks" => self.tasks().await?,
            _ => self.nodes().await?,
        };
        Ok(vec![group("DockerSwarm", targets)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    async fn stub() -> Stub {
        let node = json!({"ID": "n1", "Spec": {"Role": "manager", "Availability": "active", "Labels": {"a.b": "c"}},
            "Description": {"Hostname": "host1", "Platform": {"Architecture": "x86_64", "OS": "linux"},
                            "Engine": {"EngineVersion": "27.1"}},
            "Status": {"State": "ready", "Addr": "10.1.0.1"},
            "ManagerStatus": {"Leader": true, "Reachability": "reachable", "Addr": "10.1.0.1:2377"}});
        let worker = json!({"ID": "n2", "Spec": {"Role": "worker", "Availability": "drain"},
            "Description": {"Hostname": "host2"}, "Status": {"State": "down", "Addr": "fd00::2"}});
        let ports = json!([{"Name": "web", "Protocol": "tcp", "PublishedPort": 8080, "PublishMode": "ingress"},
                           {"Protocol": "udp", "PublishedPort": 53}]);
        let service = json!({"ID": "s1", "Spec": {"Name": "shop", "Labels": {"team": "x"}, "Mode": {"Replicated": {"Replicas": 2}},
            "TaskTemplate": {"ContainerSpec": {"Image": "shop:1", "Hostname": "shop"}}},
            "Endpoint": {"Ports": ports, "VirtualIPs": [{"NetworkID": "net", "Addr": "10.0.0.5/24"}]},
            "UpdateStatus": {"State": "completed"}});
        let silent = json!({"ID": "s2", "Spec": {"Name": "quiet", "Mode": {"Global": {}}, "TaskTemplate": {}},
            "Endpoint": {"VirtualIPs": [{"NetworkID": "net", "Addr": "10.0.0.6/24"}]}});
        let task = json!({"ID": "t1", "ServiceID": "s1", "NodeID": "n1", "Slot": 3, "DesiredState": "running",
            "Spec": {"ContainerSpec": {"Labels": {"both": "spec"}}},
            "Status": {"State": "running", "ContainerStatus": {"ContainerID": "abc"},
                       "PortStatus": {"Ports": [{"Protocol": "tcp", "PublishedPort": 99, "PublishMode": "host"}]}},
            "NetworksAttachments": [{"Network": {"ID": "net"}, "Addresses": ["10.0.0.7/24"]}]});
        let lone = json!({"ID": "t2", "ServiceID": "s2", "NodeID": "n2", "DesiredState": "shutdown", "Spec": {},
            "Status": {"State": "complete"}, "NetworksAttachments": [{"Network": {"ID": "net"}, "Addresses": ["10.0.0.8/24"]}]});
        let network = json!({"Id": "net", "Name": "over", "Scope": "swarm", "Internal": false, "Ingress": false, "Labels": {"k": "v"}});
        let stub = Stub::start([
            ("/v1.24/nodes", json!([node, worker])),
            ("/v1.24/services", json!([service, silent])),
            ("/v1.24/tasks", json!([task, lone])),
            ("/v1.24/networks", json!([network])),
            ("/v1.24/containers/abc/json", json!({"Config": {"Labels": {"image.only": "i", "both": "image"}}})),
        ])
        .await;
        stub.set("/_ping", Reply::Raw(200, "", String::new()));
        stub
    }

    const NET: &str = "network_id=net network_name=over network_scope=swarm network_internal=false network_ingress=false network_label_k=v";
    const SHOP: &str = "service_id=s1 service_name=shop service_mode=replicated service_label_team=x";
    const NODE1: &str = "node_id=n1 node_role=manager node_availability=active node_hostname=host1 node_platform_architecture=x86_64 node_platform_os=linux node_status=ready node_address=10.1.0.1 node_label_a_b=c";
    const NODE2: &str =
        "node_id=n2 node_role=worker node_availability=drain node_hostname=host2 node_status=down node_address=fd00::2";

    #[tokio::test]
    async fn each_role_gives_its_targets() {
        let stub = stub().await;
        let task1 = format!(
            "task_id=t1 task_desired_state=running task_state=running task_container_id=abc task_slot=3 container_label_image_only=i container_label_both=spec {SHOP} {NODE1}"
        );
        for (role, expected) in [
            (
                "nodes",
                format!(
                    "10.1.0.1:80 {NODE1} node_engine_version=27.1 node_manager_leader=true node_manager_reachability=reachable node_manager_address=10.1.0.1:2377
                     [fd00::2]:80 {NODE2}"
                ),
            ),
            (
                "services",
                format!(
                    "10.0.0.5:8080 {SHOP} {NET} service_task_container_hostname=shop service_task_container_image=shop:1 service_updating_status=completed service_endpoint_port_name=web service_endpoint_port_publish_mode=ingress
                     10.0.0.6:80 {NET} service_id=s2 service_name=quiet service_mode=global"
                ),
            ),
            (
                "tasks",
                format!(
                    "10.1.0.1:99 {task1} task_port_publish_mode=host
                     10.0.0.7:8080 {task1} {NET} task_port_publish_mode=ingress
                     10.0.0.8:80 {NET} task_id=t2 task_desired_state=shutdown task_state=complete task_slot=0 service_id=s2 service_name=quiet service_mode=global {NODE2}"
                ),
            ),
        ] {
            let text = format!("{{host: 'http://SERVER', role: {role}}}");
            let mut swarm = DockerSwarm::new(&settings("dockerswarm", &text, Some(&stub))).unwrap();
            check(&swarm.refresh().await.unwrap(), PREFIX, &expected);
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_a_fault() {
        let stub = stub().await;
        stub.json("/v1.24/services", json!([{"Endpoint": {"VirtualIPs": [{"Addr": "nowhere"}]}}]));
        let text = "{host: 'http://SERVER', role: services}";
        let mut swarm = DockerSwarm::new(&settings("dockerswarm", text, Some(&stub))).unwrap();
        assert_eq!(swarm.refresh().await.unwrap_err(), "error while parsing address nowhere");
    }
}
