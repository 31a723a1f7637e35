//! Who we are for Amazon's services: keys of the configuration, or those that the surroundings give, and roles taken on with them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::connection::{Client, ClientError};
use super::sigv4;
use crate::secret::Secret;

/// Keys that requests are signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsCredentials {
    /// The access key, which is no secret.
    pub access_key: String,
    /// The key that signs.
    pub secret_key: Secret,
    /// What goes with keys that were given for some time only.
    pub session_token: Secret,
}

/// What a configuration says about it; everything may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region.
    pub region: String,
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// A profile of the shared files.
    pub profile: String,
    /// A role to take on.
    pub role_arn: String,
    /// What its owner asks for.
    pub external_id: String,
    /// Whether keys are had from the token service's hosts for FIPS 140.
    pub fips_token_service: bool,
}

/// Signs requests; finds keys and the region when they are first needed, and anew before they run out.
#[derive(Debug)]
pub struct AwsSigner {
    settings: AwsSettings,
    surroundings: Surroundings,
    client: Client,
    held: Mutex<Option<Held>>,
    region: Mutex<Option<String>>,
}

/// What is looked at beside the configuration.
#[derive(Debug)]
struct Surroundings {
    variables: HashMap<String, String>,
    /// Where an instance is told about itself.
    instance: String,
}

#[derive(Debug)]
struct Held {
    credentials: AwsCredentials,
    expires: Option<Timestamp>,
}

/// The address of the instance metadata service.
const INSTANCE: &str = "http://169.254.169.254";
/// The one of containers.
const CONTAINER: &str = "http://169.254.170.2";
/// Each request for keys has so much time.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Keys are renewed this long before they run out.
const MARGIN: Duration = Duration::from_secs(300);
const MAX_ANSWER: usize = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

fn fault(text: impl Into<String>) -> ClientError {
    ClientError::Credentials(text.into())
}

