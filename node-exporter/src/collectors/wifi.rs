use std::io;
use std::path::{Path, PathBuf};

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};
use serde_json::Value;

use super::nl80211::{Nl80211, Station};
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
    let recordings = Some(settings.text("collector.wifi.fixtures")).filter(|folder| !folder.is_empty());
    Ok(Box::new(Wifi { recordings: recordings.map(PathBuf::from) }))
}

struct Wifi {
    /// Read instead of asking the kernel.
    recordings: Option<PathBuf>,
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

/// A wireless interface, with what it is joined to and talks to.
struct Interface {
    name: String,
    megahertz: f64,
    bss: Option<Bss>,
    /// Address, and values in the order of [`STATION`].
    stations: Vec<(String, [f64; STATION.len()])>,
}

struct Bss {
    address: String,
    name: String,
    mode: &'static str,
}

impl Collector for Wifi {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let interfaces = match &self.recordings {
            Some(folder) => recorded(folder)?,
            None => asked()?,
        };
        let help = "The current frequency a WiFi interface is operating at, in hertz.";
        let frequency = page.family("node_wifi_interface_frequency_hertz", help, Gauge);
        let help = "Labeled WiFi interface station information as provided by the operating system.";
        let info = page.family("node_wifi_station_info", help, Gauge);
        let families = STATION.map(|(_, name, kind, _, help)| page.family(name, help, kind));
        for Interface { name: device, megahertz, bss, stations } in &interfaces {
            page.sample(frequency, &[("device", device)], megahertz * 1_000_000.0);
            if let Some(Bss { address, name, mode }) = bss {
                let labels = [("bssid", address.as_str()), ("device", device), ("mode", mode), ("ssid", name)];
                page.sample(info, &labels, 1.0);
            }
            for (address, values) in stations {
                for (family, value) in families.iter().zip(values) {
                    page.sample(*family, &[("device", device), ("mac_address", address)], *value);
                }
            }
        }
        Ok(())
    }
}

/// Asks the kernel.
fn asked() -> Result<Vec<Interface>, CollectorError> {
    let failed = |e: io::Error| CollectorError::failed(format!("failed to access wifi data: {e}"));
    let wireless = match Nl80211::find() {
        Ok(wireless) => wireless,
        // no wireless device, or no right to ask
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Err(CollectorError::NoData);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut interfaces = Vec::new();
    for interface in wireless.interfaces().map_err(failed)? {
        // interfaces without a name are virtual
        if interface.name.is_empty() {
            continue;
        }
        let bss = known(wireless.bss(&interface)).map_err(failed)?.flatten();
        let stations = known(wireless.stations(&interface)).map_err(failed)?.unwrap_or_default();
        interfaces.push(Interface {
            bss: bss.map(|bss| Bss { address: bss.address, name: bss.name, mode: mode(u64::from(bss.status)) }),
            stations: stations.into_iter().map(|station| (station.address.clone(), values(&station))).collect(),
            name: interface.name,
            megahertz: interface.frequency,
        });
    }
    Ok(interfaces)
}

/// Not every kind of interface has everything.
fn known<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A station's values in the order of [`STATION`].
fn values(station: &Station) -> [f64; STATION.len()] {
    [
        station.connected_seconds,
        station.inactive_seconds,
        station.receive_bitrate,
        station.transmit_bitrate,
        station.received_bytes,
        station.transmitted_bytes,
        station.received_packets,
        station.transmitted_packets,
        station.signal,
        station.retries,
        station.failed,
        station.beacon_losses,
    ]
}

fn mode(status: u64) -> &'static str {
    match status {
        0 | 1 => "client",
        2 => "ad-hoc",
        _ => "unknown",
    }
}

/// Reads recordings.
fn recorded(folder: &Path) -> Result<Vec<Interface>, CollectorError> {
    let mut interfaces = Vec::new();
    for interface in json(&folder.join("interfaces.json"))?.as_array().into_iter().flatten() {
        let Some(name) = interface["name"].as_str().filter(|n| !n.is_empty()) else { continue };
        let kind = interface["type"].as_u64().unwrap_or(0);
        let mut found = Interface {
            name: name.to_owned(),
            megahertz: interface["frequency"].as_f64().unwrap_or(0.0),
            bss: None,
            stations: Vec::new(),
        };
        if matches!(kind, STATION_TYPE | ACCESS_POINT) {
            let folder = folder.join(name);
            found.bss = json(&folder.join("bss.json")).ok().map(|bss| Bss {
                address: mac(bss["bssid"].as_str().unwrap_or("")),
                name: bss["ssid"].as_str().unwrap_or("").to_owned(),
                mode: mode(bss["status"].as_u64().unwrap_or(0)),
            });
            let stations = json(&folder.join("stationinfo.json")).unwrap_or_default();
            for station in stations.as_array().into_iter().flatten() {
                let address = mac(station["hardwareaddr"].as_str().unwrap_or(""));
                let of =
                    |(field, _, _, divisor, _): (&str, _, _, f64, _)| station[field].as_f64().unwrap_or(0.0) / divisor;
                found.stations.push((address, STATION.map(of)));
            }
        }
        interfaces.push(found);
    }
    Ok(interfaces)
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
