//! The `collector` daemon: Prometheus' command line over the [`collector`] library.

use std::process::ExitCode;

use collector::{Collector, flags};
use common::{daemon, logging, memory};

fn main() -> ExitCode {
    let flags = match flags::parse(std::env::args_os().skip(1)) {
        Ok(flags) => flags,
        Err(exit) => exit.exit(),
    };
    logging::init(flags.log_level, flags.log_format);
    for flag in &flags.without_effect {
        tracing::warn!(%flag, "This flag is accepted and has no effect");
    }
    memory::set_up_heaps();
    // a target needs a connection
    daemon::raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    runtime.spawn(memory::keep_trimmed());
    runtime.block_on(run(flags))
}

async fn run(flags: flags::Flags) -> ExitCode {
    let signals = match daemon::signals() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot take over signals");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(
        version = collector::PROGRAM.version,
        firewatch = collector::PROGRAM.firewatch_version,
        "Starting Firewatch collector"
    );
    let collector = match Collector::start(flags.options, signals.shutdown.clone()).await {
        Ok(collector) => collector,
        Err(error) => {
            tracing::error!(err = %error, "Fatal error");
            return ExitCode::FAILURE;
        }
    };
    for address in collector.addresses() {
        tracing::info!(%address, "Listening on");
    }
    collector.reload_at(signals.reload);
    if let Err(error) = collector.run().await {
        tracing::error!(err = %error, "Fatal error");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
