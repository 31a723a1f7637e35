//! `uyuni_sd_configs`: the monitored endpoints of systems that Uyuni manages, over XML-RPC.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, HeaderValue};
use model::Labels;
use quick_xml::escape::escape;
use reqwest::{Method, Request};
use serde_json::{Map, Value};
use url::Url;

use super::api::{Api, parse_url, with_path};
use super::json::{items, list, string, text};
use super::refresh::Source;
use super::target::{Target, group};
use super::token::TokenCache;
use super::xml::{self, elements};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_uyuni_";
/// How long a login holds, in seconds; it is renewed after half of it.
const LOGIN: u64 = 600;

/// Lists endpoints.
pub(super) struct Uyuni {
    server: Server,
    settings: Settings,
    session: TokenCache,
}

/// Where procedures are called.
struct Server {
    api: Api,
    url: Url,
}

/// An argument of a procedure.
enum Argument<'a> {
    Text(&'a str),
    Int(i64),
    Ints(&'a [i64]),
}

impl Uyuni {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let url = with_path(&parse_url(settings.text("server"))?, "rpc/api");
        let server = Server { api: Api::new(settings)?, url };
        Ok(Self { server, settings: settings.clone(), session: TokenCache::default() })
    }

    async fn targets(&self, session: &str) -> Result<Vec<Labels>, String> {
        let session = Argument::Text(session);
        let entitlement = Argument::Text(self.settings.text("entitlement"));
        let systems = self
            .server
            .call("system.listSystemGroupsForSystemsWithEntitlement", &[&session, &entitlement])
            .await
            .map_err(|e| format!("unable to get the managed system groups information of monitored clients: {e}"))?;
        let mut groups: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        for system in list(&systems, "systems")? {
            let names = items(&system["system_groups"]).map(|group| string(&group["name"])).collect();
            groups.insert(system["id"].as_i64().unwrap_or(0), names);
        }
        let ids: Vec<i64> = groups.keys().copied().collect();
        let endpoints = self.server.call("system.monitoring.listEndpoints", &[&session, &Argument::Ints(&ids)]).await;
        let endpoints = endpoints.map_err(|e| format!("unable to get endpoints information: {e}"))?;
        let networks = self.server.call("system.getNetworkForSystems", &[&session, &Argument::Ints(&ids)]).await;
        let networks = networks.map_err(|e| format!("unable to get the systems network information: {e}"))?;
        let networks: BTreeMap<i64, &Value> =
            list(&networks, "systems")?.iter().map(|n| (n["system_id"].as_i64().unwrap_or(0), n)).collect();
        let separator = self.settings.text("separator");
        let targets = list(&endpoints, "endpoints")?.iter().map(|endpoint| {
            let id = endpoint["system_id"].as_i64().unwrap_or(0);
            let network = networks.get(&id).copied().unwrap_or(&Value::Null);
            let mut target = Target::new(PREFIX);
            let host = string(&network["hostname"]);
            target.plain("__address__", format!("{host}:{}", text(&endpoint["port"])));
            target.set("minion_hostname", host).from("primary_fqdn", &network["primary_fqdn"]).set("system_id", id);
            target.set("groups", groups.get(&id).map(|names| names.join(separator)).unwrap_or_default());
            target.from("endpoint_name", &endpoint["endpoint_name"]).from("exporter", &endpoint["exporter_name"]);
            target.from("proxy_module", &endpoint["module"]).from("metrics_path", &endpoint["path"]);
            target.set("scheme", if endpoint["tls_enabled"] == true { "https" } else { "http" });
            target.build()
        });
        Ok(targets.collect())
    }
}

impl Server {
    async fn log_in(&self, settings: &Settings) -> Result<(String, u64), String> {
        let (user, password) = (Argument::Text(settings.text("username")), Argument::Text(settings.text("password")));
        let answer = self.call("auth.login", &[&user, &password, &Argument::Int(LOGIN as i64)]).await;
        let answer = answer.map_err(|e| format!("unable to login to Uyuni API: {e}"))?;
        Ok((text(&answer).into_owned(), LOGIN / 2))
    }

