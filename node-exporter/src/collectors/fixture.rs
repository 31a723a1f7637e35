//! Small trees of files for the tests of collectors.

use std::sync::Arc;

use common::exposition::{EscapingScheme, text};
use common::metrics::Page;
use tempfile::TempDir;

use crate::collector::{Collector, CollectorError};
use crate::files::Paths;

/// Writes files below `proc/`, `sys/`, `root/` and `udev/`; one whose content begins with `->` is a link.
pub(super) fn paths(files: &[(&str, &str)]) -> (TempDir, Arc<Paths>) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        match content.strip_prefix("->") {
            Some(target) => std::os::unix::fs::symlink(target, &path).expect("a link"),
            None => std::fs::write(&path, content).expect("a file"),
        }
    }
    let at = |name: &str| folder.path().join(name);
    let paths =
        Paths { procfs: at("proc"), sysfs: at("sys"), rootfs: at("root"), udev: at("udev"), ..Paths::default() };
    (folder, Arc::new(paths))
}

/// The samples that a collector gives, a line each, and its result.
pub(super) fn samples(collector: &dyn Collector) -> (Vec<String>, Result<(), CollectorError>) {
    let mut page = Page::new();
    let result = collector.collect(&mut page);
    let (families, errors) = page.families();
    assert_eq!(errors, []);
    let mut out = Vec::new();
    text::encode(&families, EscapingScheme::Underscores, &mut out);
    let text = String::from_utf8(out).expect("a page is text");
    (text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect(), result)
}

/// Compares a collector's samples and result.
#[track_caller]
pub(super) fn check(collector: &dyn Collector, expected: &Result<(), CollectorError>, lines: &[&str]) {
    let (found, result) = samples(collector);
    assert_eq!(found, lines);
    assert_eq!(&result, expected);
}

/// Builds a collector from the command line, over a small tree, and compares its samples.
#[track_caller]
pub(super) fn check_built(name: &str, flags: &[&str], files: &[(&str, &str)], lines: &[&str]) {
    let (_folder, paths) = paths(files);
    let mut arguments = vec![
        "--collector.disable-defaults".to_owned(),
        format!("--collector.{name}"),
        format!("--path.procfs={}", paths.procfs.display()),
        format!("--path.sysfs={}", paths.sysfs.display()),
        format!("--path.rootfs={}", paths.rootfs.display()),
        format!("--path.udev.data={}", paths.udev.display()),
    ];
    arguments.extend(flags.iter().map(|f| (*f).to_owned()));
    let config = crate::flags::parse(arguments.into_iter().map(Into::into)).expect("a configuration");
    let (_, collector) = config.collectors.first().expect("a collector");
    check(&**collector, &Ok(()), lines);
}
