use serde_json::{Value, json};

use super::super::testing::{Reply, Running, Stub, check, config};
use super::follow::Resource;
use super::objects::Object;
use super::store::{Attached, Objects};
use super::targets;

const PREFIX: &str = "__meta_kubernetes_";

fn object(resource: Resource, value: &Value) -> Object {
    Object::read(resource, &value.to_string()).unwrap()
}

/// The targets of the first object, the others being there.
fn check_group(attached: Attached, all: &[(Resource, Value)], expected: &str) {
    let mut objects = Objects::default();
    for (resource, value) in all {
        objects.insert(*resource, object(*resource, value));
    }
    let group = targets::group(&object(all[0].0, &all[0].1), "s".into(), &objects, attached);
    check(&[group], PREFIX, expected);
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "labels": {"app.kubernetes.io/name": "web", "empty": ""},
            "annotations": {"note": "n"}, "ownerReferences": [{"kind": "ReplicaSet", "name": "web-abc", "controller": true}]},
        "spec": {"nodeName": "node1",
            "containers": [{"name": "main", "image": "web:1", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"},
                                                                         {"name": "admin", "containerPort": 81, "protocol": "TCP"}]},
                           {"name": "side", "image": "side:1"}],
            "initContainers": [{"name": "init", "image": "init:1", "ports": null}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "hostIP": "10.1.0.1",
            "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "main", "containerID": "docker://m"}]}
    })
}

const POD: &str = "pod_name=web-0 pod_ip=10.0.0.1 pod_phase=Running pod_host_ip=10.1.0.1 pod_node_name=node1 pod_uid=u1 pod_ready=true pod_controller_kind=ReplicaSet pod_controller_name=web-abc pod_label_app_kubernetes_io_name=web pod_labelpresent_app_kubernetes_io_name=true pod_labelpresent_empty=true pod_annotation_note=n pod_annotationpresent_note=true";

#[test]
fn pods_have_a_target_for_each_port_of_each_container() {
    check_group(
        Attached::default(),
        &[(Resource::Pods, pod())],
        &format!(
            "10.0.0.1:80 {POD} namespace=shop pod_container_name=main pod_container_image=web:1 pod_container_id=docker://m pod_container_init=false pod_container_port_name=http pod_container_port_number=80 pod_container_port_protocol=TCP
             10.0.0.1:81 {POD} namespace=shop pod_container_name=main pod_container_image=web:1 pod_container_id=docker://m pod_container_init=false pod_container_port_name=admin pod_container_port_number=81 pod_container_port_protocol=TCP
             10.0.0.1 {POD} namespace=shop pod_container_name=side pod_container_image=side:1 pod_container_init=false
             10.0.0.1 {POD} namespace=shop pod_container_name=init pod_container_image=init:1 pod_container_init=true"
        ),
    );
    let mut waiting = pod();
    waiting["status"]["podIP"] = "".into();
    check_group(Attached::default(), &[(Resource::Pods, waiting)], "");
}

#[test]
fn what_is_attached_comes_from_other_objects() {
    let pod = json!({"metadata": {"name": "p", "namespace": "shop", "ownerReferences": [{"kind": "ReplicaSet", "name": "rs", "controller": true}]},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]}, "status": {"podIP": "1.1.1.1"}});
    let attached = Attached { node: true, namespace: true, deployment: true, job: true, cronjob: true };
    let common = "pod_name=p pod_ip=1.1.1.1 pod_ready=unknown pod_node_name=n namespace=shop pod_container_name=c pod_container_init=false node_name=n node_label_zone=a node_labelpresent_zone=true namespace_label_team=x namespace_labelpresent_team=true namespace_annotation_a=b namespace_annotationpresent_a=true";
    let others = [
        (Resource::Nodes, json!({"metadata": {"name": "n", "labels": {"zone": "a"}, "annotations": {"x": "y"}}})),
        (
            Resource::Namespaces,
            json!({"metadata": {"name": "shop", "labels": {"team": "x"}, "annotations": {"a": "b"}}}),
        ),
        (
            Resource::ReplicaSets,
            json!({"metadata": {"name": "rs", "namespace": "shop", "ownerReferences": [{"kind": "Deployment", "name": "d", "controller": true}]}}),
        ),
        (
            Resource::Jobs,
            json!({"metadata": {"name": "j", "namespace": "shop", "ownerReferences": [{"kind": "CronJob", "name": "cj", "controller": true}]}}),
        ),
    ];
    let all = |pod: Value| [&[(Resource::Pods, pod)][..], &others].concat();
    let expected =
        format!("1.1.1.1 {common} pod_controller_kind=ReplicaSet pod_controller_name=rs pod_deployment_name=d");
    check_group(attached, &all(pod.clone()), &expected);
    let mut of_job = pod;
    of_job["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "j", "controller": true}]);
    let expected =
        format!("1.1.1.1 {common} pod_controller_kind=Job pod_controller_name=j pod_job_name=j pod_cronjob_name=cj");
    check_group(attached, &all(of_job), &expected);
}