    async fn call(&self, procedure: &str, arguments: &[&Argument<'_>]) -> Result<Value, String> {
        let arguments: String = arguments
            .iter()
            .map(|argument| {
                let value = match argument {
                    Argument::Text(text) => format!("<string>{}</string>", escape(*text)),
                    Argument::Int(number) => format!("<int>{number}</int>"),
                    Argument::Ints(numbers) => {
                        let items: String = numbers.iter().map(|n| format!("<value><int>{n}</int></value>")).collect();
                        format!("<array><data>{items}</data></array>")
                    }
                };
                format!("<param><value>{value}</value></param>")
            })
            .collect();
        let body = format!(
            "<?xml version=\"1.0\"?><methodCall><methodName>{procedure}</methodName><params>{arguments}</params></methodCall>"
        );
        let mut request = Request::new(Method::POST, self.url.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        *request.body_mut() = Some(body.into());
        let answer = self.api.send(request).await?.good()?;
        let answer = xml::parse(&answer.body)?;
        if !answer["fault"].is_null() {
            let fault = value_of(&answer["fault"]["value"]);
            return Err(format!("{} ({})", text(&fault["faultString"]), text(&fault["faultCode"])));
        }
        let parameter = &answer["params"]["param"]["value"];
        if parameter.is_null() { Err("the answer has no value".into()) } else { Ok(value_of(parameter)) }
    }
}

/// A value of XML-RPC.
fn value_of(value: &Value) -> Value {
    let Some((kind, content)) = value.as_object().and_then(|object| object.iter().next()) else {
        // without a type it is text
        return value.clone();
    };
    let text = string(content);
    match kind.as_str() {
        "int" | "i4" | "i8" => text.parse::<i64>().map_or(Value::Null, Value::from),
        "double" => text.parse::<f64>().map_or(Value::Null, Value::from),
        "boolean" => Value::Bool(text == "1" || text == "true"),
        "array" => elements(&content["data"]["value"]).into_iter().map(value_of).collect(),
        "struct" => {
            let members = elements(&content["member"]).into_iter();
            Value::Object(
                members.map(|m| (string(&m["name"]).to_owned(), value_of(&m["value"]))).collect::<Map<_, _>>(),
            )
        }
        _ => content.clone(),
    }
}

impl Source for Uyuni {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let (server, settings) = (&self.server, &self.settings);
        let session = self.session.get(server.log_in(settings)).await?;
        let targets = self.targets(&session).await;
        if targets.is_err() {
            self.session.forget();
        }
        Ok(vec![group(self.server.url.as_str(), targets?)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    fn answer(value: &str) -> Reply {
        let text = format!(
            "<?xml version=\"1.0\"?><methodResponse><params><param><value>{value}</value></param></params></methodResponse>"
        );
        Reply::Raw(200, "Content-Type: text/xml\r\n", text)
    }

    fn array(items: &[&str]) -> String {
        format!(
            "<array><data>{}</data></array>",
            items.iter().map(|i| format!("<value>{i}</value>")).collect::<String>()
        )
    }

    fn members(pairs: &[(&str, &str)]) -> String {
        let members = pairs.iter().map(|(n, v)| format!("<member><name>{n}</name><value>{v}</value></member>"));
        format!("<struct>{}</struct>", members.collect::<String>())
    }

    /// Answers each procedure by its name, which the stub cannot see: one value holds what all of them need.
    fn everything() -> String {
        array(&[&members(&[
            ("id", "<i4>1000010000</i4>"),
            (
                "system_groups",
                &array(&[&members(&[("name", "<string>db &amp; co</string>")]), &members(&[("name", "web")])]),
            ),
            ("system_id", "<int>1000010000</int>"),
            ("endpoint_name", "<string>node</string>"),
            ("exporter_name", "node_exporter"),
            ("module", ""),
            ("path", "/m"),
            ("port", "<int>9100</int>"),
            ("tls_enabled", "<boolean>1</boolean>"),
            ("hostname", "host.x"),
            ("primary_fqdn", "host.primary.x"),
        ])])
    }

    #[tokio::test]
    async fn endpoints_become_targets() {
        let stub = Stub::start([]).await;
        let text = "{server: 'http://SERVER', username: u, password: 'p<', separator: '|'}";
        let mut uyuni = Uyuni::new(&settings("uyuni", text, Some(&stub))).unwrap();
        stub.set("/rpc/api", answer("<string>SESSION</string>"));
        let session = uyuni.server.log_in(&uyuni.settings).await.unwrap();
        assert_eq!(session, ("SESSION".into(), 300));
        assert!(stub.seen()[0].body.contains("<methodName>auth.login</methodName><params><param><value><string>u</string></value></param><param><value><string>p&lt;</string>"));
        uyuni.session.get(std::future::ready(Ok(session))).await.unwrap();
        stub.set("/rpc/api", answer(&everything()));
        check(
            &uyuni.refresh().await.unwrap(),
            PREFIX,
            "host.x:9100 minion_hostname=host.x primary_fqdn=host.primary.x system_id=1000010000 'groups=db & co|web' endpoint_name=node exporter=node_exporter metrics_path=/m scheme=https",
        );
        let last = stub.seen().pop().unwrap().body;
        assert!(
            last.contains("<string>SESSION</string>") && last.contains("<value><int>1000010000</int></value>"),
            "{last}"
        );

        let fault = members(&[("faultCode", "<int>-20</int>"), ("faultString", "invalid session")]);
        stub.set(
            "/rpc/api",
            Reply::Raw(200, "", format!("<methodResponse><fault><value>{fault}</value></fault></methodResponse>")),
        );
        assert!(uyuni.refresh().await.unwrap_err().ends_with("monitored clients: invalid session (-20)"));
        // the login is not trusted any more
        assert!(uyuni.refresh().await.unwrap_err().starts_with("unable to login"));
    }
}
