//! `puppetdb_sd_configs`: the resources that a query of PuppetDB finds.

use http::header::CONTENT_TYPE;
use model::Labels;
use serde_json::{Map, Value, json};
use url::Url;

use super::api::{Api, parse_url, post, with_path};
use super::json::{list, string, strings};
use super::refresh::Source;
use super::target::{Target, group, sanitize, surrounded};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_puppetdb_";
/// Parameters in parameters; what lies deeper has no labels.
const MAX_DEPTH: usize = 16;

/// Asks one query.
pub(super) struct PuppetDb {
    api: Api,
    url: Url,
    query: String,
    parameters: bool,
    port: i64,
}

impl PuppetDb {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            api: Api::new(settings)?,
            url: with_path(&parse_url(settings.text("url"))?, "pdb/query/v4"),
            query: settings.text("query").to_owned(),
            parameters: settings.flag("include_parameters"),
            port: settings.int("port"),
        })
    }

    fn target(&self, resource: &Value) -> Labels {
        let mut target = Target::new(PREFIX);
        target.address(string(&resource["certname"]), self.port).set("query", &self.query);
        for name in ["certname", "resource", "type", "title", "file", "environment"] {
            target.from(name, &resource[name]);
        }
        target.set("exported", resource["exported"] == true);
        target.set("tags", surrounded(strings(&resource["tags"]), ","));
        if let (true, Some(parameters)) = (self.parameters, resource["parameters"].as_object()) {
            set_parameters(&mut target, "parameter_", parameters, 0);
        }
        target.build()
    }
}

fn set_parameters(target: &mut Target, start: &str, parameters: &Map<String, Value>, depth: usize) {
    for (name, value) in parameters {
        match value {
            Value::Object(inner) if depth < MAX_DEPTH => {
                set_parameters(target, &format!("{start}{}_", sanitize(name)), inner, depth + 1);
            }
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(shown).collect();
                target.named(start, name, values.join(","));
            }
            value => {
                target.named(start, name, shown(value));
            }
        }
    }
}

/// A value as Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => {
            let mut text = String::new();
            model::format_float(number.as_f64().unwrap_or(0.0), &mut text);
            text
        }
        other => super::json::text(other).into_owned(),
    }
}

impl Source for PuppetDb {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let request = post(&self.url, &json!({"query": self.query}));
        let answer = self.api.send(request).await?.good()?;
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
            return Err(format!("unsupported content type {kind}"));
        }
        let answer = answer.json()?;
        let targets = list(&answer, "resources")?.iter().map(|resource| self.target(resource)).collect();
        // the query is a part of what tells groups apart
        Ok(vec![group(format!("{}?query={}", self.url, self.query), targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn resources_become_targets() {
        let resource = json!({"certname": "edge.x", "resource": "49af", "type": "Class", "title": "Apache", "exported": false, "tags": ["a", "b"],
            "file": "/etc/p.pp", "environment": "prod", "parameters": {"port": 80, "ratio": 0.5, "on": true, "names": ["x", 1], "deep": {"a-b": {"c": "d"}}, "none": null}});
        let stub = Stub::start([("/pdb/query/v4", json!([resource]))]).await;
        const COMMON: &str = "query=q certname=edge.x resource=49af type=Class title=Apache exported=false file=/etc/p.pp environment=prod tags=,a,b,";
        for (more, expected) in [
            ("", format!("edge.x:80 {COMMON}")),
            (
                ", include_parameters: true, port: 90",
                format!(
                    "edge.x:90 {COMMON} parameter_port=80 parameter_ratio=0.5 parameter_on=true parameter_names=x,1 parameter_deep_a_b_c=d"
                ),
            ),
        ] {
            let text = format!("{{url: 'http://SERVER', query: q{more}}}");
            let groups = PuppetDb::new(&settings("puppetdb", &text, Some(&stub))).unwrap().refresh().await.unwrap();
            check(&groups, PREFIX, &expected);
        }
        assert_eq!(stub.seen()[0].body, r#"{"query":"q"}"#);
        stub.set("/pdb/query/v4", Reply::Raw(200, "Content-Type: text/plain\r\n", "[]".into()));
        let text = "{url: 'http://SERVER', query: q}";
        let error = PuppetDb::new(&settings("puppetdb", text, Some(&stub))).unwrap().refresh().await.unwrap_err();
        assert_eq!(error, "unsupported content type text/plain");
    }
}
