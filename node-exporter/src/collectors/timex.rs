use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError, Registration};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "timex", default: true, flags: &[], build };

fn build(_: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Timex))
}

struct Timex;

/// The clock is not synchronised.
const TIME_ERROR: i32 = 5;
/// Times are in nanoseconds and not in microseconds.
const STA_NANO: i32 = 0x2000;
/// Frequencies are in parts per million with 16 bits of fraction.
const PPM16: f64 = 1_000_000.0 * 65_536.0;

impl Collector for Timex {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let (state, timex) = read().map_err(|error| {
            // not allowed in some containers
            if error.raw_os_error() == Some(libc::EPERM) {
                CollectorError::NoData
            } else {
                CollectorError::failed(format!("failed to retrieve adjtimex stats: {error}"))
            }
        })?;
        let divisor = if timex.status & STA_NANO != 0 { 1e9 } else { 1e6 };
        let synchronised = f64::from(u8::from(state != TIME_ERROR));
        let rows: [(&str, MetricType, &str, f64); 17] = [
            (
                "offset_seconds",
                Gauge,
                "Time offset in between local system and reference clock.",
                timex.offset as f64 / divisor,
            ),
            ("frequency_adjustment_ratio", Gauge, "Local clock frequency adjustment.", 1.0 + timex.freq as f64 / PPM16),
            ("maxerror_seconds", Gauge, "Maximum error in seconds.", timex.maxerror as f64 / 1e6),
            ("estimated_error_seconds", Gauge, "Estimated error in seconds.", timex.esterror as f64 / 1e6),
            ("status", Gauge, "Value of the status array bits.", f64::from(timex.status)),
            ("loop_time_constant", Gauge, "Phase-locked loop time constant.", timex.constant as f64),
            ("tick_seconds", Gauge, "Seconds between clock ticks.", timex.tick as f64 / 1e6),
            ("pps_frequency_hertz", Gauge, "Pulse per second frequency.", timex.ppsfreq as f64 / PPM16),
            ("pps_jitter_seconds", Gauge, "Pulse per second jitter.", timex.jitter as f64 / divisor),
            ("pps_shift_seconds", Gauge, "Pulse per second interval duration.", f64::from(timex.shift)),
            (
                "pps_stability_hertz",
                Gauge,
                "Pulse per second stability, average of recent frequency changes.",
                timex.stabil as f64 / PPM16,
            ),
            (
                "pps_jitter_total",
                Counter,
                "Pulse per second count of jitter limit exceeded events.",
                timex.jitcnt as f64,
            ),
            ("pps_calibration_total", Counter, "Pulse per second count of calibration intervals.", timex.calcnt as f64),
            ("pps_error_total", Counter, "Pulse per second count of calibration errors.", timex.errcnt as f64),
            (
                "pps_stability_exceeded_total",
                Counter,
                "Pulse per second count of stability limit exceeded events.",
                timex.stbcnt as f64,
            ),
            ("tai_offset_seconds", Gauge, "International Atomic Time (TAI) offset.", f64::from(timex.tai)),
            ("sync_status", Gauge, "Is clock synchronized to a reliable server (1 = yes, 0 = no).", synchronised),
        ];
        for (name, kind, help, value) in rows {
            let family = page.family(&format!("node_timex_{name}"), help, kind);
            page.sample(family, &[], value);
        }
        Ok(())
    }
}

/// The kernel's clock parameters, and the clock's state.
#[expect(unsafe_code, reason = "no crate of the tree wraps adjtimex; the call only fills the structure it is given")]
fn read() -> std::io::Result<(i32, libc::timex)> {
    // SAFETY: `timex` is a plain C structure of integers, for which zero is valid; with `modes` zero the call changes nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure of the type that the call fills.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 { Err(std::io::Error::last_os_error()) } else { Ok((state, timex)) }
}
