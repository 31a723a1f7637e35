//! `serverset_sd_configs`: members of Finagle's and Aurora's server sets, which they write into ZooKeeper.

use model::Labels;
use serde_json::Value;

use super::json::string;
use super::target::Target;

/// The target of a member.
pub(super) fn target(path: &str, member: &Value) -> Option<Labels> {
    let endpoint = &member["serviceEndpoint"];
    if !endpoint.is_object() {
        return None;
    }
    let port = |endpoint: &Value| endpoint["port"].as_i64().unwrap_or(0);
    let mut target = Target::new("__meta_serverset_");
    target.address(string(&endpoint["host"]), port(endpoint)).set("path", path);
    target.from("endpoint_host", &endpoint["host"]).set("endpoint_port", port(endpoint));
    for (name, endpoint) in member["additionalEndpoints"].as_object().into_iter().flatten() {
        target.named("endpoint_host_", name, string(&endpoint["host"])).named("endpoint_port_", name, port(endpoint));
    }
    target.from("status", &member["status"]).set("shard", member["shard"].as_i64().unwrap_or(0));
    Some(target.build())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Running, check, config};
    use super::super::zookeeper::testing::Server;

    const MEMBER: &str = r#"{"serviceEndpoint": {"host": "h1", "port": 80}, "additionalEndpoints": {"aurora-x": {"host": "h1", "port": 81}}, "status": "ALIVE", "shard": 3}"#;

    #[tokio::test]
    async fn members_come_change_and_go_and_the_server_too() {
        let server = Server::start().await;
        let text = format!("{{servers: ['{}'], paths: [/jobs]}}", server.address);
        let mut running = Running::start(&[config("serverset", &text, None)]);
        // the path comes later than we do
        running.until_addresses(&[]).await;
        server.set("/jobs", "");
        server.set("/jobs/web", "no JSON");
        server.set("/jobs/web/member_1", MEMBER);
        running.until_addresses(&["h1:80"]).await;
        check(
            &running.groups.borrow(),
            "__meta_serverset_",
            "h1:80 path=/jobs/web/member_1 endpoint_host=h1 endpoint_port=80 endpoint_host_aurora_x=h1 endpoint_port_aurora_x=81 status=ALIVE shard=3",
        );
        server.set("/jobs/web/member_2", &MEMBER.replace("h1", "h2"));
        running.until_addresses(&["h1:80", "h2:80"]).await;

        // a lost connection loses no targets, and is made again
        server.cut();
        while running.metrics.zookeeper_failures.get() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        running.until_addresses(&["h1:80", "h2:80"]).await;
        server.remove("/jobs/web/member_1");
        running.until_addresses(&["h2:80"]).await;
    }
}
