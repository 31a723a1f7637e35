//! `firewatch query`: asks a server over its HTTP API, with promtool's verbs.

use std::io::Write;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use url::Url;

#[derive(Subcommand)]
pub(crate) enum What {
    /// Evaluate an expression at one time.
    Instant {
        /// The server, such as http://localhost:9090.
        server: Url,
        /// The expression.
        expr: String,
        /// When: seconds since the epoch or RFC 3339; now without it.
        #[arg(long)]
        time: Option<String>,
        /// How to print the answer.
        #[arg(long, short = 'o', default_value = "promql")]
        format: Format,
        /// Print what each part of the query read, gave and took instead of the answer (Firewatch's servers only).
        #[arg(long)]
        explain: bool,
    },
    /// Evaluate an expression over a range of time.
    Range {
        /// The server, such as http://localhost:9090.
        server: Url,
        /// The expression.
        expr: String,
        /// From when; five minutes before the end without it.
        #[arg(long)]
        start: Option<String>,
        /// Until when; now without it.
        #[arg(long)]
        end: Option<String>,
        /// Time between results.
        #[arg(long, default_value = "15s")]
        step: String,
        /// How to print the answer.
        #[arg(long, short = 'o', default_value = "promql")]
        format: Format,
        /// Print what each part of the query read, gave and took instead of the answer (Firewatch's servers only).
        #[arg(long)]
        explain: bool,
    },
    /// List series.
    Series {
        /// The server, such as http://localhost:9090.
        server: Url,
        /// Selectors; series that satisfy one are listed.
        #[arg(long = "match", required = true)]
        selectors: Vec<String>,
    },
    /// List the values of a label.
    Labels {
        /// The server, such as http://localhost:9090.
        server: Url,
        /// The label.
        name: String,
        /// Selectors; values of series that satisfy one are listed.
        #[arg(long = "match")]
        selectors: Vec<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// As PromQL writes series and values.
    Promql,
    /// As the API answers.
    Json,
}

/// Asks the server. Exit code 1 if it has no answer.
pub(crate) fn run(what: &What) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("firewatch: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(ask(what)) {
        Ok(text) => {
            // whoever was to read it may have closed the pipe
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("firewatch: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(what: &What) -> Result<String, String> {
    match what {
        What::Instant { server, expr, time, format, explain } => {
            let mut params = vec![("query", expr.clone())];
            params.extend(time.clone().map(|t| ("time", t)));
            evaluated(server, "query", params, *format, *explain).await
        }
        What::Range { server, expr, start, end, step, format, explain } => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let end = end.clone().unwrap_or_else(|| now.to_string());
            let start = start.clone().unwrap_or_else(|| (now - 300).to_string());
            let params = vec![("query", expr.clone()), ("start", start), ("end", end), ("step", step.clone())];
            evaluated(server, "query_range", params, *format, *explain).await
        }
        What::Series { server, selectors } => {
            let params: Vec<_> = selectors.iter().map(|s| ("match[]", s.clone())).collect();
            let data = get(server, "series", &params).await?;
            Ok(lines(&data, metric))
        }
        What::Labels { server, name, selectors } => {
            let params: Vec<_> = selectors.iter().map(|s| ("match[]", s.clone())).collect();
            let data = get(server, &format!("label/{name}/values"), &params).await?;
            Ok(lines(&data, |value| value.as_str().unwrap_or_default().to_owned()))
        }
    }
}

/// The answer to a query, or its plan.
async fn evaluated(
    server: &Url,
    path: &str,
    mut params: Vec<(&str, String)>,
    format: Format,
    explain: bool,
) -> Result<String, String> {
    if !explain {
        return Ok(show(&get(server, path, &params).await?, format));
    }
    params.push(("explain", "true".to_owned()));
    let data = get(server, path, &params).await?;
    match (&data["explain"], format) {
        (Value::Null, _) => Err("the server explains no queries: --explain is for Firewatch's collector".to_owned()),
        (plan, Format::Json) => Ok(plan.to_string()),
        (plan, Format::Promql) => Ok(show_plan(plan)),
    }
}

/// A table of the nodes of a plan.
fn show_plan(plan: &Value) -> String {
    let heads = ["time", "series", "samples", "bytes", "read series", "samples", "bytes", "expression"];
    let mut rows = vec![heads.map(str::to_owned)];
    for node in plan.as_array().into_iter().flatten() {
        let count = |of: &str, what: &str| match node[of][what].as_u64() {
            None | Some(0) => "-".to_owned(),
            Some(count) => count.to_string(),
        };
        let indent = "  ".repeat(node["depth"].as_u64().map_or(0, |depth| depth.min(40) as usize));
        let once = match (node["once"] == true, node["shared"] == true) {
            (true, _) => " (once)",
            (_, true) => " (shared)",
            _ => "",
        };
        rows.push([
            format!("{:.3} ms", node["seconds"].as_f64().unwrap_or_default() * 1000.0),
            count("given", "series"),
            count("given", "samples"),
            count("given", "bytes"),
            count("read", "series"),
            count("read", "samples"),
            count("read", "bytes"),
            format!("{indent}{}{once}", node["expr"].as_str().unwrap_or_default()),
        ]);
    }
    let widths: Vec<usize> =
        (0..heads.len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 8]| {
        let (expr, figures) = row.split_last().expect("eight columns");
        let figures = figures.iter().zip(&widths).map(|(text, width)| format!("{text:>width$}"));
        figures.chain([expr.clone()]).collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn get(server: &Url, path: &str, params: &[(&str, String)]) -> Result<Value, String> {
    let base = server.as_str().trim_end_matches('/');
    let mut url = Url::parse(&format!("{base}/api/v1/{path}")).map_err(|e| e.to_string())?;
    url.query_pairs_mut().extend_pairs(params);
    let config = common::http::client::HttpClientConfig::default();
    let options = common::http::client::ClientOptions { user_agent: "firewatch".to_owned(), unix_socket: None };
    let client = common::http::client::Client::new(config, options).map_err(|e| e.to_string())?;
    let response = client.execute(reqwest::Request::new(reqwest::Method::GET, url)).await.map_err(|e| e.to_string())?;
    let status = response.status();
    let body = response.bytes().await.map_err(|e| e.to_string())?;
    let mut answer: Value =
        serde_json::from_slice(&body).map_err(|_| format!("the server answered with status {status} and no JSON"))?;
    for kind in ["warnings", "infos"] {
        for text in answer[kind].as_array().into_iter().flatten() {
            eprintln!("{}", text.as_str().unwrap_or_default());
        }
    }
    if answer["status"] == "success" {
        Ok(answer["data"].take())
    } else {
        Err(answer["error"].as_str().unwrap_or("the server gave no reason").to_owned())
    }
}

fn lines(data: &Value, line: impl Fn(&Value) -> String) -> String {
    data.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

fn metric(labels: &Value) -> String {
    let Some(labels) = labels.as_object() else { return String::new() };
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or_default();
    let pairs: Vec<String> =
        labels.iter().filter(|(key, _)| *key != "__name__").map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() && !name.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", pairs.join(", ")) }
}

fn point(pair: &Value) -> (String, String) {
    let value = pair[1].as_str().map_or_else(|| pair[1].to_string(), str::to_owned);
    (value, pair[0].to_string())
}

fn show(data: &Value, format: Format) -> String {
    let result = &data["result"];
    if let Format::Json = format {
        return result.to_string();
    }
    match data["resultType"].as_str() {
        Some("vector") => lines(result, |sample| {
            let (value, time) = point(if sample["value"].is_array() { &sample["value"] } else { &sample["histogram"] });
            format!("{} => {value} @[{time}]", metric(&sample["metric"]))
        }),
        Some("matrix") => lines(result, |series| {
            let points = ["values", "histograms"].iter().flat_map(|kind| series[kind].as_array().into_iter().flatten());
            let points: Vec<String> = points
                .map(|pair| {
                    let (value, time) = point(pair);
                    format!("{value} @[{time}]")
                })
                .collect();
            format!("{} =>\n{}", metric(&series["metric"]), points.join("\n"))
        }),
        _ => {
            let (value, time) = point(result);
            format!("{value} @[{time}]")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_printed_as_promql_writes_them() {
        let check = |data: &str, expected: &str| {
            assert_eq!(show(&serde_json::from_str(data).unwrap(), Format::Promql), expected);
        };
        check(
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1.5,"1"]}]}"#,
            "up{job=\"a\"} => 1 @[1.5]",
        );
        check(
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"],[2,"3"]]}]}"#,
            "{} =>\n2 @[1]\n3 @[2]",
        );
        check(r#"{"resultType":"scalar","result":[7,"1"]}"#, "1 @[7]");
    }

    #[test]
    fn plans_are_tables() {
        let plan = serde_json::json!([
            { "depth": 0, "expr": "sum(m)", "once": true, "seconds": 0.0125,
              "given": { "series": 1, "samples": 2, "bytes": 300 }, "read": { "series": 0, "samples": 0, "bytes": 0 } },
            { "depth": 1, "expr": "m", "once": false, "seconds": 0.01,
              "given": { "series": 40, "samples": 80, "bytes": 5000 }, "read": { "series": 41, "samples": 900, "bytes": 7200 } },
        ]);
        let expected = "
     time  series  samples  bytes  read series  samples  bytes  expression
12.500 ms       1        2    300            -        -      -  sum(m) (once)
10.000 ms      40       80   5000           41      900   7200    m";
        assert_eq!(show_plan(&plan), expected.trim_start_matches('\n'));
    }
}
