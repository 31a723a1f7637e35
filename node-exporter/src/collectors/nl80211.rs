//! Wireless interfaces as the kernel's nl80211 tells them.

use std::io;

use super::netlink::{self, DUMP, GENERIC, ONE, attribute, attributes, text};

/// A wireless interface.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Interface {
    index: u32,
    /// Empty for interfaces that only the driver uses.
    pub(super) name: String,
    /// MHz; 0 if it is not tuned.
    pub(super) frequency: f64,
}

/// The net that an interface has joined.
#[derive(Debug, PartialEq)]
pub(super) struct Bss {
    pub(super) address: String,
    pub(super) name: String,
    /// `NL80211_BSS_STATUS_` number.
    pub(super) status: u32,
}

/// A station that an interface talks to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Station {
    pub(super) address: String,
    pub(super) connected_seconds: f64,
    pub(super) inactive_seconds: f64,
    /// Bits in a second.
    pub(super) receive_bitrate: f64,
    pub(super) transmit_bitrate: f64,
    pub(super) received_bytes: f64,
    pub(super) transmitted_bytes: f64,
    pub(super) received_packets: f64,
    pub(super) transmitted_packets: f64,
    /// dBm.
    pub(super) signal: f64,
    pub(super) retries: f64,
    pub(super) failed: f64,
    pub(super) beacon_losses: f64,
}

/// The kernel's nl80211.
pub(super) struct Nl80211 {
    /// The number it has on this machine.
    family: u16,
}

/// The family that knows the others.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

const CMD_GET_INTERFACE: u8 = 5;
const CMD_GET_STATION: u8 = 17;
const CMD_GET_SCAN: u8 = 32;
const ATTR_IFINDEX: u16 = 3;
const ATTR_IFNAME: u16 = 4;
const ATTR_MAC: u16 = 6;
const ATTR_STA_INFO: u16 = 21;
const ATTR_WIPHY_FREQ: u16 = 38;
const ATTR_BSS: u16 = 47;
const BSS_BSSID: u16 = 1;
const BSS_INFORMATION_ELEMENTS: u16 = 6;
const BSS_STATUS: u16 = 9;
const STA_INACTIVE_TIME: u16 = 1;
const STA_RX_BYTES: u16 = 2;
const STA_TX_BYTES: u16 = 3;
const STA_SIGNAL: u16 = 7;
const STA_TX_BITRATE: u16 = 8;
const STA_RX_PACKETS: u16 = 9;
const STA_TX_PACKETS: u16 = 10;
const STA_TX_RETRIES: u16 = 11;
const STA_TX_FAILED: u16 = 12;
const STA_RX_BITRATE: u16 = 14;
const STA_CONNECTED_TIME: u16 = 16;
const STA_BEACON_LOSS: u16 = 18;
const STA_RX_BYTES64: u16 = 23;
const STA_TX_BYTES64: u16 = 24;
const RATE_BITRATE: u16 = 1;
const RATE_BITRATE32: u16 = 5;
/// The information element with the name of the net.
const ELEMENT_SSID: u8 = 0;

impl Nl80211 {
    /// Finds it. Without wireless devices it is not there: [`io::ErrorKind::NotFound`].
    pub(super) fn find() -> io::Result<Self> {
        let mut family = None;
        let content = request(CTRL_CMD_GETFAMILY, &attribute(CTRL_ATTR_FAMILY_NAME, b"nl80211\0"));
        netlink::ask(GENERIC, GENL_ID_CTRL, ONE, &content, &mut |_, message| {
            let id = attributes(message.get(GENERIC_HEADER..)?).find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID);
            family = id.and_then(|(_, value)| value.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)));
            Some(())
        })?;
        family.map(|family| Self { family }).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// All interfaces.
    pub(super) fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let mut found = Vec::new();
        self.dump(CMD_GET_INTERFACE, &[], &mut |message| found.push(interface(message)))?;
        Ok(found)
    }

    /// The net that an interface has joined, if any.
    pub(super) fn bss(&self, of: &Interface) -> io::Result<Option<Bss>> {
        let mut found = None;
        self.dump(CMD_GET_SCAN, &attribute(ATTR_IFINDEX, &of.index.to_ne_bytes()), &mut |message| {
            found = found.take().or_else(|| joined(message));
        })?;
        Ok(found)
    }

    /// The stations of an interface.
    pub(super) fn stations(&self, of: &Interface) -> io::Result<Vec<Station>> {
        let mut found = Vec::new();
        self.dump(CMD_GET_STATION, &attribute(ATTR_IFINDEX, &of.index.to_ne_bytes()), &mut |message| {
            found.push(station(message));
        })?;
        Ok(found)
    }

    fn dump(&self, command: u8, attributes: &[u8], visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        netlink::ask(GENERIC, self.family, DUMP, &request(command, attributes), &mut |_, message| {
            visit(message.get(GENERIC_HEADER..)?);
            Some(())
        })
    }
}

