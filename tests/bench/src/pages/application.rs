//! Pages like those of an instrumented web application; they grow with the number of handlers.

use super::behaviour::Behaviour::{Bucket, Bytes, Constant, Count, Hundredths, Level, Seconds, Sum, Total, Walk};
use super::{Builder, PageSpec, mix, unit};

/// Upper bounds of the buckets, with the share of the requests that falls into each.
const BUCKETS: [(&str, f64); 12] = [
    ("0.005", 0.30),
    ("0.01", 0.25),
    ("0.025", 0.20),
    ("0.05", 0.10),
    ("0.1", 0.06),
    ("0.25", 0.04),
    ("0.5", 0.02),
    ("1", 0.01),
    ("2.5", 0.01),
    ("5", 0.005),
    ("10", 0.003),
    ("+Inf", 0.002),
];

struct Handler {
    path: String,
    method: &'static str,
    /// Requests a scrape; 0 for the handlers that nobody asks.
    rate: f64,
}

/// The page of an application with so many handlers.
pub(super) fn build(spec: &PageSpec, handlers: usize) -> Builder {
    let mut page = Builder::default();
    let handlers: Vec<Handler> = (0..handlers)
        .map(|number| {
            let busy = unit(mix(spec.target as u64, number as u64), 0, 0);
            Handler {
                path: format!("/api/v1/resources/{number}/items"),
                method: ["GET", "POST", "DELETE"][number % 3],
                rate: if busy < 0.4 { 0.0 } else { (busy * 12.0 - 3.0).exp2() },
            }
        })
        .collect();
    let version = format!("2.{}.{}", spec.generation % 50, spec.target % 7);

    page.family("app_build_info", "gauge", "What was built.")
        .series(&[("version", &version), ("revision", "4d6a1b9"), ("language", "go")], Constant(1.0));
    page.family("cache_requests_total", "counter", "Requests to the cache.");
    for cache in ["sessions", "users", "prices", "templates"] {
        for (result, rate) in [("hit", 400.0), ("miss", 20.0), ("error", 0.01)] {
            page.series(&[("cache", cache), ("result", result)], Count(rate));
        }
    }
    page.family("db_pool_connections", "gauge", "Connections to the database.");
    for (state, mean) in [("idle", 12.0), ("used", 6.0)] {
        page.series(&[("pool", "main"), ("state", state)], Level(mean));
    }
    page.family("go_gc_duration_seconds_total", "counter", "Time in collections.").series(&[], Seconds(0.002));
    for (name, kind, behaviour) in [
        ("go_goroutines", "gauge", Level(140.0)),
        ("go_memstats_alloc_bytes", "gauge", Walk(4.0e7)),
        ("go_memstats_alloc_bytes_total", "counter", Count(9.0e6)),
        ("go_memstats_frees_total", "counter", Count(80_000.0)),
        ("go_memstats_heap_inuse_bytes", "gauge", Bytes(200.0)),
        ("go_memstats_heap_objects", "gauge", Level(210_000.0)),
        ("go_memstats_mallocs_total", "counter", Count(81_000.0)),
        ("go_memstats_next_gc_bytes", "gauge", Level(6.5e7)),
        ("go_threads", "gauge", Constant(17.0)),
    ] {
        page.single(name, kind, behaviour);
    }
    page.family("http_request_duration_seconds", "histogram", "How long requests took.");
    for handler in &handlers {
        let Handler { path, method, rate } = handler;
        for (number, (le, share)) in BUCKETS.into_iter().enumerate() {
            let labels = [("handler", path.as_str()), ("method", method), ("le", le)];
            page.suffixed("_bucket", &labels, Bucket { first: number == 0, rate: rate * share });
        }
        let labels = [("handler", path.as_str()), ("method", method)];
        page.suffixed("_sum", &labels, Sum(0.02)).suffixed("_count", &labels, Total);
    }
    page.family("http_requests_total", "counter", "Requests answered.");
    for handler in &handlers {
        for (code, share) in [("200", 1.0), ("404", 0.02), ("500", 0.001)] {
            let labels = [("code", code), ("handler", handler.path.as_str()), ("method", handler.method)];
            page.series(&labels, Count(handler.rate * share));
        }
    }
    page.family("http_response_bytes_total", "counter", "Bytes of the answers.");
    for handler in &handlers {
        let labels = [("handler", handler.path.as_str()), ("method", handler.method)];
        page.series(&labels, Count(handler.rate * 3_000.0));
    }
    for (name, kind, behaviour) in [
        ("process_cpu_seconds_total", "counter", Hundredths(40.0)),
        ("process_open_fds", "gauge", Level(60.0)),
        ("process_resident_memory_bytes", "gauge", Bytes(60.0)),
        ("process_start_time_seconds", "gauge", Constant(1.76300098765e9)),
    ] {
        page.single(name, kind, behaviour);
    }
    page
}

/// Fills the page up to `series`.
pub(super) fn fill(page: &mut Builder, series: usize) {
    page.family("app_feature_enabled", "gauge", "Whether a feature is on.");
    for number in page.len()..series {
        page.series(&[("feature", &format!("experiment-{number}"))], Constant(f64::from(u8::from(number % 3 == 0))));
    }
}
