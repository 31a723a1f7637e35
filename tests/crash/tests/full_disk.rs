//! A small disk that runs full under the collector: it says so, serves what it has, and goes on when there is space again.

use std::fs;
use std::path::Path;
use std::process::Command;

use crash_tests::{Collector, Writer};
use harness::{Daemon, binary, eventually, free_port, value};

#[test]
fn a_full_disk_is_told_survived_and_recovered_from() {
    let namespaces = Command::new("unshare").args(["-rm", "true"]).output();
    if !namespaces.is_ok_and(|output| output.status.success()) {
        println!("skipped: `unshare -rm` does not work here, so there can be no small file system");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("prometheus.yml"), "").unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let port = free_port();
    let script = "mount -t tmpfs -o size=12m tmpfs data && exec \"$0\" \"$@\"";
    let mut arguments = vec!["-rm".to_owned(), "sh".to_owned(), "-c".to_owned(), script.to_owned()];
    arguments.push(binary("collector").to_str().unwrap().to_owned());
    arguments.extend(Collector::flags(port, &[]));
    let mut daemon = Daemon::start(Path::new("unshare"), &arguments, folder.path());
    let base = format!("http://127.0.0.1:{port}");
    daemon.wait_for(&format!("{base}/-/ready"));
    // the file system as the collector sees it
    let filler = format!("/proc/{}/root{}/data/filler", daemon.pid(), folder.path().display());
    let collector = Collector { daemon, base: base.clone(), folder: folder.path().to_owned() };

    let mut writer = Writer::default();
    for _ in 0..200 {
        writer.send(&base).unwrap();
    }
    eventually("a block", 30, || {
        let _ = writer.send(&base);
        (collector.metric("prometheus_tsdb_blocks_loaded") > 0.0).then_some(())
    });
    // until nothing more goes in
    let full = fs::write(&filler, vec![7; 64 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(28), "{full}");
    let refusal = eventually("a refused write", 30, || writer.send(&base).err());
    assert!(refusal.0 == 500 && refusal.1.contains("No space left on device"), "{refusal:?}");
    eventually("a failed block", 30, || {
        let _ = writer.send(&base);
        let failed = collector.metric("prometheus_tsdb_compactions_failed_total");
        (failed > 0.0 && collector.daemon.output().contains("storage maintenance failed")).then_some(())
    });
    assert!(collector.metric("prometheus_tsdb_wal_writes_failed_total") > 0.0);
    assert!(writer.check(&base, 0) > 0);
    assert_eq!(value(&base, "1 + 1"), Some(2.0));

    fs::remove_file(&filler).unwrap();
    eventually("an acknowledged write", 30, || writer.send(&base).ok());
    let before = collector.metric("prometheus_tsdb_head_truncations_total");
    eventually("another block", 30, || {
        writer.send(&base).unwrap();
        (collector.metric("prometheus_tsdb_head_truncations_total") > before).then_some(())
    });
    writer.check(&base, 0);
    assert_eq!(collector.metric("firewatch_tsdb_panics_total"), 0.0);
    assert!(!collector.daemon.output().contains("panicked"), "{}", collector.daemon.output());
    assert_eq!(collector.daemon.stop(), Some(0));
}
