//! The HTTP server and client against each other: authentication, TLS, client certificates, reload, limits, shutdown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::Form;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{get, post};
use common::http::client::{Client, ClientOptions, HttpClientConfig};
use common::http::{Limits, Listen, Server, ServerOptions, ServerStats, WebConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    address: SocketAddr,
    stats: Arc<ServerStats>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(router: Router, web_config: Option<PathBuf>) -> Self {
        let listen = Listen::Addresses(vec!["127.0.0.1:0".to_owned()]);
        let server = Server::bind(ServerOptions { listen, web_config, limits: Limits::default() }).expect("a server");
        let (address, stats) = (server.addresses()[0], server.stats());
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(router, stop.clone()));
        Self { address, stats, stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("a server that ends");
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }
}

fn app() -> Router {
    Router::new()
        .route("/ok", get(|| async { "fine" }))
        .route("/panic", get(|| async { if true { panic!("on purpose") } else { "" } }))
        .route("/auth", get(|headers: HeaderMap| async move { format!("{:?}", headers.get("authorization")) }))
        .route("/echo", post(|body: String| async move { body.len().to_string() }))
        .route("/away", get(|| async { (StatusCode::FOUND, [("location", "/ok")]) }))
}

fn client(yaml: &str) -> Client {
    let mut config: HttpClientConfig = common::yaml::parse(yaml, "client.yml").expect("a configuration");
    config.validate().expect("a valid configuration");
    Client::new(config, ClientOptions { user_agent: "test/1".to_owned(), unix_socket: None }).expect("a client")
}

async fn fetch(client: &Client, url: &str) -> Result<(StatusCode, String), String> {
    let request = reqwest::Request::new(Method::GET, url.parse().expect("a URL"));
    let response = client.execute(request).await.map_err(|e| e.to_string())?;
    Ok((response.status(), response.text().await.map_err(|e| e.to_string())?))
}

fn bcrypt(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a hash")
}

#[tokio::test]
async fn plain_requests_panics_and_profiles() {
    let server = Running::start(app(), None);
    let client = client("");
    let get = async |path| fetch(&client, &server.url("http", path)).await.unwrap();
    assert_eq!(get("/ok").await, (StatusCode::OK, "fine".to_owned()));
    assert_eq!(get("/panic").await, (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n".to_owned()));
    assert_eq!(server.stats.panics.load(Ordering::Relaxed), 1);
    assert_eq!(get("/debug/pprof/heap").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get("/away").await.1, "fine");
    let stay = fetch(&self::client("follow_redirects: false"), &server.url("http", "/away")).await.unwrap();
    assert_eq!(stay.0, StatusCode::FOUND);
    let mut request = reqwest::Request::new(Method::POST, server.url("http", "/echo").parse().unwrap());
    *request.body_mut() = Some(vec![b'x'; 3 << 20].into());
    let too_large = client.execute(request).await.unwrap();
    assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    server.end().await;
}

#[tokio::test]
async fn users_are_asked_for_their_password_and_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yml");
    let config = |user: &str| {
        let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
        format!("basic_auth_users:\n  {user}: {}\n{headers}", bcrypt("secret"))
    };
    std::fs::write(&file, config("ann")).unwrap();
    let server = Running::start(app(), Some(file.clone()));
    let url = server.url("http", "/ok");
    let ann = client("basic_auth: {username: ann, password: secret}");
    for (client, expected) in [
        (&ann, StatusCode::OK),
        (&ann, StatusCode::OK),
        (&client("basic_auth: {username: ann, password: wrong}"), StatusCode::UNAUTHORIZED),
        (&client("basic_auth: {username: ben, password: secret}"), StatusCode::UNAUTHORIZED),
        (&client("basic_auth: {username: ben, password: fakepassword}"), StatusCode::UNAUTHORIZED),
        (&client("authorization: {credentials: secret}"), StatusCode::UNAUTHORIZED),
        (&client(""), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(fetch(client, &url).await.unwrap().0, expected, "{:?}", client.config());
    }
    let response = ann.execute(reqwest::Request::new(Method::GET, url.parse().unwrap())).await.unwrap();
    assert_eq!(response.headers()["x-frame-options"], "deny");
    std::fs::write(&file, config("carla")).unwrap();
    assert_eq!(fetch(&ann, &url).await.unwrap().0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        fetch(&client("basic_auth: {username: carla, password: secret}"), &url).await.unwrap().0,
        StatusCode::OK
    );
    // a file that is broken lets nobody in
    std::fs::write(&file, "nonsense: 1").unwrap();
    assert!(!fetch(&ann, &url).await.is_ok_and(|(status, _)| status == StatusCode::OK));
    server.end().await;
}

/// An authority, and certificates of it.
struct Authority {
    folder: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, name: &str, sans: Vec<SanType>) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = sans;
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.ca).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn web_config(&self, more: &str) -> PathBuf {
        let file = self.path("web.yml");
        let tls = format!("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{more}");
        std::fs::write(&file, tls).unwrap();
        file
    }

    fn client(&self, more: &str) -> Client {
        client(&format!("tls_config:\n  ca_file: {}\n{more}", self.path("ca.pem").display()))
    }

    fn client_with(&self, name: &str) -> Client {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        self.client(&format!("  cert_file: {}\n  key_file: {}\n", cert.display(), key.display()))
    }
}

