//! Clouds and hosting providers other than Amazon and OpenStack.

use model::quote;

use super::super::Base;
use super::super::keys::{Section, Values, duration, file, int, text, texts};
use super::super::web_address;
use super::mechanisms::{Mechanism, keys_only, one_of, role};

const AZURE: Section = Section::new(
    "azure.plain",
    &[
        text("environment").or("AzurePublicCloud"),
        int("port", "80"),
        text("subscription_id"),
        text("tenant_id"),
        text("client_id"),
        text("client_secret"),
        duration("refresh_interval", "5m"),
        text("authentication_method").or("OAuth"),
        text("resource_group"),
    ],
)
.with_http_client();

const DIGITALOCEAN: Section = Section::new(
    "digitalocean.plain",
    &[duration("refresh_interval", "1m"), int("port", "80"), text("role").or("droplets")],
)
.with_http_client();

const GCE: Section = Section::new(
    "gce.plain",
    &[
        text("project"),
        text("zone"),
        text("filter"),
        duration("refresh_interval", "1m"),
        int("port", "80"),
        text("tag_separator").or(","),
    ],
);

const HETZNER: Section = Section::new(
    "hetzner.plain",
    &[duration("refresh_interval", "1m"), int("port", "80"), text("role"), text("label_selector")],
)
.with_http_client();

const IONOS: Section =
    Section::new("ionos.plain", &[text("datacenter_id"), duration("refresh_interval", "1m"), int("port", "80")])
        .with_http_client();

const LINODE: Section = Section::new(
    "linode.plain",
    &[duration("refresh_interval", "1m"), int("port", "80"), text("tag_separator").or(","), text("region")],
)
.with_http_client();

const OCI: Section = Section::new(
    "oci.plain",
    &[
        text("auth").or("api_key"),
        text("tenancy"),
        text("user"),
        text("fingerprint"),
        file("key_file"),
        text("key_passphrase"),
        file("key_passphrase_file"),
        text("region"),
        texts("compartments"),
        int("port", "80"),
        duration("refresh_interval", "1m"),
    ],
)
.with_http_client();

const OUTSCALE: Section = Section::new(
    "outscale.plain",
    &[
        text("endpoint"),
        text("region").or("eu-west-2"),
        text("access_key"),
        text("secret_key"),
        file("secret_key_file"),
        duration("refresh_interval", "1m"),
        int("port", "80"),
    ],
)
.with_http_client();

const OVHCLOUD: Section = Section::new(
    "ovhcloud.plain",
    &[
        text("endpoint").or("ovh-eu"),
        text("application_key"),
        text("application_secret"),
        text("consumer_key"),
        duration("refresh_interval", "1m"),
        text("service"),
    ],
);

const SCALEWAY: Section = Section::new(
    "scaleway.plain",
    &[
        text("project_id"),
        text("api_url").or("https://api.scaleway.com"),
        text("zone").or("fr-par-1"),
        text("access_key"),
        text("secret_key"),
        file("secret_key_file"),
        text("name_filter"),
        texts("tags_filter"),
        duration("refresh_interval", "1m"),
        int("port", "80"),
        text("role"),
    ],
)
.with_http_client();

const STACKIT: Section = Section::new(
    "stackit.plain",
    &[
        text("project"),
        duration("refresh_interval", "1m"),
        int("port", "80"),
        text("region").or("eu01"),
        text("endpoint"),
        text("service_account_key"),
        text("private_key"),
        text("service_account_key_path"),
        text("private_key_path"),
        text("credentials_file_path"),
    ],
)
.with_http_client();

const VULTR: Section =
    Section::new("vultr.plain", &[duration("refresh_interval", "1m"), int("port", "80")]).with_http_client();

pub(super) const MECHANISMS: [Mechanism; 12] = [
    Mechanism::new("azure", &AZURE, check_azure),
    Mechanism::new("digitalocean", &DIGITALOCEAN, check_digitalocean),
    Mechanism::new("gce", &GCE, check_gce),
    Mechanism::new("hetzner", &HETZNER, check_hetzner),
    Mechanism::new("ionos", &IONOS, check_ionos),
    Mechanism::new("linode", &LINODE, keys_only),
    Mechanism::new("oci", &OCI, check_oci),
    Mechanism::new("outscale", &OUTSCALE, check_outscale),
    Mechanism::new("ovhcloud", &OVHCLOUD, check_ovhcloud),
    Mechanism::new("scaleway", &SCALEWAY, check_scaleway),
    Mechanism::new("stackit", &STACKIT, check_stackit),
    Mechanism::new("vultr", &VULTR, keys_only),
];

fn check_azure(azure: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    azure.require("subscription_id", "azure SD configuration requires a subscription_id")?;
    let methods = ["OAuth", "ManagedIdentity", "SDK", "WorkloadIdentity"];
    one_of(azure, "authentication_method", &methods, |other| {
        format!(
            "unknown authentication_type {}. Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \"WorkloadIdentity\"",
            quote(other)
        )
    })?;
    if azure.text("authentication_method") == "OAuth" {
        for key in ["tenant_id", "client_id", "client_secret"] {
            azure.require(key, &format!("azure SD configuration requires a {key}"))?;
        }
    }
    Ok(())
}

fn check_digitalocean(digitalocean: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    role(digitalocean, "", &["droplets", "databases"])
}

fn check_gce(gce: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    gce.require("project", "GCE SD configuration requires a project")?;
    gce.require("zone", "GCE SD configuration requires a zone")
}

