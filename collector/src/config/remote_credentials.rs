//! The clouds' ways to sign remote writes: `sigv4`, `azuread` and `google_iam`.

use super::Base;
use super::keys::{Key, Kind, Section, Values, flag, text};
use super::sigv4::SigV4;

pub(super) const AZURE_AD: Section = Section::new(
    "azuread.plain",
    &[
        Key::new("managed_identity", Kind::Object(&MANAGED_IDENTITY)),
        Key::new("workload_identity", Kind::Object(&WORKLOAD_IDENTITY)),
        Key::new("oauth", Kind::Object(&OAUTH)),
        Key::new("sdk", Kind::Object(&SDK)),
        Key::new("certificate", Kind::Object(&CERTIFICATE)),
        text("cloud").or("AzurePublic"),
        text("scope"),
    ],
);
const MANAGED_IDENTITY: Section = Section::new("azuread.ManagedIdentityConfig", &[text("client_id")]);
const WORKLOAD_IDENTITY: Section =
    Section::new("azuread.WorkloadIdentityConfig", &[text("client_id"), text("tenant_id"), text("token_file_path")]);
const OAUTH: Section =
    Section::new("azuread.OAuthConfig", &[text("client_id"), text("client_secret"), text("tenant_id")]);
const SDK: Section = Section::new("azuread.SDKConfig", &[text("tenant_id")]);
const CERTIFICATE: Section = Section::new(
    "azuread.CertificateConfig",
    &[
        text("client_id"),
        text("tenant_id"),
        text("certificate_path"),
        text("certificate_key_path"),
        text("certificate_password"),
        flag("send_certificate_chain"),
    ],
);

pub(super) const GOOGLE_IAM: Section = Section::new("googleiam.Config", &[text("credentials_file")]);

/// Checks that a remote write has at most one kind of credentials, and those kinds that only it has.
pub(super) fn check(write: &Values<'_>, base: &Base) -> Result<(), yaml::Error> {
    let client = &write.http_client;
    let given: Vec<&str> = [
        ("basic_auth", client.basic_auth.is_some()),
        ("authorization", client.authorization.is_some()),
        ("oauth2", client.oauth2.is_some()),
        ("sigv4", write.node("sigv4").is_some()),
        ("azuread", write.node("azuread").is_some()),
        ("google_iam", write.node("google_iam").is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    if given.len() > 1 {
        let message = format!(
            "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: {}",
            given.join(", ")
        );
        return write.fault(given[1], message);
    }
    if let Some(node) = write.node("sigv4") {
        SigV4::read(node, base)?;
    }
    match write.node("azuread") {
        Some(node) => check_azure_ad(&AZURE_AD.read(node, base)?, base),
        None => Ok(()),
    }
}

/// A kind of identity: its key, its name in messages, its section, and the keys that must have a value.
type Identity = (&'static str, &'static str, &'static Section, &'static [&'static str]);

const IDENTITIES: [Identity; 5] = [
    // without a client_id the identity that the machine has is taken
    ("managed_identity", "Azure Managed Identity", &MANAGED_IDENTITY, &[]),
    ("workload_identity", "Azure Workload Identity", &WORKLOAD_IDENTITY, &["client_id", "tenant_id"]),
    ("oauth", "Azure OAuth", &OAUTH, &["client_id", "client_secret", "tenant_id"]),
    ("sdk", "Azure SDK", &SDK, &[]),
    ("certificate", "Azure Certificate", &CERTIFICATE, &["client_id", "tenant_id", "certificate_path"]),
];

fn check_azure_ad(azure: &Values<'_>, base: &Base) -> Result<(), yaml::Error> {
    if !["AzureChina", "AzureGovernment", "AzurePublic"].contains(&azure.text("cloud")) {
        return azure.fault("cloud", "must provide a cloud in the Azure AD config");
    }
    let given: Vec<&Identity> = IDENTITIES.iter().filter(|identity| azure.node(identity.0).is_some()).collect();
    let (key, name, section, required) = match given.as_slice() {
        [only] => **only,
        [] => {
            let names = IDENTITIES.map(|identity| identity.1).join(", ");
            return azure.fault("", format!("must provide one of {names} in the Azure AD config"));
        }
        [first, second, ..] => {
            let message = format!("cannot provide both {} and {} in the Azure AD config", first.1, second.1);
            return azure.fault(second.0, message);
        }
    };
    let Some(node) = azure.node(key) else { return Ok(()) };
    let identity = section.read(node, base)?;
    for field in required {
        identity.require(field, &format!("must provide an {name} {field} in the Azure AD config"))?;
    }
    if identity.has("client_id") && !is_uuid(identity.text("client_id")) {
        return identity.fault("client_id", format!("the provided {name} client_id is invalid"));
    }
    let tenant_character = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !identity.text("tenant_id").chars().all(tenant_character) {
        return identity.fault("tenant_id", format!("the provided {name} tenant_id is invalid"));
    }
    Ok(())
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, also without hyphens, in braces, or after `urn:uuid:`.
fn is_uuid(text: &str) -> bool {
    let bare = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let bare = bare.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(bare);
    let lengths: Vec<usize> = bare.split('-').map(str::len).collect();
    bare.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && (lengths == [32] || lengths == [8, 4, 4, 4, 12])
}

#[cfg(test)]
mod tests {
    use super::super::remote::check_writes;
    use super::*;

    #[test]
    fn faults_are_named() {
        const ID: &str = "00000000-a12b-3cd4-e56f-000000000000";
        for (text, expected) in [
            ("sigv4: {region: r, access_key: a, secret_key: b}", ""),
            ("google_iam: {credentials_file: f}", ""),
            ("azuread: {managed_identity: {client_id: ID}, cloud: AzureChina}", ""),
            ("azuread: {oauth: {client_id: ID, client_secret: s, tenant_id: a.b-c}}", ""),
            ("azuread: {sdk: {tenant_id: ID}}", ""),
            ("sigv4: {access_key: a}", "must provide a AWS SigV4 Access key and Secret Key"),
            ("sigv4: {nope: a}", "field nope not found in type sigv4.plain"),
            ("google_iam: {nope: a}", "field nope not found in type googleiam.Config"),
            ("sigv4: {}, basic_auth: {username: u}", "at most one of basic_auth, authorization, oauth2, sigv4"),
            ("azuread: {cloud: AzurePublic}", "must provide one of Azure Managed Identity"),
            ("azuread: {sdk: {}, cloud: x}", "must provide a cloud in the Azure AD config"),
            ("azuread: {sdk: {}, oauth: {}}", "cannot provide both Azure OAuth and Azure SDK in the Azure AD config"),
            ("azuread: {managed_identity: {client_id: x}}", "the provided Azure Managed Identity client_id is invalid"),
            ("azuread: {oauth: {client_id: ID, tenant_id: t}}", "must provide an Azure OAuth client_secret in the"),
            ("azuread: {sdk: {tenant_id: 'a b'}}", "the provided Azure SDK tenant_id is invalid"),
            ("azuread: {sdk: {nope: x}}", "field nope not found in type azuread.SDKConfig"),
        ] {
            let document = format!("[{{url: x, {}}}]", text.replace("ID", ID));
            let node = yaml::Node::parse(&document).unwrap();
            let message = check_writes(&node, &Base::default()).map_or_else(|e| e.to_string(), |()| String::new());
            assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{text}\n{message}");
        }
    }
}
