//! What jobs may ask for beyond a page's samples: a log of failures, native histograms made of classic ones. Beside the real
//! Prometheus where it is at hand.

use std::path::Path;

use harness::{Prometheus, Reply, Target, api, encode, eventually, query, value};
use serde_json::{Value, json};

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each server logs what it cannot scrape as the other does; files are let go of at a reload.
#[test]
fn failed_scrapes_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = Target::start(Reply::Status(503));
    let broken = Target::start(Reply::Page("this is = no page\n".into()));
    let config = |name: &str, log: &str| {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, scrape_failure_log_file: {name}.log}}\nscrape_configs:\n- {{job_name: refuses, static_configs: [{{targets: ['{}']}}]}}\n- {{job_name: broken, static_configs: [{{targets: ['{}']}}]}}\n- {{job_name: own, scrape_failure_log_file: {log}, static_configs: [{{targets: ['127.0.0.1:1']}}]}}\n",
            refuses.address, broken.address
        )
    };
    let mut seen = Vec::new();
    for (at, server) in Prometheus::both(folder.path(), "", &[]).into_iter().enumerate() {
        let name = format!("server{at}");
        let (shared, own) = (folder.path().join(format!("{name}.log")), folder.path().join(format!("{name}-own.log")));
        assert_eq!(server.reload(&config(&name, &format!("{name}-own.log"))).status, 200);
        let line = eventually("a failure in the shared log", 20, || lines(&shared).pop());
        let refused = eventually("a failure in the job's own log", 20, || lines(&own).pop());
        assert_eq!(refused["job_name"], "own", "{refused}");
        assert_eq!(refused["target"], "http://127.0.0.1:1/metrics");
        let text = refused["msg"].as_str().unwrap();
        assert!(text.starts_with("Get \"http://127.0.0.1:1/metrics\": "), "{refused}");
        assert!(text.contains("onnection refused"), "{refused}");
        for field in ["time", "source"] {
            assert!(line[field].is_string(), "{line}");
        }
        let mut shown = line.clone();
        shown["time"] = Value::Null;
        shown["source"] = Value::Null;
        seen.push(shown);
        // a page that is not well-formed has been had: only `lastError` tells of it
        eventually("the error of the broken page", 20, || {
            let targets = api(&server.base, "targets?scrapePool=broken");
            (targets["activeTargets"][0]["health"] == "down").then_some(())
        });
        assert!(lines(&shared).iter().all(|line| line["job_name"] == "refuses"));
        // a file that was moved away is let go of, and the job's own log is given up
        let moved = folder.path().join(format!("{name}.log.1"));
        std::fs::rename(&shared, &moved).unwrap();
        assert_eq!(server.reload(&config(&name, &format!("{name}.log"))).status, 200);
        let before = lines(&moved).len();
        eventually("both jobs in the new file", 20, || {
            let jobs = |name: &str| lines(&shared).iter().any(|line| line["job_name"] == name);
            (jobs("own") && jobs("refuses")).then_some(())
        });
        assert_eq!(lines(&moved).len(), before, "nothing more goes to the file that was moved");
        // a log that cannot be opened refuses the configuration
        assert_eq!(server.reload(&config(&name, "/nowhere/at/all.log")).status, 500);
        let metric = format!("{}/metrics", server.base);
        assert!(harness::get(&metric).body.contains("\nprometheus_config_last_reload_successful 0\n"));
        assert_eq!(server.stop(), Some(0));
    }
    let target = format!("http://{}/metrics", refuses.address);
    let expected = json!({
        "time": null, "level": "ERROR", "source": null, "job_name": "refuses", "target": target,
        "msg": "server returned HTTP status 503 Fault",
    });
    for line in seen {
        assert_eq!(line, expected);
    }
}

