use serde_json::json;

use super::super::testing::{Reply, Running, Stub, check, config, settings};
use super::*;

fn containers() -> Value {
    json!([
        {"Id": "c1", "Names": ["/web"], "Image": "web:1", "ImageID": "sha256:1", "Labels": {"com.example/team": "a"},
         "HostConfig": {"NetworkMode": "front"},
         "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                   {"PrivatePort": 443, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
         "NetworkSettings": {"Networks": {
            "front": {"NetworkID": "n2", "IPAddress": "172.18.0.2"}, "back": {"NetworkID": "n1", "IPAddress": "172.17.0.2"}}}},
        // no port: the configured one
        {"Id": "c2", "Names": ["/quiet"], "HostConfig": {"NetworkMode": "default"}, "Labels": null, "Ports": [],
         "NetworkSettings": {"Networks": {"bridge": {"NetworkID": "n1", "IPAddress": "172.17.0.3"}, "gone": null}}},
        {"Id": "c3", "Names": ["/agent"], "HostConfig": {"NetworkMode": "host"}, "Ports": [],
         "NetworkSettings": {"Networks": {"host": {"NetworkID": "n3", "IPAddress": ""}}}},
        // lives in the network of the second
        {"Id": "c4", "Names": ["/sidecar"], "HostConfig": {"NetworkMode": "container:c2"},
         "Ports": [{"PrivatePort": 9, "Type": "tcp"}], "NetworkSettings": {"Networks": {}}},
        // share each other's
        {"Id": "c5", "Names": ["/lost"], "HostConfig": {"NetworkMode": "container:c6"}, "NetworkSettings": {"Networks": {}}},
        {"Id": "c6", "Names": ["/lost2"], "HostConfig": {"NetworkMode": "container:c5"}, "NetworkSettings": {"Networks": {}}},
        {"Id": "c7", "Names": [], "HostConfig": {"NetworkMode": "bridge"}}
    ])
}

fn networks_answer() -> Value {
    json!([
        {"Id": "n1", "Name": "back", "Scope": "local", "Internal": true, "Ingress": false, "Labels": {"net.kind": "x"}},
        {"Id": "n2", "Name": "front", "Scope": "local", "Internal": false, "Ingress": true, "Labels": null},
        {"Id": "n3", "Name": "host", "Scope": "local"}
    ])
}

const N1: &str = "network_id=n1 network_name=back network_scope=local network_internal=true network_ingress=false network_label_net_kind=x";
const N2: &str = "network_id=n2 network_name=front network_scope=local network_internal=false network_ingress=true";
const WEB: &str = "container_id=c1 container_name=/web container_image=web:1 container_image_id=sha256:1 container_network_mode=front container_label_com_example_team=a";

fn rest() -> String {
    format!(
        "172.17.0.3:90 container_id=c2 container_name=/quiet container_network_mode=default network_ip=172.17.0.3 {N1}
         here container_id=c3 container_name=/agent container_network_mode=host network_id=n3 network_name=host network_scope=local network_internal=false network_ingress=false
         172.17.0.3:9 container_id=c4 container_name=/sidecar container_network_mode=container:c2 network_ip=172.17.0.3 port_private=9 {N1}"
    )
}

async fn stub() -> Stub {
    let stub = Stub::start([("/v1.45/containers/json", containers()), ("/v1.45/networks", networks_answer())]).await;
    stub.set("/_ping", Reply::Raw(200, "Api-Version: 1.45\r\n", String::new()));
    stub
}

#[tokio::test]
async fn containers_become_targets_of_their_first_network() {
    let stub = stub().await;
    let text = "{host: 'http://SERVER', port: 90, host_networking_host: here, filters: [{name: status, values: [running, paused]}]}";
    let groups = Docker::new(&settings("docker", text, Some(&stub))).unwrap().refresh().await.unwrap();
    let expected = format!(
        "172.17.0.2:80 {WEB} {N1} network_ip=172.17.0.2 port_private=80 port_public=8080 port_public_ip=0.0.0.0
         172.17.0.2:443 {WEB} {N1} network_ip=172.17.0.2 port_private=443\n{}",
        rest()
    );
    check(&groups, PREFIX, &expected);
    let filters = "%7B%22status%22%3A%7B%22paused%22%3Atrue%2C%22running%22%3Atrue%7D%7D";
    let lines = stub.lines();
    assert_eq!(lines[..2], ["HEAD /_ping".to_owned(), format!("GET /v1.45/containers/json?filters={filters}")]);
}

#[tokio::test]
async fn all_networks_are_taken_if_wanted() {
    let stub = stub().await;
    let text = "{host: 'tcp://SERVER', port: 90, host_networking_host: here, match_first_network: false}";
    let groups = Docker::new(&settings("docker", text, Some(&stub))).unwrap().refresh().await.unwrap();
    let expected = format!(
        "172.17.0.2:80 {WEB} {N1} network_ip=172.17.0.2 port_private=80 port_public=8080 port_public_ip=0.0.0.0
         172.17.0.2:443 {WEB} {N1} network_ip=172.17.0.2 port_private=443
         172.18.0.2:80 {WEB} {N2} network_ip=172.18.0.2 port_private=80 port_public=8080 port_public_ip=0.0.0.0
         172.18.0.2:443 {WEB} {N2} network_ip=172.18.0.2 port_private=443\n{}",
        rest()
    );
    check(&groups, PREFIX, &expected);
}

#[tokio::test]
async fn changes_failures_and_recovery() {
    let stub = stub().await;
    let one =
        |ip: &str| json!([{"Id": "c", "Names": ["/c"], "NetworkSettings": {"Networks": {"n": {"IPAddress": ip}}}}]);
    const LIST: &str = "/v1.45/containers/json";
    stub.json(LIST, one("10.0.0.1"));
    let mut running =
        Running::start(&[config("docker", "{host: 'http://SERVER', refresh_interval: 200ms}", Some(&stub))]);
    running.until_addresses(&["10.0.0.1:80"]).await;
    for fault in [
        Reply::Raw(500, "", "broken".into()),
        Reply::Raw(401, "", String::new()),
        Reply::Raw(429, "", String::new()),
        Reply::Raw(200, "", "{nonsense".into()),
        Reply::Json(json!({"message": "no list"})),
        Reply::Silence,
        Reply::Endless,
    ] {
        let before = running.metrics.refreshes("docker", "job").failures.get();
        stub.set(LIST, fault.clone());
        while running.metrics.refreshes("docker", "job").failures.get() < before + 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // what was known stays
        running.until_addresses(&["10.0.0.1:80"]).await;
    }
    stub.json(LIST, one("10.0.0.2"));
    running.until_addresses(&["10.0.0.2:80"]).await;
    stub.json(LIST, json!([]));
    running.until_addresses(&[]).await;
}

#[tokio::test]
async fn the_daemons_socket_is_spoken_to() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]";
            let head = if buffer.starts_with(b"HEAD") { answer.len() - 2 } else { answer.len() };
            let _ = stream.write_all(&answer.as_bytes()[..head]).await;
        }
    });
    let text = format!("host: unix://{}", path.display());
    let groups = Docker::new(&settings("docker", &text, None)).unwrap().refresh().await.unwrap();
    assert_eq!((groups.len(), groups[0].targets.len()), (1, 0));
    server.abort();
    assert!(Docker::new(&settings("docker", "host: npipe://x", None)).is_err());
}
