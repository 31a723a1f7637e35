//! Every prober against servers of every kind; and the real blackbox_exporter with the same configuration and targets.
#![allow(missing_docs)]

mod support;

use std::io::Write;

use support::certificates::{Authority, Kind};
use support::{comparable, exporter, get, peer, query, series, servers};

/// What a probe must show.
struct Case {
    module: &'static str,
    target: String,
    success: bool,
    /// Series and their values.
    expected: &'static [(&'static str, &'static str)],
    /// Whether the real exporter must say the same.
    compare: bool,
    /// A family that only the real one has.
    lacking: Option<&'static str>,
}

fn case(
    module: &'static str,
    target: impl std::fmt::Display,
    success: bool,
    expected: &'static [(&'static str, &'static str)],
) -> Case {
    Case { module, target: target.to_string(), success, expected, compare: true, lacking: None }
}

impl Case {
    /// The real exporter does not have this, or says something else that docs/blackbox-exporter.md names.
    fn ours_alone(mut self) -> Self {
        self.compare = false;
        self
    }

    /// The real exporter says the same and has this family beside, as docs/blackbox-exporter.md names.
    fn without(mut self, family: &'static str) -> Self {
        self.lacking = Some(family);
        self
    }
}

/// Runs cases with ours and the real one.
async fn run(config: &str, cases: Vec<Case>) {
    let ours = exporter(config, &[]).await;
    let theirs = if cases.iter().any(|case| case.compare) { peer(config).await } else { None };
    let mut faults = Vec::new();
    for case in cases {
        let path = format!("/probe?{}", query(&[("module", case.module), ("target", &case.target)]));
        let answer = get(ours.address, &path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let found = series(&answer.body);
        let mut expected = vec![("probe_success", if case.success { "1" } else { "0" })];
        expected.extend(case.expected);
        for (name, value) in expected {
            if found.get(name).map(String::as_str) != Some(value) {
                faults.push(format!("{path}: {name} is {:?}, not {value}", found.get(name)));
            }
        }
        if let (true, Some(theirs)) = (case.compare, &theirs) {
            let other = get(theirs.address, &path).await;
            let (ours, theirs) = (comparable(&answer.body), comparable(&other.body));
            for (name, value) in &ours {
                if theirs.get(name) != Some(value) {
                    faults.push(format!("{path}: {name} is {value}, theirs {:?}", theirs.get(name)));
                }
            }
            faults.extend(
                theirs
                    .keys()
                    .filter(|name| !ours.contains_key(*name))
                    .filter(|name| case.lacking.is_none_or(|family| !name.starts_with(family)))
                    .map(|name| format!("{path}: only theirs has {name}")),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

fn path_of(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// The web server of the HTTP tests.
fn site(head: &str) -> Vec<u8> {
    let has = |text: &str| head.to_ascii_lowercase().contains(text);
    match path_of(head) {
        "/404" => answer("404 Not Found", "", b"no"),
        "/empty" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/redirect" => answer("302 Found", "Location: /hello\r\nSet-Cookie: seen=1; Path=/\r\n", b""),
        "/post-redirect" if head.starts_with("POST") => answer("307 Temporary Redirect", "Location: /posted\r\n", b""),
        "/posted" if head.starts_with("POST") && has("content-length: 4\r\n") => answer("200 OK", "", b"took"),
        "/circle" => answer("301 Moved", "Location: /circle\r\n", b""),
        "/nowhere" => answer("302 Found", "Location: gopher://x/\r\n", b""),
        "/no-location" => answer("302 Found", "", b"here"),
        "/cookie" => answer("302 Found", "Location: /with-cookie\r\nSet-Cookie: a=b; Path=/\r\n", b""),
        "/with-cookie" if has("cookie: a=b\r\n") => answer("200 OK", "", b"cookie"),
        "/json" => answer("200 OK", "", br#"{"foo": "bar", "baz": "qux", "n": 3, "list": [1, 2]}"#),
        "/modified" => answer("200 OK", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", b"old"),
        "/gzip" => answer("200 OK", "Content-Encoding: gzip\r\n", &gzip(&b"hello ".repeat(1000))),
        "/bomb" => answer("200 OK", "Content-Encoding: gzip\r\n", &gzip(&vec![0; 64 << 20])),
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
        "/until-close" => b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(),
        "/truncated" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello".to_vec(),
        "/bad-chunk" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        "/old" => b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec(),
        "/garbage" => b"this is no HTTP\r\n\r\n".to_vec(),
        "/nothing" => Vec::new(),
        "/auth" if has("authorization: basic dtpw\r\n") || head.contains("Authorization: Basic dTpw\r\n") => {
            answer("200 OK", "", b"in")
        }
        "/bearer" if head.contains("Authorization: Bearer tok\r\n") => answer("200 OK", "", b"in"),
        "/headers" if has("x-own: 1\r\n") && has("x-more: 2\r\n") && has("host: named.example\r\n") => {
            answer("200 OK", "", b"yes")
        }
        "/agent"
            if has("user-agent: blackbox-exporter/0.28.0\r\n") && has("connection: close\r\n") && !has("accept") =>
        {
            answer("200 OK", "", b"yes")
        }
        "/hello" => answer("200 OK", "X-Kind: test\r\n", b"hello world"),
        _ => answer("400 Bad Request", "", head.as_bytes()),
    }
}

const HTTP: &str = r#"
modules:
  plain: {prober: http, timeout: 5s}
  v4: {prober: http, http: {preferred_ip_protocol: ip4}}
  v6_only: {prober: http, http: {ip_protocol_fallback: false}}
  post: {prober: http, http: {method: POST, body: "abcd"}}
  head: {prober: http, http: {method: HEAD}}
  stay: {prober: http, http: {follow_redirects: false, valid_status_codes: [302]}}
  stay_2xx: {prober: http, http: {follow_redirects: false}}
  body_has: {prober: http, http: {fail_if_body_matches_regexp: [world]}}
  body_lacks: {prober: http, http: {fail_if_body_not_matches_regexp: ["^hello", "moon"]}}
  body_right: {prober: http, http: {fail_if_body_not_matches_regexp: ["^hello"], fail_if_body_matches_regexp: [moon]}}
  header_has: {prober: http, http: {fail_if_header_matches: [{header: x-kind, regexp: test}]}}
  header_lacks: {prober: http, http: {fail_if_header_not_matches: [{header: X-Kind, regexp: other}]}}
  header_missing: {prober: http, http: {fail_if_header_matches: [{header: X-None, regexp: x}]}}
  header_may_miss: {prober: http, http: {fail_if_header_matches: [{header: X-None, regexp: x, allow_missing: true}]}}
  cel_not: {prober: http, http: {fail_if_body_json_not_matches_cel: "body.foo == 'bar' && body.baz.startsWith('q')"}}
  cel_no: {prober: http, http: {fail_if_body_json_not_matches_cel: "body.foo == 'x'"}}
  cel_has: {prober: http, http: {fail_if_body_json_matches_cel: "body.n > 2"}}
  cel_error: {prober: http, http: {fail_if_body_json_matches_cel: "body.none == 1"}}
  gzip: {prober: http, http: {compression: gzip}}
  gzip_small: {prober: http, http: {compression: gzip, body_size_limit: 1KB}}
  limit: {prober: http, http: {body_size_limit: 5B}}
  limit_enough: {prober: http, http: {body_size_limit: 11B}}
  version: {prober: http, http: {valid_http_versions: [HTTP/2.0]}}
  no_ssl: {prober: http, http: {fail_if_not_ssl: true}}
  basic: {prober: http, http: {basic_auth: {username: u, password: p}}}
  bearer: {prober: http, http: {bearer_token: tok}}
  headers: {prober: http, http: {headers: {X-Own: 1, Host: named.example}, http_headers: {X-More: {values: ["2"]}}}}
  missing_file: {prober: http, http: {body_file: /does/not/exist}}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http() {
    let web = servers::http(site).await;
    let silent = servers::silent().await;
    let at = |path: &str| format!("http://{web}{path}");
    let mut cases = vec![
        case("plain", web, false, &[("probe_http_status_code", "400")]),
        case(
            "plain",
            at("/hello"),
            true,
            &[
                ("probe_http_content_length", "11"),
                ("probe_http_uncompressed_body_length", "11"),
                ("probe_http_version", "1.1"),
            ],
        ),
        case("plain", at("/agent"), true, &[]),
        case("plain", format!("http://localhost:{}/hello", web.port()), true, &[("probe_ip_protocol", "4")]),
        case("v4", format!("http://localhost:{}/hello", web.port()), true, &[]),
        case("v6_only", at("/hello"), false, &[("probe_ip_protocol", "0")]),
        case("plain", at("/404"), false, &[("probe_http_status_code", "404")]),
        case("plain", at("/empty"), true, &[("probe_http_content_length", "0")]),
        case("plain", at("/redirect"), true, &[("probe_http_redirects", "1")]),
        case("stay", at("/redirect"), true, &[("probe_http_redirects", "1"), ("probe_http_status_code", "302")]),
        case("stay_2xx", at("/redirect"), false, &[("probe_http_uncompressed_body_length", "0")]),
        case("plain", at("/circle"), false, &[("probe_http_redirects", "11"), ("probe_http_status_code", "301")]),
        case("plain", at("/nowhere"), false, &[]),
        case("plain", at("/no-location"), false, &[("probe_http_status_code", "302"), ("probe_http_redirects", "0")]),
        case("plain", at("/cookie"), true, &[]),
        case("post", at("/post-redirect"), true, &[("probe_http_redirects", "1")]),
        case("post", at("/redirect"), true, &[]),
        case(
            "head",
            at("/hello"),
            true,
            &[("probe_http_content_length", "11"), ("probe_http_uncompressed_body_length", "0")],
        ),
        case("body_has", at("/hello"), false, &[("probe_failed_due_to_regex", "1")]),
        case("body_lacks", at("/hello"), false, &[("probe_failed_due_to_regex", "1")]),
        case("body_right", at("/hello"), true, &[("probe_failed_due_to_regex", "0")]),
        case("body_right", at("/404"), false, &[("probe_failed_due_to_regex", "0")]),
        case("header_has", at("/hello"), false, &[("probe_failed_due_to_regex", "1")]),
        case("header_lacks", at("/hello"), false, &[("probe_failed_due_to_regex", "1")]),
        case("header_missing", at("/hello"), false, &[("probe_failed_due_to_regex", "1")]),
        case("header_may_miss", at("/hello"), true, &[("probe_failed_due_to_regex", "0")]),
        case("cel_not", at("/json"), true, &[("probe_failed_due_to_cel", "0")]),
        case("cel_no", at("/json"), false, &[("probe_failed_due_to_cel", "1")]),
        case("cel_has", at("/json"), false, &[("probe_failed_due_to_cel", "1")]),
        case("cel_error", at("/json"), false, &[("probe_failed_due_to_cel", "1")]),
        case("cel_has", at("/hello"), false, &[("probe_failed_due_to_cel", "1")]),
        case("gzip", at("/gzip"), true, &[("probe_http_uncompressed_body_length", "6000")]),
        case("gzip_small", at("/gzip"), false, &[("probe_http_uncompressed_body_length", "1024")]),
        case("gzip_small", at("/bomb"), false, &[("probe_http_uncompressed_body_length", "1024")]),
        case("plain", at("/gzip"), true, &[]),
        // what is left of the body after the decompressor gave up is another amount there
        case("gzip", at("/hello"), false, &[]).ours_alone(),
        case("limit", at("/hello"), false, &[("probe_http_uncompressed_body_length", "5")]),
        case("limit_enough", at("/hello"), true, &[("probe_http_uncompressed_body_length", "11")]),
        case(
            "plain",
            at("/chunked"),
            true,
            &[("probe_http_content_length", "-1"), ("probe_http_uncompressed_body_length", "5")],
        ),
        case("plain", at("/until-close"), true, &[("probe_http_content_length", "-1")]),
        case(
            "plain",
            at("/truncated"),
            false,
            &[("probe_http_content_length", "100"), ("probe_http_uncompressed_body_length", "5")],
        ),
        case("plain", at("/bad-chunk"), false, &[("probe_http_status_code", "200")]),
        case("plain", at("/old"), true, &[("probe_http_version", "1")]),
        case("plain", at("/garbage"), false, &[("probe_http_status_code", "0")]),
        case("plain", at("/nothing"), false, &[("probe_http_status_code", "0")]),
        case("plain", at("/modified"), true, &[("probe_http_last_modified_timestamp_seconds", "7.84111777e+08")]),
        case("version", at("/hello"), false, &[]),
        case("no_ssl", at("/hello"), false, &[("probe_http_ssl", "0")]),
        case("basic", at("/auth"), true, &[]),
        case("bearer", at("/bearer"), true, &[]),
        case("headers", at("/headers"), true, &[]),
        case("missing_file", at("/hello"), false, &[]),
        case("plain", "http://nosuch.invalid/", false, &[]),
        case("plain", "127.0.0.1:1", false, &[]),
        // told without looking the name up
        case("plain", "http://127.0.0.1:99999/", false, &[]).ours_alone(),
    ];
    cases.push(case("plain", format!("http://{silent}/"), false, &[]).ours_alone());
    let quick = HTTP.replace("timeout: 5s", "timeout: 2s");
    run(&quick, cases).await;
}

/// How answers end and what is no answer, held against the client of the real exporter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn framing() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    let answers: Vec<(bool, String)> = [
        (true, "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
        (true, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more"),
        (true, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        (false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        (false, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello"),
        (true, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
        (false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (true, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (false, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nother"),
        (true, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello"),
        (true, "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
        (true, "HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\nContent-Length: 5\r\n\r\nhello"),
        (false, "HTTP/1.1 200 OK\r\nno colon\r\n\r\nhello"),
        (true, "HTTP/1.1 200 OK\r\nX : y\r\n\r\nhello"),
        (false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (false, "\r\nHTTP/1.1 200 OK\r\n\r\nhello"),
        (false, "HTTP/1.1 200 OK\r\nX: y\r\n"),
        (true, &format!("{chunked}Content-Length: 3\r\n\r\n5;a=b\r\nhello\r\n06\r\n world\r\n0\r\nX: y\r\n\r\n")),
        (false, &format!("{chunked}\r\n5\r\nhel")),
        (false, &format!("{chunked}\r\n5\r\nhello\r\n")),
        (false, &format!("{chunked}\r\n5\r\nhello\r\n0\r\n")),
        (false, &format!("{chunked}\r\n5\r\nhelloXX0\r\n\r\n")),
        (false, &format!("{chunked}\r\n-5\r\nhello\r\n0\r\n\r\n")),
        (false, &format!("{chunked}\r\n11112222333344445\r\nhello\r\n0\r\n\r\n")),
        (false, &format!("{chunked}\r\n5{}\r\nhello\r\n0\r\n\r\n", " ".repeat(5000))),
    ]
    .map(|(success, text)| (success, text.to_owned()))
    .into();
    let served = answers.clone();
    let web = servers::http(move |head| {
        let number = path_of(head).trim_start_matches('/').parse::<usize>().expect("a number");
        served[number].1.clone().into_bytes()
    })
    .await;
    let cases = answers.iter().enumerate().flat_map(|(number, (success, answer))| {
        let target = format!("http://{web}/{number}");
        println!("{target}: {answer:?}");
        // chunks are not read then
        let head = *success || number >= 17;
        [case("get", &target, *success, &[]), case("head", &target, head, &[])]
    });
    let config =
        "modules:\n  get: {prober: http, timeout: 5s}\n  head: {prober: http, timeout: 5s, http: {method: HEAD}}\n";
    run(config, cases.collect()).await;
}

/// A token of an OAuth 2.0 server is fetched and sent along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oauth2() {
    let issuer = servers::http(|head| {
        let body = br#"{"access_token": "t0ken", "token_type": "Bearer", "expires_in": 3600}"#;
        let signed_in = head.starts_with("POST /token ") && head.contains("uthorization: Basic bWU6c2VjcmV0\r\n");
        let status = if signed_in { "200 OK" } else { "401 Unauthorized" };
        answer(status, "Content-Type: application/json\r\n", body)
    })
    .await;
    let web = servers::http(|head| {
        answer(if head.contains("uthorization: Bearer t0ken\r\n") { "200 OK" } else { "403 Forbidden" }, "", b"")
    })
    .await;
    let module = |secret: &str| {
        format!(
            "{{prober: http, timeout: 5s, http: {{oauth2: {{client_id: me, client_secret: {secret}, token_url: 'http://{issuer}/token'}}}}}}"
        )
    };
    let config = format!("modules:\n  right: {}\n  wrong: {}\n", module("secret"), module("other"));
    run(&config, vec![case("right", web, true, &[]), case("wrong", web, false, &[])]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls() {
    let authority = Authority::new();
    let ca = serde_json::to_string(&authority.pem()).unwrap();
    let config = format!(
        r#"
modules:
  https: {{prober: http, timeout: 5s, http: {{tls_config: {{ca: {ca}}}}}}}
  http1: {{prober: http, http: {{enable_http2: false, tls_config: {{ca: {ca}}}}}}}
  insecure: {{prober: http, http: {{tls_config: {{insecure_skip_verify: true}}}}}}
  system: {{prober: http}}
  named: {{prober: http, http: {{tls_config: {{ca: {ca}, server_name: other.example}}}}}}
  tls12: {{prober: http, http: {{tls_config: {{ca: {ca}, max_version: TLS12}}}}}}
  fail_ssl: {{prober: http, http: {{fail_if_ssl: true, tls_config: {{ca: {ca}}}}}}}
  h2_only: {{prober: http, http: {{valid_http_versions: [HTTP/2.0], tls_config: {{ca: {ca}}}}}}}
  tls_connect: {{prober: tcp, tcp: {{tls: true, tls_config: {{ca: {ca}}}}}}}
  smtp:
    prober: tcp
    tcp:
      query_response:
        - expect: "^220 ([^ ]+) ESMTP (.+)$"
          labels: [{{name: host, value: "$1"}}, {{name: program, value: "x${{2}}y"}}]
        - send: "EHLO prober\r"
        - expect: "^250-STARTTLS"
        - send: "STARTTLS\r"
        - expect: "^220"
        - starttls: true
        - send: "EHLO prober\r"
        - expect: "^250-AUTH"
        - send: "QUIT\r"
      tls_config: {{ca: {ca}}}
"#
    );
    let hello = |_: &str| answer("200 OK", "", b"hello");
    let right = servers::https(authority.server(Kind::Right, &["http/1.1"]), hello).await;
    let h2 = servers::http2(authority.server(Kind::Right, &["h2"])).await;
    let mail = servers::smtp(authority.server(Kind::Right, &[])).await;
    let mut cases = vec![
        case(
            "https",
            format!("https://{right}/"),
            true,
            &[("probe_http_ssl", "1"), ("probe_ssl_earliest_cert_expiry", "2.5066368e+09")],
        ),
        case("https", format!("https://localhost:{}/", right.port()), true, &[]),
        case("https", format!("https://{h2}/"), true, &[("probe_http_version", "2")]),
        case("h2_only", format!("https://{h2}/"), true, &[]),
        case("h2_only", format!("https://{right}/"), false, &[]),
        case("tls12", format!("https://{right}/"), true, &[("probe_tls_version_info{version=\"TLS 1.2\"}", "1")]),
        case("fail_ssl", format!("https://{right}/"), false, &[("probe_http_ssl", "1")]),
        case(
            "insecure",
            format!("https://{right}/"),
            true,
            &[("probe_ssl_last_chain_expiry_timestamp_seconds", "-6.21355968e+10")],
        ),
        case("system", format!("https://{right}/"), false, &[("probe_http_ssl", "0")]),
        case("named", format!("https://{right}/"), false, &[]),
        case("tls_connect", right, true, &[]),
        case("tls_connect", "127.0.0.1:1", false, &[]),
        case("smtp", mail, true, &[("probe_expect_info{host=\"mail.example\",program=\"xTest/1.2y\"}", "1")]),
        case("smtp", right, false, &[]).ours_alone(),
    ];
    cases.retain(|case| case.module != "smtp" || case.success);
    for kind in
        [Kind::Expired, Kind::NotYetValid, Kind::WrongName, Kind::SelfSigned, Kind::Incomplete, Kind::WrongPurpose]
    {
        let server = servers::https(authority.server(kind, &["http/1.1"]), hello).await;
        cases.push(case("https", format!("https://{server}/"), false, &[("probe_http_ssl", "0")]));
        cases.push(case("insecure", format!("https://{server}/"), true, &[("probe_http_ssl", "1")]));
        cases.push(case("tls_connect", server, false, &[]));
        if kind == Kind::WrongName {
            cases.push(case("named", format!("https://{server}/"), true, &[]));
        }
    }
    // the way TLS can fail step by step: at once, with an alert, with nonsense, half-way
    for bytes in [
        &b""[..],
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x03\xff\xff",
        b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",
    ] {
        let bytes = bytes.to_vec();
        let server = servers::tcp(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(&bytes).await;
            }
        })
        .await;
        cases.push(case("https", format!("https://{server}/"), false, &[]));
        cases.push(case("tls_connect", server, false, &[]));
    }
    run(&config, cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialogues() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let config = r#"
modules:
  connect: {prober: tcp, timeout: 3s}
  v6: {prober: tcp, tcp: {ip_protocol_fallback: false}}
  source: {prober: tcp, tcp: {source_ip_address: 127.0.0.1}}
  bad_source: {prober: tcp, tcp: {source_ip_address: nonsense}}
  ssh: {prober: tcp, tcp: {query_response: [{expect: "^SSH-2.0-"}]}}
  echo: {prober: tcp, tcp: {query_response: [{send: ping}, {expect: "^p(.)ng$", send: "got $1"}, {expect: "got i"}]}}
  bytes: {prober: tcp, tcp: {query_response: [{expect_bytes: "SSH"}]}}
  wrong_bytes: {prober: tcp, tcp: {query_response: [{expect_bytes: "FTP"}]}}
  more_bytes: {prober: tcp, tcp: {query_response: [{expect_bytes: "SSH-2.0-test and more than there is"}]}}
  unix: {prober: unix, unix: {query_response: [{send: PING}, {expect: PONG}]}}
  unix_plain: {prober: unix}
"#;
    let ssh = servers::tcp(|mut stream| async move {
        let _ = stream.write_all(b"noise\nSSH-2.0-test\r\n").await;
    })
    .await;
    let banner = servers::tcp(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-test\r\n").await;
    })
    .await;
    let echo = servers::tcp(|mut stream| async move {
        let mut buffer = [0; 100];
        while let Ok(len @ 1..) = stream.read(&mut buffer).await {
            let _ = stream.write_all(&buffer[..len]).await;
        }
    })
    .await;
    let other = servers::tcp(|mut stream| async move {
        let _ = stream.write_all(b"nothing of the kind\n").await;
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 5];
            if stream.read_exact(&mut buffer).await.is_ok() {
                let _ = stream.write_all(b"PONG\n").await;
            }
        }
    });
    let cases = vec![
        case("connect", ssh, true, &[("probe_failed_due_to_regex", "0")]),
        case("connect", format!("localhost:{}", ssh.port()), true, &[]),
        case("connect", "127.0.0.1", false, &[]),
        case("connect", "nosuch.invalid:1", false, &[]),
        case("v6", ssh, false, &[]),
        case("source", ssh, true, &[]),
        case("bad_source", ssh, false, &[]),
        case("ssh", ssh, true, &[]),
        case("ssh", other, false, &[("probe_failed_due_to_regex", "1")]),
        case("echo", echo, true, &[]),
        case("bytes", banner, true, &[("probe_failed_due_to_bytes", "0")]),
        case("wrong_bytes", banner, false, &[("probe_failed_due_to_bytes", "1")]),
        case("more_bytes", banner, false, &[("probe_failed_due_to_bytes", "0")]),
        case("unix", path.display(), true, &[]),
        case("unix_plain", path.display(), true, &[]),
        case("unix", "/does/not/exist", false, &[]),
    ];
    run(config, cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns() {
    let config = r#"
modules:
  a: {prober: dns, timeout: 2s, dns: {query_name: www.test, query_type: A}}
  tcp: {prober: dns, dns: {query_name: www.test, query_type: A, transport_protocol: tcp}}
  soa: {prober: dns, dns: {query_name: test, query_type: SOA}}
  servfail: {prober: dns, dns: {query_name: servfail.test, valid_rcodes: [SERVFAIL, NXDOMAIN]}}
  refused: {prober: dns, dns: {query_name: refused.test}}
  bad_rcode: {prober: dns, dns: {query_name: www.test, valid_rcodes: [NOSUCH]}}
  has: {prober: dns, dns: {query_name: www.test, validate_answer_rrs: {fail_if_matches_regexp: ["\t300\tIN\tA\t127.0.0.1$"]}}}
  lacks: {prober: dns, dns: {query_name: www.test, validate_answer_rrs: {fail_if_not_matches_regexp: ["^www.test.\t300\tIN\tA\t127.0.0.[12]$"]}}}
  all: {prober: dns, dns: {query_name: www.test, validate_answer_rrs: {fail_if_all_match_regexp: ["127.0.0"]}}}
  none: {prober: dns, dns: {query_name: www.test, validate_answer_rrs: {fail_if_none_matches_regexp: ["10.0.0"]}}}
  authority: {prober: dns, dns: {query_name: www.test, validate_authority_rrs: {fail_if_not_matches_regexp: ["NS\tns."]}}}
  additional: {prober: dns, dns: {query_name: www.test, validate_additional_rrs: {fail_if_not_matches_regexp: ["x"]}}}
  bad_transport: {prober: dns, dns: {query_name: www.test, transport_protocol: carrier-pigeon}}
  dot_udp: {prober: dns, dns: {query_name: www.test, dns_over_tls: true}}
  cut: {prober: dns, timeout: 1s, dns: {query_name: cut.test}}
  circle: {prober: dns, timeout: 1s, dns: {query_name: circle.test, transport_protocol: tcp}}
  no_recursion: {prober: dns, dns: {query_name: recursion.test, recursion_desired: false}}
"#;
    let soa = b"\x02ns\0\x01h\0\x78\x6f\x9f\x01\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04";
    let server = servers::dns(move |query| {
        let label = String::from_utf8_lossy(&query[13..13 + usize::from(query[12])]).into_owned();
        match label.as_str() {
            "www" => {
                servers::dns_answer(query, 0, &[(0, 1, &[127, 0, 0, 1]), (0, 1, &[127, 0, 0, 2]), (1, 2, b"\x02ns\0")])
            }
            "test" => servers::dns_answer(query, 0, &[(0, 6, soa)]),
            "servfail" => servers::dns_answer(query, 2, &[]),
            "refused" => servers::dns_answer(query, 5, &[]),
            code if code.starts_with("rcode") => {
                servers::dns_answer(query, code["rcode".len()..].parse().expect("a code"), &[])
            }
            "cut" => servers::dns_answer(query, 0, &[(0, 1, &[127, 0, 0, 1])])[..20].to_vec(),
            "circle" => servers::dns_answer(query, 0, &[(0, 2, b"\xc0\xff")]),
            "recursion" => servers::dns_answer(query, if query[2] & 1 == 0 { 0 } else { 2 }, &[]),
            _ => servers::dns_answer(query, 3, &[]),
        }
    })
    .await;
    let silent = servers::silent().await;
    let cases = vec![
        case(
            "a",
            server,
            true,
            &[("probe_dns_answer_rrs", "2"), ("probe_dns_authority_rrs", "1"), ("probe_dns_query_succeeded", "1")],
        ),
        case("tcp", server, true, &[("probe_dns_answer_rrs", "2")]),
        case("soa", server, true, &[("probe_dns_serial", "2.020581121e+09")]),
        case("servfail", server, true, &[]),
        case("refused", server, false, &[("probe_dns_query_succeeded", "1")]),
        case("bad_rcode", server, false, &[]),
        case("has", server, false, &[]),
        case("lacks", server, true, &[]),
        case("all", server, true, &[]),
        case("none", server, false, &[]),
        case("authority", server, true, &[]),
        case("additional", server, false, &[]),
        case("bad_transport", server, false, &[]),
        case("dot_udp", server, false, &[]),
        case("no_recursion", server, true, &[]),
        case("circle", server, false, &[("probe_dns_query_succeeded", "0")]),
        case("cut", server, false, &[("probe_dns_query_succeeded", "0")]),
        case("tcp", silent, false, &[]).ours_alone(),
        case("a", "127.0.0.1:1", false, &[]),
        case("tcp", "127.0.0.1:1", false, &[]),
        case("a", "nosuch.invalid", false, &[]),
    ];
    let mut quick = config.replace("tcp: {prober: dns,", "tcp: {prober: dns, timeout: 2s,");
    quick.push('\n');
    let mut cases = cases;
    let rcodes = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
        "NOTZONE",
    ];
    for (code, name) in rcodes.iter().enumerate() {
        let module =
            |valid: &str| format!("{{prober: dns, dns: {{query_name: rcode{code}.test, valid_rcodes: [{valid}]}}}}");
        let other = rcodes[(code + 1) % rcodes.len()];
        quick.push_str(&format!("  is_{name}: {}\n  not_{name}: {}\n", module(name), module(other)));
        cases.push(case(String::leak(format!("is_{name}")), server, true, &[("probe_dns_query_succeeded", "1")]));
        cases.push(case(String::leak(format!("not_{name}")), server, false, &[("probe_dns_query_succeeded", "1")]));
    }
    // over TLS
    let authority = Authority::new();
    let ca = serde_json::to_string(&authority.pem()).unwrap();
    let over_tls = |more: &str| {
        format!(
            "{{prober: dns, dns: {{query_name: www.test, query_type: A, transport_protocol: tcp, dns_over_tls: true, tls_config: {{ca: {ca}{more}}}}}}}\n"
        )
    };
    quick.push_str(&format!("  dot: {}  dot_other: {}", over_tls(""), over_tls(", server_name: other.example")));
    let www = |query: &[u8]| servers::dns_answer(query, 0, &[(0, 1, &[127, 0, 0, 1])]);
    let right = servers::dns_over_tls(authority.server(Kind::Right, &[]), www).await;
    let expired = servers::dns_over_tls(authority.server(Kind::Expired, &[]), www).await;
    cases.push(case("dot", right, true, &[("probe_dns_answer_rrs", "1")]));
    cases.push(case("dot_other", right, false, &[]));
    cases.push(case("dot", expired, false, &[]));
    run(&quick, cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc() {
    let authority = Authority::new();
    let ca = serde_json::to_string(&authority.pem()).unwrap();
    let config = format!(
        r#"
modules:
  serving: {{prober: grpc, timeout: 5s, grpc: {{service: serving}}}}
  down: {{prober: grpc, grpc: {{service: down}}}}
  unknown: {{prober: grpc, grpc: {{service: other}}}}
  tls: {{prober: grpc, grpc: {{service: serving, tls: true, tls_config: {{ca: {ca}}}}}}}
"#
    );
    let plain = servers::grpc(None).await;
    let secure = servers::grpc(Some(authority.server(Kind::Right, &["h2"]))).await;
    let expired = servers::grpc(Some(authority.server(Kind::Expired, &["h2"]))).await;
    let serving = "probe_grpc_healthcheck_response{serving_status=\"SERVING\"}";
    assert!(serving.ends_with('}'));
    run(
        &config,
        vec![
            case("serving", plain, true, &[("probe_grpc_healthcheck_response{serving_status=\"SERVING\"}", "1")]),
            case("down", plain, false, &[("probe_grpc_healthcheck_response{serving_status=\"NOT_SERVING\"}", "1")]),
            case("unknown", plain, false, &[("probe_grpc_status_code", "5")]),
            case("tls", secure, true, &[("probe_grpc_ssl", "1")]),
            case("tls", expired, false, &[("probe_grpc_status_code", "14"), ("probe_grpc_ssl", "0")]),
            case("serving", "127.0.0.1:1", false, &[("probe_grpc_status_code", "14")]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket() {
    let config = r#"
modules:
  plain: {prober: websocket, timeout: 3s}
  talk:
    prober: websocket
    websocket: {query_response: [{expect: "^Hello, (.+)", send: "I am $1"}, {expect: ^Welcome}]}
  other: {prober: websocket, websocket: {query_response: [{expect: ^Goodbye}]}}
"#;
    let server = servers::websocket().await;
    let web = servers::http(site).await;
    let upgraded = ("probe_websocket_connection_upgraded", "1");
    assert_eq!(upgraded.1, "1");
    run(
        config,
        vec![
            case(
                "plain",
                format!("ws://{server}/"),
                true,
                &[("probe_websocket_connection_upgraded", "1"), ("probe_websocket_status_code", "101")],
            )
            .ours_alone(),
            case("talk", format!("ws://{server}/"), true, &[("probe_websocket_failed_due_to_regex", "0")]).ours_alone(),
            case("other", format!("ws://{server}/"), false, &[("probe_websocket_failed_due_to_regex", "1")])
                .ours_alone(),
            case(
                "plain",
                format!("ws://{web}/hello"),
                false,
                &[("probe_websocket_status_code", "200"), ("probe_websocket_connection_upgraded", "0")],
            )
            .ours_alone(),
            case("plain", web, false, &[]).ours_alone(),
            case("plain", "ws://127.0.0.1:1", false, &[]).ours_alone(),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http3() {
    let authority = Authority::new();
    let ca = serde_json::to_string(&authority.pem()).unwrap();
    let config = format!(
        r#"
modules:
  h3: {{prober: http, timeout: 3s, http: {{enable_http3: true, enable_http2: false, valid_http_versions: [HTTP/3.0], tls_config: {{ca: {ca}}}}}}}
  post: {{prober: http, timeout: 3s, http: {{enable_http3: true, enable_http2: false, method: POST, body: abcde, fail_if_body_not_matches_regexp: [abcde], tls_config: {{ca: {ca}}}}}}}
"#
    );
    let right = servers::http3(authority.server(Kind::Right, &["h3"])).await;
    let expired = servers::http3(authority.server(Kind::Expired, &["h3"])).await;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    run(
        &config,
        vec![
            case(
                "h3",
                format!("https://{right}/"),
                true,
                &[("probe_http_version", "3"), ("probe_http_ssl", "1"), ("probe_http_uncompressed_body_length", "5")],
            )
            .without("probe_tls_cipher_info"),
            case("post", format!("https://{right}/"), true, &[]).without("probe_tls_cipher_info"),
            case("h3", format!("https://{expired}/"), false, &[]),
            case("h3", format!("http://{right}/"), false, &[]).ours_alone(),
            case("h3", format!("https://{}/", silent.local_addr().unwrap()), false, &[]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies() {
    let authority = Authority::new();
    let ca = serde_json::to_string(&authority.pem()).unwrap();
    let through = |_: &str| answer("200 OK", "", b"secure");
    let web =
        servers::http(|head| answer(if head.contains("Via: proxy\r\n") { "200 OK" } else { "400 Direct" }, "", b""))
            .await;
    let secure = servers::https(authority.server(Kind::Right, &["http/1.1"]), through).await;
    let (plain_proxy, secure_proxy) = (servers::proxy(web).await, servers::proxy(secure).await);
    let config = format!(
        r#"
modules:
  plain: {{prober: http, timeout: 5s, http: {{proxy_url: "http://{plain_proxy}"}}}}
  unresolved: {{prober: http, http: {{proxy_url: "http://{plain_proxy}", skip_resolve_phase_with_proxy: true}}}}
  direct: {{prober: http, http: {{proxy_url: "http://{plain_proxy}", no_proxy: "10.0.0.1"}}}}
  tunnel: {{prober: http, http: {{proxy_url: "http://{secure_proxy}", proxy_connect_header: {{X-Proxy: ["1"]}}, tls_config: {{ca: {ca}}}}}}}
  refused: {{prober: http, http: {{proxy_url: "http://{secure_proxy}", tls_config: {{ca: {ca}}}}}}}
  socks: {{prober: http, http: {{proxy_url: "socks5://{secure_proxy}", tls_config: {{ca: {ca}}}}}}}
"#
    );
    run(
        &config,
        vec![
            case("plain", format!("http://{web}/x"), true, &[]),
            case("unresolved", "http://nosuch.invalid/x", true, &[]),
            case("direct", format!("http://{web}/x"), false, &[("probe_http_status_code", "400")]),
            case("tunnel", format!("https://{secure}/"), true, &[("probe_http_ssl", "1")]),
            case("refused", format!("https://{secure}/"), false, &[]),
            case("socks", format!("https://{secure}/"), true, &[]),
        ],
    )
    .await;
}
