//! The same discovery beside the real Prometheus: the same targets with the same labels, before and after changes.

use std::path::Path;
use std::process::Command;

use harness::{NameServer, Prometheus, Reply, Stub, Target, api, binary, eventually, peer, record};
use serde_json::{Value, json};

/// Labels of Docker's containers that Prometheus has since its change #19386; the peer may be older.
const NEWER_LABELS: [&str; 2] = ["docker_container_image", "docker_container_image_id"];

/// Targets as both servers show them, without what scrapes decide.
fn targets(base: &str) -> Vec<String> {
    let data = api(base, "targets");
    let mut all = Vec::new();
    for kind in ["activeTargets", "droppedTargets"] {
        for target in data[kind].as_array().unwrap() {
            let mut target = target.clone();
            for field in ["lastScrape", "lastScrapeDuration", "lastError", "health", "globalUrl"] {
                target.as_object_mut().unwrap().remove(field);
            }
            for (labels, prefix) in [("discoveredLabels", "__meta_"), ("labels", "found_")] {
                if let Some(labels) = target[labels].as_object_mut() {
                    labels.retain(|name, _| !NEWER_LABELS.iter().any(|newer| *name == format!("{prefix}{newer}")));
                }
            }
            all.push(format!("{kind} {target}"));
        }
    }
    all.sort();
    all
}

