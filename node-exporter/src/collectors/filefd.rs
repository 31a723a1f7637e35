use std::sync::Arc;

use common::metrics::Page;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "filefd", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Filefd(settings.paths.clone())))
}

struct Filefd(Arc<Paths>);

impl Collector for Filefd {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("sys/fs/file-nr");
        let text = self.0.required(&path)?;
        let fields: Vec<f64> = text.split_ascii_whitespace().filter_map(|f| f.parse().ok()).collect();
        let [allocated, _, maximum] = fields[..] else { return Err(malformed(&path, "three numbers are expected")) };
        page.gauge("node_filefd_allocated", "File descriptor statistics: allocated.", &[], allocated);
        page.gauge("node_filefd_maximum", "File descriptor statistics: maximum.", &[], maximum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn descriptors() {
        check_built(
            "filefd",
            &[],
            &[("proc/sys/fs/file-nr", "1024\t0\t1631329\n")],
            &["node_filefd_allocated 1024", "node_filefd_maximum 1.631329e+06"],
        );
    }
}
