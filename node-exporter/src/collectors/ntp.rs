use std::net::IpAddr;
use std::time::Duration;

use common::metrics::Page;
use model::MetricType::Gauge;
use parking_lot::Mutex;

use super::sntp::{self, Reply};
use crate::collector::{Collector, CollectorError, Registration};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "ntp",
    default: false,
    flags: &[
        Flag::value("collector.ntp.server", "127.0.0.1", "NTP server to use for ntp collector"),
        Flag::value("collector.ntp.server-port", "123", "UDP port number to connect to on NTP server"),
        Flag::value("collector.ntp.protocol-version", "4", "NTP protocol version"),
        Flag::switch(
            "collector.ntp.server-is-local",
            false,
            "Certify that collector.ntp.server address is not a public ntp server",
        ),
        Flag::value("collector.ntp.ip-ttl", "1", "IP TTL to use while sending NTP query"),
        Flag::value("collector.ntp.max-distance", "3.46608s", "Max accumulated distance to the root"),
        Flag::value(
            "collector.ntp.local-offset-tolerance",
            "1ms",
            "Offset between local clock and local ntpd time to tolerate",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let server = settings.text("collector.ntp.server").to_owned();
    let local = server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !settings.on("collector.ntp.server-is-local") && !local {
        return Err("only IP address of local NTP server is valid for --collector.ntp.server".to_owned());
    }
    let version = settings.integer("collector.ntp.protocol-version")?;
    let version = u8::try_from(version)
        .ok()
        .filter(|v| (2..=4).contains(v))
        .ok_or_else(|| format!("invalid NTP protocol version {version}; must be 2, 3, or 4"))?;
    let tolerance = settings.nanoseconds("collector.ntp.local-offset-tolerance")?;
    if tolerance < 0 {
        return Err("offset tolerance must be non-negative".to_owned());
    }
    let port = settings.integer("collector.ntp.server-port")?;
    let port = u16::try_from(port)
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| format!("invalid NTP port number {port}; must be between 1 and 65535 inclusive"))?;
    let ttl = settings.integer("collector.ntp.ip-ttl")?;
    let ttl = u8::try_from(ttl).map_err(|_| format!("invalid IP TTL {ttl}; must be between 0 and 255"))?;
    let max_distance = settings.nanoseconds("collector.ntp.max-distance")?;
    Ok(Box::new(Ntp { server, port, version, ttl, max_distance, tolerance, leap_midnight: Mutex::new(None) }))
}

struct Ntp {
    server: String,
    port: u16,
    version: u8,
    /// How far a query goes; 0 leaves it to the system.
    ttl: u8,
    /// Nanoseconds.
    max_distance: i64,
    /// Nanoseconds.
    tolerance: i64,
    /// The midnight, in nanoseconds since 1970, of the last leap second announced: servers drop the flag right after it.
    leap_midnight: Mutex<Option<i64>>,
}

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 24 * 3600 * SECOND;

/// The usual patience of `ntpdate`.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Collector for Ntp {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let reply = sntp::query(&self.server, self.port, self.version, self.ttl, TIMEOUT)
            .map_err(|error| CollectorError::failed(format!("couldn't get SNTP reply: {error}")))?;
        let seconds = |nanoseconds: i64| nanoseconds as f64 / 1e9;
        let sane = self.is_sane(&reply);
        for (name, help, value) in [
            ("node_ntp_stratum", "NTPD stratum.", f64::from(reply.stratum)),
            ("node_ntp_leap", "NTPD leap second indicator, 2 bits.", f64::from(reply.leap)),
            ("node_ntp_rtt_seconds", "RTT to NTPD.", seconds(reply.round_trip)),
            ("node_ntp_offset_seconds", "ClockOffset between NTP and local clock.", seconds(reply.offset)),
            (
                "node_ntp_reference_timestamp_seconds",
                "NTPD ReferenceTime, UNIX timestamp.",
                // times before the epoch's first second are shown as it
                if reply.reference_time >= SECOND { seconds(reply.reference_time) } else { 0.0 },
            ),
            ("node_ntp_root_delay_seconds", "NTPD RootDelay.", seconds(reply.root_delay)),
            ("node_ntp_root_dispersion_seconds", "NTPD RootDispersion.", seconds(reply.root_dispersion)),
            (
                "node_ntp_sanity",
                "NTPD sanity according to RFC5905 heuristics and configured limits.",
                f64::from(u8::from(sane)),
            ),
        ] {
            let family = page.family(name, help, Gauge);
            page.sample(family, &[], value);
        }
        Ok(())
    }
}