impl AwsSigner {
    /// A signer that asks for keys over this client.
    pub fn new(settings: AwsSettings, client: Client) -> Self {
        let variables = std::env::vars().filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty());
        let mut variables: HashMap<String, String> = variables.collect();
        variables.extend(std::env::var("HOME").ok().map(|home| ("HOME".to_owned(), home)));
        let instance = variables
            .get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
            .map_or(INSTANCE, |url| url.trim_end_matches('/'))
            .to_owned();
        Self::within(settings, client, Surroundings { variables, instance })
    }

    fn within(settings: AwsSettings, client: Client, surroundings: Surroundings) -> Self {
        Self { settings, surroundings, client, held: Mutex::default(), region: Mutex::default() }
    }

    /// Signs a request to a service, by the name of its signatures.
    ///
    /// # Errors
    /// When there are no keys to be had.
    pub async fn sign(&self, request: &mut Request, service: &str) -> Result<(), ClientError> {
        let region = self.region().await?;
        let credentials = self.credentials(&region).await?;
        sigv4::sign(request, &credentials, &region, service, Timestamp::now())
    }

    /// The region: of the configuration, the environment, the profile, or the one that this machine runs in.
    ///
    /// # Errors
    /// When nobody knows.
    pub async fn region(&self) -> Result<String, ClientError> {
        let mut known = self.region.lock().await;
        if let Some(region) = &*known {
            return Ok(region.clone());
        }
        let found = if !self.settings.region.is_empty() {
            self.settings.region.clone()
        } else if let Some(region) = self.variable("AWS_REGION").or(self.variable("AWS_DEFAULT_REGION")) {
            region.to_owned()
        } else if let Some(region) = self.profile().remove("region") {
            region
        } else {
            let asked = self.ask_instance("/latest/meta-data/placement/region").await;
            asked.map_err(|e| fault(format!("could not determine AWS region: {e}")))?.trim().to_owned()
        };
        Ok(known.insert(found).clone())
    }

    async fn credentials(&self, region: &str) -> Result<AwsCredentials, ClientError> {
        let mut held = self.held.lock().await;
        let fresh = |held: &&Held| held.expires.is_none_or(|expires| Timestamp::now() + MARGIN < expires);
        if let Some(held) = held.as_ref().filter(fresh) {
            return Ok(held.credentials.clone());
        }
        let mut found = self.own(region).await?;
        if !self.settings.role_arn.is_empty() {
            found = self.take_on_role(&found.credentials, region).await?;
        }
        Ok(held.insert(found).credentials.clone())
    }

    /// The keys that we have without taking on a role of the configuration.
    async fn own(&self, region: &str) -> Result<Held, ClientError> {
        let settings = &self.settings;
        let lasting = |access_key: &str, secret_key: &str, token: &str| Held {
            credentials: AwsCredentials {
                access_key: access_key.to_owned(),
                secret_key: Secret::new(secret_key),
                session_token: Secret::new(token),
            },
            expires: None,
        };
        if !settings.access_key.is_empty() && !settings.secret_key.is_empty() {
            return Ok(lasting(&settings.access_key, settings.secret_key.expose(), ""));
        }
        let of_environment = (self.variable("AWS_ACCESS_KEY_ID"), self.variable("AWS_SECRET_ACCESS_KEY"));
        if let ((Some(access), Some(secret)), true) = (of_environment, settings.profile.is_empty()) {
            return Ok(lasting(access, secret, self.variable("AWS_SESSION_TOKEN").unwrap_or_default()));
        }
        let profile = self.profile();
        let of_profile = |name: &str| profile.get(name).map(String::as_str);
        if let (Some(access), Some(secret)) = (of_profile("aws_access_key_id"), of_profile("aws_secret_access_key")) {
            return Ok(lasting(access, secret, of_profile("aws_session_token").unwrap_or_default()));
        }
        if !settings.profile.is_empty() {
            return Err(fault(format!("there are no keys in the AWS profile {:?}", settings.profile)));
        }
        if let (Some(file), Some(role)) = (self.variable("AWS_WEB_IDENTITY_TOKEN_FILE"), self.variable("AWS_ROLE_ARN"))
        {
            let token =
                std::fs::read_to_string(file).map_err(|e| fault(format!("AWS_WEB_IDENTITY_TOKEN_FILE: {e}")))?;
            let session = self.variable("AWS_ROLE_SESSION_NAME").unwrap_or("firewatch");
            let form = [
                ("Action", "AssumeRoleWithWebIdentity"),
                ("RoleArn", role),
                ("RoleSessionName", session),
                ("WebIdentityToken", token.trim()),
            ];
            return self.ask_token_service(&form, None, region).await;
        }
        let container = match self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) => Some(format!("{CONTAINER}{path}")),
            None => self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned),
        };
        if let Some(url) = container {
            let mut request = Request::new(Method::GET, parse(&url)?);
            let token = match self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
                Some(file) => Some(std::fs::read_to_string(file).map_err(|e| fault(format!("{file}: {e}")))?),
                None => self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
            };
            if let Some(token) = token {
                let value =
                    HeaderValue::from_str(token.trim()).map_err(|_| fault("the container's token is no header"))?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            return given(&self.ask(request).await?);
        }
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        let wrap = |e: ClientError| {
            fault(format!("no AWS credentials: not in the configuration, the environment or a profile, and {e}"))
        };
        let role = self.ask_instance(ROLES).await.map_err(wrap)?;
        given(&self.ask_instance(&format!("{ROLES}{}", role.lines().next().unwrap_or_default())).await?)
    }

    async fn take_on_role(&self, own: &AwsCredentials, region: &str) -> Result<Held, ClientError> {
        let session = format!("firewatch-{}", model::now_millis());
        let mut form = vec![
            ("Action", "AssumeRole"),
            ("RoleArn", self.settings.role_arn.as_str()),
            ("RoleSessionName", session.as_str()),
        ];
        if !self.settings.external_id.is_empty() {
            form.push(("ExternalId", &self.settings.external_id));
        }
        self.ask_token_service(&form, Some(own), region).await
    }

    async fn ask_token_service(
        &self,
        form: &[(&str, &str)],
        signer: Option<&AwsCredentials>,
        region: &str,
    ) -> Result<Held, ClientError> {
        let url = match self.variable("AWS_ENDPOINT_URL_STS").or(self.variable("AWS_ENDPOINT_URL")) {
            Some(url) => parse(url)?,
            None => {
                let host = if self.settings.fips_token_service { "sts-fips" } else { "sts" };
                parse(&format!("https://{host}.{region}.{}/", aws_domain(region)))?
            }
        };
        let mut request = Request::new(Method::POST, url);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .append_pair("Version", "2011-06-15")
            .finish();
        *request.body_mut() = Some(body.into());
        if let Some(credentials) = signer {
            sigv4::sign(&mut request, credentials, region, "sts", Timestamp::now())?;
        }
        let answer = self.ask(request).await?;
        let part = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>"))?;
            rest.split_once("</").map(|(value, _)| value.trim().to_owned())
        };
        let (Some(access_key), Some(secret), Some(token)) =
            (part("AccessKeyId"), part("SecretAccessKey"), part("SessionToken"))
        else {
            return Err(fault("the token service gave no keys"));
        };
        let credentials =
            AwsCredentials { access_key, secret_key: Secret::new(secret), session_token: Secret::new(token) };
        Ok(Held { credentials, expires: part("Expiration").and_then(|text| text.parse().ok()) })
    }

    /// What the instance that we run on knows about itself.
    async fn ask_instance(&self, path: &str) -> Result<String, ClientError> {
        if self.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(fault("the instance metadata service is not to be asked"));
        }
        let base = &self.surroundings.instance;
        let mut request = Request::new(Method::PUT, parse(&format!("{base}/latest/api/token"))?);
        request.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", HeaderValue::from_static("300"));
        let token = self.ask(request).await?;
        let mut request = Request::new(Method::GET, parse(&format!("{base}{path}"))?);
        let token = HeaderValue::from_str(token.trim()).map_err(|_| fault("the instance's token is no header"))?;
        request.headers_mut().insert("x-aws-ec2-metadata-token", token);
        self.ask(request).await
    }

    async fn ask(&self, request: Request) -> Result<String, ClientError> {
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let exchange = async {
            let mut response = self.client.execute(request).await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER {
                    return Err(fault(format!("{host}: the answer is too large")));
                }
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            let status = response.status();
            if status.is_success() {
                return Ok(text);
            }
            Err(fault(format!("{host}: status {status}: {}", text.chars().take(200).collect::<String>())))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(fault(format!("{host}: no answer in time"))))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.surroundings.variables.get(name).map(String::as_str)
    }

    /// What the shared files say about the profile; the one with the keys wins.
    fn profile(&self) -> HashMap<String, String> {
        let profile = match self.settings.profile.as_str() {
            "" => self.variable("AWS_PROFILE").unwrap_or("default"),
            name => name,
        };
        let home = PathBuf::from(self.variable("HOME").unwrap_or_default()).join(".aws");
        let file = |variable: &str, name: &str| self.variable(variable).map_or_else(|| home.join(name), PathBuf::from);
        let mut found = HashMap::new();
        for (path, section) in [
            (
                file("AWS_CONFIG_FILE", "config"),
                if profile == "default" { "default".into() } else { format!("profile {profile}") },
            ),
            (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile.to_owned()),
        ] {
            // a file that is not there says nothing
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let mut inside = false;
            for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
                if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                    inside = name.trim() == section;
                } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
                    found.insert(name.trim().to_owned(), value.trim().to_owned());
                }
            }
        }
        found
    }
}

