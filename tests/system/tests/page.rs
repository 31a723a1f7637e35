//! The built-in page in a real browser.

use std::process::Command;

use harness::{Daemon, binary, eventually, free_port, value};

/// The browser that `FIREWATCH_BROWSER` names, if any.
fn browser() -> Option<String> {
    let named = std::env::var("FIREWATCH_BROWSER").ok().filter(|b| !b.is_empty());
    if named.is_none() {
        println!("skipped: FIREWATCH_BROWSER does not name a browser");
    }
    named
}

#[test]
fn a_person_sees_targets_values_chart_and_alerts() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("more.yml");
    let rule = "groups: [{name: t, rules: [{alert: SeenByAPerson, expr: vector(1), annotations: {summary: 'look <b>here</b>'}}]}]";
    std::fs::write(&rules, rule).unwrap();
    let port = free_port();
    let base = format!("http://127.0.0.1:{port}");
    let arguments = [
        "up".to_owned(),
        "--interval=1s".to_owned(),
        format!("--port={port}"),
        format!("--data={}", folder.path().join("data").display()),
        format!("--rules={}", rules.display()),
    ];
    let mut daemon = Daemon::start(&binary("firewatch"), &arguments, folder.path());
    daemon.wait_for(&format!("{base}/-/ready"));
    eventually("a rate and the alert", 30, || {
        value(&base, "sum(rate(node_cpu_seconds_total[1m]))")?;
        value(&base, "ALERTS{alertname=\"SeenByAPerson\", alertstate=\"firing\"}")
    });
    let profile = folder.path().join("profile");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("{base}/?g0.expr=sum%20by%20(mode)%20(rate(node_cpu_seconds_total%5B1m%5D))&range=300"))
        .output()
        .expect("the browser starts");
    let page = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "3 of 3 targets up, 1 alert firing",
        "<title>(1) Firewatch</title>",
        "{mode=\"idle\"}",
        "SeenByAPerson",
        // text of a target or rule is never markup
        "look &lt;b&gt;here&lt;/b&gt;",
        "<b class=\"up\">up</b>",
        "class=\"grid\"",
    ] {
        assert!(page.contains(expected), "{expected:?} is not on the page:\n{page}");
    }
}
