use super::*;

fn check(text: &str, expected: Result<(), &str>) {
    let found = Config::parse(text, "b.yml").map(drop).map_err(|e| e.to_string());
    match expected {
        Ok(()) => assert_eq!(found, Ok(()), "{text}"),
        Err(part) => {
            let error = found.expect_err(text);
            assert!(error.contains(part) && error.starts_with("error parsing config file: b.yml:"), "{text}\n{error}");
        }
    }
}

#[test]
fn modules_are_read_whole_or_not_at_all() {
    check("", Ok(()));
    check("modules:\n  a:\n    prober: tcp\n", Ok(()));
    check("moduls: {}\n", Err("field moduls not found"));
    check("modules: {a: {prober: tcp, nonsense: 1}}", Err("field nonsense not found"));
    check("modules: {a: {prober: invalid}}", Err("prober 'invalid' is not valid"));
    check("modules: {a: {timeout: 5s}}", Err("prober '' is not valid"));
    check("modules: {a: {prober: tcp, timeout: 5 parsecs}}", Err("invalid duration"));
    // sections of other probers are checked too
    check("modules: {a: {prober: tcp, icmp: {ttl: 300}}}", Err("\"ttl\" cannot exceed 255"));
    check("modules: {a: {prober: tcp}, a: {prober: http}}", Err("already set"));
}

#[test]
fn http_settings_that_contradict_each_other() {
    let module = |text: &str| format!("modules:\n  a:\n    prober: http\n    http: {{{text}}}\n");
    for (text, expected) in [
        ("body: a, body_file: b", Err("setting body and body_file both are not allowed")),
        ("bearer_token: a, bearer_token_file: b", Err("at most one of bearer_token & bearer_token_file")),
        (
            "headers: {accEpt-enCoding: deflate}, compression: gzip",
            Err("invalid configuration \"accEpt-enCoding: deflate\", \"compression: gzip\""),
        ),
        ("headers: {Accept-Encoding: gzip}, compression: gzip", Ok(())),
        ("fail_if_header_matches: [{header: X}]", Err("regexp must be set for HTTP header matchers")),
        ("fail_if_header_matches: [{regexp: X}]", Err("header name must be set")),
        ("fail_if_body_matches_regexp: [':[']", Err("\"Could not compile regular expression\" regexp=\":[\"")),
        ("fail_if_body_json_matches_cel: 'body.a =='", Err("\"Could not compile CEL program\"")),
        ("fail_if_body_json_matches_cel: 'other.a == 1'", Err("\"Could not compile CEL program\"")),
        ("fail_if_body_json_matches_cel: 'body.l.exists(x, x == 1)'", Ok(())),
        ("enable_http3: true", Err("when enable_http3 is true, enable_http2 must be set to false")),
        ("enable_http3: true, enable_http2: false", Ok(())),
        ("enable_http3: true, enable_http2: false, valid_http_versions: [HTTP/2.0]", Err("only HTTP/3.0 is allowed")),
        ("enable_http3: true, enable_http2: false, valid_http_versions: [HTTP/3.0]", Ok(())),
        ("body_size_limit: 1MB, proxy_url: 'http://p:1', skip_resolve_phase_with_proxy: true", Ok(())),
        ("body_size_limit: lots", Err("invalid size")),
        ("tls_config: {max_version: TLS10}", Err("versions before TLS12 are not supported")),
        (
            "oauth2: {client_id: a, token_url: b, grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', claims: {a: 1}}",
            Ok(()),
        ),
        ("basic_auth: {username: a, password_ref: b}", Ok(())),
        ("method: 'GE T'", Err("is not a method")),
        ("no_follow_redirects: true", Ok(())),
    ] {
        check(&module(text), expected);
    }
}

#[test]
fn redirects_can_be_switched_off_in_the_old_way() {
    let config = Config::parse("modules: {a: {prober: http, http: {no_follow_redirects: true}}}", "x").unwrap();
    let Prober::Http(options) = &config.module("a").unwrap().prober else { panic!("an HTTP module") };
    assert!(!options.client.follow_redirects);
}