impl Ntp {
    /// Whether the server's time can be used: it keeps the rules of RFC 5905, is not too far from the root and does not
    /// contradict this machine's clock by more than is tolerated.
    fn is_sane(&self, reply: &Reply) -> bool {
        let mut midnight = self.leap_midnight.lock();
        if reply.leap == sntp::LEAP_ADD || reply.leap == sntp::LEAP_DELETE {
            *midnight = Some(reply.time - reply.time.rem_euclid(DAY) + DAY);
        }
        // leap seconds may be smeared over the day before and the day after
        let smeared = midnight.is_some_and(|m| m - DAY < reply.time && reply.time < m + DAY);
        let tolerance = self.tolerance.saturating_add(if smeared { SECOND } else { 0 });
        reply.keeps_rules() && reply.root_distance() <= self.max_distance && reply.contradiction <= tolerance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntp() -> Ntp {
        Ntp {
            server: "127.0.0.1".to_owned(),
            port: 123,
            version: 4,
            ttl: 1,
            max_distance: 3_466_080_000,
            tolerance: 1_000_000,
            leap_midnight: Mutex::new(None),
        }
    }

    /// The reply of a server that does well.
    fn good() -> Reply {
        Reply {
            stratum: 2,
            leap: 0,
            time: 10 * DAY + 5 * SECOND,
            reference_time: 10 * DAY,
            root_delay: SECOND / 50,
            root_dispersion: SECOND / 32,
            round_trip: 1000,
            offset: 0,
            contradiction: 0,
        }
    }

    #[test]
    fn sanity_asks_for_every_limit() {
        for (reply, sane) in [
            (good(), true),
            (Reply { stratum: 15, ..good() }, true),
            (Reply { stratum: 0, ..good() }, false),
            (Reply { stratum: 16, ..good() }, false),
            (Reply { leap: 3, ..good() }, false),
            (Reply { reference_time: 8 * DAY, ..good() }, false),
            (Reply { reference_time: 11 * DAY, ..good() }, false),
            (Reply { root_dispersion: 17 * SECOND, ..good() }, false),
            (Reply { root_dispersion: 3_400_000_000, root_delay: SECOND / 10, ..good() }, true),
            (Reply { root_dispersion: 3_400_000_000, root_delay: SECOND / 5, ..good() }, false),
            (Reply { contradiction: 1_000_000, ..good() }, true),
            (Reply { contradiction: 1_000_001, ..good() }, false),
            (Reply { contradiction: 900_000_000, leap: 1, ..good() }, true),
            (Reply { contradiction: 900_000_000, leap: 2, ..good() }, true),
            (Reply { contradiction: SECOND + 1_000_001, leap: 1, ..good() }, false),
        ] {
            assert_eq!(ntp().is_sane(&reply), sane, "{reply:?}");
        }
    }

    #[test]
    fn a_leap_second_is_remembered_for_the_day_after() {
        let ntp = ntp();
        let off = |time: i64| Reply { time, reference_time: time, contradiction: SECOND / 2, ..good() };
        assert!(!ntp.is_sane(&off(10 * DAY + SECOND)));
        assert!(ntp.is_sane(&Reply { leap: 1, ..off(10 * DAY + SECOND) }));
        assert!(ntp.is_sane(&off(12 * DAY - 1)));
        assert!(!ntp.is_sane(&off(12 * DAY)));
    }

    #[test]
    fn flags_are_checked() {
        for (flag, expected) in [
            (
                "--collector.ntp.server=192.0.2.1",
                "only IP address of local NTP server is valid for --collector.ntp.server",
            ),
            (
                "--collector.ntp.server=localhost",
                "only IP address of local NTP server is valid for --collector.ntp.server",
            ),
            ("--collector.ntp.protocol-version=5", "invalid NTP protocol version 5; must be 2, 3, or 4"),
            ("--collector.ntp.server-port=0", "invalid NTP port number 0; must be between 1 and 65535 inclusive"),
            (
                "--collector.ntp.server-port=70000",
                "invalid NTP port number 70000; must be between 1 and 65535 inclusive",
            ),
            ("--collector.ntp.server-port=x", "expected a whole number but got \"x\""),
            ("--collector.ntp.local-offset-tolerance=-1s", "offset tolerance must be non-negative"),
            ("--collector.ntp.max-distance=3x", "\"3x\" is not a duration such as 1.5s or 100ms"),
        ] {
            let arguments = ["--collector.disable-defaults", "--collector.ntp", flag];
            let exit = crate::flags::parse(arguments.iter().map(std::ffi::OsString::from)).expect_err(flag);
            assert!(exit.text.ends_with(expected), "{flag}: {}", exit.text);
        }
        let arguments = ["--collector.ntp", "--collector.ntp.server=ntp.example", "--collector.ntp.server-is-local"];
        assert!(crate::flags::parse(arguments.iter().map(std::ffi::OsString::from)).is_ok());
    }
}
