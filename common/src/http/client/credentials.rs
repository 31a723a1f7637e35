//! What a request carries to be let in.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::assertion;
use super::config::{HttpClientConfig, OAuth2};
use super::connection::{ClientError, builder};
use crate::secret::Secret;

/// Reads the value of a file without the blanks around it.
fn file_value(what: &str, path: &Path) -> Result<String, ClientError> {
    let text = std::fs::read_to_string(path);
    text.map(|t| t.trim().to_owned()).map_err(|error| ClientError::File {
        what: what.to_owned(),
        path: path.into(),
        error,
    })
}

fn secret_or_file(what: &str, secret: &Secret, file: &Path) -> Result<String, ClientError> {
    if file.as_os_str().is_empty() { Ok(secret.expose().to_owned()) } else { file_value(what, file) }
}

fn sensitive(text: &str, what: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| ClientError::Header(what.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sets the headers of a request. Files are read each time: they may have changed.
pub(super) fn apply(
    config: &HttpClientConfig,
    token: Option<&str>,
    headers: &mut HeaderMap,
) -> Result<(), ClientError> {
    for (name, given) in config.http_headers.iter().flatten() {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| ClientError::Header(name.clone()))?;
        headers.remove(&header);
        for value in &given.values {
            headers.append(&header, HeaderValue::from_str(value).map_err(|_| ClientError::Header(name.clone()))?);
        }
        for secret in &given.secrets {
            headers.append(&header, sensitive(secret.expose(), name)?);
        }
        for file in &given.files {
            headers.append(&header, sensitive(&file_value("http_headers", file)?, name)?);
        }
    }
    if headers.contains_key(AUTHORIZATION) {
        return Ok(());
    }
    if let Some(auth) = &config.basic_auth {
        let user = if auth.username_file.as_os_str().is_empty() {
            auth.username.clone()
        } else {
            file_value("username_file", &auth.username_file)?
        };
        let password = secret_or_file("password_file", &auth.password, &auth.password_file)?;
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        headers.insert(AUTHORIZATION, sensitive(&format!("Basic {encoded}"), "basic_auth")?);
    } else if let Some(auth) = &config.authorization {
        let credentials = secret_or_file("credentials_file", &auth.credentials, &auth.credentials_file)?;
        headers.insert(AUTHORIZATION, sensitive(&format!("{} {credentials}", auth.scheme), "authorization")?);
    } else if let Some(token) = token {
        headers.insert(AUTHORIZATION, sensitive(token, "oauth2")?);
    }
    Ok(())
}

/// The credentials and headers of a configuration for requests that are sent by other means than [`super::Client`].
#[derive(Debug, Default)]
pub struct Credentials {
    token: TokenSource,
}

impl Credentials {
    /// Sets the headers that the configuration asks for: `http_headers`, and `Authorization` unless there is one already. Fetches
    /// an OAuth 2.0 token when the one held runs out.
    ///
    /// # Errors
    /// When a file cannot be read, a value cannot stand in a header, or no token is given.
    pub async fn apply(
        &self,
        config: &HttpClientConfig,
        user_agent: &str,
        headers: &mut HeaderMap,
    ) -> Result<(), ClientError> {
        if let Some(name) = config.secret_reference() {
            return Err(ClientError::NoSecretManager(name));
        }
        let token = match &config.oauth2 {
            Some(oauth2) => Some(self.token.header(oauth2, user_agent).await?),
            None => None,
        };
        apply(config, token.as_deref(), headers)
    }
}

/// The OAuth 2.0 token of a client, fetched when there is none or it runs out.
#[derive(Debug, Default)]
pub(super) struct TokenSource(Mutex<Option<Token>>);

#[derive(Debug)]
struct Token {
    header: String,
    secret: String,
    expires: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// Tokens are renewed this long before they run out.
const MARGIN: Duration = Duration::from_secs(10);
const TOKEN_BYTES: usize = 1 << 20;

impl TokenSource {
    /// The value of the `Authorization` header.
    pub(super) async fn header(&self, oauth2: &OAuth2, user_agent: &str) -> Result<String, ClientError> {
        let secret = if oauth2.asserts() {
            let (key, file) = (&oauth2.client_certificate_key, &oauth2.client_certificate_key_file);
            secret_or_file("client_certificate_key_file", key, file)?
        } else {
            secret_or_file("client_secret_file", &oauth2.client_secret, &oauth2.client_secret_file)?
        };
        let mut held = self.0.lock().await;
        if let Some(token) = &*held
            && token.secret == secret
            && token.expires.is_none_or(|e| Instant::now() + MARGIN < e)
        {
            return Ok(token.header.clone());
        }
        let client = builder(&oauth2.tls_config, oauth2.proxy(), true, true, user_agent)?.build()?;
        let mut form: Vec<(&str, String)> = if oauth2.asserts() {
            let assertion = assertion::sign(oauth2, &secret)
                .map_err(|reason| ClientError::Token { url: oauth2.token_url.clone(), reason })?;
            vec![("grant_type", oauth2.grant_type.clone()), ("assertion", assertion)]
        } else {
            vec![("grant_type", "client_credentials".to_owned())]
        };
        if !oauth2.scopes.is_empty() {
            form.push(("scope", oauth2.scopes.join(" ")));
        }
        form.extend(oauth2.endpoint_params.iter().map(|(k, v)| (k.as_str(), v.clone())));
        // Servers want the client's secret in a header or in the body; the header is the standard's choice.
        let fault = |reason: String| ClientError::Token { url: oauth2.token_url.clone(), reason };
        let mut answer = Err(String::new());
        for in_header in [true, false] {
            let mut request = client.post(&oauth2.token_url);
            let mut fields = form.clone();
            if oauth2.asserts() {
                // the assertion says who asks
            } else if in_header {
                let encode = |t: &str| url::form_urlencoded::byte_serialize(t.as_bytes()).collect::<String>();
                request = request.basic_auth(encode(&oauth2.client_id), Some(encode(&secret)));
            } else {
                fields.extend([("client_id", oauth2.client_id.clone()), ("client_secret", secret.clone())]);
            }
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
            let request = request
                .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .timeout(Duration::from_secs(30))
                .body(body);
            let mut response = request.send().await.map_err(|e| fault(e.without_url().to_string()))?;
            let status = response.status();
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| fault(e.without_url().to_string()))? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > TOKEN_BYTES {
                    return Err(fault("the answer is too large".to_owned()));
                }
            }
            if status.is_success() {
                answer = serde_json::from_slice::<TokenResponse>(&bytes).map_err(|e| e.to_string());
                break;
            }
            answer = Err(format!("status {status}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)])));
        }
        let answer = answer.map_err(fault)?;
        // Go's client writes the scheme as `Bearer` however the server spells it
        let scheme = match answer.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer".to_owned(),
            "mac" => "MAC".to_owned(),
            _ => answer.token_type,
        };
        let header = format!("{scheme} {}", answer.access_token);
        let expires =
            answer.expires_in.filter(|s| *s > 0.0).map(|s| Instant::now() + Duration::from_secs_f64(s.min(1e9)));
        *held = Some(Token { header: header.clone(), secret, expires });
        Ok(header)
    }
}
