use std::sync::Arc;

use crate::collector::{Collector, CollectorError};
use crate::files::Paths;
use common::metrics::Page;

of_paths!(Entropy, "entropy", true);

impl Collector for Entropy {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.proc("sys/kernel/random");
        for (file, name, help) in [
            ("entropy_avail", "node_entropy_available_bits", "Bits of available entropy."),
            ("poolsize", "node_entropy_pool_size_bits", "Bits of entropy pool."),
        ] {
            let bits = self.0.number(&folder.join(file));
            page.gauge(name, help, &[], bits.ok_or_else(|| CollectorError::failed(format!("couldn't get {file}")))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn bits() {
        check_built(
            "entropy",
            &[],
            &[("proc/sys/kernel/random/entropy_avail", "1337\n"), ("proc/sys/kernel/random/poolsize", "4096\n")],
            &["node_entropy_available_bits 1337", "node_entropy_pool_size_bits 4096"],
        );
    }
}
