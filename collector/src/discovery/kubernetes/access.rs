//! The way to a cluster: an address and an HTTP client of the configuration, a kubeconfig file, or what a pod finds in itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::http::client::{Authorization, BasicAuth, HttpClientConfig};
use common::secret::Secret;
use serde::Deserialize;
use url::Url;

use super::super::api::{Api, parse_url};
use crate::config::Settings;

/// Where a pod finds its account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a list, or the head of the answer to a watch, may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) api: Api,
    pub(super) base: Url,
    /// Where objects are looked for; one empty name means everywhere.
    pub(super) namespaces: Vec<String>,
}

pub(super) fn open(settings: &Settings) -> Result<Cluster, String> {
    let file = settings.text("kubeconfig_file");
    let (server, client) = if !file.is_empty() {
        from_file(Path::new(file)).map_err(|e| format!("kubeconfig_file {file}: {e}"))?
    } else if settings.has("api_server") {
        (settings.text("api_server").to_owned(), settings.http_client.clone())
    } else {
        of_pod()?
    };
    let mut namespaces = Vec::new();
    if let Some(section) = settings.object("namespaces") {
        namespaces.extend_from_slice(section.texts("names"));
        if section.flag("own_namespace") {
            let path = format!("{ACCOUNT}/namespace");
            let own = std::fs::read_to_string(&path);
            let own = own.map_err(|e| format!("could not determine the pod's namespace: {path}: {e}"))?;
            namespaces.push(own.trim().to_owned());
        }
    }
    namespaces.sort();
    namespaces.dedup();
    if namespaces.is_empty() {
        namespaces.push(String::new());
    }
    Ok(Cluster { api: Api::with_client(&client, TIMEOUT)?, base: parse_url(&server)?, namespaces })
}

/// What a pod is told by its environment and the files of its account.
fn of_pod() -> Result<(String, HttpClientConfig), String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")) else {
        return Err("unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined".into());
    };
    let mut client = HttpClientConfig::default();
    client.tls_config.ca_file = PathBuf::from(format!("{ACCOUNT}/ca.crt"));
    client.authorization = Some(bearer(String::new(), PathBuf::from(format!("{ACCOUNT}/token"))));
    Ok((format!("https://{}", super::super::target::host_port(&host, port)), client))
}

fn bearer(token: String, file: PathBuf) -> Authorization {
    let credentials = Secret::new(token);
    Authorization { scheme: "Bearer".into(), credentials, credentials_file: file, credentials_ref: String::new() }
}

/// The parts of a kubeconfig file that lead to a server.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    current_context: String,
    clusters: Vec<Named>,
    users: Vec<Named>,
    contexts: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    cluster: Option<ClusterEntry>,
    user: Option<User>,
    context: Option<Context>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
    insecure_skip_tls_verify: bool,
    tls_server_name: String,
    proxy_url: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    token: Secret,
    #[serde(rename = "tokenFile")]
    token_file: String,
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: Secret,
    username: String,
    password: Secret,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

fn from_file(path: &Path) -> Result<(String, HttpClientConfig), String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let node = yaml::Node::parse(&text).map_err(|e| e.to_string())?;
    let file: File = serde_json::from_value(to_json(&node)).map_err(|e| e.to_string())?;
    let named = |list: Vec<Named>, name: &str, what: &str| {
        list.into_iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| format!("there is no {what} {}", model::quote(name)))
    };
    let context = named(file.contexts, &file.current_context, "context")?.context.unwrap_or_default();
    let cluster = named(file.clusters, &context.cluster, "cluster")?.cluster.unwrap_or_default();
    let user = if context.user.is_empty() {
        User::default()
    } else {
        named(file.users, &context.user, "user")?.user.unwrap_or_default()
    };
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(
            "users with exec or auth-provider are not supported; use a token, a token file or a certificate".into()
        );
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let beside = |file: &str| if file.is_empty() { PathBuf::new() } else { folder.join(file) };
    let decoded = |data: &str, what: &str| {
        let bytes = STANDARD.decode(data.trim()).map_err(|e| format!("{what}: {e}"))?;
        String::from_utf8(bytes).map_err(|_| format!("{what} is not text"))
    };
    let mut client = HttpClientConfig::default();
    let tls = &mut client.tls_config;
    // data win over files, as kubectl has it
    tls.ca = decoded(&cluster.certificate_authority_data, "certificate-authority-data")?;
    if tls.ca.is_empty() {
        tls.ca_file = beside(&cluster.certificate_authority);
    }
    tls.cert = decoded(&user.client_certificate_data, "client-certificate-data")?;
    if tls.cert.is_empty() {
        tls.cert_file = beside(&user.client_certificate);
    }
    tls.key = Secret::new(decoded(user.client_key_data.expose(), "client-key-data")?);
    if tls.key.is_empty() {
        tls.key_file = beside(&user.client_key);
    }
    tls.insecure_skip_verify = cluster.insecure_skip_tls_verify;
    tls.server_name = cluster.tls_server_name;
    if !cluster.proxy_url.is_empty() {
        client.proxy_url = Some(parse_url(&cluster.proxy_url)?);
    }
    if !user.token_file.is_empty() {
        client.authorization = Some(bearer(String::new(), beside(&user.token_file)));
    } else if !user.token.is_empty() {
        client.authorization = Some(bearer(user.token.expose().to_owned(), PathBuf::new()));
    } else if !user.username.is_empty() {
        let (username, password) = (user.username, user.password);
        client.basic_auth = Some(BasicAuth { username, password, ..BasicAuth::default() });
    }
    Ok((cluster.server, client))
}

/// A document as JSON; plain scalars are words, but for truth values and null.
fn to_json(node: &yaml::Node) -> serde_json::Value {
    use serde_json::Value;
    match &node.kind {
        _ if node.is_null() => Value::Null,
        yaml::Kind::Scalar { text, plain: true } if text == "true" || text == "false" => Value::Bool(text == "true"),
        yaml::Kind::Scalar { text, .. } => Value::String(text.clone()),
        yaml::Kind::Binary(_) => Value::Null,
        yaml::Kind::Sequence(items) => items.iter().map(to_json).collect(),
        yaml::Kind::Mapping(entries) => entries
            .iter()
            .map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), to_json(value)))
            .filter(|(_, value)| !value.is_null())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lead_to_servers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text = "apiVersion: v1
kind: Config
current-context: here
contexts:
- {name: other, context: {cluster: b, user: b}}
- {name: here, context: {cluster: a, user: me, namespace: x}}
clusters:
- name: a
  cluster: {server: 'https://k8s:6443', certificate-authority-data: Q0E=, tls-server-name: k}
users:
- name: me
  user: {tokenFile: token, client-certificate: c.pem, client-key: /k.pem}
";
        std::fs::write(&path, text).unwrap();
        let (server, client) = from_file(&path).unwrap();
        assert_eq!(server, "https://k8s:6443");
        assert_eq!((client.tls_config.ca.as_str(), client.tls_config.server_name.as_str()), ("CA", "k"));
        assert_eq!(client.tls_config.cert_file, folder.path().join("c.pem"));
        assert_eq!(client.tls_config.key_file, Path::new("/k.pem"));
        assert_eq!(client.authorization.unwrap().credentials_file, folder.path().join("token"));

        for (from, to, expected) in [
            ("current-context: here", "current-context: gone", "there is no context \"gone\""),
            ("{tokenFile: token,", "{exec: {command: x},", "users with exec"),
            ("Q0E=", "'%'", "certificate-authority-data"),
            ("contexts:", "contexts: 3\nx:", "invalid type"),
        ] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let error = from_file(&path).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
