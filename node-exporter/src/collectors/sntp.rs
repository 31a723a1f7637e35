//! One question to a time server by the Simple Network Time Protocol (RFC 5905, section 14).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a server says of its time. Times in nanoseconds since 1970, spans in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Steps from a reference clock; 0 where the server refuses, 16 where it knows no time.
    pub(super) stratum: u8,
    /// Two bits: a second is to be added, to be taken away, or the clock is not synchronised.
    pub(super) leap: u8,
    /// When the server answered, by its clock.
    pub(super) time: i64,
    /// When its clock was last set.
    pub(super) reference_time: i64,
    pub(super) root_delay: i64,
    pub(super) root_dispersion: i64,
    /// The way to the server and back, without the time it took to answer.
    pub(super) round_trip: i64,
    /// What to add to this machine's clock.
    pub(super) offset: i64,
    /// By how much the two clocks contradict each other at least: the server had the question before it was asked, or this
    /// machine the answer before it was given.
    pub(super) contradiction: i64,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    /// The server cannot be asked, or does not answer in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The datagram is no answer of a server.
    #[error("{0}")]
    Invalid(&'static str),
}

/// The leap indicator: the last minute of the day has 61 seconds.
pub(super) const LEAP_ADD: u8 = 1;
/// The leap indicator: the last minute of the day has 59 seconds.
pub(super) const LEAP_DELETE: u8 = 2;
/// The leap indicator: the clock is not synchronised.
const LEAP_UNKNOWN: u8 = 3;
const MODE_CLIENT: u8 = 3;
const MODE_SERVER: u8 = 4;
const MESSAGE: usize = 48;
const SECOND: i64 = 1_000_000_000;
/// A server says 16 where it is not synchronised.
const MAX_STRATUM: u8 = 16;
/// A clock that was not set for 2^17 s, the longest time between two questions, is stale.
const MAX_AGE: i64 = (1 << 17) * SECOND;
/// Errors beyond 16 s are beyond repair.
const MAX_DISPERSION: i64 = 16 * SECOND;
/// Seconds from 1900 to 1970.
const EPOCH: u64 = 2_208_988_800;

impl Reply {
    /// The time the server's errors and the way to it may add up to.
    pub(super) fn root_distance(&self) -> i64 {
        (self.round_trip + self.root_delay) / 2 + self.root_dispersion
    }

    /// Whether a client may use the reply, by RFC 5905.
    pub(super) fn keeps_rules(&self) -> bool {
        self.stratum != 0
            && self.stratum < MAX_STRATUM
            && self.time - self.reference_time <= MAX_AGE
            && self.root_delay / 2 + self.root_dispersion <= MAX_DISPERSION
            && self.time >= self.reference_time
            && self.leap != LEAP_UNKNOWN
    }
}

/// Asks a server once.
pub(super) fn query(server: &str, port: u16, version: u8, ttl: u8, timeout: Duration) -> Result<Reply, QueryError> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let address = (server, port).to_socket_addrs()?.next().ok_or_else(missing)?;
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    if ttl > 0 && address.is_ipv4() {
        socket.set_ttl(ttl.into())?;
    } else if ttl > 0 {
        rustix::net::sockopt::set_ipv6_unicast_hops(&socket, Some(ttl)).map_err(io::Error::from)?;
    }
    let mut message = [0u8; MESSAGE];
    message[0] = version << 3 | MODE_CLIENT;
    // a number nobody can guess in place of the time, which the answer must repeat
    let mut cookie = [0u8; 8];
    fill_random(&mut cookie)?;
    message[40..].copy_from_slice(&cookie);
    let (sent, begin) = (SystemTime::now(), Instant::now());
    socket.send(&message)?;
    socket.set_read_timeout(Some(timeout))?;
    let mut answer = [0u8; 512];
    let len = socket.recv(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {address} in time"))
        }
        _ => error,
    })?;
    // the clock may be set in between
    let received = sent + begin.elapsed();
    read(&answer[..len], cookie, since_epoch(sent), since_epoch(received)).map_err(QueryError::Invalid)
}

fn fill_random(bytes: &mut [u8; 8]) -> io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}

fn since_epoch(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Reads an answer to the question with the cookie that was sent and received at these times.
fn read(answer: &[u8], cookie: [u8; 8], sent: i64, received: i64) -> Result<Reply, &'static str> {
    let Some(answer) = answer.first_chunk::<MESSAGE>() else { return Err("the response is cut off") };
    let word = |at: usize| u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    if answer[0] & 7 != MODE_SERVER {
        return Err("invalid mode in response");
    }
    if long(40) == 0 {
        return Err("invalid transmit time in response");
    }
    if answer[24..32] != cookie {
        return Err("server response didn't match request");
    }
    if long(32) > long(40) {
        return Err("server clock ticked backwards");
    }
    let (arrived, answered) = (time(long(32)), time(long(40)));
    Ok(Reply {
        stratum: answer[1],
        leap: answer[0] >> 6,
        time: answered,
        reference_time: time(long(16)),
        root_delay: span(word(4)),
        root_dispersion: span(word(8)),
        round_trip: ((received - sent) - (answered - arrived)).max(0),
        offset: ((arrived - sent) + (answered - received)) / 2,
        contradiction: (sent - arrived).max(answered - received).max(0),
    })
}

