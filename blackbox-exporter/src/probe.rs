//! One probe: what every prober works with, and the course from the begin to the result.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use common::logging::Level;
use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{IpProtocol, Module, Prober};
use crate::failure::Failure;
use crate::guard::Guard;
use crate::log::{ProbeLog, note};
use crate::metrics::{self, Metrics};
use crate::prober;

/// What all probes of an exporter share.
#[derive(Debug)]
pub(crate) struct Environment {
    /// What may be probed.
    pub(crate) guard: Guard,
    /// The level from which lines of probes are kept.
    pub(crate) log_level: Level,
    /// Names that are looked up at once.
    pub(crate) lookups: Arc<Semaphore>,
    /// Probes that run at once.
    pub(crate) slots: Semaphore,
}

/// What a request asks of a probe.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// What is probed.
    pub(crate) target: String,
    /// The `hostname` parameter, empty if there is none.
    pub(crate) hostname: String,
    /// How long it may take.
    pub(crate) timeout: Duration,
    /// When it must have ended.
    pub(crate) deadline: Instant,
    /// Asks for metrics that blackbox_exporter does not have.
    pub(crate) extended: bool,
    /// The only version of IP that counts, in place of the module's choice.
    pub(crate) ip_protocol: Option<IpProtocol>,
    /// Keeps every line of the log.
    pub(crate) verbose: bool,
}

/// A probe while it runs.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) order: &'a Order,
    pub(crate) environment: &'a Environment,
    pub(crate) metrics: Metrics,
    pub(crate) log: ProbeLog,
}

/// A probe that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) module: Arc<Module>,
    pub(crate) target: String,
    pub(crate) ip_protocol: Option<IpProtocol>,
    pub(crate) failure: Option<Failure>,
    pub(crate) metrics: Metrics,
    pub(crate) log: ProbeLog,
}

/// Runs a probe. It ends at its deadline at the latest, whatever the target does. Dropping the future ends the probe.
pub(crate) async fn run(module: Arc<Module>, order: Order, environment: &Environment) -> Outcome {
    let level = if order.verbose { Level::Debug } else { environment.log_level };
    let mut probe = Probe {
        order: &order,
        environment,
        metrics: Metrics::new(),
        log: ProbeLog::new(level, &module.name, &order.target),
    };
    let begin = Instant::now();
    probe.metrics.set(&metrics::SUCCESS, 0.0);
    probe.metrics.set(&metrics::DURATION, 0.0);
    if order.extended {
        probe.metrics.set(&metrics::TIMEOUT, order.timeout.as_secs_f64());
    }
    note!(
        probe.log,
        Debug,
        "Beginning probe",
        "probe" = module.prober.name(),
        "timeout_seconds" = order.timeout.as_secs_f64()
    );
    let course = AssertUnwindSafe(async {
        let Ok(_slot) = environment.slots.acquire().await else { return Err(Failure::Overload) };
        dispatch(&mut probe, &module).await
    })
    .catch_unwind();
    let result = match tokio::time::timeout_at(order.deadline, course).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::Panic),
        Err(_) => Err(Failure::Timeout),
    };
    let seconds = begin.elapsed().as_secs_f64();
    probe.metrics.set(&metrics::DURATION, seconds);
    match result {
        Ok(()) => {
            probe.metrics.set(&metrics::SUCCESS, 1.0);
            note!(probe.log, Debug, "Probe succeeded", "duration_seconds" = seconds);
        }
        Err(Failure::Timeout) => {
            note!(probe.log, Error, "Probe failed", "duration_seconds" = seconds, "err" = "the probe's time was over");
        }
        Err(failure) => {
            note!(probe.log, Error, "Probe failed", "duration_seconds" = seconds, "reason" = failure.name());
        }
    }
    if let (true, Err(failure)) = (order.extended, result) {
        probe.metrics.set_info(&metrics::FAILURE_INFO, vec![("reason".into(), failure.name().into())]);
    }
    let Probe { metrics, log, .. } = probe;
    Outcome { module, target: order.target, ip_protocol: order.ip_protocol, failure: result.err(), metrics, log }
}

async fn dispatch(probe: &mut Probe<'_>, module: &Module) -> Result<(), Failure> {
    // each in a box of its own size: the largest would set the memory of every probe that waits
    match &module.prober {
        Prober::Http(options) => Box::pin(prober::http::probe(probe, options)).await,
        Prober::Tcp(options) => Box::pin(prober::tcp::probe(probe, options)).await,
        Prober::Unix(options) => Box::pin(prober::unix::probe(probe, options)).await,
        Prober::Icmp(options) => Box::pin(prober::icmp::probe(probe, options)).await,
        Prober::Dns(options) => Box::pin(prober::dns::probe(probe, options)).await,
        Prober::Grpc(options) => Box::pin(prober::grpc::probe(probe, options)).await,
        Prober::Websocket(options) => Box::pin(prober::websocket::probe(probe, options)).await,
    }
}

impl Outcome {
    /// Everything about the probe in plain text, as `debug=true` shows it.
    pub(crate) fn to_text(&self) -> String {
        let mut page = common::metrics::Page::new();
        self.metrics.write(&mut page, &[]);
        let mut shown = Vec::new();
        let escaping = common::exposition::EscapingScheme::Underscores;
        common::exposition::text::encode(&page.families().0, escaping, &mut shown);
        format!(
            "Logs for the probe:\n{}\n\n\nMetrics that would have been returned:\n{}\n\n\nModule configuration:\n{}",
            self.log.to_text(),
            String::from_utf8_lossy(&shown),
            self.module.shown
        )
    }
}
