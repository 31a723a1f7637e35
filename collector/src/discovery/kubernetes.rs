//! `kubernetes_sd_configs`: the objects of a cluster, listed once and then followed.
//!
//! A thin client of our own: what is needed is reading lists, following changes and starting anew when the server has forgotten
//! where we were. Each kind of object that a role looks at has a follower; one task keeps the objects and makes target groups.

mod access;
mod follow;
mod objects;
mod store;
mod targets;
#[cfg(test)]
mod tests;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::follow::{Follower, Resource};
use self::store::{Attached, Store};
use super::{Children, Slot};
use crate::config::Settings;

/// Changes that wait to be taken in; followers wait when there are more.
const QUEUE: usize = 1024;

/// Starts following what the role needs.
pub(super) fn start(settings: &Settings, slot: Slot, tasks: &mut JoinSet<()>) -> Result<(), String> {
    let cluster = access::open(settings)?;
    let attach = |name| settings.object("attach_metadata").is_some_and(|attach| attach.flag(name));
    let attached = Attached {
        node: attach("node"),
        namespace: attach("namespace"),
        deployment: attach("deployment"),
        job: attach("job"),
        cronjob: attach("cronjob"),
    };
    let role = settings.text("role").to_owned();
    let mut resources = match role.as_str() {
        "node" => vec![Resource::Nodes],
        "pod" => vec![Resource::Pods],
        "service" => vec![Resource::Services],
        "endpoints" => vec![Resource::Endpoints, Resource::Services, Resource::Pods],
        "endpointslice" => vec![Resource::EndpointSlices, Resource::Services, Resource::Pods],
        _ => vec![Resource::Ingresses],
    };
    let main = resources[0];
    let has_pods = resources.contains(&Resource::Pods);
    for (wanted, resource) in [
        (attached.node && has_pods, Resource::Nodes),
        (attached.namespace && main != Resource::Nodes, Resource::Namespaces),
        (attached.deployment && has_pods, Resource::ReplicaSets),
        (attached.cronjob && has_pods, Resource::Jobs),
    ] {
        if wanted {
            resources.push(resource);
        }
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut followers = Vec::new();
    for resource in resources {
        let (labels, fields) = selectors(settings, resource);
        let namespaces = if resource.is_in_namespaces() { cluster.namespaces.clone() } else { vec![String::new()] };
        for namespace in namespaces {
            followers.push(Follower {
                api: cluster.api.clone(),
                base: cluster.base.clone(),
                resource,
                namespace,
                labels: labels.clone(),
                fields: fields.clone(),
                changes: sender.clone(),
                metrics: std::sync::Arc::clone(&slot.metrics),
            });
        }
    }
    let store = Store::new(main, attached, followers.len(), slot);
    tasks.spawn(async move {
        let mut children = Children::new();
        for follower in followers {
            children.spawn(follower.run());
        }
        store.run(receiver).await;
    });
    Ok(())
}

/// The label and field selectors for a kind of object.
fn selectors(settings: &Settings, resource: Resource) -> (String, String) {
    let selector = settings.objects("selectors").iter().find(|selector| selector.text("role") == resource.role());
    selector.map_or_else(Default::default, |s| (s.text("label").to_owned(), s.text("field").to_owned()))
}
