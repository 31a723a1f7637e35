use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// Names with their records: types and data by name and type asked for.
type Zone = BTreeMap<(String, u16), Vec<(u16, Vec<u8>)>>;

/// A name server over UDP. Its thread ends with the test's process.
#[derive(Debug)]
pub struct NameServer {
    zone: Arc<Mutex<Zone>>,
}

/// The types of records that tests ask for.
pub mod record {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A name server.
    pub const NS: u16 = 2;
    /// A mail server.
    pub const MX: u16 = 15;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A server of a service.
    pub const SRV: u16 = 33;
}

impl NameServer {
    /// Listens at an address.
    ///
    /// # Errors
    /// The address cannot be used: ports below 1024 may take root.
    ///
    /// # Panics
    /// Never in practice.
    pub fn start(address: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let zone = Arc::new(Mutex::new(Zone::new()));
        let shared = Arc::clone(&zone);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = answer(&buffer[..length], &shared.lock().expect("no thread panics while it holds this"));
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Self { zone })
    }

    /// Replaces the records of a name (with its last dot) and type. Names without records do not exist.
    ///
    /// # Panics
    /// Never in practice.
    pub fn set(&self, name: &str, record_type: u16, records: Vec<Vec<u8>>) {
        let records = records.into_iter().map(|data| (record_type, data)).collect();
        let mut zone = self.zone.lock().expect("no thread panics while it holds this");
        zone.insert((name.to_owned(), record_type), records);
    }

    /// A name as messages have it.
    pub fn wire(name: &str) -> Vec<u8> {
        let labels = name.trim_end_matches('.').split('.');
        let mut out: Vec<u8> = labels.flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
        out.push(0);
        out
    }

    /// The data of a server record.
    pub fn srv(port: u16, host: &str) -> Vec<u8> {
        [&[0, 1, 0, 2], &port.to_be_bytes()[..], &Self::wire(host)].concat()
    }

    /// The data of a mail server record.
    pub fn mx(host: &str) -> Vec<u8> {
        [&[0, 10], &Self::wire(host)[..]].concat()
    }
}

fn answer(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (mut at, mut name) = (12, String::new());
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        name.push_str(std::str::from_utf8(question.get(at + 1..at + 1 + length)?).ok()?);
        name.push('.');
        at += length + 1;
    }
    let record_type = u16::from_be_bytes(question.get(at + 1..at + 3)?.try_into().ok()?);
    let records = zone.get(&(name, record_type)).map(Vec::as_slice).unwrap_or_default();
    let mut out = question[..2].to_vec();
    // an answer of a recursive server; code 3 says that there is no such name
    out.extend([0x81, if records.is_empty() { 0x83 } else { 0x80 }, 0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend_from_slice(question.get(12..at + 5)?);
    for (record_type, data) in records {
        // the name of the question, class IN, a minute to live
        out.extend([0xc0, 12]);
        out.extend(record_type.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
    Some(out)
}
