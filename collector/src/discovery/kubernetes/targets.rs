//! The targets of objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Labels;

use super::super::target::Target;
use super::follow::Resource;
use super::objects::{
    Container, ContainerPort, EndpointAddress, EndpointPort, EndpointSlice, Endpoints, Ingress, Meta, Node, Object,
    Pod, Reference, Service, SliceEndpoint, SlicePort,
};
use super::store::{Attached, Objects};
use crate::config::TargetGroup;

const PREFIX: &str = "__meta_kubernetes_";
/// The label by which a slice says whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The group of an object.
pub(super) fn group(object: &Object, source: String, objects: &Objects, attached: Attached) -> TargetGroup {
    let maker = Maker { objects, attached };
    let mut labels = Target::new(PREFIX);
    let targets = match object {
        Object::Node(node) => node_targets(node, &mut labels),
        Object::Pod(pod) => maker.pod(pod, &mut labels),
        Object::Service(service) => maker.service(service, &mut labels),
        Object::Endpoints(endpoints) => maker.endpoints(endpoints, &mut labels),
        Object::EndpointSlice(slice) => maker.slice(slice, &mut labels),
        Object::Ingress(ingress) => maker.ingress(ingress, &mut labels),
        Object::Plain(_) => Vec::new(),
    };
    TargetGroup { labels: if targets.is_empty() { Labels::empty() } else { labels.build() }, targets, source }
}

/// The service that endpoints or a slice belong to.
pub(super) fn service_name(object: &Object) -> Option<&String> {
    match object {
        Object::Endpoints(endpoints) => Some(&endpoints.metadata.name),
        Object::EndpointSlice(slice) => slice.metadata.labels.get(SERVICE_NAME),
        _ => None,
    }
}

/// Namespaces and names of the pods that an object refers to.
pub(super) fn pods(object: &Object) -> impl Iterator<Item = (&String, &String)> {
    let references: Vec<&Reference> = match object {
        Object::Endpoints(endpoints) => addresses(endpoints).filter_map(|a| a.target_ref.as_ref()).collect(),
        Object::EndpointSlice(slice) => slice.endpoints.iter().filter_map(|e| e.target_ref.as_ref()).collect(),
        _ => Vec::new(),
    };
    references.into_iter().filter(|r| r.kind == "Pod").map(|r| (&r.namespace, &r.name))
}

/// The nodes that an object refers to.
pub(super) fn nodes(object: &Object) -> impl Iterator<Item = &String> {
    let names: Vec<&String> = match object {
        Object::Pod(pod) => vec![&pod.spec.node_name],
        Object::Endpoints(endpoints) => addresses(endpoints).filter_map(|a| a.node_name.as_ref()).collect(),
        Object::EndpointSlice(slice) => slice.endpoints.iter().filter_map(node_of).collect(),
        _ => Vec::new(),
    };
    names.into_iter()
}

fn addresses(endpoints: &Endpoints) -> impl Iterator<Item = &EndpointAddress> {
    endpoints.subsets.iter().flat_map(|subset| subset.addresses.iter().chain(&subset.not_ready_addresses))
}

/// The node that an endpoint is on, or is.
fn node_of(endpoint: &SliceEndpoint) -> Option<&String> {
    match &endpoint.target_ref {
        Some(reference) if reference.kind == "Node" => Some(&reference.name),
        _ => endpoint.node_name.as_ref(),
    }
}

/// Name, labels and annotations, under the name of a role.
fn describe(target: &mut Target, role: &str, meta: &Meta) {
    target.set(&format!("{role}_name"), &meta.name);
    describe_without_name(target, role, meta);
}

fn describe_without_name(target: &mut Target, role: &str, meta: &Meta) {
    for (kind, entries) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
        let entries = entries.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        target.each_present(&format!("{role}_{kind}_"), &format!("{role}_{kind}present_"), entries);
    }
}

fn node_targets(node: &Node, labels: &mut Target) -> Vec<Labels> {
    describe(labels, "node", &node.metadata);
    labels.set("node_provider_id", &node.spec.provider_id);
    for condition in &node.status.conditions {
        labels.named("node_condition_", &condition.kind.to_lowercase(), condition.status.to_lowercase());
    }
    let of_kind = |kind: &str| node.status.addresses.iter().find(|a| a.kind == kind);
    let kinds = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
    let Some(address) = kinds.into_iter().find_map(of_kind) else {
        tracing::warn!(node = node.metadata.name, "No node address found");
        return Vec::new();
    };
    let mut target = Target::new(PREFIX);
    target.address(&address.address, node.status.daemon_endpoints.kubelet_endpoint.port);
    target.plain("instance", &node.metadata.name);
    // the first of its kind counts
    for address in node.status.addresses.iter().rev() {
        target.named("node_address_", &address.kind, &address.address);
    }
    vec![target.build()]
}