/// A time of 32 bits of seconds and 32 of a fraction. Those before 1970 are of the era that begins in 2036.
fn time(raw: u64) -> i64 {
    let (seconds, fraction) = (raw >> 32, raw & 0xffff_ffff);
    let seconds = if seconds < EPOCH { seconds + (1 << 32) } else { seconds } - EPOCH;
    let nanoseconds = (fraction * 1_000_000_000 + (1 << 31)) >> 32;
    // at most 2^33 seconds
    seconds.cast_signed() * SECOND + nanoseconds.cast_signed()
}

/// A span of 16 bits of seconds and 16 of a fraction.
fn span(raw: u32) -> i64 {
    let (seconds, fraction) = (i64::from(raw >> 16), i64::from(raw & 0xffff));
    seconds * SECOND + ((fraction * SECOND + (1 << 15)) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: [u8; 8] = *b"12345678";

    /// A server's answer; the times in seconds since 1970.
    fn answer(first: u8, reference: u64, arrived: u64, answered: u64) -> Vec<u8> {
        let raw = |seconds: u64| ((seconds + EPOCH) as u32, 1u32 << 31);
        let mut bytes = vec![first, 2, 6, 0xec];
        bytes.extend(0x0000_051eu32.to_be_bytes());
        bytes.extend(0x0000_0800u32.to_be_bytes());
        bytes.extend(*b"GPS\0");
        for (at, seconds) in [reference, 0, arrived, answered].into_iter().enumerate() {
            if at == 1 {
                bytes.extend(COOKIE);
                continue;
            }
            let (seconds, fraction) = raw(seconds);
            bytes.extend(seconds.to_be_bytes());
            bytes.extend(fraction.to_be_bytes());
        }
        bytes
    }

    const T: i64 = 1_700_000_000;

    #[test]
    fn a_reply_has_the_times_of_both_clocks() {
        let bytes = answer(0x64, 1_699_999_900, 1_700_000_002, 1_700_000_003);
        let reply = read(&bytes, COOKIE, T * SECOND, (T + 4) * SECOND).unwrap();
        let half = SECOND / 2;
        assert_eq!(
            reply,
            Reply {
                stratum: 2,
                leap: 1,
                time: (T + 3) * SECOND + half,
                reference_time: (T - 100) * SECOND + half,
                root_delay: 19_989_014,
                root_dispersion: 31_250_000,
                round_trip: 3 * SECOND,
                offset: SECOND,
                contradiction: 0,
            }
        );
        // the server's clock is ahead by more than the way back takes, or behind by more than the way there
        let ahead = read(&bytes, COOKIE, T * SECOND, (T + 2) * SECOND).unwrap();
        assert_eq!(ahead.contradiction, SECOND + half);
        let behind = read(&bytes, COOKIE, (T + 4) * SECOND, (T + 6) * SECOND).unwrap();
        assert_eq!(behind.contradiction, SECOND + half);
    }

    #[test]
    fn datagrams_that_are_no_answer_are_refused() {
        let good = || answer(0x24, 1_699_999_900, 1_700_000_002, 1_700_000_003);
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(read(bytes, COOKIE, T * SECOND, (T + 4) * SECOND), Err(expected));
        };
        check(&good()[..47], "the response is cut off");
        check(&[], "the response is cut off");
        check(&answer(0x23, 1, 2, 3), "invalid mode in response");
        let mut bytes = good();
        bytes[40..48].fill(0);
        check(&bytes, "invalid transmit time in response");
        bytes = good();
        bytes[31] += 1;
        check(&bytes, "server response didn't match request");
        check(&answer(0x24, 1_699_999_900, 1_700_000_003, 1_700_000_002), "server clock ticked backwards");
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_is_a_panic(mut bytes in proptest::collection::vec(0u8..=255, 48..60), len in 0..60usize) {
            bytes[0] = bytes[0] & !7 | MODE_SERVER;
            bytes[24..32].copy_from_slice(&COOKIE);
            bytes.truncate(len);
            if let Ok(reply) = read(&bytes, COOKIE, T * SECOND, (T + 4) * SECOND) {
                reply.keeps_rules();
                reply.root_distance();
            }
        }
    }

    #[test]
    fn times_without_an_era_are_taken_after_1970() {
        assert_eq!(time(EPOCH << 32), 0);
        assert_eq!(time(0), 2_085_978_496 * SECOND);
        assert_eq!(time(u64::MAX), 2_085_978_496 * SECOND);
        assert_eq!(time((EPOCH - 1) << 32), ((1 << 32) - 1) * SECOND);
    }

    /// A server on the loopback interface that repeats the question's cookie.
    #[test]
    fn a_server_is_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let mut question = [0; 100];
            let (len, client) = server.recv_from(&mut question).unwrap();
            let mut bytes = answer(0x24, 1_699_999_900, 1_700_000_002, 1_700_000_003);
            bytes[24..32].copy_from_slice(&question[40..48]);
            server.send_to(&bytes, client).unwrap();
            (len, question[0], question[40..48].to_vec())
        });
        let reply = query("127.0.0.1", port, 3, 1, Duration::from_secs(10)).unwrap();
        assert_eq!((reply.stratum, reply.time), (2, (T + 3) * SECOND + SECOND / 2));
        let (len, first, cookie) = served.join().unwrap();
        assert_eq!((len, first), (48, 3 << 3 | 3));
        assert_ne!(cookie, [0; 8]);
    }

    #[test]
    fn a_silent_server_is_left() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let error = query("127.0.0.1", port, 4, 1, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), format!("no answer from 127.0.0.1:{port} in time"));
    }
}
