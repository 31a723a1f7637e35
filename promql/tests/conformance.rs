//! Suites from outside of this repository, if `FIREWATCH_CONFORMANCE` names the folder that holds them.

use std::path::{Path, PathBuf};

use promql::testing::run_scripts;
use promql::{Features, parse};

fn folder(name: &str) -> Option<PathBuf> {
    match std::env::var_os("FIREWATCH_CONFORMANCE") {
        Some(root) => Some(Path::new(&root).join(name)),
        None => {
            println!("skipped: FIREWATCH_CONFORMANCE is not set");
            None
        }
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {extension} files in {}", folder.display());
    found
}

#[test]
fn promql_scripts_pass() {
    let Some(folder) = folder("promql") else { return };
    let mut out = Vec::new();
    let summary = run_scripts(&[folder], &mut out).unwrap();
    assert_eq!(summary.failed, 0, "{}", String::from_utf8_lossy(&out));
    assert!(summary.passed > 0);
}

/// Reads an expression, and its text again.
fn check(query: &str, place: &str) {
    let features = Features::default();
    let expr = parse(query, &features).unwrap_or_else(|e| panic!("{place}: {e}\n{query}"));
    let text = expr.to_string();
    let again = parse(&text, &features).unwrap_or_else(|e| panic!("{place}: {e}\n{text}"));
    assert_eq!(again.to_string(), text, "{place}");
    let pretty = expr.prettify();
    let from_pretty = parse(&pretty, &features).unwrap_or_else(|e| panic!("{place}: {e}\n{pretty}"));
    assert_eq!(from_pretty.prettify(), pretty, "{place}");
    // both forms list the matchers of a selector in one order, which need not be that of the query
    assert_eq!(from_pretty.to_json(), again.to_json(), "{place}");
}

/// The values of `expr:` in a YAML file of rules: on the same line, or a block of deeper indented lines.
fn rule_expressions(yaml: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = yaml.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(value) = line.trim_start().trim_start_matches("- ").strip_prefix("expr:") else { continue };
        if !value.trim().starts_with(['|', '>']) {
            found.push(value.trim().to_owned());
            continue;
        }
        let own = line.find("expr:").unwrap();
        let block = lines[at + 1..].iter().take_while(|l| l.trim().is_empty() || indent(l) > own);
        found.push(block.copied().collect::<Vec<_>>().join("\n"));
    }
    found
}

#[test]
fn rules_are_understood() {
    let Some(folder) = folder("kube-prometheus/rules") else { return };
    let mut count = 0;
    for path in files(&folder, "yaml") {
        for expression in rule_expressions(&std::fs::read_to_string(&path).unwrap()) {
            check(&expression, &path.display().to_string());
            count += 1;
        }
    }
    println!("{count} expressions");
    assert!(count > 100, "only {count} expressions found");
}

#[test]
fn dashboards_are_understood() {
    let Some(folder) = folder("kube-prometheus/dashboards") else { return };
    let mut count = 0;
    for path in files(&folder, "json") {
        let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut pending = vec![&dashboard];
        while let Some(value) = pending.pop() {
            match value {
                serde_json::Value::Object(fields) => {
                    if let Some(serde_json::Value::String(expression)) = fields.get("expr") {
                        let query = expression.replace("$__rate_interval", "4m").replace("$__interval", "1m");
                        check(&query, &path.display().to_string());
                        count += 1;
                    }
                    pending.extend(fields.values());
                }
                serde_json::Value::Array(items) => pending.extend(items),
                _ => {}
            }
        }
    }
    println!("{count} expressions");
    assert!(count > 100, "only {count} expressions found");
}
