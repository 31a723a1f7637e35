//! `kubernetes_sd_configs`.

use common::http::client::HttpClientConfig;
use model::quote;

use super::super::Base;
use super::super::keys::{Key, Kind, Section, Values, file, flag, text, texts};
use super::mechanisms::{Mechanism, role};
use super::selectors;

const NAMESPACES: Section = Section::new("kubernetes.plain", &[flag("own_namespace"), texts("names")]);
const SELECTOR: Section = Section::new("kubernetes.plain", &[text("role"), text("label"), text("field")]);
const ATTACH_METADATA: Section = Section::new(
    "kubernetes.plain",
    &[flag("node"), flag("namespace"), flag("deployment"), flag("job"), flag("cronjob")],
);
const KUBERNETES: Section = Section::new(
    "kubernetes.plain",
    &[
        Key::new("api_server", Kind::Url),
        text("role"),
        file("kubeconfig_file"),
        Key::new("namespaces", Kind::Object(&NAMESPACES)),
        Key::new("selectors", Kind::Objects(&SELECTOR)),
        Key::new("attach_metadata", Kind::Object(&ATTACH_METADATA)),
    ],
)
.with_http_client();

pub(super) const MECHANISMS: [Mechanism; 1] = [Mechanism::new("kubernetes", &KUBERNETES, check)];

/// Roles, and the roles that a selector may have beside them.
const ROLES: [(&str, &[&str]); 6] = [
    ("pod", &["pod", "node"]),
    ("service", &["service"]),
    ("endpoints", &["pod", "service", "endpoints"]),
    ("endpointslice", &["pod", "service", "endpointslice"]),
    ("node", &["node"]),
    ("ingress", &["ingress"]),
];

fn check(kubernetes: &Values<'_>, base: &Base) -> Result<(), yaml::Error> {
    let names = ROLES.map(|(name, _)| name);
    role(kubernetes, "Kubernetes SD ", &names)?;
    let server = kubernetes.node("api_server").is_some();
    let file = kubernetes.has("kubeconfig_file");
    let own_client = kubernetes.http_client != HttpClientConfig::default();
    let own_namespace = match kubernetes.node("namespaces") {
        Some(node) => NAMESPACES.read(node, base)?.flag("own_namespace"),
        None => false,
    };
    for (wrong, key, message) in [
        (server && file, "kubeconfig_file", "cannot use 'kubeconfig_file' and 'api_server' simultaneously"),
        (
            file && own_client,
            "kubeconfig_file",
            "cannot use a custom HTTP client configuration together with 'kubeconfig_file'",
        ),
        (
            !server && own_client,
            "api_server",
            "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
        ),
        (
            server && own_namespace,
            "namespaces",
            "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously",
        ),
        (
            file && own_namespace,
            "namespaces",
            "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously",
        ),
    ] {
        if wrong {
            return kubernetes.fault(key, message);
        }
    }
    check_selectors(kubernetes, base)
}

fn check_selectors(kubernetes: &Values<'_>, base: &Base) -> Result<(), yaml::Error> {
    let own = kubernetes.text("role");
    let allowed = ROLES.iter().find(|(name, _)| *name == own).map_or(&[][..], |(_, allowed)| allowed);
    let mut seen: Vec<String> = Vec::new();
    for item in kubernetes.items("selectors") {
        let selector = SELECTOR.read(item, base)?;
        let role = selector.text("role");
        if !ROLES.iter().any(|(name, _)| *name == role) {
            return selector.fault("role", format!("unknown Kubernetes SD role {}", quote(role)));
        }
        if seen.iter().any(|s| s == role) {
            return selector.fault("role", format!("duplicated selector role: {role}"));
        }
        seen.push(role.to_owned());
        if !allowed.contains(&role) {
            let message = format!("{own} role supports only {} selectors", allowed.join(", "));
            return selector.fault("role", message);
        }
        selectors::check_fields(selector.text("field")).or_else(|m| selector.fault("field", m))?;
        selectors::check_labels(selector.text("label")).or_else(|m| selector.fault("label", m))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::mechanisms::check_table;

    #[test]
    fn faults_are_named() {
        for (text, expected) in [
            ("role: pod", ""),
            ("{role: node, api_server: 'https://x', bearer_token: t}", ""),
            ("{role: node, kubeconfig_file: f, attach_metadata: {node: true}}", ""),
            ("{role: pod, namespaces: {own_namespace: true, names: [a]}}", ""),
            ("{role: pod, selectors: [{role: pod, label: 'a in (b,c)', field: a.b=c}, {role: node}]}", ""),
            ("{}", "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)"),
            ("role: x", "unknown Kubernetes SD role \"x\""),
            ("{role: pod, namespaces: {nope: 1}}", "field nope not found in type kubernetes.plain"),
            (
                "{role: pod, api_server: 'http://x', kubeconfig_file: f}",
                "cannot use 'kubeconfig_file' and 'api_server'",
            ),
            ("{role: pod, kubeconfig_file: f, bearer_token: t}", "cannot use a custom HTTP client configuration"),
            ("{role: pod, enable_http2: false}", "to use custom HTTP client configuration please provide"),
            (
                "{role: pod, api_server: 'http://x', namespaces: {own_namespace: true}}",
                "cannot use 'api_server' and 'n",
            ),
            (
                "{role: pod, kubeconfig_file: f, namespaces: {own_namespace: true}}",
                "cannot use 'kubeconfig_file' and 'n",
            ),
            ("{role: pod, selectors: [{role: pod}, {role: pod}]}", "duplicated selector role: pod"),
            (
                "{role: endpointslice, selectors: [{role: endpoints}]}",
                "endpointslice role supports only pod, service, e",
            ),
            ("{role: service, selectors: [{role: x}]}", "unknown Kubernetes SD role \"x\""),
            ("{role: pod, selectors: [{role: pod, field: a}]}", "invalid selector: 'a'; can't understand 'a'"),
            ("{role: pod, selectors: [{role: pod, label: 'a in b'}]}", "unable to parse requirement"),
        ] {
            check_table(&[("kubernetes", text, expected)]);
        }
    }
}