#[test]
fn dns_settings() {
    let module = |text: &str| format!("modules: {{a: {{prober: dns, dns: {text}}}}}");
    check(&module("{query_name: x}"), Ok(()));
    check(&module("{query_type: A}"), Err("query name must be set for DNS module"));
    check(&module("{query_name: x, query_class: X}"), Err("query class 'X' is not valid"));
    check(&module("{query_name: x, query_type: X}"), Err("query type 'X' is not valid"));
    check(&module("{query_name: x, query_type: HTTPS, query_class: CH, recursion_desired: false}"), Ok(()));
    check(&module("{query_name: x, validate_answer_rrs: {fail_if_matches_regexp: [':[']}}"), Err("Could not compile"));
}

#[test]
fn dialogues_may_be_binary() {
    let text = "modules:\n  a:\n    prober: tcp\n    tcp:\n      query_response:\n        - send: !!binary AAAACATSFi8=\n        \
                - expect_bytes: S\n        - starttls: true\n";
    let config = Config::parse(text, "x").unwrap();
    let Prober::Tcp(options) = &config.module("a").unwrap().prober else { panic!("a TCP module") };
    assert_eq!(options.query_response[0].send.0, [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]);
    assert_eq!(options.query_response[1].expect_bytes.0, b"S");
    check("modules: {a: {prober: tcp, tcp: {query_response: [{expect: ':['}]}}}", Err("Could not compile"));
    check("modules: {a: {prober: unix, unix: {query_response: [{expect: ':['}]}}}", Err("Could not compile"));
    check("modules: {a: {prober: websocket, websocket: {query_response: [{expect: ':['}]}}}", Err("Could not compile"));
}

#[test]
fn websocket_headers_have_three_forms() {
    let text =
        "modules: {a: {prober: websocket, websocket: {headers: {A: x, B: [y, z], C: {values: [v], secrets: [s]}}}}}";
    let config = Config::parse(text, "x").unwrap();
    let Prober::Websocket(options) = &config.module("a").unwrap().prober else { panic!("a WebSocket module") };
    let pairs: Vec<_> = options.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("A", "x"), ("B", "y"), ("B", "z")]);
    assert_eq!(options.client.http_headers.as_ref().unwrap()["C"].secrets[0].expose(), "s");
    check("modules: {a: {prober: websocket, websocket: {headers: {C: {nonsense: 1}}}}}", Err("nonsense"));
}

#[test]
fn secrets_are_not_shown() {
    let text = "modules:\n  a:\n    prober: http\n    http:\n      basic_auth: {username: u, password: hunter2}\n      \
                proxy_url: 'http://u:hunter2@p:1'\n      proxy_connect_header: {X: [hunter2]}\n      \
                http_headers: {Y: {secrets: [hunter2], values: [open]}}\n";
    let config = Config::parse(text, "x").unwrap();
    for shown in [config.to_yaml(), &config.module("a").unwrap().shown] {
        assert!(!shown.contains("hunter2") && shown.contains("open") && shown.contains("<secret>"), "{shown}");
    }
}

/// The reference files, where they are at hand.
#[test]
fn reference_files_are_taken_and_refused_alike() {
    let Some(folder) = std::env::var_os("FIREWATCH_CONFORMANCE") else {
        println!("left out: FIREWATCH_CONFORMANCE is not set");
        return;
    };
    let folder = Path::new(&folder).join("blackbox-exporter");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    for line in table.lines().skip(1) {
        let mut fields = line.split('\t');
        let (file, expected) = (fields.next().unwrap(), fields.next().unwrap());
        let loaded = Config::load(&folder.join("config-testdata").join(file));
        assert_eq!(loaded.is_ok(), expected == "ok", "{file}: {loaded:?}");
    }
    for file in ["blackbox.yml", "example.yml"] {
        Config::load(&folder.join(file)).unwrap();
    }
}
