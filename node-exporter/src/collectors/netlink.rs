//! Questions to the kernel over a netlink socket, and the attributes of its answers.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Links, addresses, routes: rtnetlink.
pub(super) const ROUTE: Option<Protocol> = None;
/// What came later: generic netlink.
pub(super) const GENERIC: Option<Protocol> = Some(rustix::net::netlink::GENERIC);

/// `NLM_F_REQUEST` and `NLM_F_DUMP`: all there is.
pub(super) const DUMP: u16 = 0x301;
/// `NLM_F_REQUEST` and `NLM_F_ACK`: one thing.
pub(super) const ONE: u16 = 0x5;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// What the kernel sends at once fits in.
const DATAGRAM: usize = 32 * 1024;

/// What is done with each message; `None` if it is cut off.
pub(super) type Visit<'a> = dyn FnMut(u16, &[u8]) -> Option<()> + 'a;

/// Sends a request and visits the answers.
pub(super) fn ask(
    protocol: Option<Protocol>,
    request: u16,
    flags: u16,
    content: &[u8],
    visit: &mut Visit<'_>,
) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let mut bytes = vec![0u8; HEADER];
    bytes.extend(content);
    let len = bytes.len() as u32;
    bytes[0..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&request.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    sendto(&socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0u8; DATAGRAM];
    loop {
        let (_, len) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if !parse(&buffer[..len.min(DATAGRAM)], visit)? {
            return Ok(());
        }
    }
}

/// Reads the messages of a datagram; `false` after the last one.
fn parse(mut datagram: &[u8], visit: &mut Visit<'_>) -> io::Result<bool> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "a netlink message is cut off");
    while datagram.len() >= HEADER {
        let len = u32::from_ne_bytes(word(datagram, 0)) as usize;
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        let message = datagram.get(HEADER..len).ok_or_else(cut)?;
        match kind {
            NLMSG_DONE => return Ok(false),
            NLMSG_ERROR if message.len() >= 4 => {
                return match i32::from_ne_bytes(word(message, 0)) {
                    // the acknowledgement that follows a single answer
                    0 => Ok(false),
                    error => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
                };
            }
            kind => visit(kind, message).ok_or_else(cut)?,
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// Four bytes at a place that is known to be there.
pub(super) fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

/// The attributes of a message; ends where one is cut off.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        // the two highest bits are flags
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Text up to a zero byte.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

/// An attribute, filled up to a multiple of four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_messages_are_errors() {
        let mut message = vec![0u8; 16];
        message[0] = 200;
        message[4] = 16;
        assert!(parse(&message, &mut |_, _| Some(())).is_err());
        message[0] = 20;
        message[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message.extend((-1i32).to_ne_bytes());
        assert_eq!(parse(&message, &mut |_, _| Some(())).unwrap_err().raw_os_error(), Some(1));
        message[16..20].copy_from_slice(&0i32.to_ne_bytes());
        assert!(!parse(&message, &mut |_, _| Some(())).unwrap(), "an acknowledgement is the end");
    }
}
