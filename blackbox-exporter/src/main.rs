//! The `blackbox-exporter` binary.

use common::memory::SmallProcess;
use common::{daemon, flags::Exit, logging};

fn main() {
    let memory = SmallProcess::at_start();
    let options = match blackbox_exporter::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(exit) => exit.exit(),
    };
    logging::init(options.log_level, options.log_format);
    if options.config_check {
        match blackbox_exporter::Config::load(&options.config_file) {
            Ok(_) => tracing::info!("Config file is ok exiting..."),
            Err(error) => fail(&format!("Error loading config: {error}")),
        }
        return;
    }
    // a probe needs files
    daemon::raise_file_limit();
    // one thread is enough for thousands of probes that wait; the others look names up
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(40).build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let signals = daemon::signals().map_err(|e| e.to_string())?;
            let exporter = blackbox_exporter::bind(options).map_err(|e| e.to_string())?;
            tokio::spawn(memory.keep(exporter.stats()));
            exporter.serve(signals.shutdown, signals.reload).await;
            Ok(())
        }),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = result {
        fail(&error);
    }
}

fn fail(error: &str) -> ! {
    tracing::error!(err = error);
    Exit::failure(format!("blackbox_exporter: error: {error}")).exit();
}
