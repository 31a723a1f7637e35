//! What a daemon says about itself: `process_*`, `*_build_info`, and the metrics of a `prometheus-client` registry.

mod bridge;
mod process;

pub use bridge::{BridgeError, collect_registry};
pub use process::{ProcessCollector, collect_process};

use crate::flags::Program;
use crate::metrics::Page;

/// Appends `NAME_build_info`: the upstream version this program matches, and ours in `firewatch_version`.
pub fn collect_build_info(page: &mut Page, program: &Program) {
    let name = format!("{}_build_info", program.name);
    let help = format!(
        "A metric with a constant '1' value labeled by version, revision, branch, goversion from which {} was built, and the goos \
         and goarch for the build.",
        program.name
    );
    let labels = [
        ("branch", program.branch()),
        ("firewatch_version", program.firewatch_version),
        ("goarch", crate::flags::architecture()),
        ("goos", std::env::consts::OS),
        ("goversion", "unknown"),
        ("revision", program.revision()),
        ("tags", "unknown"),
        ("version", program.version),
    ];
    page.gauge(&name, &help, &labels, 1.0);
}
