//! The collector's use of the HTTP client that all daemons share.

use std::path::PathBuf;

use common::http::client::{Client, ClientError, ClientOptions, HttpClientConfig};

/// What requests call themselves.
pub(crate) const USER_AGENT: &str = concat!("Firewatch/", env!("CARGO_PKG_VERSION"));

/// A client for a section of the configuration.
///
/// # Errors
/// When certificates cannot be read or settings do not work together.
pub(crate) fn build(config: &HttpClientConfig) -> Result<Client, ClientError> {
    Client::new(config.clone(), ClientOptions { user_agent: USER_AGENT.to_owned(), unix_socket: None })
}

/// The same for a server that listens on a Unix socket.
///
/// # Errors
/// As above.
pub(crate) fn build_for_socket(config: &HttpClientConfig, socket: PathBuf) -> Result<Client, ClientError> {
    Client::new(config.clone(), ClientOptions { user_agent: USER_AGENT.to_owned(), unix_socket: Some(socket) })
}