/// What all objects but nodes need to make their targets.
struct Maker<'a> {
    objects: &'a Objects,
    attached: Attached,
}

/// A pod that endpoints have shown, and the ports they have shown of it.
struct SeenPod<'a> {
    pod: &'a Pod,
    ports: Vec<u32>,
}

impl<'a> Maker<'a> {
    fn namespace(&self, labels: &mut Target, namespace: &str) {
        labels.set("namespace", namespace);
        if self.attached.namespace
            && let Some(object) = self.objects.plain(Resource::Namespaces, "", namespace)
        {
            describe_without_name(labels, "namespace", &object.metadata);
        }
    }

    fn node(&self, target: &mut Target, name: Option<&String>) {
        if self.attached.node
            && let Some(name) = name
            && let Some(node) = self.objects.node(name)
        {
            target.set("node_name", name);
            let labels = node.meta().labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            target.each_present("node_label_", "node_labelpresent_", labels);
        }
    }

    fn pod_labels(&self, target: &mut Target, pod: &Pod) {
        let (meta, status) = (&pod.metadata, &pod.status);
        describe(target, "pod", meta);
        target.set("pod_ip", &status.pod_ip).set("pod_phase", &status.phase).set("pod_host_ip", &status.host_ip);
        target.set("pod_node_name", &pod.spec.node_name).set("pod_uid", &meta.uid);
        let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
        target.set("pod_ready", ready.map_or_else(|| "unknown".to_owned(), |c| c.status.to_lowercase()));
        let Some(owner) = meta.controller() else { return };
        target.set("pod_controller_kind", &owner.kind).set("pod_controller_name", &owner.name);
        // the controller of the controller
        let upper = |resource, kind: &str| {
            let object = self.objects.plain(resource, &meta.namespace, &owner.name)?;
            object.metadata.controller().filter(|upper| upper.kind == kind)
        };
        match owner.kind.as_str() {
            "ReplicaSet" if self.attached.deployment => {
                if let Some(deployment) = upper(Resource::ReplicaSets, "Deployment") {
                    target.set("pod_deployment_name", &deployment.name);
                }
            }
            "Job" => {
                if self.attached.job {
                    target.set("pod_job_name", &owner.name);
                }
                if self.attached.cronjob
                    && let Some(cronjob) = upper(Resource::Jobs, "CronJob")
                {
                    target.set("pod_cronjob_name", &cronjob.name);
                }
            }
            _ => {}
        }
    }

    fn pod(&self, pod: &Pod, labels: &mut Target) -> Vec<Labels> {
        let ip = &pod.status.pod_ip;
        // it is starting, or has been evicted
        if ip.is_empty() {
            return Vec::new();
        }
        self.pod_labels(labels, pod);
        self.namespace(labels, &pod.metadata.namespace);
        self.node(labels, Some(&pod.spec.node_name));
        let mut targets = Vec::new();
        for (container, init) in containers(pod) {
            let statuses = if init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
            let status = statuses.iter().find(|status| status.name == container.name);
            let mut base = Target::new(PREFIX);
            base.set("pod_container_name", &container.name).set("pod_container_image", &container.image);
            base.set("pod_container_init", init);
            base.set("pod_container_id", status.map_or("", |status| &status.container_id));
            // without a port the user has to add one
            if container.ports.is_empty() {
                targets.push(base.clone().plain("__address__", ip).build());
            }
            for port in &container.ports {
                let mut target = base.clone();
                target.address(ip, port.container_port);
                container_port(&mut target, port);
                targets.push(target.build());
            }
        }
        targets
    }

    fn service(&self, service: &Service, labels: &mut Target) -> Vec<Labels> {
        describe(labels, "service", &service.metadata);
        self.namespace(labels, &service.metadata.namespace);
        let (meta, spec) = (&service.metadata, &service.spec);
        let targets = spec.ports.iter().map(|port| {
            let mut target = Target::new(PREFIX);
            target.address(&format!("{}.{}.svc", meta.name, meta.namespace), port.port);
            target.set("service_port_name", &port.name).set("service_port_number", port.port);
            target.set("service_port_protocol", &port.protocol).set("service_type", &spec.kind);
            if spec.kind == "ExternalName" {
                target.set("service_external_name", &spec.external_name);
            } else {
                target.set("service_cluster_ip", &spec.cluster_ip);
            }
            if spec.kind == "LoadBalancer" {
                target.set("service_loadbalancer_ip", &spec.load_balancer_ip);
            }
            target.build()
        });
        targets.collect()
    }