/// The domain that the services of a region are under.
pub fn aws_domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

fn parse(url: &str) -> Result<url::Url, ClientError> {
    url.parse().map_err(|e| fault(format!("{url}: {e}")))
}

fn given(text: &str) -> Result<Held, ClientError> {
    let given: Given = serde_json::from_str(text).map_err(|e| fault(format!("the answer with keys: {e}")))?;
    if given.access_key_id.is_empty() || given.secret_access_key.is_empty() {
        return Err(fault("the answer has no keys"));
    }
    let (secret_key, session_token) = (Secret::new(given.secret_access_key), Secret::new(given.token));
    let credentials = AwsCredentials { access_key: given.access_key_id, secret_key, session_token };
    Ok(Held { credentials, expires: given.expiration.parse().ok() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

    use super::*;
    use crate::http::client::{ClientOptions, HttpClientConfig};

    /// Answers one request a connection: the first of these whose beginning the request has.
    async fn server(answers: Vec<(&'static str, String)>) -> (String, Arc<parking_lot::Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut reader = BufReader::new(&mut stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).await.unwrap_or(0) > 0 {}
                let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).await.unwrap();
                let request = format!("{head}{}", String::from_utf8_lossy(&body));
                let found = answers.iter().find(|(start, _)| request.starts_with(start));
                let (status, answer) = found.map_or((404, ""), |(_, answer)| (200, answer));
                log.lock().push(request);
                let text = format!(
                    "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{answer}",
                    answer.len()
                );
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        (url, seen)
    }

    fn signer(settings: AwsSettings, variables: &[(&str, &str)], instance: &str) -> AwsSigner {
        let options = ClientOptions { user_agent: "t".into(), unix_socket: None };
        let client = Client::new(HttpClientConfig::default(), options).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        AwsSigner::within(settings, client, Surroundings { variables, instance: instance.to_owned() })
    }

    async fn access_key(signer: &AwsSigner) -> String {
        signer.credentials("r").await.unwrap().access_key
    }

    #[tokio::test]
    async fn keys_are_looked_for_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(".aws").join(name), text).unwrap();
        write(
            "credentials",
            "[default]\naws_access_key_id = D\naws_secret_access_key=s\n[other]\naws_access_key_id=O\naws_secret_access_key=s\n",
        );
        write("config", "[profile other]\nregion = r2\n[default]\nregion=r1\n");
        let home = folder.path().to_str().unwrap();
        let environment = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "s"), ("HOME", home)];
        let own = AwsSettings { access_key: "C".into(), secret_key: Secret::new("s"), ..AwsSettings::default() };
        let other = AwsSettings { profile: "other".into(), ..AwsSettings::default() };
        let no_keys = AwsSettings { profile: "nobody".into(), ..AwsSettings::default() };
        assert_eq!(access_key(&signer(own, &environment, "")).await, "C");
        assert_eq!(access_key(&signer(AwsSettings::default(), &environment, "")).await, "E");
        assert_eq!(access_key(&signer(AwsSettings::default(), &environment[2..], "")).await, "D");
        let other = signer(other, &environment, "");
        assert_eq!((access_key(&other).await.as_str(), other.region().await.unwrap().as_str()), ("O", "r2"));
        assert!(signer(no_keys, &environment, "").credentials("r").await.is_err());
    }

    #[tokio::test]
    async fn instances_and_roles_give_keys_for_a_while() {
        let (url, seen) = server(vec![
            ("PUT /latest/api/token", "TOKEN".into()),
            ("GET /latest/meta-data/placement/region", "eu-north-1".into()),
            ("GET /latest/meta-data/iam/security-credentials/role", r#"{"AccessKeyId": "I", "SecretAccessKey": "s", "Token": "t", "Expiration": "2100-01-01T00:00:00Z"}"#.into()),
            ("GET /latest/meta-data/iam/security-credentials/", "role".into()),
            ("POST /", "<AssumeRoleResponse><Credentials><AccessKeyId>R</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>y</SessionToken><Expiration>2000-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResponse>".into()),
        ])
        .await;
        let plain = signer(AwsSettings::default(), &[], &url);
        assert_eq!((access_key(&plain).await.as_str(), plain.region().await.unwrap().as_str()), ("I", "eu-north-1"));
        let asked = seen.lock().len();
        assert_eq!((access_key(&plain).await.as_str(), seen.lock().len()), ("I", asked));

        let settings = AwsSettings { role_arn: "arn:r".into(), external_id: "ext".into(), ..AwsSettings::default() };
        let with_role = signer(settings, &[("AWS_ENDPOINT_URL_STS", &url)], &url);
        assert_eq!(access_key(&with_role).await, "R");
        let last = seen.lock().last().cloned().unwrap();
        assert!(last.contains("Action=AssumeRole&RoleArn=arn%3Ar&") && last.contains("ExternalId=ext"), "{last}");
        assert!(last.contains("Credential=I/"), "{last}");
        // these have run out long ago
        let asked = seen.lock().len();
        assert_eq!(access_key(&with_role).await, "R");
        assert!(seen.lock().len() > asked);
    }
}
