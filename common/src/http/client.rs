//! The one HTTP client configuration of scrapes, discovery, remote endpoints and notifiers: Prometheus' `HTTPClientConfig`.

mod assertion;
mod config;
mod connection;
mod credentials;
mod tls;

pub use config::{
    Authorization, BasicAuth, ClientConfigError, HeaderValues, HttpClientConfig, OAuth2, TlsConfig, TlsVersion,
};
pub use connection::{Client, ClientError, ClientOptions, error_chain};
pub use credentials::Credentials;
pub use tls::{Authorities, authorities, tls_client_config};