/// Waits until both servers show `count` targets, and compares them.
fn same_targets(servers: &[Prometheus; 2], what: &str, count: usize) {
    for server in servers {
        eventually(&format!("{count} targets of {what} at {}", server.base), 60, || {
            let found = targets(&server.base);
            if found.len() != count {
                return None;
            }
            Some(found)
        });
    }
    // what a target says may change a moment later than how many there are
    let mut both = servers.each_ref().map(|server| targets(&server.base));
    for _ in 0..100 {
        if both[0] == both[1] {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        both = servers.each_ref().map(|server| targets(&server.base));
    }
    let [ours, theirs] = both;
    if ours == theirs {
        return;
    }
    let only = |a: &[String], b: &[String]| a.iter().filter(|t| !b.contains(t)).cloned().collect::<Vec<_>>().join("\n");
    panic!("{what}\nonly ours:\n{}\nonly theirs:\n{}", only(&ours, &theirs), only(&theirs, &ours));
}

/// Both servers with one configuration, started as `prepare` leaves their commands; `None` without the real one.
fn both(folder: &Path, config: &str, prepare: impl Fn(&mut Command)) -> Option<[Prometheus; 2]> {
    let theirs = peer("prometheus")?;
    Some([binary("collector"), theirs].map(|program| {
        let mut command = Command::new(program);
        prepare(&mut command);
        Prometheus::run(command, folder, config, &[])
    }))
}

/// Shows everything that was discovered as labels, too, and drops what says so.
const SHOW: &str = "
  relabel_configs:
  - {regex: __meta_(.+), action: labelmap, replacement: found_$1}
  - {source_labels: [drop], regex: 'yes', action: drop}";

#[test]
fn files_and_http_give_the_same_targets() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("sd");
    std::fs::create_dir(&files).unwrap();
    let source = Target::start(Reply::Typed("application/json", "[]".into()));
    let config = format!(
        "global: {{scrape_interval: 1h}}
scrape_configs:
- job_name: files
  file_sd_configs: [{{files: ['sd/*.json', sd/one.yml, sd/missing.yaml], refresh_interval: 1s}}]{SHOW}
- job_name: http
  scheme: https
  params: {{module: [a, b], x: ['']}}
  http_sd_configs: [{{url: 'http://{}/sd?x=y', refresh_interval: 1s}}]{SHOW}
",
        source.address
    );
    let write = |name: &str, text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, files.join(name)).unwrap();
    };
    write(
        "a.json",
        r#"[{"targets": ["a:1", "[::1]:80", "nowhere", "a:1"], "labels": {"x": "y\"\\ü", "__metrics_path__": "m?a=b", "empty": ""}}, {"targets": []},
            {"targets": ["twice:1"]}, {"targets": ["twice:1"]}, {"targets": ["gone:1"], "labels": {"drop": "yes"}},
            {"targets": ["full:443"], "labels": {"__scheme__": "https", "__param_module": "c", "job": "other", "instance": "me", "__scrape_interval__": "90m", "__scrape_timeout__": "1m30s"}}]"#,
    );
    write("one.yml", "- targets: ['y:1', 'y:2']\n  labels: {n: \"1\", wide.name: w}\n");
    source.set(Reply::Typed(
        "application/json; charset=utf-8",
        r#"[{"targets": ["h:1", "h:2"], "labels": {"__meta_datacenter": "london", "__param_module": "z"}}, {"targets": ["h:3"], "labels": {"drop": "yes"}}]"#.into(),
    ));
    let Some(servers) = both(folder.path(), &config, |_| ()) else { return };
    same_targets(&servers, "the start", 11);

    // a file changes, one comes, one breaks, and the answer changes
    write("a.json", r#"[{"targets": ["a:2"], "labels": {"drop": "no"}}]"#);
    write("b.json", r#"[{"targets": ["b:1"]}, {"targets": ["b:2"], "labels": {"drop": "yes"}}]"#);
    write("one.yml", "- targets: [\n");
    source.set(Reply::Typed("application/json", r#"[{"targets": ["h:2"], "labels": {"a": "b"}}]"#.into()));
    same_targets(&servers, "the change", 6);

    // one file goes; what is no list of groups in JSON is wrong and changes nothing
    std::fs::remove_file(files.join("b.json")).unwrap();
    same_targets(&servers, "a file less", 4);
    for wrong in [
        "{}",
        "{\"targets\": []}",
        "[null]",
        "[{\"targets\": [\"x:1\"]}] x",
        "[{\"targets\": [\"x:1\"],}]",
        "[{\"targets\": [\"x:1\"], \"more\": 1}]",
        "[{\"targets\": [\"x:1\"], \"labels\": {\"a\": 1}}]",
        "",
    ] {
        write("a.json", wrong);
        source.set(Reply::Typed("application/json", wrong.into()));
        let asked = source.requests().len();
        eventually("both to ask", 30, || (source.requests().len() > asked + 4).then_some(()));
    }
    // the real Prometheus shows changes every five seconds
    std::thread::sleep(std::time::Duration::from_secs(6));
    same_targets(&servers, "wrong groups", 4);
    // one wrong target takes no other with it
    let mixed = r#"[{"targets": ["x/y", "z:1", "z:2"], "labels": {"crab": "\ud83e\udd80", "slash": "\/"}}]"#;
    write("a.json", mixed);
    source.set(Reply::Typed("application/json", mixed.into()));
    same_targets(&servers, "a wrong target", 6);
    // nothing, in two ways
    write("a.json", "null");
    write("one.yml", "");
    source.set(Reply::Typed("application/json", "[]".into()));
    same_targets(&servers, "nothing", 0);
}

#[test]
fn docker_gives_the_same_targets() {
    let folder = tempfile::tempdir().unwrap();
    let docker = Stub::start();
    let config = format!(
        "global: {{scrape_interval: 1h}}
scrape_configs:
- job_name: docker
  docker_sd_configs: [{{host: 'http://{0}', refresh_interval: 1s, port: 8080}}]{SHOW}
- job_name: all_networks
  docker_sd_configs: [{{host: 'http://{0}', refresh_interval: 1s, match_first_network: false, host_networking_host: h}}]{SHOW}
",
        docker.address
    );
    docker.set("/_ping", &json!("OK"));
    let network = |id: &str, ip: &str| json!({"NetworkID": id, "IPAddress": ip, "Gateway": "172.17.0.1"});
    let port = |private: u16, more: Value| {
        let mut port = json!({"PrivatePort": private, "Type": "tcp"});
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        port
    };
    let container = |id: &str, name: &str, ports: Value, mode: &str, networks: Value| {
        json!({"Id": id, "Names": [name], "Image": "img:1", "ImageID": "sha256:1", "Command": "x", "Created": 1,
               "Ports": ports, "Labels": {"com.example/a-b": "c", "drop": "no"}, "State": "running", "Status": "Up",
               "HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks}, "Mounts": []})
    };
    let two = json!({"bridge": network("n1", "172.17.0.2"), "other": network("n2", "172.18.0.2")});
    let ports = json!([port(80, json!({"PublicPort": 8080, "IP": "0.0.0.0"})), port(443, json!({})),
                       {"PrivatePort": 53, "Type": "udp"}]);
    let first = container("c1", "/web", ports, "bridge", two);
    let plain = container("c2", "/plain", json!([]), "other", json!({"other": network("n2", "172.18.0.3")}));
    let host = container("c3", "/host", json!([]), "host", json!({"host": network("n3", "")}));
    let shared = container("c4", "/sidecar", json!([port(9090, json!({}))]), "container:c1", json!({}));
    docker.set("/containers/json", &json!([first, plain, host, shared]));
    let net = |id: &str, name: &str, more: Value| {
        let mut net = json!({"Id": id, "Name": name, "Scope": "local", "Driver": "bridge", "Internal": false,
                             "Ingress": false, "Labels": {"l": "v"}, "IPAM": {"Driver": "default"}});
        net.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        net
    };
    let networks = json!([
        net("n1", "bridge", json!({})),
        net("n2", "other", json!({"Internal": true})),
        net("n3", "host", json!({}))
    ]);
    docker.set("/networks", &networks);

    let Some(servers) = both(folder.path(), &config, |_| ()) else { return };
    same_targets(&servers, "the start", 5 + 8);

    docker.set("/containers/json", &json!([host]));
    same_targets(&servers, "the change", 2);
    docker.set("/containers/json", &json!([plain, shared]));
    same_targets(&servers, "another change", 2);
}

/// Has a command see another `resolv.conf`, in a mount namespace of its own.
fn with_resolver(command: &mut Command, file: &Path) {
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let program = command.get_program().to_owned();
    *command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(file).arg(program);
}

#[test]
fn dns_gives_the_same_targets() {
    // the real Prometheus asks port 53 of what resolv.conf names
    let Ok(names) = NameServer::start("127.53.53.53:53".parse().unwrap()) else {
        println!("skipped: it takes root to listen on port 53");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let resolver = folder.path().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.53.53.53\nsearch search.test\n").unwrap();
    let mut probe = Command::new("true");
    with_resolver(&mut probe, &resolver);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine allows no mount namespaces");
        return;
    }
    let config = format!(
        "global: {{scrape_interval: 1h}}
scrape_configs:
- job_name: srv
  dns_sd_configs: [{{names: [_web._tcp.x.test, _none._tcp.x.test], refresh_interval: 1s}}]{SHOW}
- job_name: addresses
  dns_sd_configs:
  - {{names: [x.test, host], type: A, port: 80, refresh_interval: 1s}}
  - {{names: [x.test.], type: AAAA, port: 81, refresh_interval: 1s}}{SHOW}
- job_name: servers
  dns_sd_configs:
  - {{names: [x.test], type: MX, port: 25, refresh_interval: 1s}}
  - {{names: [x.test], type: NS, port: 53, refresh_interval: 1s}}{SHOW}
"
    );
    names.set(
        "_web._tcp.x.test.",
        record::SRV,
        vec![NameServer::srv(80, "a.x.test."), NameServer::srv(81, "b.x.test.")],
    );
    names.set("x.test.", record::A, vec![vec![10, 0, 0, 1], vec![10, 0, 0, 2]]);
    names.set("host.search.test.", record::A, vec![vec![10, 0, 0, 3]]);
    names.set("x.test.", record::AAAA, vec![[&[0xfe, 0x80][..], &[0; 13], &[1]].concat()]);
    names.set("x.test.", record::MX, vec![NameServer::mx("mail.x.test.")]);
    names.set("x.test.", record::NS, vec![NameServer::wire("ns.x.test.")]);
    let Some(servers) = both(folder.path(), &config, |command| with_resolver(command, &resolver)) else { return };
    same_targets(&servers, "the start", 2 + 4 + 2);
    names.set("_web._tcp.x.test.", record::SRV, vec![NameServer::srv(82, "b.x.test.")]);
    names.set("x.test.", record::A, vec![vec![10, 0, 0, 9]]);
    names.set("x.test.", record::MX, vec![]);
    same_targets(&servers, "the change", 1 + 3 + 1);
}
