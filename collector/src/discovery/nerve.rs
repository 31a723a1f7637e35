//! `nerve_sd_configs`: what Airbnb's Nerve writes into ZooKeeper.

use model::Labels;
use serde_json::Value;

use super::json::string;
use super::target::Target;

/// The target of a member.
pub(super) fn target(path: &str, member: &Value) -> Option<Labels> {
    if !member.is_object() {
        return None;
    }
    let (host, port) = (string(&member["host"]), member["port"].as_i64().unwrap_or(0));
    let mut target = Target::new("__meta_nerve_");
    target.address(host, port).set("path", path).set("endpoint_host", host).set("endpoint_port", port);
    Some(target.from("endpoint_name", &member["name"]).build())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Running, check, config};
    use super::super::zookeeper::testing::Server;

    #[tokio::test]
    async fn members_become_targets_and_the_next_server_is_tried() {
        let server = Server::start().await;
        server.set("/nerve", "");
        server.set("/nerve/i-1", r#"{"host": "fd00::1", "port": 9000, "name": "web_1"}"#);
        // nobody listens on the first
        let text = format!("{{servers: ['127.0.0.1:1', '{}'], paths: [/nerve/]}}", server.address);
        let mut running = Running::start(&[config("nerve", &text, None)]);
        running.until_addresses(&["[fd00::1]:9000"]).await;
        check(
            &running.groups.borrow(),
            "__meta_nerve_",
            "[fd00::1]:9000 path=/nerve/i-1 endpoint_host=fd00::1 endpoint_port=9000 endpoint_name=web_1",
        );
    }
}