fn dns(name: &str) -> Vec<SanType> {
    vec![SanType::DnsName(name.try_into().unwrap())]
}

#[tokio::test]
async fn tls_with_http2_and_a_certificate_that_changes() {
    let authority = Authority::new();
    authority.issue("server", dns("localhost"));
    let server = Running::start(app(), Some(authority.web_config("")));
    let url = server.url("https", "/ok");
    let version = async |client: &Client| {
        let request = reqwest::Request::new(Method::GET, url.parse().unwrap());
        client.execute(request).await.map(|r| r.version()).map_err(|e| e.to_string())
    };
    assert_eq!(version(&authority.client("")).await, Ok(axum::http::Version::HTTP_2));
    assert_eq!(version(&authority.client("enable_http2: false\n")).await, Ok(axum::http::Version::HTTP_11));
    assert!(version(&client("")).await.unwrap_err().contains("certificate"));
    assert!(version(&client("tls_config: {insecure_skip_verify: true}")).await.is_ok());
    assert!(version(&authority.client("  server_name: other.example\n")).await.is_err());
    // a new certificate for another name: the next connection sees it
    authority.issue("server", dns("other.example"));
    assert!(version(&authority.client("")).await.is_err());
    assert!(version(&authority.client("  server_name: other.example\n")).await.is_ok());
    server.end().await;
}

#[tokio::test]
async fn clients_have_to_show_the_certificates_asked_for() {
    let authority = Authority::new();
    authority.issue("server", dns("localhost"));
    authority.issue(
        "good",
        vec![SanType::Rfc822Name("a@b".try_into().unwrap()), SanType::DnsName("good.example".try_into().unwrap())],
    );
    authority.issue("other", dns("other.example"));
    let stranger = Authority::new();
    stranger.issue("stranger", dns("good.example"));
    std::fs::copy(stranger.path("stranger.pem"), authority.path("stranger.pem")).unwrap();
    std::fs::copy(stranger.path("stranger.key"), authority.path("stranger.key")).unwrap();
    // for each type: without a certificate, good, other, of a stranger
    for (settings, expected) in [
        ("  client_auth_type: NoClientCert\n", [true, true, true, true]),
        ("  client_auth_type: RequestClientCert\n", [true, true, true, true]),
        ("  client_auth_type: RequireAnyClientCert\n", [false, true, true, true]),
        ("  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n", [true, true, true, false]),
        ("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n", [false, true, true, false]),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: [good.example]\n",
            [false, true, false, false],
        ),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: ['a@b']\n  \
             max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  curve_preferences: [CurveP256]\n",
            [false, true, false, false],
        ),
    ] {
        let server = Running::start(app(), Some(authority.web_config(settings)));
        let url = server.url("https", "/ok");
        let clients = [
            authority.client(""),
            authority.client_with("good"),
            authority.client_with("other"),
            authority.client_with("stranger"),
        ];
        let mut answered = Vec::new();
        for client in &clients {
            answered.push(fetch(client, &url).await.is_ok());
        }
        assert_eq!(answered, expected, "{settings}");
        server.end().await;
    }
}