#[test]
fn nodes_have_the_address_of_their_kubelet() {
    check_group(
        Attached::default(),
        &[(
            Resource::Nodes,
            json!({"metadata": {"name": "n1", "labels": {"a.b": "c"}}, "spec": {"providerID": "aws:///x"},
                "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                    "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "fd00::9"},
                                  {"type": "InternalIP", "address": "10.0.0.9"}]}}),
        )],
        "[fd00::9]:10250 /instance=n1 node_name=n1 node_provider_id=aws:///x node_label_a_b=c node_labelpresent_a_b=true node_condition_memorypressure=false node_condition_ready=true node_address_Hostname=h node_address_InternalIP=fd00::9",
    );
    check_group(Attached::default(), &[(Resource::Nodes, json!({"metadata": {"name": "n1"}}))], "");
}

#[test]
fn services_have_a_target_for_each_port() {
    let service = |spec: Value| {
        [(Resource::Services, json!({"metadata": {"name": "s", "namespace": "d", "labels": {"l": "v"}}, "spec": spec}))]
    };
    const COMMON: &str = "namespace=d service_name=s service_label_l=v service_labelpresent_l=true";
    let ports = json!([{"name": "web", "port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
    check_group(
        Attached::default(),
        &service(json!({"type": "LoadBalancer", "clusterIP": "10.9.9.9", "loadBalancerIP": "1.2.3.4", "ports": ports})),
        &format!(
            "s.d.svc:80 {COMMON} service_port_name=web service_port_number=80 service_port_protocol=TCP service_type=LoadBalancer service_cluster_ip=10.9.9.9 service_loadbalancer_ip=1.2.3.4
             s.d.svc:53 {COMMON} service_port_number=53 service_port_protocol=UDP service_type=LoadBalancer service_cluster_ip=10.9.9.9 service_loadbalancer_ip=1.2.3.4"
        ),
    );
    check_group(
        Attached::default(),
        &service(json!({"type": "ExternalName", "externalName": "x.org", "ports": [{"port": 1, "protocol": "TCP"}]})),
        &format!(
            "s.d.svc:1 {COMMON} service_port_number=1 service_port_protocol=TCP service_type=ExternalName service_external_name=x.org"
        ),
    );
}

#[test]
fn endpoints_join_services_and_pods() {
    let endpoints = json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"e": "1"}}, "subsets": [{
        "addresses": [{"ip": "10.0.0.1", "nodeName": "node1", "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "shop"}},
                      {"ip": "10.0.0.7", "hostname": "h"}],
        "notReadyAddresses": [{"ip": "10.0.0.8", "targetRef": {"kind": "Pod", "name": "gone", "namespace": "shop"}}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]});
    let service = json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"s": "2"}}});
    const COMMON: &str = "namespace=shop endpoints_name=web endpoints_label_e=1 endpoints_labelpresent_e=true service_name=web service_label_s=2 service_labelpresent_s=true";
    const PORT: &str = "endpoint_port_name=http endpoint_port_protocol=TCP";
    check_group(
        Attached::default(),
        &[(Resource::Endpoints, endpoints), (Resource::Services, service), (Resource::Pods, pod())],
        &format!(
            "10.0.0.1:80 {COMMON} {PORT} endpoint_ready=true endpoint_node_name=node1 endpoint_address_target_kind=Pod endpoint_address_target_name=web-0 {POD} pod_container_name=main pod_container_image=web:1 pod_container_init=false pod_container_port_name=http pod_container_port_number=80 pod_container_port_protocol=TCP
             10.0.0.7:80 {COMMON} {PORT} endpoint_ready=true endpoint_hostname=h
             10.0.0.8:80 {COMMON} {PORT} endpoint_ready=false endpoint_address_target_kind=Pod endpoint_address_target_name=gone
             10.0.0.1:81 {COMMON} {POD} pod_container_name=main pod_container_image=web:1 pod_container_init=false pod_container_port_name=admin pod_container_port_number=81 pod_container_port_protocol=TCP"
        ),
    );
}

