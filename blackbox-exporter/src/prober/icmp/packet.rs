//! Echo requests and replies (RFC 792, RFC 4443).

/// An echo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo<'a> {
    pub(super) id: u16,
    pub(super) sequence: u16,
    pub(super) payload: &'a [u8],
    pub(super) v6: bool,
}

const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

impl Echo<'_> {
    /// The request. The kernel fills in the checksum of ICMPv6, and the id on unprivileged sockets.
    pub(super) fn request(&self) -> Vec<u8> {
        let mut packet = vec![if self.v6 { REQUEST_V6 } else { REQUEST_V4 }, 0, 0, 0];
        packet.extend_from_slice(&self.id.to_be_bytes());
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(self.payload);
        if !self.v6 {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// Whether a packet is the reply. `with_header` says that an IPv4 header stands before it, `check_id` that the id is our own.
    pub(super) fn is_answered_by(&self, packet: &[u8], with_header: bool, check_id: bool) -> bool {
        let start = if with_header { packet.first().map_or(0, |b| usize::from(b & 0xf) * 4) } else { 0 };
        let Some(&[kind, code, _, _, id0, id1, seq0, seq1, ref payload @ ..]) = packet.get(start..) else {
            return false;
        };
        kind == (if self.v6 { REPLY_V6 } else { REPLY_V4 })
            && code == 0
            && (!check_id || [id0, id1] == self.id.to_be_bytes())
            && [seq0, seq1] == self.sequence.to_be_bytes()
            && payload == self.payload
    }
}

/// The checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Echo<'static> = Echo { id: 0x0102, sequence: 0x0304, payload: b"abc", v6: false };

    #[test]
    fn a_request_sums_up() {
        let request = ECHO.request();
        assert_eq!((request[0], &request[4..8], &request[8..]), (8, &[1, 2, 3, 4][..], &b"abc"[..]));
        assert_eq!(checksum(&request), 0);
    }

    #[test]
    fn only_the_reply_is_the_reply() {
        let reply = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = ECHO.request();
            packet[0] = 0;
            change(&mut packet);
            packet
        };
        let right = reply(&|_| {});
        assert!(ECHO.is_answered_by(&right, false, true));
        for (name, wrong) in [
            ("a request", reply(&|p| p[0] = 8)),
            ("a code", reply(&|p| p[1] = 1)),
            ("another id", reply(&|p| p[5] = 9)),
            ("another number", reply(&|p| p[7] = 9)),
            ("another payload", reply(&|p| p[9] = b'x')),
            ("a cut one", reply(&|p| p.truncate(9))),
            ("nothing", Vec::new()),
        ] {
            assert!(!ECHO.is_answered_by(&wrong, false, true), "{name}");
        }
        assert!(ECHO.is_answered_by(&reply(&|p| p[5] = 9), false, false), "the kernel's id");
        let mut with_header = vec![0x46; 24];
        with_header.extend_from_slice(&right);
        assert!(ECHO.is_answered_by(&with_header, true, true));
        assert!(!ECHO.is_answered_by(&[0x4f], true, true));
    }
}
