use std::sync::Arc;

use crate::collector::{Collector, CollectorError};
use crate::files::Paths;
use common::metrics::Page;

of_paths!(KernelHung, "kernel_hung", true);

impl Collector for KernelHung {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let count = self.0.number(&self.0.proc("sys/kernel/hung_task_detect_count")).ok_or(CollectorError::NoData)?;
        let help = "Total number of tasks that have been detected as hung since the system booted.";
        page.counter("node_kernel_hung_tasks_total", help, &[], count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn count() {
        check_built(
            "kernel_hung",
            &[],
            &[("proc/sys/kernel/hung_task_detect_count", "42\n")],
            &["node_kernel_hung_tasks_total 42"],
        );
    }
}