#[test]
fn slices_join_services_and_pods_of_their_family() {
    let slice = json!({"metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv6", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}],
        "endpoints": [{"addresses": ["fd00::1"], "conditions": {"ready": true, "serving": true, "terminating": false}, "nodeName": "node1",
            "zone": "z1", "hostname": "h", "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "shop"},
            "deprecatedTopology": {"kubernetes.io/hostname": "node1"}}]});
    let service = json!({"metadata": {"name": "web", "namespace": "shop"}});
    const COMMON: &str = "namespace=shop endpointslice_name=web-x endpointslice_address_type=IPv6 endpointslice_label_kubernetes_io_service_name=web endpointslice_labelpresent_kubernetes_io_service_name=true service_name=web";
    const MAIN: &str =
        "pod_container_name=main pod_container_image=web:1 pod_container_init=false pod_container_port_protocol=TCP";
    check_group(
        Attached::default(),
        &[(Resource::EndpointSlices, slice), (Resource::Services, service), (Resource::Pods, pod())],
        &format!(
            "[fd00::1]:80 {COMMON} endpointslice_port=80 endpointslice_port_name=http endpointslice_port_protocol=TCP endpointslice_port_app_protocol=http endpointslice_endpoint_conditions_ready=true endpointslice_endpoint_conditions_serving=true endpointslice_endpoint_conditions_terminating=false endpointslice_endpoint_hostname=h endpointslice_endpoint_node_name=node1 endpointslice_endpoint_zone=z1 endpointslice_address_target_kind=Pod endpointslice_address_target_name=web-0 endpointslice_endpoint_topology_kubernetes_io_hostname=node1 endpointslice_endpoint_topology_present_kubernetes_io_hostname=true {POD} {MAIN} pod_container_port_name=http pod_container_port_number=80
             [fd00::1]:81 {COMMON} {POD} {MAIN} pod_container_port_name=admin pod_container_port_number=81"
        ),
    );
    let no_port = json!({"metadata": {"name": "x", "namespace": "n"}, "addressType": "FQDN", "ports": [{}], "endpoints": [{"addresses": ["a.b"]}]});
    check_group(
        Attached::default(),
        &[(Resource::EndpointSlices, no_port)],
        "a.b namespace=n endpointslice_name=x endpointslice_address_type=FQDN",
    );
}

#[test]
fn ingresses_have_a_target_for_each_path() {
    let ingress = json!({"metadata": {"name": "i", "namespace": "d"}, "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.x.org"]}],
        "rules": [{"host": "a.x.org", "http": {"paths": [{"path": "/p"}, {}]}}, {"host": "b.a.x.org"}]}});
    check_group(
        Attached::default(),
        &[(Resource::Ingresses, ingress)],
        "a.x.org namespace=d ingress_name=i ingress_class_name=nginx ingress_scheme=https ingress_host=a.x.org ingress_path=/p
         a.x.org namespace=d ingress_name=i ingress_class_name=nginx ingress_scheme=https ingress_host=a.x.org ingress_path=/
         b.a.x.org namespace=d ingress_name=i ingress_class_name=nginx ingress_scheme=http ingress_host=b.a.x.org ingress_path=/",
    );
}

fn named(name: &str, ip: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "a", "resourceVersion": "11"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1}]}]}, "status": {"podIP": ip}})
}

fn listed(version: &str, next: &str, pods: &[Value]) -> Value {
    json!({"kind": "PodList", "metadata": {"resourceVersion": version, "continue": next}, "items": pods})
}

fn events(events: &[(&str, Value)]) -> Reply {
    let lines: Vec<String> =
        events.iter().map(|(kind, object)| json!({"type": kind, "object": object}).to_string()).collect();
    Reply::Raw(200, "", lines.join("\n") + "\n")
}