#[test]
fn web_configurations_that_are_refused() {
    let authority = Authority::new();
    authority.issue("server", dns("localhost"));
    let both = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    for (text, expected) in [
        ("tls_server_config:\n  cert_file: server.pem\n", "missing one of key or key_file"),
        ("tls_server_config:\n  key_file: server.key\n  cert: a\n", "certificate (inline): no certificate found"),
        ("tls_server_config:\n  client_auth_type: x\n", "Invalid ClientAuth: x"),
        (&format!("{both}  client_ca_file: ca.pem\n"), "Client CA's have been configured without a Client Auth Policy"),
        (&format!("{both}  min_version: TLS14\n"), "unknown TLS version: TLS14"),
        (&format!("{both}  cipher_suites: [NONE]\n"), "unknown cipher: NONE"),
        (&format!("{both}  curve_preferences: [Curve1]\n"), "unknown curve: Curve1"),
        ("tls_server_config:\n  cert_file: missing.pem\n  key_file: server.key\n", "No such file"),
        ("basic_auth_users:\n  ann: plain\n", "the password of \"ann\" is no bcrypt hash"),
        ("http_server_config:\n  headers:\n    Server: x\n", "HTTP header \"Server\" can not be configured"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: x\n", "invalid value for X-Frame-Options"),
        ("tls_config: {}\n", "web.yml:1:1: field tls_config not found"),
    ] {
        let file = authority.path("web.yml");
        std::fs::write(&file, text).unwrap();
        let error = WebConfig::validate(&file).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    std::fs::write(authority.path("web.yml"), both).unwrap();
    WebConfig::validate(&authority.path("web.yml")).unwrap();
    assert!(WebConfig::validate(Path::new("/does/not/exist")).is_err());
}

#[tokio::test]
async fn credentials_and_headers_are_sent_and_files_read_again() {
    let server = Running::start(app(), None);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "one\n").unwrap();
    let with_file = client(&format!("authorization: {{type: Token, credentials_file: {}}}", token.display()));
    let sent = async |client: &Client| fetch(client, &server.url("http", "/auth")).await.map(|r| r.1);
    assert_eq!(sent(&with_file).await.unwrap(), "Some(\"Token one\")");
    std::fs::write(&token, "two").unwrap();
    assert_eq!(sent(&with_file).await.unwrap(), "Some(\"Token two\")");
    std::fs::remove_file(&token).unwrap();
    assert!(sent(&with_file).await.unwrap_err().starts_with("unable to read credentials_file"));
    assert_eq!(sent(&client("bearer_token: x")).await.unwrap(), "Some(\"Bearer x\")");
    server.end().await;
}

#[tokio::test]
async fn oauth2_tokens_are_fetched_once() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = asked.clone();
    let token = post(move |headers: HeaderMap, Form(form): Form<Vec<(String, String)>>| async move {
        // a server that wants the secret in the body
        record.lock().unwrap().push((headers.contains_key("authorization"), form));
        let in_body = !headers.contains_key("authorization");
        let status = if in_body { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        (status, r#"{"access_token": "abc", "token_type": "bearer", "expires_in": 3600}"#)
    });
    let server = Running::start(app().route("/token", token), None);
    let yaml = format!(
        "oauth2: {{client_id: id, client_secret: s, scopes: [a, b], token_url: '{}', endpoint_params: {{x: y}}}}",
        server.url("http", "/token")
    );
    let client = client(&yaml);
    for _ in 0..2 {
        assert_eq!(fetch(&client, &server.url("http", "/auth")).await.unwrap().1, "Some(\"Bearer abc\")");
    }
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.iter().map(|a| a.0).collect::<Vec<_>>(), [true, false]);
    let form: Vec<String> = asked[1].1.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(form, ["grant_type=client_credentials", "scope=a b", "x=y", "client_id=id", "client_secret=s"]);
    server.end().await;
}

#[tokio::test]
async fn open_requests_end_before_the_server_does() {
    let (entered, mut is_entered) = tokio::sync::mpsc::channel(1);
    let release = CancellationToken::new();
    let wait = release.clone();
    let slow = get(move || async move {
        entered.send(()).await.ok();
        wait.cancelled().await;
        "done"
    });
    let server = Running::start(Router::new().route("/slow", slow), None);
    let url = server.url("http", "/slow");
    let request = tokio::spawn(async move { fetch(&client(""), &url).await });
    is_entered.recv().await;
    server.stop.cancel();
    release.cancel();
    assert_eq!(request.await.unwrap().unwrap().1, "done");
    server.task.await.unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}