fn request(command: u8, attributes: &[u8]) -> Vec<u8> {
    let mut content = vec![command, 1, 0, 0];
    content.extend(attributes);
    content
}

/// A number of 1, 2, 4 or 8 bytes.
fn number(value: &[u8]) -> f64 {
    match *value {
        [a] => f64::from(a),
        [a, b] => f64::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => f64::from(u32::from_ne_bytes([a, b, c, d])),
        _ => value.first_chunk().map_or(0.0, |bytes| u64::from_ne_bytes(*bytes) as f64),
    }
}

fn hardware_address(value: &[u8]) -> String {
    let parts: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

fn interface(message: &[u8]) -> Interface {
    let mut found = Interface::default();
    for (kind, value) in attributes(message) {
        match kind {
            ATTR_IFINDEX => found.index = number(value) as u32,
            ATTR_IFNAME => found.name = text(value),
            ATTR_WIPHY_FREQ => found.frequency = number(value),
            _ => {}
        }
    }
    found
}

/// The net of a scan's result, if it is the one that was joined.
fn joined(message: &[u8]) -> Option<Bss> {
    let (_, bss) = attributes(message).find(|(kind, _)| *kind == ATTR_BSS)?;
    let of = |wanted: u16| attributes(bss).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    Some(Bss {
        status: number(of(BSS_STATUS)?) as u32,
        address: hardware_address(of(BSS_BSSID).unwrap_or_default()),
        name: net_name(of(BSS_INFORMATION_ELEMENTS).unwrap_or_default()),
    })
}

/// The name among information elements, each of which is a number, a length and so many bytes.
fn net_name(mut elements: &[u8]) -> String {
    while let [id, len, rest @ ..] = elements {
        let Some(value) = rest.get(..usize::from(*len)) else { break };
        if *id == ELEMENT_SSID {
            return String::from_utf8_lossy(value).into_owned();
        }
        elements = &rest[value.len()..];
    }
    String::new()
}

fn station(message: &[u8]) -> Station {
    let mut found = Station::default();
    for (kind, value) in attributes(message) {
        match kind {
            ATTR_MAC => found.address = hardware_address(value),
            ATTR_STA_INFO => station_info(value, &mut found),
            _ => {}
        }
    }
    found
}

fn station_info(info: &[u8], found: &mut Station) {
    for (kind, value) in attributes(info) {
        let value_number = number(value);
        match kind {
            STA_INACTIVE_TIME => found.inactive_seconds = value_number / 1000.0,
            STA_CONNECTED_TIME => found.connected_seconds = value_number,
            // the counters of 32 bits come as well, and must not hide those of 64
            STA_RX_BYTES => found.received_bytes = found.received_bytes.max(value_number),
            STA_TX_BYTES => found.transmitted_bytes = found.transmitted_bytes.max(value_number),
            STA_RX_BYTES64 => found.received_bytes = value_number,
            STA_TX_BYTES64 => found.transmitted_bytes = value_number,
            STA_RX_PACKETS => found.received_packets = value_number,
            STA_TX_PACKETS => found.transmitted_packets = value_number,
            STA_SIGNAL => found.signal = f64::from(value.first().map_or(0, |byte| byte.cast_signed())),
            STA_TX_RETRIES => found.retries = value_number,
            STA_TX_FAILED => found.failed = value_number,
            STA_BEACON_LOSS => found.beacon_losses = value_number,
            STA_RX_BITRATE => found.receive_bitrate = bitrate(value),
            STA_TX_BITRATE => found.transmit_bitrate = bitrate(value),
            _ => {}
        }
    }
}

/// From units of 100 kbit/s; the wider number counts where both are told.
fn bitrate(rate: &[u8]) -> f64 {
    let of = |wanted: u16| attributes(rate).find(|(kind, _)| *kind == wanted).map(|(_, value)| number(value));
    of(RATE_BITRATE32).or_else(|| of(RATE_BITRATE)).unwrap_or(0.0) * 100_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_a_name_and_a_frequency() {
        let mut message = attribute(ATTR_IFINDEX, &3u32.to_ne_bytes());
        message.extend(attribute(ATTR_IFNAME, b"wlan0\0"));
        message.extend(attribute(ATTR_WIPHY_FREQ, &2412u32.to_ne_bytes()));
        assert_eq!(interface(&message), Interface { index: 3, name: "wlan0".into(), frequency: 2412.0 });
        assert_eq!(interface(&[]), Interface::default());
    }

    #[test]
    fn only_the_net_that_was_joined_has_a_status() {
        let of = |status: Option<u32>| {
            let mut bss = attribute(BSS_BSSID, &[0, 0x11, 0x22, 0x33, 0x44, 0x55]);
            bss.extend(attribute(BSS_INFORMATION_ELEMENTS, &[1, 2, 0x82, 0x84, 0, 3, b'n', b'e', b't']));
            bss.extend(status.map_or(Vec::new(), |s| attribute(BSS_STATUS, &s.to_ne_bytes())));
            joined(&attribute(ATTR_BSS, &bss))
        };
        assert_eq!(of(None), None);
        let expected = Bss { address: "00:11:22:33:44:55".into(), name: "net".into(), status: 1 };
        assert_eq!(of(Some(1)), Some(expected));
        assert_eq!(net_name(&[5, 9, 1]), "", "an element that is cut off");
        assert_eq!(net_name(&[5]), "");
    }

    #[test]
    fn stations_are_counted() {
        let mut info = attribute(STA_RX_BYTES64, &(5u64 << 32).to_ne_bytes());
        info.extend(attribute(STA_RX_BYTES, &7u32.to_ne_bytes()));
        info.extend(attribute(STA_TX_BYTES, &9u32.to_ne_bytes()));
        info.extend(attribute(STA_INACTIVE_TIME, &400u32.to_ne_bytes()));
        info.extend(attribute(STA_CONNECTED_TIME, &30u32.to_ne_bytes()));
        info.extend(attribute(STA_SIGNAL, &[0xce]));
        let mut rate = attribute(RATE_BITRATE, &100u16.to_ne_bytes());
        rate.extend(attribute(RATE_BITRATE32, &200u32.to_ne_bytes()));
        info.extend(attribute(STA_TX_BITRATE, &rate));
        let mut message = attribute(ATTR_MAC, &[1, 2, 3, 4, 5, 6]);
        message.extend(attribute(ATTR_STA_INFO, &info));
        let expected = Station {
            address: "01:02:03:04:05:06".into(),
            received_bytes: (5u64 << 32) as f64,
            transmitted_bytes: 9.0,
            inactive_seconds: 0.4,
            connected_seconds: 30.0,
            signal: -50.0,
            transmit_bitrate: 2e7,
            ..Station::default()
        };
        assert_eq!(station(&message), expected);
        assert_eq!(station(&message[..3]), Station::default());
    }

    #[test]
    fn the_kernel_answers_or_has_no_wireless_devices() {
        match Nl80211::find() {
            Ok(wireless) => assert!(wireless.interfaces().is_ok()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
    }
}
