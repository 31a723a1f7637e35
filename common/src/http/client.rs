//! The one HTTP client configuration of scrapes, discovery, remote endpoints and notifiers: Prometheus' `HTTPClientConfig`.

mod assertion;
mod aws;
mod config;
mod connection;
mod credentials;
mod go_words;
mod sigv4;
mod tls;

pub use assertion::{RsaAlgorithm, json_web_token, rsa_signature};
pub use aws::{AwsCredentials, AwsSettings, AwsSigner, aws_domain};
pub use config::{
    Authorization, BasicAuth, ClientConfigError, HeaderValues, HttpClientConfig, OAuth2, TlsConfig, TlsVersion,
};
pub use connection::{Client, ClientError, ClientOptions, error_chain, status_text};
pub use credentials::Credentials;
pub use go_words::{go_body_words, go_words};
pub use sigv4::sign;
pub use tls::{Authorities, authorities, https_client_config, tls_client_config};
