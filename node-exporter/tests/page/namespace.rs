//! Tests that mount things run in namespaces of their own, of mounts and processes, which go away with them.

use std::process::{Command, Stdio};

const INSIDE: &str = "FIREWATCH_TEST_OWN_MOUNTS";

/// Whether the calling test runs in a namespace of its own. If not, it has been run in one now, or it says why it cannot be.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |program: &std::ffi::OsStr| {
        let mut command = Command::new("unshare");
        // of processes too: the mounts that are looked at are those of the first process
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--"]).arg(program);
        command
    };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {test} mounts file systems, which only root may");
        return false;
    }
    if !unshare("true".as_ref()).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        println!("skipped: {test} needs unshare(1) and the right to make namespaces");
        return false;
    }
    let own = std::env::current_exe().expect("this test's path");
    let output = unshare(own.as_os_str()).args([test, "--exact", "--nocapture"]).env(INSIDE, "1").output();
    let output = output.expect("unshare runs");
    let text = [output.stdout, output.stderr].map(|o| String::from_utf8_lossy(&o).into_owned()).concat();
    print!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{test} in its namespace: {}", output.status);
    false
}

/// Runs a command that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|s| s.success()), "{program} {arguments:?} failed");
}
