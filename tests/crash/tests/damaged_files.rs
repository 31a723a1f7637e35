//! Damaged files under the collector: it starts, says in its log, its metrics and the query's warnings what is missing, and
//! serves the rest.

use std::fs;
use std::path::{Path, PathBuf};

use crash_tests::{Collector, Random, Writer, seed};
use harness::{encode, eventually, get};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

#[test]
fn each_kind_of_damaged_file_is_told_and_the_rest_served() {
    let seed = seed();
    println!("FIREWATCH_SEED={seed}");
    let mut random = Random(seed);
    let good = tempfile::tempdir().unwrap();
    fs::write(good.path().join("prometheus.yml"), "").unwrap();
    let mut writer = Writer::default();
    // without compaction into one, since the test is of the others
    let collector = Collector::start(good.path(), &["--storage.tsdb.max-block-duration=2s"]).ready();
    eventually("three blocks and a checkpoint", 60, || {
        for _ in 0..20 {
            writer.send(&collector.base).unwrap();
        }
        let checkpoints = collector.metric("prometheus_tsdb_checkpoint_creations_total");
        (collector.metric("prometheus_tsdb_blocks_loaded") >= 3.0 && checkpoints > 0.0).then_some(())
    });
    let delete =
        format!("{}/api/v1/admin/tsdb/delete_series?match[]={}&end=1", collector.base, encode("{series=\"3\"}"));
    harness::post(&delete, &[], &[]);
    let whole = writer.check(&collector.base, 0);
    assert_eq!(collector.daemon.stop(), Some(0));

    let all: Vec<PathBuf> = files(&good.path().join("data"))
        .into_iter()
        .map(|file| file.strip_prefix(good.path()).unwrap().to_owned())
        .collect();
    for kind in ["meta.json", "index", "data", "checkpoint.", "wal/0"] {
        let of_kind: Vec<&PathBuf> = all
            .iter()
            .filter(|file| file.strip_prefix("data").unwrap().to_str().unwrap().contains(kind))
            .filter(|file| fs::metadata(good.path().join(file)).unwrap().len() > 64)
            .collect();
        let file = of_kind[random.below(of_kind.len() as u64) as usize];
        let folder = tempfile::tempdir().unwrap();
        copy(good.path(), folder.path());
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let cut = random.below(2) == 0;
        // behind headers, whose damage costs nothing
        let at = 32 + random.below(bytes.len() as u64 - 32) as usize;
        if cut && !kind.starts_with("wal") {
            bytes.truncate(at);
        } else if kind == "meta.json" {
            // a bit of a number may turn it into another number
            bytes[0] ^= 1;
        } else {
            bytes[at] ^= 1 << random.below(8);
        }
        fs::write(&path, &bytes).unwrap();
        println!("{} {}", file.display(), if cut { "cut" } else { "a bit flipped" });

        let collector = Collector::start(folder.path(), &["--storage.tsdb.max-block-duration=2s"]).ready();
        let mut left = 0;
        let mut told = false;
        for series in 0..crash_tests::SERIES {
            let expr = encode(&format!("sent{{series=\"{series}\"}}[12m]"));
            let time = crash_tests::now() / 1000 + 60;
            let answer = get(&format!("{}/api/v1/query?query={expr}&time={time}", collector.base));
            told |= answer.status != 200 || answer.body.contains("\"warnings\"");
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            for series in body["data"]["result"].as_array().into_iter().flatten() {
                left += series["values"].as_array().unwrap().len();
            }
        }
        let metrics = [
            "prometheus_tsdb_wal_corruptions_total",
            "firewatch_tsdb_damaged_blocks_total",
            "firewatch_tsdb_reads_failed_total",
        ];
        let counted: f64 = metrics.iter().map(|metric| collector.metric(metric)).sum();
        told |= counted > 0.0;
        assert!(left <= whole);
        assert!(left == whole || told, "{}: {left} of {whole} and nothing said", file.display());
        assert!(left == whole || counted > 0.0, "{}: {left} of {whole} and nothing counted", file.display());
        let log = collector.daemon.output();
        assert!(counted == 0.0 || log.contains("level=WARN") || log.contains("level=ERROR"), "{log}");
        // it takes new samples
        let mut more = Writer::default();
        eventually("an acknowledged write", 10, || more.send(&collector.base).ok());
        assert_eq!(collector.metric("firewatch_tsdb_panics_total"), 0.0);
        assert_eq!(collector.daemon.stop(), Some(0));
    }
}