/// Pages with every oddity that classic histograms may have. Each is a target of its own. `created`: with the time that counting
/// began, which the real Prometheus drops even where classic series are kept.
fn histogram_pages(created: bool) -> Vec<Target> {
    const TEXT: &str = "text/plain; version=0.0.4";
    const OPEN: &str = "application/openmetrics-text; version=1.0.0";
    let dated = model::now_millis() - 5_000;
    let pages = [
        (TEXT, "# HELP h A plain one.\n# TYPE h histogram\nh_bucket{a='1',le='0.5'} 1\nh_bucket{a='1',le='1'} 3\nh_bucket{a='1',le='+Inf'} 4\nh_sum{a='1'} 9.5\nh_count{a='1'} 4\nh_bucket{a='2',le='+Inf'} 7\nh_sum{a='2'} 1\nh_count{a='2'} 7\n# TYPE g gauge\ng 1\n".to_owned()),
        (TEXT, "# TYPE h histogram\nh_bucket{a='1',le='1'} 1\nh_bucket{a='2',le='1'} 2\nh_bucket{a='1',le='+Inf'} 3\nh_bucket{a='2',le='+Inf'} 4\nh_count{a='1'} 3\nh_count{a='2'} 4\n".to_owned()),
        (TEXT, "# TYPE h histogram\nh_bucket{le='1'} 3\nh_bucket{le='2'} 2\nh_bucket{le='+Inf'} 3\nh_count 3\nh_sum 1\n# TYPE i histogram\ni_count 5\ni_sum 2\n# TYPE j histogram\nj_bucket{le='+Inf'} 3\nj_count 4\n".to_owned()),
        (TEXT, "# TYPE h histogram\nh_count 9\nh_sum 3\nh_bucket{le='+Inf'} 9\nh_bucket{le='2'} 2\nh_bucket{le='1'} 1\nh_bucket{le='1.0'} 1\n# a comment\nh_count{x='y'} 2\n".to_owned()),
        (TEXT, "# TYPE h histogram\nh_bucket{le='1'} 0.5\nh_bucket{le='2'} 1.5\nh_bucket{le='3'} 1.5\nh_count 2.5\nh_sum NaN\n# TYPE k histogram\nk_bucket{le='1'} 1\n".to_owned()),
        (TEXT, "h_bucket{le='+Inf'} 1\nh_count 1\nh_sum 1\n# TYPE m gauge\nm_bucket{le='+Inf'} 1\n# TYPE n histogram\nother_bucket{le='+Inf'} 1\nn 5\nn_bucket 6\nn_bucket{le='x'} 1\nn_created 7\n".to_owned()),
        (TEXT, (1..=9).fold("# TYPE h histogram\n".to_owned(), |page, i| format!("{page}h_bucket{{le='{i}'}} {}\n", 3 * (i / 4))) + "h_count 6\nh_sum 30\n"),
        (TEXT, "# TYPE 'h.x' histogram\n{'h.x_bucket',le='1','l.y'='q\\\"'} 1\n{'h.x_bucket',le='+Inf','l.y'='q\\\"'} 2\n{'h.x_count','l.y'='q\\\"'} 2\n{'h.x_sum','l.y'='q\\\"'} 2\n".to_owned()),
        (TEXT, format!("# TYPE h histogram\nh_bucket{{le='1'}} 1 {dated}\nh_bucket{{le='+Inf'}} 2 {dated}\nh_count 2 {dated}\nh_sum 2 {dated}\n")),
        (OPEN, format!("# TYPE h histogram\n# UNIT h \nh_bucket{{le='1.0'}} 1 # {{id='late'}} 0.5 {0}.5\nh_bucket{{le='+Inf'}} 2 # {{id='early'}} 3 {0}.2\nh_count 2\nh_sum 2\n{1}# TYPE c counter\nc_total 1\n# TYPE gh gaugehistogram\ngh_bucket{{le='1.0'}} 1\ngh_bucket{{le='+Inf'}} 2\ngh_gcount 2\ngh_gsum 2\n# EOF\n", dated / 1000, if created { "h_created 1.5\n" } else { "" })),
    ];
    pages.into_iter().map(|(kind, page)| Target::start(Reply::Typed(kind, page.replace('\'', "\"")))).collect()
}

/// What a server holds of the pages: each series with its newest value, a histogram's buckets in place of a number.
fn held(base: &str) -> Vec<String> {
    let mut found: Vec<String> = query(base, r#"{job="j"}"#)
        .as_array()
        .unwrap()
        .iter()
        .filter(|series| {
            let name = series["metric"]["__name__"].as_str().unwrap_or_default();
            name != "scrape_duration_seconds"
        })
        .map(|series| {
            let value = if series["histogram"].is_array() { &series["histogram"][1] } else { &series["value"][1] };
            format!("{} {value}", series["metric"])
        })
        .collect();
    found.sort();
    found
}

#[test]
fn classic_histograms_become_what_prometheus_makes_of_them() {
    let folder = tempfile::tempdir().unwrap();
    for classic in [false, true] {
        let targets = histogram_pages(!classic);
        let addresses: Vec<String> = targets.iter().map(|t| format!("'{}'", t.address)).collect();
        // timestamps of a page's samples stay the same, so that only what has none goes on
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, convert_classic_histograms_to_nhcb: true}}\nscrape_configs:\n- {{job_name: j, always_scrape_classic_histograms: {classic}, static_configs: [{{targets: [{}]}}]}}\n",
            addresses.join(", ")
        );
        let servers =
            Prometheus::both(folder.path(), &config, &["--enable-feature=exemplar-storage,native-histograms"]);
        let mut all = Vec::new();
        for server in &servers {
            eventually("some scrapes of each page", 30, || {
                let scrapes = value(&server.base, r#"min(count_over_time(scrape_series_added{job="j"}[1m]))"#)?;
                let targets = value(&server.base, r#"count(up{job="j"})"#)?;
                // the number of series added is 0 from the second scrape on
                let added = value(&server.base, r#"max(scrape_series_added{job="j"})"#)?;
                (scrapes > 2.0 && targets == addresses.len() as f64 && added == 0.0).then_some(())
            });
            let exemplars = format!("query_exemplars?query={}&start=0&end=9999999999", encode(r#"{job="j"}"#));
            let exemplars = api(&server.base, &exemplars);
            all.push((held(&server.base), exemplars));
        }
        let ours = &all[0];
        assert!(ours.0.iter().any(|line| line.contains(r#""buckets":[[3,"-Inf","0.5","1"]"#)), "{ours:#?}");
        assert_eq!(ours.0.iter().any(|line| line.contains(r#""__name__":"h_bucket","a":"1""#)), classic);
        for theirs in &all[1..] {
            let (ours_only, theirs_only): (Vec<_>, Vec<_>) = (
                ours.0.iter().filter(|line| !theirs.0.contains(line)).collect(),
                theirs.0.iter().filter(|line| !ours.0.contains(line)).collect(),
            );
            assert!(ours_only.is_empty() && theirs_only.is_empty(), "ours {ours_only:#?}\ntheirs {theirs_only:#?}");
            // ours keeps them with the classic series too
            assert!(classic || ours.1 == theirs.1, "ours {}\ntheirs {}", ours.1, theirs.1);
        }
        for server in servers {
            assert_eq!(server.stop(), Some(0));
        }
    }
}
