//! The exporter as a whole: pages, reloading, guards, several targets at once, and targets that mean harm.
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use support::certificates::{Authority, Kind};
use support::{exporter, get, query, request, series, servers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn probe(parameters: &[(&str, &str)]) -> String {
    format!("/probe?{}", query(parameters))
}

async fn ok_server() -> std::net::SocketAddr {
    servers::http(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages() {
    let web = ok_server().await.to_string();
    let config = "modules:\n  http_2xx: {prober: http, http: {basic_auth: {username: u, password: hunter2}}}\n";
    let exporter = exporter(config, &["--history.limit=2"]).await;
    let at = exporter.address;
    assert_eq!(get(at, &probe(&[("target", &web)])).await.status, 200);
    assert_eq!(get(at, &probe(&[("target", "127.0.0.1:1")])).await.status, 200);
    for (path, status, text) in [
        ("/-/healthy", 200, "Healthy"),
        ("/", 200, "<h2>Recent Probes</h2>"),
        ("/", 200, "<strong>Failure</strong> (connect)"),
        ("/config", 200, "password: <secret>"),
        ("/logs?id=0", 200, "Metrics that would have been returned:\n# HELP probe_dns_lookup_time_seconds"),
        ("/logs?id=1", 200, "msg=\"Error for HTTP request\""),
        ("/logs?id=77", 404, "Probe id not found"),
        ("/logs?id=x", 500, "Invalid probe id"),
        ("/logs?target=127.0.0.1:1", 200, "probe_success 0"),
        ("/probe?module=nosuch&target=x", 400, "Unknown module \"nosuch\""),
        ("/probe?module=http_2xx", 400, "Target parameter is missing"),
        ("/metrics", 200, "blackbox_module_unknown_total 1"),
        ("/metrics", 200, "blackbox_exporter_config_last_reload_successful 1"),
        ("/metrics", 200, "blackbox_exporter_probe_failures_total{prober=\"http\",reason=\"connect\"} 1"),
        ("/metrics", 200, "blackbox_exporter_build_info{"),
        ("/-/reload", 405, "This endpoint requires a POST request."),
    ] {
        let answer = get(at, path).await;
        assert!(answer.status == status && answer.body.contains(text), "{path}: {answer:?}");
        assert!(!answer.body.contains("hunter2"), "{path}");
    }
    let debug = get(at, &probe(&[("target", &web), ("debug", "true")])).await.body;
    for part in ["Beginning probe", "Making HTTP request", "Probe succeeded", "Module configuration:\nprober: http"] {
        assert!(debug.contains(part), "{part}: {debug}");
    }
    let late = request(at, "GET", &probe(&[("target", &web)]), "X-Prometheus-Scrape-Timeout-Seconds: soon\r\n").await;
    assert_eq!(late.status, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_below_a_prefix() {
    let exporter = exporter("modules: {}", &["--web.external-url=http://x/blackbox"]).await;
    assert!(get(exporter.address, "/blackbox/").await.body.contains("href=\"/blackbox/metrics\""));
    assert_eq!(get(exporter.address, "/blackbox/metrics").await.status, 200);
    assert_eq!((get(exporter.address, "/").await.status, get(exporter.address, "/metrics").await.status), (302, 404));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloading() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blackbox.yml");
    std::fs::write(&file, "modules: {one: {prober: tcp}}").unwrap();
    let exporter = exporter("", &[&format!("--config.file={}", file.display())]).await;
    let at = exporter.address;
    let knows = async |name: &str| get(at, &probe(&[("module", name), ("target", "127.0.0.1:1")])).await.status == 200;
    assert!(knows("one").await && !knows("two").await);
    std::fs::write(&file, "modules: {two: {prober: tcp}}").unwrap();
    assert_eq!(request(at, "POST", "/-/reload", "").await.status, 200);
    assert!(!knows("one").await && knows("two").await);
    std::fs::write(&file, "modules: {three: {prober: nonsense}}").unwrap();
    let refused = request(at, "POST", "/-/reload", "").await;
    assert!(refused.status == 500 && refused.body.contains("prober 'nonsense' is not valid"), "{refused:?}");
    assert!(knows("two").await);
    assert!(get(at, "/metrics").await.body.contains("config_last_reload_successful 0"));
    // as SIGHUP does
    std::fs::write(&file, "modules: {four: {prober: tcp}}").unwrap();
    exporter.reload.send(()).await.unwrap();
    while !knows("four").await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blackbox.yml");
    std::fs::write(&file, "modules: {}").unwrap();
    let flags = [
        format!("--config.file={}", file.display()),
        "--config.enable-auto-reload".into(),
        "--config.auto-reload-interval=1".into(),
    ];
    let exporter = exporter("", &flags.each_ref().map(String::as_str)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::write(&file, "modules: {found: {prober: tcp}}").unwrap();
    while get(exporter.address, "/probe?module=found&target=127.0.0.1:1").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_targets_and_both_protocols() {
    let web = ok_server().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("list"), format!("# targets\n{web}\n127.0.0.1:1\n")).unwrap();
    let config = "modules: {http_2xx: {prober: http, timeout: 5s}}";
    let exporter =
        exporter(config, &[&format!("--probe.targets-dir={}", folder.path().display()), "--probe.max-targets=3"]).await;
    let at = exporter.address;
    let text = web.to_string();
    let both = series(&get(at, &probe(&[("target", &text), ("target", "127.0.0.1:1")])).await.body);
    assert_eq!(both[&format!("probe_success{{target=\"{web}\"}}")], "1");
    assert_eq!(both["probe_success{target=\"127.0.0.1:1\"}"], "0");
    let listed = series(&get(at, &probe(&[("targets_file", "list")])).await.body);
    assert_eq!(listed[&format!("probe_success{{target=\"{web}\"}}")], "1");
    assert_eq!(get(at, &probe(&[("targets_file", "../list")])).await.status, 400);
    let many = [("target", "a"), ("target", "b"), ("target", "c"), ("target", "d")];
    assert_eq!(get(at, &probe(&many)).await.status, 400);
    let name = format!("localhost:{}", web.port());
    let protocols =
        series(&get(at, &probe(&[("target", &name), ("ip_protocol", "both"), ("extended", "true")])).await.body);
    assert_eq!(protocols["probe_success{ip_protocol=\"4\"}"], "1");
    assert_eq!(protocols["probe_success{ip_protocol=\"6\"}"], "0");
    let reason = protocols.keys().find(|name| name.starts_with("probe_failure_info{")).expect("a reason");
    assert!(reason.contains("ip_protocol=\"6\""), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hostname_is_asked_for() {
    let authority = Authority::new();
    let ca = serde_json::to_string(&authority.pem()).unwrap();
    let answer = |head: &str| {
        let named = head.contains("\r\nHost: other.example\r\n");
        let status = if named { "200 OK" } else { "404 Not Found" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    let plain = servers::http(answer).await;
    // its certificate is for other.example
    let secure = servers::https(authority.server(Kind::WrongName, &["http/1.1"]), answer).await;
    let config = format!("modules: {{http_2xx: {{prober: http, timeout: 5s, http: {{tls_config: {{ca: {ca}}}}}}}}}");
    let exporter = exporter(&config, &[]).await;
    for (target, hostname, success) in [
        (format!("http://{plain}/"), "other.example", "1"),
        (format!("http://{plain}/"), "", "0"),
        (format!("https://{secure}/"), "other.example", "1"),
        (format!("https://{secure}/"), "", "0"),
    ] {
        let page = get(exporter.address, &probe(&[("target", &target), ("hostname", hostname)])).await.body;
        assert_eq!(series(&page)["probe_success"], success, "{target} {hostname}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_that_won_is_told() {
    let web = ok_server().await;
    let target = format!("http://localhost:{}/", web.port());
    // names of redirects are connected to by every address they have
    let first = servers::http(move |_| {
        format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let exporter = exporter("modules: {http_2xx: {prober: http, timeout: 5s}}", &[]).await;
    let page = get(exporter.address, &probe(&[("target", &first.to_string()), ("extended", "true")])).await.body;
    let found = series(&page);
    assert_eq!(found["probe_success"], "1", "{page}");
    // the server listens on this one only, whatever else the name stands for
    assert!(found.contains_key("probe_connect_attempt_duration_seconds{ip=\"127.0.0.1\"}"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_of_certificates_have_names() {
    let authority = Authority::new();
    let ca = serde_json::to_string(&authority.pem()).unwrap();
    let config =
        format!("modules: {{https: {{prober: http, http: {{tls_config: {{ca: {ca}}}}}}}, system: {{prober: http}}}}");
    let exporter = exporter(&config, &[]).await;
    for (kind, module, problem) in [
        (Kind::Expired, "https", "expired"),
        (Kind::NotYetValid, "https", "not_yet_valid"),
        (Kind::WrongName, "https", "wrong_name"),
        (Kind::SelfSigned, "https", "self_signed"),
        (Kind::Incomplete, "https", "incomplete_chain"),
        (Kind::WrongPurpose, "https", "wrong_purpose"),
    ] {
        let server = servers::https(authority.server(kind, &[]), |_| Vec::new()).await;
        let target = format!("https://{server}/");
        let page =
            get(exporter.address, &probe(&[("module", module), ("target", &target), ("extended", "true")])).await.body;
        let found = series(&page);
        assert_eq!(
            found.get(&format!("probe_ssl_chain_problem_info{{problem=\"{problem}\"}}")).map(String::as_str),
            Some("1"),
            "{page}"
        );
        assert_eq!(found["probe_failure_info{reason=\"certificate\"}"], "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_exporter_is_no_way_in() {
    let inner = ok_server().await;
    let target = format!("http://127.0.0.2:{}/", inner.port());
    let outer = servers::http(move |_| {
        format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let config = "modules:\n  http_2xx: {prober: http}\n  tcp: {prober: tcp}\n  icmp: {prober: icmp}\n  unix: {prober: unix}\n  \
                  dns: {prober: dns, dns: {query_name: x}}\n  grpc: {prober: grpc}\n  ws: {prober: websocket}\n  secret: {prober: tcp}\n  \
                  proxied: {prober: http, http: {proxy_url: 'http://127.0.0.1:1', skip_resolve_phase_with_proxy: true}}\n";
    let flags = [
        "--probe.allow-network=127.0.0.0/8",
        "--probe.deny-network=127.0.0.2/31",
        "--probe.deny-network=::1",
        "--probe.deny-module=secret",
    ];
    let exporter = exporter(config, &flags).await;
    let reason = async |module: &str, target: &str| {
        let page =
            get(exporter.address, &probe(&[("module", module), ("target", target), ("extended", "true")])).await.body;
        let found = series(&page);
        found.keys().find_map(|name| {
            Some(name.strip_prefix("probe_failure_info{reason=\"")?.trim_end_matches("\"}").to_owned())
        })
    };
    for (module, target) in [
        ("http_2xx", format!("http://127.0.0.2:{}/", inner.port())),
        ("http_2xx", format!("http://{outer}/")),
        ("http_2xx", "http://10.0.0.1/".into()),
        ("http_2xx", format!("http://[::ffff:127.0.0.2]:{}/", inner.port())),
        ("tcp", format!("127.0.0.3:{}", inner.port())),
        ("icmp", "127.0.0.2".into()),
        ("icmp", "::1".into()),
        ("dns", "127.0.0.2".into()),
        ("grpc", "127.0.0.2:1".into()),
        ("ws", "ws://127.0.0.2/".into()),
        ("unix", "/run/some.sock".into()),
        ("proxied", "http://metadata.internal/".into()),
        ("proxied", "http://169.254.169.254/".into()),
    ] {
        assert_eq!(reason(module, &target).await.as_deref(), Some("forbidden"), "{module} {target}");
    }
    assert_eq!(reason("http_2xx", &format!("http://{inner}/")).await, None);
    assert_eq!(get(exporter.address, "/probe?module=secret&target=127.0.0.1:1").await.status, 403);
}

/// Servers that never come to an end, each in its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_target_outlives_the_deadline() {
    let trickle = |head: &'static [u8], part: &'static [u8], pause: u64| {
        servers::tcp(move |mut stream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(head).await;
            while stream.write_all(part).await.is_ok() {
                if pause > 0 {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        })
    };
    let headers_for_ever = trickle(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n", 0).await;
    let slow_headers = trickle(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n", 20).await;
    let body_for_ever = trickle(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 8192], 0).await;
    let slow_body = trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x", 20).await;
    let lines_for_ever = trickle(b"", b"noise\n", 0).await;
    let line_for_ever = trickle(b"", &[b'x'; 8192], 0).await;
    let silent = servers::silent().await;
    let deaf = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let _held = std::net::UdpSocket::bind(deaf).unwrap();
    let config = "modules:\n  http: {prober: http, timeout: 700ms}\n  https: {prober: http, timeout: 700ms}\n  \
                  match: {prober: http, timeout: 700ms, http: {fail_if_body_matches_regexp: [y]}}\n  \
                  expect: {prober: tcp, timeout: 700ms, tcp: {query_response: [{expect: never}]}}\n  \
                  tls: {prober: tcp, timeout: 700ms, tcp: {tls: true}}\n  \
                  dns: {prober: dns, timeout: 700ms, dns: {query_name: x}}\n  dns_tcp: {prober: dns, timeout: 700ms, dns: {query_name: x, transport_protocol: tcp}}\n  \
                  grpc: {prober: grpc, timeout: 700ms}\n  ws: {prober: websocket, timeout: 700ms}\n";
    let exporter = exporter(config, &[]).await;
    let mut probes = Vec::new();
    for (module, target) in [
        ("http", headers_for_ever.to_string()),
        ("http", slow_headers.to_string()),
        ("http", body_for_ever.to_string()),
        ("match", body_for_ever.to_string()),
        ("http", slow_body.to_string()),
        ("http", silent.to_string()),
        ("https", format!("https://{silent}")),
        ("expect", lines_for_ever.to_string()),
        ("expect", line_for_ever.to_string()),
        ("expect", silent.to_string()),
        ("tls", silent.to_string()),
        ("tls", lines_for_ever.to_string()),
        ("dns", deaf.to_string()),
        ("dns_tcp", silent.to_string()),
        ("grpc", silent.to_string()),
        ("grpc", lines_for_ever.to_string()),
        ("ws", format!("ws://{silent}")),
        ("ws", format!("ws://{headers_for_ever}")),
    ] {
        let path = probe(&[("module", module), ("target", &target)]);
        let at = exporter.address;
        probes.push(tokio::spawn(async move { (path.clone(), get(at, &path).await) }));
    }
    for probe in probes {
        let (path, answer) = probe.await.unwrap();
        assert_eq!(series(&answer.body).get("probe_success").map(String::as_str), Some("0"), "{path}: {answer:?}");
    }
}

/// Five thousand probes at once of ports that take connections and say nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_dead_targets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let _alone = MANY_FILES.lock().await;
    const PROBES: usize = 5000;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    if limit.maximum.is_some_and(|most| most < 3 * PROBES as u64) {
        println!("left out: no more than {:?} files may be open", limit.maximum);
        return;
    }
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let list: Vec<String> = (0..PROBES).map(|n| format!("127.1.{}.{}:{port}", n / 250, n % 250 + 1)).collect();
    std::fs::write(folder.path().join("list"), list.join("\n")).unwrap();
    let config = "modules: {http_2xx: {prober: http, timeout: 4s}}";
    let flags = [format!("--probe.targets-dir={}", folder.path().display()), "--probe.request-concurrency=5000".into()];
    let exporter = exporter(config, &flags.each_ref().map(String::as_str)).await;
    let page = get(exporter.address, "/probe?targets_file=list").await.body;
    let found = series(&page);
    let failed = found.iter().filter(|(name, value)| name.starts_with("probe_success{") && *value == "0").count();
    assert_eq!(failed, PROBES);
    let metrics = get(exporter.address, "/metrics").await.body;
    assert!(
        metrics.contains("blackbox_exporter_probe_failures_total{prober=\"http\",reason=\"timeout\"} 5000"),
        "{metrics}"
    );
    assert!(metrics.contains("blackbox_exporter_probes_in_flight 0"), "{metrics}");
}

/// Held by tests that have thousands of files open, which together would be too many.
static MANY_FILES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A program, killed at the end of a test.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_is_checked_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blackbox.yml");
    for (text, fine, said) in [
        ("modules: {a: {prober: tcp}}", true, "Config file is ok"),
        ("modules: {a: {prober: x}}", false, "'x' is not valid"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_blackbox-exporter"))
            .arg(format!("--config.file={}", file.display()))
            .arg("--config.check")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() == fine && text.contains(said), "{output:?}");
    }
}

/// The program itself, so that neither the target nor who asks is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_waits_holds_little() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let _alone = MANY_FILES.lock().await;
    const PROBES: usize = 5000;
    /// 49 KB when a general HTTP client was used, 18 KB since.
    const MOST_BYTES: usize = 26 << 10;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    if limit.maximum.is_some_and(|most| most < 4 * PROBES as u64) {
        println!("left out: no more than {:?} files may be open", limit.maximum);
        return;
    }
    let silent = servers::silent().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blackbox.yml");
    std::fs::write(&file, "modules: {http_2xx: {prober: http, timeout: 100s}}").unwrap();
    let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_blackbox-exporter"))
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--web.listen-address={at}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut program = Program(child);
    while tokio::net::TcpStream::connect(at).await.is_err() {
        assert!(program.0.try_wait().unwrap().is_none(), "the program has ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = |field: &str| -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", program.0.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    };
    let in_flight = async || series(&get(at, "/metrics").await.body)["blackbox_exporter_probes_in_flight"].clone();
    assert_eq!(in_flight().await, "0");
    let before = status("RssAnon");
    let mut waiting = Vec::new();
    for _ in 0..PROBES {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", probe(&[("target", &silent.to_string())]));
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let sockets = || std::fs::read_dir(format!("/proc/{}/fd", program.0.id())).unwrap().count();
    // all run, and are connected: each has two sockets
    while in_flight().await != PROBES.to_string() || sockets() < 2 * PROBES {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let each = (status("RssAnon") - before) * 1024 / PROBES;
    println!("{each} bytes a probe");
    assert!(each < MOST_BYTES, "{each} bytes a probe");
    assert!(sockets() < 2 * PROBES + 64, "{} files", sockets());
    // who goes away takes the probe along
    drop(waiting);
    while in_flight().await != "0" || sockets() >= PROBES {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_is_asked_with() {
    let web = servers::http(|head| {
        let method = head.split(' ').next().unwrap_or_default();
        format!("HTTP/1.1 200 OK\r\nX-Method: {method}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    let module = |method: &str| {
        format!(
            "  {method}: {{prober: http, timeout: 5s, http: {{method: {method}, fail_if_header_not_matches: \
             [{{header: X-Method, regexp: '^{method}$'}}]}}}}\n"
        )
    };
    let config = format!("modules:\n{}", METHODS.map(module).concat());
    let exporter = exporter(&config, &[]).await;
    for method in METHODS {
        let page = get(exporter.address, &probe(&[("module", method), ("target", &web.to_string())])).await.body;
        assert_eq!(series(&page)["probe_success"], "1", "{method}: {page}");
    }
}

/// With a resolver configuration of its own, in namespaces that go away with it.
#[test]
fn a_name_server_that_says_nothing_holds_no_probe() {
    const INNER: &str = "BLACKBOX_DEAF_NAME_SERVER_TEST";
    const NAME: &str = "a_name_server_that_says_nothing_holds_no_probe";
    if std::env::var_os(INNER).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(deaf_name_server());
        // look-ups may still hang
        return runtime.shutdown_background();
    }
    let folder = tempfile::tempdir().unwrap();
    let resolver = folder.path().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n").unwrap();
    let script = format!(
        "ip link set lo up && mount --bind '{}' /etc/resolv.conf && exec \"$0\" --exact {NAME} --nocapture",
        resolver.display()
    );
    let this = std::env::current_exe().unwrap();
    let unshare = ["-r", "-n", "-m", "--", "sh", "-c", &script];
    let output = match std::process::Command::new("unshare").args(unshare).arg(this).env(INNER, "1").output() {
        Ok(output) => output,
        Err(error) => return println!("left out: unshare: {error}"),
    };
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if ["unshare failed", "ip: not found", "mount: "].iter().any(|refused| text.contains(refused)) {
        return println!("left out: {text}");
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn deaf_name_server() {
    let deaf = std::net::UdpSocket::bind("127.0.0.1:53").unwrap();
    let exporter = exporter("modules: {http_2xx: {prober: http, timeout: 1s}}", &[]).await;
    // more than there are threads to look names up
    let pages = (0..50).map(|n| {
        let target = format!("http://name-{n}.example/");
        async move { get(exporter.address, &probe(&[("target", &target), ("extended", "true")])).await.body }
    });
    for page in futures::future::join_all(pages).await {
        // had the look-up come to its end, it would be the reason
        assert_eq!(series(&page)["probe_success"], "0", "{page}");
        assert!(page.contains("probe_failure_info{reason=\"timeout\"} 1"), "{page}");
    }
    assert!(deaf.recv(&mut [0; 512]).unwrap() > 12, "the name server has been asked");
    let metrics = get(exporter.address, "/metrics").await.body;
    assert!(metrics.contains("blackbox_exporter_probes_in_flight 0"), "{metrics}");
}

/// In a network namespace of its own, so that the machine's settings do not matter.
#[test]
fn icmp() {
    const INNER: &str = "BLACKBOX_ICMP_TEST";
    if let Some(kind) = std::env::var_os(INNER) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(icmp_inside(kind.to_str().unwrap()));
    }
    for kind in ["raw", "unprivileged"] {
        // a new namespace lets nobody have unprivileged sockets
        let allow = if kind == "raw" { "true" } else { "echo '0 0' > /proc/sys/net/ipv4/ping_group_range" };
        let script = format!("ip link set lo up mtu 1500 && {allow} && exec \"$0\" --exact icmp --nocapture");
        let this = std::env::current_exe().unwrap();
        let unshare = ["-r", "-n", "--", "sh", "-c", &script];
        let output = match std::process::Command::new("unshare").args(unshare).arg(this).env(INNER, kind).output() {
            Ok(output) => output,
            Err(error) => return println!("left out: unshare: {error}"),
        };
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if text.contains("unshare failed") || text.contains("ip: not found") {
            return println!("left out: {text}");
        }
        assert!(output.status.success() && text.contains("1 passed"), "{kind}: {text}");
    }
}

async fn icmp_inside(kind: &str) {
    let config = "modules:\n  icmp: {prober: icmp, timeout: 2s}\n  big: {prober: icmp, timeout: 2s, icmp: {payload_size: 4000, ttl: 7}}\n  \
                  too_big: {prober: icmp, timeout: 2s, icmp: {payload_size: 4000, dont_fragment: true}}\n  \
                  source: {prober: icmp, timeout: 2s, icmp: {source_ip_address: 127.0.0.9}}\n";
    let exporter = exporter(config, &[]).await;
    let ask = async |module: &str, target: &str| {
        series(
            &get(exporter.address, &probe(&[("module", module), ("target", target), ("extended", "true")])).await.body,
        )
    };
    for (module, target, success, hops) in [
        ("icmp", "127.0.0.1", "1", Some("64")),
        ("icmp", "::1", "1", Some("64")),
        ("big", "127.0.0.1", "1", Some("64")),
        ("big", "::1", "1", Some("64")),
        ("source", "127.0.0.1", "1", Some("64")),
        // larger than the packets of this link may be, and not to be cut
        ("too_big", "127.0.0.1", "0", None),
        ("icmp", "192.0.2.1", "0", None),
    ] {
        let found = ask(module, target).await;
        assert_eq!(found["probe_success"], success, "{kind} {module} {target}: {found:?}");
        assert_eq!(found.get("probe_icmp_reply_hop_limit").map(String::as_str), hops, "{kind} {module} {target}");
        if success == "1" {
            assert_eq!(found["probe_icmp_path_mtu_bytes"], "1500", "{kind} {module} {target}");
        }
    }
    let debug = get(exporter.address, "/probe?module=icmp&target=127.0.0.1&debug=true").await.body;
    assert_eq!(debug.contains("will attempt privileged"), kind == "raw", "{debug}");
}
