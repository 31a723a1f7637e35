//! The HTTP server and client set-up of every daemon.

mod basic_auth;
pub mod client;
mod pages;
mod server;
mod server_tls;
mod tls_signatures;
mod web_config;

pub use pages::{
    InFlight, LandingLink, LandingPage, MetricsHandlerStats, health_routes, landing_response, metrics_response,
    query_pairs, text_response,
};
pub use server::{Limits, Listen, Server, ServerError, ServerOptions, ServerStats};
pub use web_config::{ClientAuthType, HttpSettings, RateLimit, TlsServerConfig, WebConfig, WebConfigError};
