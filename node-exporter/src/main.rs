//! The `node-exporter` binary.

use common::memory::SmallProcess;
use common::{daemon, flags::Exit, logging};

fn main() {
    let memory = SmallProcess::at_start();
    let config = match node_exporter::parse(std::env::args_os().skip(1)) {
        Ok(config) => config,
        Err(exit) => exit.exit(),
    };
    logging::init(config.log_level, config.log_format);
    // one thread answers; collectors have threads of their own, and the few blocking threads here do what those cannot
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let signals = daemon::signals().map_err(|e| e.to_string())?;
            let exporter = node_exporter::bind(config).map_err(|e| e.to_string())?;
            tokio::spawn(memory.keep(exporter.stats()));
            exporter.serve(signals.shutdown).await;
            Ok(())
        }),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = result {
        tracing::error!(err = error);
        Exit::failure(format!("node_exporter: error: {error}")).exit();
    }
}
