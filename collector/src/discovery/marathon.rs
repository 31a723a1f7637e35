//! `marathon_sd_configs`: the tasks of applications that Marathon runs.

use http::header::AUTHORIZATION;
use model::Labels;
use reqwest::{Method, Request};
use serde_json::Value;
use url::Url;

use super::api::{Api, parse_url, secret, set_secret};
use super::json::{items, list_in, string};
use super::refresh::Source;
use super::target::Target;
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_marathon_";

/// Lists applications, of one server after the other.
pub(super) struct Marathon {
    api: Api,
    urls: Vec<Url>,
    next: usize,
    settings: Settings,
}

impl Marathon {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let path = "/v2/apps/?embed=apps.tasks";
        let urls = settings
            .texts("servers")
            .iter()
            .map(|server| parse_url(&format!("{}{path}", server.trim_end_matches('/'))));
        let urls = urls.collect::<Result<Vec<Url>, String>>()?;
        // several collectors do not all begin with the same
        let next = usize::try_from(model::now_millis()).unwrap_or(0) % urls.len().max(1);
        Ok(Self { api: Api::new(settings)?, urls, next, settings: settings.clone() })
    }
}

/// The ports that an application says it has, with their labels; zero for those that each task has its own of.
fn ports(app: &Value) -> (Vec<u64>, Vec<&Value>, &'static str) {
    let container = &app["container"];
    let own_network = app["networks"][0]["mode"] == "container";
    for mappings in [&container["portMappings"], &container["docker"]["portMappings"]] {
        if items(mappings).next().is_some() {
            let key = if own_network { "containerPort" } else { "hostPort" };
            let ports = items(mappings).map(|mapping| mapping[key].as_u64().unwrap_or(0)).collect();
            return (ports, items(mappings).map(|m| &m["labels"]).collect(), "port_mapping_label_");
        }
    }
    let definitions = items(&app["portDefinitions"]);
    let required = app["requirePorts"] == true;
    let port = |definition: &Value| if required { definition["port"].as_u64().unwrap_or(0) } else { 0 };
    (definitions.clone().map(port).collect(), definitions.map(|d| &d["labels"]).collect(), "port_definition_label_")
}

fn group(app: &Value) -> TargetGroup {
    let mut common = Target::new(PREFIX);
    common.from("app", &app["id"]).from("image", &app["container"]["docker"]["image"]);
    common.each("app_label_", &app["labels"]);
    let (mut ports, labels, start) = ports(app);
    let own_network = app["networks"][0]["mode"] == "container";
    let mut targets: Vec<Labels> = Vec::new();
    for task in items(&app["tasks"]) {
        let of_task: Vec<u64> = items(&task["ports"]).filter_map(Value::as_u64).collect();
        if ports.is_empty() {
            ports.clone_from(&of_task);
        }
        let host = if own_network { string(&task["ipAddresses"][0]["ipAddress"]) } else { "" };
        let host = if host.is_empty() { string(&task["host"]) } else { host };
        for (at, port) in ports.iter().enumerate() {
            let port = if *port == 0 && of_task.len() == ports.len() { of_task[at] } else { *port };
            let mut target = Target::new(PREFIX);
            target.address(host, port).from("task", &task["id"]).set("port_index", at);
            target.each(start, labels.get(at).copied().unwrap_or(&Value::Null));
            targets.push(target.build());
        }
    }
    TargetGroup { targets, labels: common.build(), source: string(&app["id"]).to_owned() }
}

impl Source for Marathon {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        self.next = (self.next + 1) % self.urls.len().max(1);
        let url = self.urls.get(self.next).ok_or("there is no Marathon server")?;
        let mut request = Request::new(Method::GET, url.clone());
        let token = secret(&self.settings, "auth_token", "auth_token_file")?;
        if !token.is_empty() {
            set_secret(&mut request, AUTHORIZATION.as_str(), &format!("token={token}"))?;
        }
        let answer = self.api.json(request).await?;
        Ok(list_in(&answer, "apps")?.iter().map(group).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[test]
    fn tasks_become_targets() {
        let task =
            json!({"id": "t1", "host": "agent1", "ports": [31000, 32000], "ipAddresses": [{"ipAddress": "9.0.0.1"}]});
        for (app, expected) in [
            (
                json!({"id": "/defs", "labels": {"team-x": "y"}, "container": {"docker": {"image": "i:1"}}, "tasks": [task],
                    "portDefinitions": [{"labels": {"prometheus": "yes"}, "port": 10000}, {"port": 10001}]}),
                "agent1:31000 app=/defs image=i:1 app_label_team_x=y task=t1 port_index=0 port_definition_label_prometheus=yes
                 agent1:32000 app=/defs image=i:1 app_label_team_x=y task=t1 port_index=1",
            ),
            (
                json!({"id": "/required", "requirePorts": true, "tasks": [task], "portDefinitions": [{"port": 10000}]}),
                "agent1:10000 app=/required task=t1 port_index=0",
            ),
            (
                json!({"id": "/net", "networks": [{"mode": "container"}], "tasks": [task], "container": {"portMappings": [{"containerPort": 8080, "labels": {"l": "v"}}]}}),
                "9.0.0.1:8080 app=/net task=t1 port_index=0 port_mapping_label_l=v",
            ),
            (
                json!({"id": "/old", "tasks": [task], "container": {"docker": {"portMappings": [{"hostPort": 0}, {"hostPort": 7}]}}}),
                "agent1:31000 app=/old task=t1 port_index=0\nagent1:7 app=/old task=t1 port_index=1",
            ),
            (json!({"id": "/host", "tasks": [task]}), "agent1:31000 app=/host task=t1 port_index=0\nagent1:32000 app=/host task=t1 port_index=1"),
        ] {
            check(&[group(&app)], PREFIX, expected);
        }
    }

    #[tokio::test]
    async fn the_token_is_read_at_each_use() {
        let stub = Stub::start([("/v2/apps/?embed=apps.tasks", json!({"apps": []}))]).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("{{servers: ['http://SERVER/'], auth_token_file: {}}}", file.path().display());
        let mut marathon = Marathon::new(&settings("marathon", &text, Some(&stub))).unwrap();
        for token in ["one", "two\n"] {
            std::fs::write(file.path(), token).unwrap();
            assert_eq!(marathon.refresh().await.unwrap(), []);
        }
        let sent: Vec<String> = stub
            .seen()
            .iter()
            .map(|seen| seen.headers.iter().find(|h| h.starts_with("authorization")).unwrap().clone())
            .collect();
        assert_eq!(sent, ["authorization: token=one", "authorization: token=two"]);
    }
}
