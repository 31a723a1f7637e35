//! As in the DaemonSet that most clusters run: without rights, in a root of its own, with the host's files below `/host`.

use std::path::Path;
use std::process::Command;

use crate::{Exporter, collectors, namespace};

/// What the kube-prometheus manifests give.
const FLAGS: [&str; 8] = [
    "--path.sysfs=/host/sys",
    "--path.rootfs=/host/root",
    "--path.udev.data=/host/root/run/udev/data",
    "--no-collector.wifi",
    "--no-collector.btrfs",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|run/k3s/containerd/.+|var/lib/docker/.+|var/lib/kubelet/pods/.+)($|/)",
    "--collector.netclass.ignored-devices=^(veth.*|[a-f0-9]{15})$",
    "--collector.netdev.device-exclude=^(veth.*|[a-f0-9]{15})$",
];

#[test]
fn a_container_without_rights_shows_the_host() {
    if !namespace::inside("container::a_container_without_rights_shows_the_host") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let text = |path: &Path| path.to_str().expect("a path is text").to_owned();
    let root = folder.path().join("c");
    std::fs::create_dir(&root).expect("a folder");
    namespace::run("mount", &["-t", "tmpfs", "container", &text(&root)]);
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("rights");
    std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("rights");
    let bind = |from: &str, to: &str| {
        let to = root.join(to);
        std::fs::create_dir_all(&to).expect("a folder");
        namespace::run("mount", &["--rbind", from, &text(&to)]);
    };
    for library in ["/lib", "/lib64", "/usr"] {
        if Path::new(library).exists() {
            bind(library, library.trim_start_matches('/'));
        }
    }
    bind("/proc", "proc");
    bind("/sys", "host/sys");
    bind("/", "host/root");
    let program = root.join("node-exporter");
    std::fs::write(&program, "").expect("a file");
    namespace::run("mount", &["--bind", env!("CARGO_BIN_EXE_node-exporter"), &text(&program)]);

    let mut command = Command::new("chroot");
    command.arg("--userspec=65534:65534").arg(&root).arg("/node-exporter").args(FLAGS);
    let exporter = Exporter::of(command);
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.child.id())).expect("a process");
    assert!(status.lines().any(|l| l.starts_with("Uid:\t65534\t65534")), "{status}");
    let (status, page) = exporter.get("/metrics");
    assert_eq!(status, 200);
    let line = |start: &str| page.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start} in {page}"));
    for name in [
        "cpu",
        "diskstats",
        "filesystem",
        "loadavg",
        "meminfo",
        "netclass",
        "netdev",
        "netstat",
        "os",
        "stat",
        "vmstat",
    ] {
        line(&format!("node_scrape_collector_success{{collector=\"{name}\"}} 1"));
    }
    assert!(collectors(&page).len() > 30);
    line("node_network_mtu_bytes{device=\"lo\"} ");
    line("node_os_info{");
    // the host's own root, under its own name
    let sizes = page.lines().filter(|l| l.starts_with("node_filesystem_size_bytes{") && l.contains("mountpoint=\"/\""));
    let expected = rustix::fs::statfs("/").expect("a file system");
    let expected = expected.f_blocks as f64 * expected.f_bsize as f64;
    let sizes: Vec<f64> = sizes.filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
    assert!(sizes.contains(&expected), "{sizes:?} without {expected}");
    assert!(!page.contains("mountpoint=\"/host/root"), "{page}");
    for what in ["node_scrape_collector_failure_info", "node_scrape_stuck_threads"] {
        assert!(!page.contains(what), "{page}");
    }
}
