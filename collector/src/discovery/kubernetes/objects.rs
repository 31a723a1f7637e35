//! What is read of a cluster's objects: what labels are made of, and nothing else, so that thousands of them take little memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::follow::Resource;

/// Null is the same as nothing.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Structures whose fields may be missing or null.
macro_rules! structures {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub(super) struct $name {
                $($(#[$attribute])* #[serde(deserialize_with = "lenient")] pub(super) $field: $kind),*
            }
        )*
    };
}

structures! {
    Meta {
        name: String,
        namespace: String,
        uid: String,
        resource_version: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        owner_references: Vec<Owner>,
    }
    Owner { kind: String, name: String, controller: bool }

    Node { metadata: Meta, spec: NodeSpec, status: NodeStatus }
    NodeSpec { #[serde(rename = "providerID")] provider_id: String }
    NodeStatus { addresses: Vec<NodeAddress>, conditions: Vec<Condition>, daemon_endpoints: DaemonEndpoints }
    NodeAddress { #[serde(rename = "type")] kind: String, address: String }
    Condition { #[serde(rename = "type")] kind: String, status: String }
    DaemonEndpoints { kubelet_endpoint: KubeletEndpoint }
    KubeletEndpoint { #[serde(rename = "Port")] port: u32 }

    Pod { metadata: Meta, spec: PodSpec, status: PodStatus }
    PodSpec { node_name: String, containers: Vec<Container>, init_containers: Vec<Container> }
    Container { name: String, image: String, ports: Vec<ContainerPort> }
    ContainerPort { name: String, container_port: u32, protocol: String }
    PodStatus {
        phase: String,
        #[serde(rename = "podIP")] pod_ip: String,
        #[serde(rename = "podIPs")] pod_ips: Vec<PodIp>,
        #[serde(rename = "hostIP")] host_ip: String,
        conditions: Vec<Condition>,
        container_statuses: Vec<ContainerStatus>,
        init_container_statuses: Vec<ContainerStatus>,
    }
    PodIp { ip: String }
    ContainerStatus { name: String, #[serde(rename = "containerID")] container_id: String }

    Service { metadata: Meta, spec: ServiceSpec }
    ServiceSpec {
        ports: Vec<ServicePort>,
        #[serde(rename = "type")] kind: String,
        #[serde(rename = "clusterIP")] cluster_ip: String,
        #[serde(rename = "loadBalancerIP")] load_balancer_ip: String,
        external_name: String,
    }
    ServicePort { name: String, port: u32, protocol: String }

    Endpoints { metadata: Meta, subsets: Vec<Subset> }
    Subset { addresses: Vec<EndpointAddress>, not_ready_addresses: Vec<EndpointAddress>, ports: Vec<EndpointPort> }
    EndpointAddress { ip: String, hostname: String, node_name: Option<String>, target_ref: Option<Reference> }
    EndpointPort { name: String, port: u32, protocol: String }
    Reference { kind: String, name: String, namespace: String }

    EndpointSlice { metadata: Meta, address_type: String, endpoints: Vec<SliceEndpoint>, ports: Vec<SlicePort> }
    SliceEndpoint {
        addresses: Vec<String>,
        conditions: SliceConditions,
        hostname: Option<String>,
        node_name: Option<String>,
        zone: Option<String>,
        target_ref: Option<Reference>,
        deprecated_topology: BTreeMap<String, String>,
    }
    SliceConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool> }
    SlicePort { name: Option<String>, port: Option<u32>, protocol: Option<String>, app_protocol: Option<String> }

    Ingress { metadata: Meta, spec: IngressSpec }
    IngressSpec { ingress_class_name: Option<String>, tls: Vec<IngressTls>, rules: Vec<IngressRule> }
    IngressTls { hosts: Vec<String> }
    IngressRule { host: String, http: Option<IngressHttp> }
    IngressHttp { paths: Vec<IngressPath> }
    IngressPath { path: String }

    /// Of a namespace, replica set or job, only what all objects have counts.
    Plain { metadata: Meta }
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Node(Node),
    Pod(Pod),
    Service(Service),
    Endpoints(Endpoints),
    EndpointSlice(EndpointSlice),
    Ingress(Ingress),
    Plain(Plain),
}

impl Object {
    /// Reads JSON.
    pub(super) fn read(resource: Resource, text: &str) -> Result<Self, String> {
        let read = match resource {
            Resource::Nodes => serde_json::from_str(text).map(Self::Node),
            Resource::Pods => serde_json::from_str(text).map(Self::Pod),
            Resource::Services => serde_json::from_str(text).map(Self::Service),
            Resource::Endpoints => serde_json::from_str(text).map(Self::Endpoints),
            Resource::EndpointSlices => serde_json::from_str(text).map(Self::EndpointSlice),
            Resource::Ingresses => serde_json::from_str(text).map(Self::Ingress),
            Resource::Namespaces | Resource::ReplicaSets | Resource::Jobs => {
                serde_json::from_str(text).map(Self::Plain)
            }
        };
        read.map_err(|e| format!("the answer has an object that is none: {e}"))
    }

    pub(super) fn meta(&self) -> &Meta {
        match self {
            Self::Node(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::Endpoints(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Ingress(object) => &object.metadata,
            Self::Plain(object) => &object.metadata,
        }
    }
}

impl Meta {
    /// Who manages the object.
    pub(super) fn controller(&self) -> Option<&Owner> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}