#[tokio::test]
async fn lists_are_read_in_pages_and_changes_followed() {
    const PODS: &str = "/api/v1/namespaces/a/pods";
    let first = format!("{PODS}?labelSelector=app%3Dx&limit=500");
    let second = format!("{first}&continue=more");
    let watch = |version: u32| {
        format!(
            "{PODS}?labelSelector=app%3Dx&watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=300"
        )
    };
    let stub = Stub::start([]).await;
    stub.json(&first, listed("10", "more", &[named("p1", "10.0.0.1")]));
    stub.json(&second, listed("10", "", &[named("p2", "10.0.0.2")]));
    let mut later = named("p3", "10.0.0.3");
    later["metadata"]["resourceVersion"] = "12".into();
    let mark = json!({"kind": "Pod", "metadata": {"resourceVersion": "15"}});
    stub.set(&watch(10), events(&[("DELETED", named("p1", "")), ("ADDED", later), ("BOOKMARK", mark)]));
    // forgotten: everything is listed again
    stub.set(&watch(15), Reply::Silence);
    let text =
        "{role: pod, api_server: 'http://SERVER', namespaces: {names: [a]}, selectors: [{role: pod, label: app=x}]}";
    let mut running = Running::start(&[config("kubernetes", text, Some(&stub))]);
    running.until_addresses(&["10.0.0.2:1", "10.0.0.3:1"]).await;
    while !stub.lines().iter().any(|line| line.ends_with(&watch(15))) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut page = common::metrics::Page::new();
    running.metrics.collect(&mut page);
    assert_eq!(running.metrics.kubernetes_failures.get(), 0);
}

#[tokio::test]
async fn what_the_server_has_forgotten_is_listed_anew_and_faults_are_survived() {
    let stub = Stub::start([("/api/v1/pods?limit=500", listed("1", "", &[named("p", "10.0.0.1")]))]).await;
    let watch = |version| {
        format!("/api/v1/pods?watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=300")
    };
    stub.set(&watch(1), Reply::Silence);
    let mut running = Running::start(&[config("kubernetes", "{role: pod, api_server: 'http://SERVER'}", Some(&stub))]);
    running.until_addresses(&["10.0.0.1:1"]).await;
    drop(running);

    // the same with a watch that says that the version is too old
    stub.set(&watch(1), events(&[("ERROR", json!({"kind": "Status", "code": 410, "message": "too old"}))]));
    let mut running = Running::start(&[config("kubernetes", "{role: pod, api_server: 'http://SERVER'}", Some(&stub))]);
    running.until_addresses(&["10.0.0.1:1"]).await;
    stub.json("/api/v1/pods?limit=500", listed("7", "", &[named("q", "10.0.0.2")]));
    stub.set(&watch(7), Reply::Raw(500, "", String::new()));
    running.until_addresses(&["10.0.0.2:1"]).await;
    while running.metrics.kubernetes_failures.get() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // what is known stays while the watch fails
    stub.set(&watch(7), events(&[("MODIFIED", named("q", "10.0.0.5"))]));
    stub.set(&watch(11), Reply::Silence);
    running.until_addresses(&["10.0.0.5:1"]).await;
}

#[tokio::test]
async fn a_service_that_changes_changes_its_endpoints() {
    let endpoints = json!({"metadata": {"name": "s", "namespace": "n"}, "subsets": [{"addresses": [{"ip": "1.1.1.1"}], "ports": [{"port": 1}]}]});
    let service = |version: &str, label: &str| json!({"metadata": {"name": "s", "namespace": "n", "resourceVersion": version, "labels": {"l": label}}});
    let list = |item: Value| json!({"metadata": {"resourceVersion": "1"}, "items": [item]});
    let stub = Stub::start([
        ("/api/v1/endpoints?limit=500", list(endpoints)),
        ("/api/v1/services?limit=500", list(service("1", "old"))),
        ("/api/v1/pods?limit=500", json!({"metadata": {"resourceVersion": "1"}, "items": []})),
    ])
    .await;
    for path in ["/api/v1/endpoints", "/api/v1/pods"] {
        stub.set(path, Reply::Silence);
    }
    let watch = "/api/v1/services?watch=true&allowWatchBookmarks=true&resourceVersion=1&timeoutSeconds=300";
    stub.set(watch, events(&[("MODIFIED", service("2", "new"))]));
    stub.set("/api/v1/services", Reply::Silence);
    let mut running =
        Running::start(&[config("kubernetes", "{role: endpoints, api_server: 'http://SERVER'}", Some(&stub))]);
    running
        .until(r#"{__address__="1.1.1.1:1", __meta_kubernetes_endpoint_ready="true", __meta_kubernetes_endpoints_name="s", __meta_kubernetes_namespace="n", __meta_kubernetes_service_label_l="new", __meta_kubernetes_service_labelpresent_l="true", __meta_kubernetes_service_name="s"}"#)
        .await;
}
