//! Pages like a part of kube-state-metrics; they grow with the number of pods.

use super::behaviour::Behaviour::{Constant, Count, Level};
use super::{Builder, PageSpec, mix};

struct Pod {
    namespace: String,
    name: String,
    uid: String,
    node: String,
}

const PHASES: [&str; 5] = ["Failed", "Pending", "Running", "Succeeded", "Unknown"];

/// The page of a part of a cluster with `pods` pods.
pub(super) fn build(spec: &PageSpec, pods: usize) -> Builder {
    let mut page = Builder::default();
    let pods: Vec<Pod> = (0..pods)
        .map(|number| {
            let id = mix(mix(spec.target as u64, spec.generation + 1), number as u64);
            Pod {
                namespace: format!("team-{}", number % 12),
                name: format!("service-{}-{:08x}-{:05x}", number % 40, (id >> 32) as u32, id & 0xf_ffff),
                uid: format!("{:08x}-{:04x}-4{:03x}-9000-{:012x}", id >> 32, id & 0xffff, id & 0xfff, id >> 16),
                node: format!("node-{:03}.cluster.local", id % 250),
            }
        })
        .collect();

    page.family("kube_node_status_allocatable", "gauge", "What a node can give to pods.");
    for (resource, unit, value) in [("cpu", "core", 31.5), ("memory", "byte", 3.2e10), ("pods", "integer", 110.0)] {
        page.series(&[("node", "node-001.cluster.local"), ("resource", resource), ("unit", unit)], Constant(value));
    }
    page.family("kube_deployment_status_replicas_available", "gauge", "Replicas that are available.");
    for number in 0..40 {
        let deployment = format!("service-{number}");
        page.series(&[("namespace", "team-0"), ("deployment", &deployment)], Level(4.0));
    }
    page.family("kube_pod_info", "gauge", "What is known of a pod.");
    for (number, pod) in pods.iter().enumerate() {
        let address = format!("10.{}.{}.{}", number % 200, number % 7, number % 250);
        let labels = [
            ("namespace", pod.namespace.as_str()),
            ("pod", &pod.name),
            ("uid", &pod.uid),
            ("node", &pod.node),
            ("created_by_kind", "ReplicaSet"),
            ("host_network", "false"),
            ("pod_ip", &address),
            ("priority_class", ""),
        ];
        page.series(&labels, Constant(1.0));
    }
    page.family("kube_pod_created", "gauge", "When a pod was created.");
    for (number, pod) in pods.iter().enumerate() {
        let labels = [("namespace", pod.namespace.as_str()), ("pod", &pod.name), ("uid", &pod.uid)];
        page.series(&labels, Constant(1.7629e9 + number as f64 * 13.0));
    }
    page.family("kube_pod_status_phase", "gauge", "Which phase a pod is in.");
    for pod in &pods {
        for phase in PHASES {
            let labels =
                [("namespace", pod.namespace.as_str()), ("pod", &pod.name), ("uid", &pod.uid), ("phase", phase)];
            page.series(&labels, Constant(f64::from(u8::from(phase == "Running"))));
        }
    }
    for (name, kind, behaviour) in [
        ("kube_pod_container_status_ready", "gauge", Constant(1.0)),
        ("kube_pod_container_status_restarts_total", "counter", Count(0.01)),
        ("kube_pod_container_status_running", "gauge", Constant(1.0)),
        ("kube_pod_container_status_terminated", "gauge", Constant(0.0)),
        ("kube_pod_container_status_waiting", "gauge", Constant(0.0)),
    ] {
        page.family(name, kind, "State of a container.");
        for pod in &pods {
            let labels =
                [("namespace", pod.namespace.as_str()), ("pod", &pod.name), ("uid", &pod.uid), ("container", "main")];
            page.series(&labels, behaviour);
        }
    }
    page.family("kube_pod_container_resource_requests", "gauge", "What a container asks for.");
    for pod in &pods {
        for (resource, unit, value) in [("cpu", "core", 0.25), ("memory", "byte", 2.68435456e8)] {
            let labels = [
                ("namespace", pod.namespace.as_str()),
                ("pod", &pod.name),
                ("uid", &pod.uid),
                ("container", "main"),
                ("node", &pod.node),
                ("resource", resource),
                ("unit", unit),
            ];
            page.series(&labels, Constant(value));
        }
    }
    page
}

/// Fills the page up to `series`.
pub(super) fn fill(page: &mut Builder, series: usize) {
    page.family("kube_configmap_created", "gauge", "When a config map was created.");
    for number in page.len()..series {
        let labels = [("namespace", "kube-system"), ("configmap", &format!("settings-{number}"))];
        page.series(&labels, Constant(1.7628e9 + number as f64));
    }
}
