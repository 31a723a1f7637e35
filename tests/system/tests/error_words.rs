//! What targets that cannot be scraped say in `lastError`, beside the real Prometheus: the same words for each kind of fault.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use harness::{Prometheus, Reply, Target, api, eventually, free_port, peer};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// A server that sends the beginning of a page and then nothing.
fn stalls() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: 100\r\n\r\na 1\n";
            let _ = stream.write_all(head.as_bytes());
            kept.push(stream);
        }
    });
    address
}

/// One of our servers with a certificate of its own making for these names.
fn secured(folder: &Path, name: &str, names: &[&str], expired: bool) -> (Prometheus, SocketAddr) {
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    let web = folder.join(format!("{name}.yml"));
    std::fs::write(&web, format!("tls_server_config: {{cert_file: {name}.crt, key_file: {name}.key}}\n")).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Prometheus::ours_secured(folder, &web, address);
    (server, address)
}

/// The last error of the only target of a job.
fn words(base: &str, job: &str) -> String {
    let target = eventually("a scrape", 30, || {
        let targets = api(base, &format!("targets?scrapePool={job}"));
        let target = targets["activeTargets"][0].clone();
        // the real one reads the error before the health: between them a scrape may end
        let told = target["lastError"].as_str().is_some_and(|error| !error.is_empty());
        (told && target["health"] == "down").then_some(target)
    });
    target["lastError"].as_str().unwrap().to_owned()
}

#[test]
fn faults_are_told_in_the_words_of_prometheus() {
    let Some(real) = peer("prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (own, own_at) = secured(folder.path(), "own", &["127.0.0.1"], false);
    let (other, other_at) = secured(folder.path(), "other", &["other.example"], false);
    let (old, old_at) = secured(folder.path(), "old", &["127.0.0.1"], true);
    let silent = Target::start(Reply::Silence);
    let closed = Target::start(Reply::Raw(Vec::new().into()));
    let garbage = Target::start(Reply::Garbage);
    let cut = Target::start(Reply::CutShort("a 1\n".into()));
    let missing = Target::start(Reply::Status(404));
    let untyped = Target::start(Reply::Typed("application/json", "{}".into()));
    let large = Target::start(Reply::Page("a 1\nb 2\nc 3\n".into()));
    let stalled = stalls();
    let trusting = |name: &str| format!(", scheme: https, tls_config: {{ca_file: {name}.crt}}");
    // job, address, further settings, and how the words begin where not all of them are the same
    let cases: Vec<(&str, String, String, Option<&str>)> = vec![
        ("refused", "127.0.0.1:1".into(), String::new(), None),
        ("silent", silent.address.to_string(), String::new(), None),
        ("stalled", stalled.to_string(), String::new(), None),
        ("closed", closed.address.to_string(), String::new(), None),
        // the line that is no HTTP stands behind these words
        (
            "garbage",
            garbage.address.to_string(),
            String::new(),
            Some("net/http: HTTP/1.x transport connection broken: malformed HTTP "),
        ),
        ("cut", cut.address.to_string(), String::new(), None),
        ("missing", missing.address.to_string(), String::new(), None),
        ("untyped", untyped.address.to_string(), String::new(), None),
        ("large", large.address.to_string(), ", body_size_limit: 5B".into(), None),
        // Go tells which server of names it has asked
        ("unknown", "nosuch.invalid:80".into(), String::new(), Some("dial tcp: lookup nosuch.invalid")),
        ("plain", missing.address.to_string(), ", scheme: https".into(), None),
        ("untrusted", own_at.to_string(), ", scheme: https".into(), None),
        ("other", other_at.to_string(), trusting("other"), None),
        (
            "named",
            other_at.to_string(),
            ", scheme: https, tls_config: {ca_file: other.crt, server_name: third.example}".into(),
            None,
        ),
        // the moment is told too
        (
            "old",
            old_at.to_string(),
            trusting("old"),
            Some("tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time "),
        ),
    ];
    let mut config = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (job, address, more, _) in &cases {
        config.push_str(&format!("- {{job_name: {job}, static_configs: [{{targets: ['{address}']}}]{more}}}\n"));
    }
    let ours = Prometheus::ours(folder.path(), &config, &[]);
    let theirs = Prometheus::start(&real, folder.path(), &config, &[]);
    let mut faults = Vec::new();
    for (job, _, _, beginning) in &cases {
        let [a, b] = [&ours, &theirs].map(|server| words(&server.base, job));
        let same = match beginning {
            None => a == b,
            // behind the address
            Some(beginning) => [&a, &b].iter().all(|text| text.contains(&format!("\": {beginning}"))),
        };
        if !same {
            faults.push(format!("{job}\n  ours   {a}\n  theirs {b}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for server in [own, other, old, ours] {
        server.stop();
    }
}
