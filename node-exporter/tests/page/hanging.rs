//! What hangs does not hold up the page: a file system whose server says nothing, a bus that does not answer.

use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::{Exporter, namespace};

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|l| l == line)
}

#[test]
fn a_dead_mount_is_named_and_the_others_are_there() {
    if !namespace::inside("hanging::a_dead_mount_is_named_and_the_others_are_there") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // after the folder, so that it is closed first: the folder could not be removed otherwise
    let Ok(device) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") else {
        println!("skipped: /dev/fuse cannot be opened");
        return;
    };
    let (dead, alive) = (folder.path().join("dead"), folder.path().join("alive"));
    for path in [&dead, &alive] {
        std::fs::create_dir(path).expect("a folder");
    }
    // a file system in user space, whose user never reads a request
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).expect("a descriptor to hand on");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", std::os::fd::AsRawFd::as_raw_fd(&device));
    let text = |path: &Path| path.to_str().expect("a path is text").to_owned();
    namespace::run("mount", &["-i", "-t", "fuse", "-o", &options, "dead", &text(&dead)]);
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).expect("a descriptor of our own");
    namespace::run("mount", &["-t", "tmpfs", "alive", &text(&alive)]);

    let exporter = Exporter::start(
        Path::new("/"),
        &["--collector.disable-defaults", "--collector.filesystem", "--collector.loadavg"],
    );
    let fault = |words: &str| {
        format!(
            "node_filesystem_device_error{{device=\"dead\",device_error=\"{words}\",fstype=\"fuse\",mountpoint=\"{}\"}} 1",
            dead.display()
        )
    };
    let size = format!(
        "node_filesystem_size_bytes{{device=\"alive\",device_error=\"\",fstype=\"tmpfs\",mountpoint=\"{}\"}}",
        alive.display()
    );
    for scrape in 1..=3 {
        let (status, page) = exporter.get_within("/metrics", "2");
        assert_eq!(status, 200);
        assert!(has(&page, &fault("mountpoint timeout")), "scrape {scrape}: {page}");
        assert!(page.lines().any(|l| l.starts_with(&size)), "scrape {scrape}: {page}");
        for name in ["filesystem", "loadavg"] {
            let line = format!("node_scrape_collector_success{{collector=\"{name}\"}} 1");
            assert!(has(&page, &line), "scrape {scrape}: {page}");
        }
        assert!(!page.contains("node_scrape_collector_failure_info"), "{page}");
    }
    // the server is gone: the call returns, and the mount is asked again
    drop(device);
    let gone = fault("transport endpoint is not connected");
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !has(&exporter.get("/metrics").1, &gone) {
        assert!(std::time::Instant::now() < limit, "the mount is not asked again");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_bus_that_says_nothing_costs_its_collector_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("bus");
    // connections are taken by the kernel, and nobody ever reads from them
    let _silent = UnixListener::bind(&socket).expect("a socket");
    let address = format!("unix:path={}", socket.display());
    let exporter = Exporter::start_with(
        Path::new("/"),
        &["--collector.disable-defaults", "--collector.systemd", "--collector.logind", "--collector.uname"],
        &[("DBUS_SYSTEM_BUS_ADDRESS", &address)],
    );
    let (status, page) = exporter.get_within("/metrics", "1");
    assert_eq!(status, 200);
    for name in ["systemd", "logind"] {
        assert!(has(&page, &format!("node_scrape_collector_success{{collector=\"{name}\"}} 0")), "{page}");
    }
    assert!(has(&page, "node_scrape_collector_success{collector=\"uname\"} 1"), "{page}");
    assert!(page.contains("node_scrape_collector_failure_info{collector=\"systemd\",reason="), "{page}");
}
