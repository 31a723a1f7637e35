//! `docker_sd_configs`: the containers of a Docker daemon.

mod engine;
mod networks;

use std::collections::{BTreeMap, BTreeSet};

use model::Labels;
use serde_json::Value;

pub(super) use self::engine::{Engine, filters};
pub(super) use self::networks::networks;
use super::json::{items, list, string, text};
use super::refresh::Source;
use super::target::{Target, group};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_docker_";

/// Lists containers.
pub(super) struct Docker {
    engine: Engine,
    filters: String,
    port: i64,
    host_networking_host: String,
    match_first_network: bool,
}

impl Docker {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            engine: Engine::new(settings)?,
            filters: filters(settings),
            port: settings.int("port"),
            host_networking_host: settings.text("host_networking_host").to_owned(),
            match_first_network: settings.flag("match_first_network"),
        })
    }

    fn targets(&self, containers: &[Value], networks: &BTreeMap<String, Target>) -> Vec<Labels> {
        let by_id: BTreeMap<&str, &Value> = containers.iter().map(|c| (string(&c["Id"]), c)).collect();
        let mut targets = Vec::new();
        for container in containers {
            let Some(name) = items(&container["Names"]).next() else { continue };
            let mode = string(&container["HostConfig"]["NetworkMode"]);
            let mut common = Target::new(PREFIX);
            common.from("container_id", &container["Id"]).from("container_name", name);
            common.set("container_network_mode", mode);
            common.from("container_image", &container["Image"]).from("container_image_id", &container["ImageID"]);
            common.each("container_label_", &container["Labels"]);
            let mut attached = networks_of(container, &by_id);
            if self.match_first_network {
                attached.truncate(1);
            }
            for network in attached {
                let ip = string(&network["IPAddress"]);
                let mut base = common.clone();
                base.set("network_ip", ip);
                if let Some(labels) = networks.get(string(&network["NetworkID"])) {
                    base.merge(labels);
                }
                let mut has_port = false;
                for port in items(&container["Ports"]).filter(|port| port["Type"] == "tcp") {
                    let mut target = base.clone();
                    target.from("port_private", &port["PrivatePort"]);
                    if port["PublicPort"].as_u64().is_some_and(|public| public > 0) {
                        target.from("port_public", &port["PublicPort"]).from("port_public_ip", &port["IP"]);
                    }
                    target.address(ip, text(&port["PrivatePort"]));
                    targets.push(target.build());
                    has_port = true;
                }
                if has_port {
                    continue;
                }
                // containers in the host's network have no ports of their own
                if mode == "host" {
                    base.plain("__address__", &self.host_networking_host);
                } else {
                    base.address(ip, self.port);
                }
                targets.push(base.build());
            }
        }
        targets
    }
}

/// The networks of a container in the order of their names, or of the container whose network it shares.
fn networks_of<'a>(container: &'a Value, by_id: &BTreeMap<&str, &'a Value>) -> Vec<&'a Value> {
    let own = |container: &'a Value| container["NetworkSettings"]["Networks"].as_object().filter(|n| !n.is_empty());
    let mut seen = BTreeSet::new();
    let mut current = container;
    while own(current).is_none() {
        let other = string(&current["HostConfig"]["NetworkMode"]).strip_prefix("container:");
        let Some(other) = other.and_then(|id| by_id.get(id)) else { break };
        // containers may share in circles as far as the answer goes
        if !seen.insert(string(&other["Id"])) {
            break;
        }
        current = other;
    }
    let mut networks: Vec<(&String, &Value)> = own(current).into_iter().flatten().collect();
    networks.sort_by_key(|(name, _)| *name);
    networks.into_iter().map(|(_, network)| network).filter(|network| !network.is_null()).collect()
}

impl Source for Docker {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let containers = self.engine.get("containers/json", &self.filters).await;
        let containers = containers.map_err(|e| format!("error while listing containers: {e}"))?;
        let containers = list(&containers, "containers")?;
        let networks = networks(&mut self.engine, PREFIX).await;
        let networks = networks.map_err(|e| format!("error while computing network labels: {e}"))?;
        Ok(vec![group("Docker", self.targets(containers, &networks))])
    }
}

#[cfg(test)]
mod tests;
