use std::path::{Path, PathBuf};

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};
use serde_json::Value;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{absent, malformed, read};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "wifi",
    default: false,
    flags: &[Flag::value("collector.wifi.fixtures", "", "test fixtures to use for wifi collector metrics")],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    match settings.text("collector.wifi.fixtures") {
        "" => Err("wireless interfaces can be read from recordings only (--collector.wifi.fixtures): nl80211 is not supported here".into()),
        folder => Ok(Box::new(Wifi { recordings: folder.into() })),
    }
}

struct Wifi {
    recordings: PathBuf,
}

/// Field of a station, metric, type, divisor and help.
const STATION: [(&str, &str, MetricType, f64, &str); 12] = [
    (
        "connected",
        "node_wifi_station_connected_seconds_total",
        Counter,
        1e9,
        "The total number of seconds a station has been connected to an access point.",
    ),
    (
        "inactive",
        "node_wifi_station_inactive_seconds",
        Gauge,
        1e9,
        "The number of seconds since any wireless activity has occurred on a station.",
    ),
    (
        "receivebitrate",
        "node_wifi_station_receive_bits_per_second",
        Gauge,
        1.0,
        "The current WiFi receive bitrate of a station, in bits per second.",
    ),
    (
        "transmitbitrate",
        "node_wifi_station_transmit_bits_per_second",
        Gauge,
        1.0,
        "The current WiFi transmit bitrate of a station, in bits per second.",
    ),
    (
        "receivedbytes",
        "node_wifi_station_receive_bytes_total",
        Counter,
        1.0,
        "The total number of bytes received by a WiFi station.",
    ),
    (
        "transmittedbytes",
        "node_wifi_station_transmit_bytes_total",
        Counter,
        1.0,
        "The total number of bytes transmitted by a WiFi station.",
    ),
    (
        "receivedpackets",
        "node_wifi_station_received_packets_total",
        Counter,
        1.0,
        "The total number of packets received by a station.",
    ),
    (
        "transmittedpackets",
        "node_wifi_station_transmitted_packets_total",
        Counter,
        1.0,
        "The total number of packets transmitted by a station.",
    ),
    (
        "signal",
        "node_wifi_station_signal_dbm",
        Gauge,
        1.0,
        "The current WiFi signal strength, in decibel-milliwatts (dBm).",
    ),
    (
        "transmitretries",
        "node_wifi_station_transmit_retries_total",
        Counter,
        1.0,
        "The total number of times a station has had to retry while sending a packet.",
    ),
    (
        "transmitfailed",
        "node_wifi_station_transmit_failed_total",
        Counter,
        1.0,
        "The total number of times a station has failed to send a packet.",
    ),
    (
        "beaconloss",
        "node_wifi_station_beacon_loss_total",
        Counter,
        1.0,
        "The total number of times a station has detected a beacon loss.",
    ),
];

/// nl80211's interface types with stations.
const STATION_TYPE: u64 = 2;
const ACCESS_POINT: u64 = 3;

impl Collector for Wifi {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let interfaces = json(&self.recordings.join("interfaces.json"))?;
        let help = "The current frequency a WiFi interface is operating at, in hertz.";
        let frequency = page.family("node_wifi_interface_frequency_hertz", help, Gauge);
        let help = "Labeled WiFi interface station information as provided by the operating system.";
        let info = page.family("node_wifi_station_info", help, Gauge);
        let families = STATION.map(|(_, name, kind, _, help)| page.family(name, help, kind));
        for interface in interfaces.as_array().into_iter().flatten() {
            // interfaces without a name are virtual
            let Some(device) = interface["name"].as_str().filter(|n| !n.is_empty()) else { continue };
            let kind = interface["type"].as_u64().unwrap_or(0);
            let megahertz = interface["frequency"].as_f64().unwrap_or(0.0);
            page.sample(frequency, &[("device", device)], megahertz * 1_000_000.0);
            if !matches!(kind, STATION_TYPE | ACCESS_POINT) {
                continue;
            }
            let folder = self.recordings.join(device);
            if let Ok(bss) = json(&folder.join("bss.json")) {
                let mode = match bss["status"].as_u64() {
                    Some(1) => "client",
                    Some(2) => "ad-hoc",
                    _ => "unknown",
                };
                let bssid = mac(bss["bssid"].as_str().unwrap_or(""));
                let labels = [
                    ("bssid", &*bssid),
                    ("device", device),
                    ("mode", mode),
                    ("ssid", bss["ssid"].as_str().unwrap_or("")),
                ];
                page.sample(info, &labels, 1.0);
            }
            for station in json(&folder.join("stationinfo.json")).unwrap_or_default().as_array().into_iter().flatten() {
                let address = mac(station["hardwareaddr"].as_str().unwrap_or(""));
                for (family, (field, _, _, divisor, _)) in families.iter().zip(STATION) {
                    let value = station[field].as_f64().unwrap_or(0.0) / divisor;
                    page.sample(*family, &[("device", device), ("mac_address", &address)], value);
                }
            }
        }
        Ok(())
    }
}

fn json(path: &Path) -> Result<Value, CollectorError> {
    let text = read(path).map_err(|e| absent(path, &e))?;
    serde_json::from_str(&text).map_err(|e| malformed(path, &e.to_string()))
}

/// A hardware address from base64.
fn mac(encoded: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut parts) = (0u32, 0, Vec::new());
    for value in encoded.chars().filter_map(|c| ALPHABET.find(c)) {
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            parts.push(format!("{:02x}", bits >> count & 0xff));
        }
    }
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        assert_eq!(
            (mac("ABEiM0RV").as_str(), mac("AQIDBAUG").as_str(), mac("").as_str()),
            ("00:11:22:33:44:55", "01:02:03:04:05:06", "")
        );
    }
}
