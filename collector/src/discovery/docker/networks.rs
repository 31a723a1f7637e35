//! The networks of a Docker daemon, which containers, services and tasks are labelled with.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::json::{list, string};
use super::super::target::Target;
use super::engine::Engine;

/// The labels of each network, by its identifier.
pub(in crate::discovery) async fn networks(
    engine: &mut Engine,
    prefix: &'static str,
) -> Result<BTreeMap<String, Target>, String> {
    let networks = engine.get("networks", "").await?;
    Ok(labels_of(list(&networks, "networks")?, prefix))
}

/// The same of an answer.
fn labels_of(networks: &[Value], prefix: &'static str) -> BTreeMap<String, Target> {
    let mut labels = BTreeMap::new();
    for network in networks {
        let mut target = Target::new(prefix);
        target.from("network_id", &network["Id"]).from("network_name", &network["Name"]);
        target.from("network_scope", &network["Scope"]);
        target.set("network_internal", network["Internal"] == true);
        target.set("network_ingress", network["Ingress"] == true);
        target.each("network_label_", &network["Labels"]);
        labels.insert(string(&network["Id"]).to_owned(), target);
    }
    labels
}