    fn referred(&self, reference: Option<&Reference>) -> Option<&'a Pod> {
        let reference = reference.filter(|reference| reference.kind == "Pod")?;
        self.objects.pod(&reference.namespace, &reference.name)
    }

    /// Labels of the pod behind an endpoint, and of its container that has the port.
    fn behind(&self, target: &mut Target, pod: &'a Pod, port: Option<u32>, seen: &mut BTreeMap<String, SeenPod<'a>>) {
        self.pod_labels(target, pod);
        let key = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
        let entry = seen.entry(key).or_insert_with(|| SeenPod { pod, ports: Vec::new() });
        entry.ports.extend(port);
        for (container, init) in containers(pod) {
            if let Some(own) = container.ports.iter().find(|own| Some(own.container_port) == port) {
                in_container(target, container, own, init);
            }
        }
    }

    /// Targets for the ports of pods that no endpoint has shown.
    fn uncovered(&self, seen: &BTreeMap<String, SeenPod<'_>>, family: &str, targets: &mut Vec<Labels>) {
        for SeenPod { pod, ports } in seen.values() {
            let Some(ip) = ip_of_family(pod, family) else { continue };
            for (container, init) in containers(pod) {
                for port in container.ports.iter().filter(|port| !ports.contains(&port.container_port)) {
                    let mut target = Target::new(PREFIX);
                    self.pod_labels(&mut target, pod);
                    in_container(&mut target, container, port, init);
                    target.address(ip, port.container_port);
                    targets.push(target.build());
                }
            }
        }
    }

    fn endpoints(&self, endpoints: &'a Endpoints, labels: &mut Target) -> Vec<Labels> {
        let meta = &endpoints.metadata;
        if let Some(service) = self.objects.service(&meta.namespace, &meta.name) {
            describe(labels, "service", &service.metadata);
        }
        describe(labels, "endpoints", meta);
        self.namespace(labels, &meta.namespace);
        let (mut targets, mut seen) = (Vec::new(), BTreeMap::new());
        for subset in &endpoints.subsets {
            for port in &subset.ports {
                let ready = subset.addresses.iter().map(|address| (address, true));
                for (address, ready) in ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false))) {
                    targets.push(self.endpoint(address, port, ready, &mut seen));
                }
            }
        }
        if let Some(state @ ("truncated" | "warning")) = meta
            .labels
            .get("endpoints.kubernetes.io/over-capacity")
            .or(meta.annotations.get("endpoints.kubernetes.io/over-capacity"))
            .map(String::as_str)
        {
            tracing::warn!(
                endpoints = meta.name,
                state,
                "More than 1000 endpoints in one object, please use \"role: endpointslice\""
            );
        }
        self.uncovered(&seen, "", &mut targets);
        targets
    }

    fn endpoint(
        &self,
        address: &EndpointAddress,
        port: &EndpointPort,
        ready: bool,
        seen: &mut BTreeMap<String, SeenPod<'a>>,
    ) -> Labels {
        let mut target = Target::new(PREFIX);
        target.address(&address.ip, port.port).set("endpoint_port_name", &port.name);
        target.set("endpoint_port_protocol", &port.protocol).set("endpoint_ready", ready);
        if let Some(reference) = &address.target_ref {
            target.set("endpoint_address_target_kind", &reference.kind);
            target.set("endpoint_address_target_name", &reference.name);
        }
        target.set("endpoint_node_name", address.node_name.as_deref().unwrap_or_default());
        target.set("endpoint_hostname", &address.hostname);
        self.node(&mut target, address.node_name.as_ref());
        if let Some(pod) = self.referred(address.target_ref.as_ref()) {
            self.behind(&mut target, pod, Some(port.port), seen);
        }
        target.build()
    }

    fn slice(&self, slice: &'a EndpointSlice, labels: &mut Target) -> Vec<Labels> {
        let meta = &slice.metadata;
        let service = meta.labels.get(SERVICE_NAME).and_then(|name| self.objects.service(&meta.namespace, name));
        if let Some(service) = service {
            describe(labels, "service", &service.metadata);
        }
        describe(labels, "endpointslice", meta);
        labels.set("endpointslice_address_type", &slice.address_type);
        self.namespace(labels, &meta.namespace);
        let (mut targets, mut seen) = (Vec::new(), BTreeMap::new());
        for endpoint in &slice.endpoints {
            for port in &slice.ports {
                for address in &endpoint.addresses {
                    targets.push(self.slice_endpoint(endpoint, address, port, &mut seen));
                }
            }
        }
        self.uncovered(&seen, &slice.address_type, &mut targets);
        targets
    }

    fn slice_endpoint(
        &self,
        endpoint: &SliceEndpoint,
        address: &str,
        port: &SlicePort,
        seen: &mut BTreeMap<String, SeenPod<'a>>,
    ) -> Labels {
        let mut target = Target::new(PREFIX);
        match port.port {
            Some(number) => target.address(address, number).set("endpointslice_port", number),
            None => target.plain("__address__", address),
        };
        let conditions = &endpoint.conditions;
        for (name, value) in
            [("ready", conditions.ready), ("serving", conditions.serving), ("terminating", conditions.terminating)]
        {
            if let Some(value) = value {
                target.set(&format!("endpointslice_endpoint_conditions_{name}"), value);
            }
        }
        for (name, value) in [
            ("port_name", &port.name),
            ("port_protocol", &port.protocol),
            ("port_app_protocol", &port.app_protocol),
            ("endpoint_hostname", &endpoint.hostname),
            ("endpoint_node_name", &endpoint.node_name),
            ("endpoint_zone", &endpoint.zone),
        ] {
            target.set(&format!("endpointslice_{name}"), value.as_deref().unwrap_or_default());
        }
        if let Some(reference) = &endpoint.target_ref {
            target.set("endpointslice_address_target_kind", &reference.kind);
            target.set("endpointslice_address_target_name", &reference.name);
        }
        let topology = endpoint.deprecated_topology.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        target.each_present("endpointslice_endpoint_topology_", "endpointslice_endpoint_topology_present_", topology);
        self.node(&mut target, node_of(endpoint));
        if let Some(pod) = self.referred(endpoint.target_ref.as_ref()) {
            self.behind(&mut target, pod, port.port, seen);
        }
        target.build()
    }

    fn ingress(&self, ingress: &Ingress, labels: &mut Target) -> Vec<Labels> {
        describe(labels, "ingress", &ingress.metadata);
        self.namespace(labels, &ingress.metadata.namespace);
        labels.set("ingress_class_name", ingress.spec.ingress_class_name.as_deref().unwrap_or_default());
        let hosts: Vec<&String> = ingress.spec.tls.iter().flat_map(|tls| &tls.hosts).collect();
        let mut targets = Vec::new();
        for rule in &ingress.spec.rules {
            let scheme = if hosts.iter().any(|pattern| covers(pattern, &rule.host)) { "https" } else { "http" };
            let paths: Vec<&str> = match &rule.http {
                Some(http) => http.paths.iter().map(|path| path.path.as_str()).collect(),
                None => vec![""],
            };
            for path in paths {
                let mut target = Target::new(PREFIX);
                target.plain("__address__", &rule.host).set("ingress_scheme", scheme).set("ingress_host", &rule.host);
                target.set("ingress_path", if path.is_empty() { "/" } else { path });
                targets.push(target.build());
            }
        }
        targets
    }
}

