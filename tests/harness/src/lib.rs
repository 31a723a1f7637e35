//! What tests across daemons share: starting the built programs and the real ones, asking them over HTTP, and small servers
//! that play targets and receivers. Everything listens on loopback; what was started is killed when it is dropped.

pub mod client;
mod crowd;
mod daemon;
mod http;
pub mod metric_family;
mod name_server;
mod page;
mod prometheus;
mod remote_write;
mod servers;
mod stub;
mod third_party;
pub mod write_request;

pub use crowd::Crowd;
pub use daemon::{Daemon, binary, eventually, free_port, peer};
pub use http::{Answer, get, post, try_get};
pub use name_server::{NameServer, record};
pub use page::Page;
pub use prometheus::Prometheus;
pub use remote_write::{NativeHistogram, Series, send};
pub use servers::{Receiver, Reply, Target};
pub use stub::Stub;
pub use third_party::ThirdParty;

use serde_json::Value;

/// The data of a good API answer.
///
/// # Panics
/// When the answer is none.
pub fn api(base: &str, path: &str) -> Value {
    let answer = get(&format!("{base}/api/v1/{path}"));
    let mut body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{path}: {e}: {}", answer.body));
    assert_eq!(body["status"], "success", "{path}: {}", answer.body);
    body["data"].take()
}

/// The result of an instant query.
///
/// # Panics
/// When there is none.
pub fn query(base: &str, expr: &str) -> Value {
    api(base, &format!("query?query={}", encode(expr)))["result"].take()
}

/// The value of the only sample or the scalar that a query gives; `None` if it gives none.
///
/// # Panics
/// When the query fails or gives several.
pub fn value(base: &str, expr: &str) -> Option<f64> {
    let result = query(base, expr);
    let text = if result[0].is_object() {
        assert_eq!(result.as_array().map(Vec::len), Some(1), "{expr}: {result}");
        result[0]["value"][1].as_str()
    } else {
        result[1].as_str()
    };
    text.and_then(|t| t.parse().ok())
}

/// Text as a part of a URL's query.
pub fn encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