fn check_hetzner(hetzner: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    role(hetzner, "", &["robot", "hcloud"])
}

fn check_ionos(ionos: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    ionos.require("datacenter_id", "datacenter id can't be empty")
}

fn check_oci(oci: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    one_of(oci, "auth", &["api_key", "instance_principal"], |other| {
        format!("oci_sd: unknown auth method {}, expected \"api_key\" or \"instance_principal\"", quote(other))
    })?;
    if oci.has("key_passphrase") && oci.has("key_passphrase_file") {
        let message = "oci_sd: at most one of key_passphrase & key_passphrase_file must be configured";
        return oci.fault("key_passphrase_file", message);
    }
    Ok(())
}

fn check_outscale(outscale: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    outscale.require("region", "outscale SD configuration requires a region")?;
    outscale.require("access_key", "outscale SD configuration requires an access key")?;
    outscale.require_secret("secret_key", "secret_key_file")
}

fn check_ovhcloud(ovhcloud: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    ovhcloud.require("endpoint", "endpoint can not be empty")?;
    ovhcloud.require("application_key", "application key can not be empty")?;
    ovhcloud.require("application_secret", "application secret can not be empty")?;
    ovhcloud.require("consumer_key", "consumer key can not be empty")?;
    one_of(ovhcloud, "service", &["vps", "dedicated_server"], |other| format!("unknown service: {other}"))
}

fn check_scaleway(scaleway: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    role(scaleway, "", &["instance", "baremetal"])?;
    scaleway.require("project_id", "project_id is mandatory")?;
    scaleway.require_secret("secret_key", "secret_key_file")?;
    scaleway.require("access_key", "access_key is mandatory")
}

fn check_stackit(stackit: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    if !stackit.has("endpoint") {
        return stackit.require("region", "stackit_sd: endpoint and region missing");
    }
    let endpoint = stackit.text("endpoint");
    web_address::parse(endpoint)
        .map(drop)
        .or_else(|m| stackit.fault("endpoint", format!("stackit_sd: invalid endpoint {}: {m}", quote(endpoint))))
}

#[cfg(test)]
mod tests {
    use super::super::mechanisms::check_table;

    #[test]
    fn faults_are_named() {
        check_table(&[
            ("azure", "{subscription_id: a, tenant_id: b, client_id: c, client_secret: d}", ""),
            ("azure", "{subscription_id: a, authentication_method: SDK}", ""),
            ("azure", "{authentication_method: SDK}", "azure SD configuration requires a subscription_id"),
            ("azure", "{subscription_id: a, tenant_id: }", "azure SD configuration requires a tenant_id"),
            ("azure", "{subscription_id: a, authentication_method: x}", "unknown authentication_type \"x\". Supported"),
            ("digitalocean", "bearer_token: x", ""),
            ("digitalocean", "role: x", "unknown role \"x\""),
            ("gce", "{project: a, zone: b}", ""),
            ("gce", "project: a", "GCE SD configuration requires a zone"),
            ("hetzner", "{role: robot, label_selector: a}", ""),
            ("hetzner", "{}", "role missing (one of: robot, hcloud)"),
            ("hetzner", "role: x", "unknown role \"x\""),
            ("ionos", "datacenter_id: a", ""),
            ("ionos", "datacenter_id: ''", "datacenter id can't be empty"),
            ("linode", "{tag_separator: ;, region: r}", ""),
            ("linode", "role: x", "field role not found in type linode.plain"),
            ("oci", "{auth: instance_principal, compartments: [a]}", ""),
            ("oci", "auth: x", "oci_sd: unknown auth method \"x\", expected \"api_key\" or \"instance_principal\""),
            (
                "oci",
                "{key_passphrase: a, key_passphrase_file: b}",
                "oci_sd: at most one of key_passphrase & key_passphr",
            ),
            ("outscale", "{access_key: a, secret_key: b}", ""),
            ("outscale", "{region: '', access_key: a, secret_key: b}", "outscale SD configuration requires a region"),
            ("outscale", "access_key: a", "one of secret_key & secret_key_file must be configured"),
            (
                "outscale",
                "{access_key: a, secret_key: b, secret_key_file: c}",
                "at most one of secret_key & secret_key_f",
            ),
            ("ovhcloud", "{application_key: a, application_secret: b, consumer_key: c, service: vps}", ""),
            (
                "ovhcloud",
                "{application_key: a, application_secret: b, consumer_key: c, service: x}",
                "unknown service: x",
            ),
            ("ovhcloud", "{application_key: a, consumer_key: c}", "application secret can not be empty"),
            ("scaleway", "{role: instance, project_id: a, access_key: b, secret_key_file: c}", ""),
            ("scaleway", "role: x", "unknown role \"x\""),
            ("scaleway", "{role: instance, access_key: b, secret_key: c}", "project_id is mandatory"),
            ("scaleway", "{role: instance, project_id: a, access_key: b}", "one of secret_key & secret_key_file must"),
            ("stackit", "{project: a, service_account_key: b}", ""),
            ("stackit", "endpoint: '://x'", "stackit_sd: invalid endpoint \"://x\""),
            ("stackit", "region: ''", "stackit_sd: endpoint and region missing"),
            ("vultr", "{port: 1, bearer_token: x}", ""),
            ("vultr", "region: r", "field region not found in type vultr.plain"),
        ]);
    }
}