/// The containers of a pod, and whether they are for its beginning.
fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    pod.spec.containers.iter().map(|c| (c, false)).chain(pod.spec.init_containers.iter().map(|c| (c, true)))
}

fn container_port(target: &mut Target, port: &ContainerPort) {
    target.set("pod_container_port_name", &port.name).set("pod_container_port_number", port.container_port);
    target.set("pod_container_port_protocol", &port.protocol);
}

fn in_container(target: &mut Target, container: &Container, port: &ContainerPort, init: bool) {
    target.set("pod_container_name", &container.name).set("pod_container_image", &container.image);
    target.set("pod_container_init", init);
    container_port(target, port);
}

/// The pod's address of the family that a slice is of; its first one where families do not matter.
fn ip_of_family<'p>(pod: &'p Pod, family: &str) -> Option<&'p str> {
    let status = &pod.status;
    let fits = |ip: &&str| match (ip.parse::<IpAddr>(), family) {
        (Ok(ip), "IPv4") => ip.is_ipv4(),
        (Ok(ip), "IPv6") => ip.is_ipv6(),
        _ => !ip.is_empty(),
    };
    std::iter::once(status.pod_ip.as_str()).chain(status.pod_ips.iter().map(|ip| ip.ip.as_str())).find(fits)
}

/// Whether a host, or a pattern with `*` for its first word, is that of a rule.
fn covers(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return true;
    }
    let rest = |name: &'_ str| name.split_once('.').map(|(_, rest)| rest.to_owned());
    pattern.starts_with("*.") && rest(host).is_some() && rest(pattern) == rest(host)
}
