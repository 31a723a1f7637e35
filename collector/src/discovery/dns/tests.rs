use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::super::testing::{check, settings};
use super::*;

/// A name server on loopback, over UDP and TCP: names are answered by records of their own.
struct Server {
    address: SocketAddr,
    folder: tempfile::TempDir,
    zone: Arc<parking_lot::Mutex<Zone>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

/// By name and type: the response code and the data of the records.
type Zone = BTreeMap<(String, u16), (u8, Vec<(u16, Vec<u8>)>)>;

impl Server {
    async fn start() -> Self {
        // the same port for both, as name servers have it
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let zone: Arc<parking_lot::Mutex<Zone>> = Arc::default();
        let (over_udp, over_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        let tasks = [
            tokio::spawn(async move {
                let mut buffer = [0; 2048];
                while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                    let answer = answer(&buffer[..length], &over_udp.lock(), 512);
                    if let Some(answer) = answer {
                        let _ = udp.send_to(&answer, from).await;
                    }
                }
            }),
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = tcp.accept().await {
                    let length = stream.read_u16().await.unwrap();
                    let mut question = vec![0; usize::from(length)];
                    stream.read_exact(&mut question).await.unwrap();
                    let answer = answer(&question, &over_tcp.lock(), 65_535).unwrap();
                    let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
                    framed.extend(answer);
                    let _ = stream.write_all(&framed).await;
                }
            }),
        ];
        let folder = tempfile::tempdir().unwrap();
        let text = "nameserver 127.0.0.1\nsearch first.test second.test\n";
        std::fs::write(folder.path().join("resolv.conf"), text).unwrap();
        Self { address, folder, zone, tasks }
    }

    fn set(&self, name: &str, record_type: u16, rcode: u8, records: Vec<(u16, Vec<u8>)>) {
        self.zone.lock().insert((name.to_owned(), record_type), (rcode, records));
    }

    fn dns(&self, text: &str) -> Dns {
        let resolver = Resolver { file: self.folder.path().join("resolv.conf"), port: self.address.port() };
        Dns::over(resolver, &settings("dns", text, None), Arc::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Silent about names with the response code 255.
fn answer(question: &[u8], zone: &Zone, limit: usize) -> Option<Vec<u8>> {
    let (mut at, mut name) = (12, String::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        name.push_str(std::str::from_utf8(&question[at + 1..=at + length]).unwrap());
        name.push('.');
        at += length + 1;
    }
    let record_type = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let missing = (3, Vec::new());
    let (rcode, records) = zone.get(&(name, record_type)).unwrap_or(&missing);
    if *rcode == 255 {
        return None;
    }
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80 | rcode, 0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend_from_slice(&question[12..at + 5]);
    for (record_type, data) in records {
        out.extend([0xc0, 12]);
        out.extend(record_type.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
    if out.len() > limit {
        out.truncate(at + 5);
        out[2] |= 0x02;
    }
    Some(out)
}

fn wire(name: &str) -> Vec<u8> {
    let mut out: Vec<u8> = name.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
    out.push(0);
    out
}

fn srv(port: u16, host: &str) -> (u16, Vec<u8>) {
    (message::SRV, [&[0, 1, 0, 2], &port.to_be_bytes()[..], &wire(host)].concat())
}

#[tokio::test]
async fn each_type_of_record_gives_its_targets() {
    let server = Server::start().await;
    server.set("_web._tcp.x.test.", message::SRV, 0, vec![srv(9100, "a.x.test"), srv(9200, "b.x.test")]);
    let mut mx = vec![0, 10];
    mx.extend(wire("mail.x.test"));
    server.set("x.test.", message::MX, 0, vec![(message::MX, mx)]);
    server.set("x.test.", message::NS, 0, vec![(message::NS, wire("ns.x.test"))]);
    // the address of an alias comes with the alias
    server.set("x.test.", message::A, 0, vec![(5, wire("y.test")), (message::A, vec![10, 0, 0, 1])]);
    server.set("x.test.", message::AAAA, 0, vec![(message::AAAA, [&[0xfe, 0x80][..], &[0; 13], &[1]].concat())]);
    for (text, expected) in [
        (
            "names: [_web._tcp.x.test.]",
            "a.x.test:9100 name=_web._tcp.x.test. srv_record_target=a.x.test. srv_record_port=9100
             b.x.test:9200 name=_web._tcp.x.test. srv_record_target=b.x.test. srv_record_port=9200",
        ),
        ("{names: [x.test], type: MX, port: 25}", "mail.x.test:25 name=x.test mx_record_target=mail.x.test."),
        ("{names: [x.test], type: NS, port: 53}", "ns.x.test:53 name=x.test ns_record_target=ns.x.test."),
        ("{names: [x.test], type: a, port: 80}", "10.0.0.1:80 name=x.test"),
        ("{names: [x.test], type: AAAA, port: 80}", "[fe80::1]:80 name=x.test"),
    ] {
        check(&server.dns(text).refresh().await.unwrap(), "__meta_dns_", expected);
    }
}

#[tokio::test]
async fn search_domains_are_tried_in_their_order() {
    let server = Server::start().await;
    let a = |last: u8| vec![(message::A, vec![10, 0, 0, last])];
    server.set("host.second.test.", message::A, 0, a(2));
    server.set("whole.name.", message::A, 0, a(3));
    server.set("whole.name.first.test.", message::A, 0, a(4));
    let mut dns = server.dns("{names: [host, whole.name], type: A, port: 1}");
    check(&dns.refresh().await.unwrap(), "__meta_dns_", "10.0.0.2:1 name=host\n10.0.0.3:1 name=whole.name");
}

#[tokio::test]
async fn long_answers_come_over_tcp() {
    let server = Server::start().await;
    let records = (0..100).map(|i| (message::A, vec![10, 0, 1, i])).collect();
    server.set("many.test.", message::A, 0, records);
    let groups = server.dns("{names: [many.test.], type: A, port: 1}").refresh().await.unwrap();
    assert_eq!(groups[0].targets.len(), 100);
}

#[tokio::test]
async fn a_name_that_fails_keeps_its_targets_and_one_that_is_gone_loses_them() {
    let server = Server::start().await;
    let a = |last: u8| vec![(message::A, vec![10, 0, 0, last])];
    server.set("a.test.", message::A, 0, a(1));
    server.set("b.test.", message::A, 0, a(2));
    let mut dns = server.dns("{names: [a.test., b.test.], type: A, port: 1}");
    check(&dns.refresh().await.unwrap(), "__meta_dns_", "10.0.0.1:1 name=a.test.\n10.0.0.2:1 name=b.test.");

    const SERVFAIL: u8 = 2;
    server.set("a.test.", message::A, SERVFAIL, Vec::new());
    server.set("b.test.", message::A, 0, a(3));
    check(&dns.refresh().await.unwrap(), "__meta_dns_", "10.0.0.1:1 name=a.test.\n10.0.0.3:1 name=b.test.");
    assert_eq!((dns.metrics.dns_lookups.get(), dns.metrics.dns_failures.get()), (4, 1));

    // a server that says nothing at all
    server.set("a.test.", message::A, 255, Vec::new());
    server.set("b.test.", message::A, message::NO_SUCH_NAME, Vec::new());
    check(&dns.refresh().await.unwrap(), "__meta_dns_", "10.0.0.1:1 name=a.test.");
    server.set("a.test.", message::A, 0, a(9));
    check(&dns.refresh().await.unwrap(), "__meta_dns_", "10.0.0.9:1 name=a.test.");
}

#[test]
fn wrong_messages_are_faults() {
    let question = message::encode(7, "a.test", message::A, true).unwrap();
    assert_eq!(message::decode(&question).unwrap().id, 7);
    for length in 0..question.len() - 12 {
        // nothing that is cut off gives records
        let _ = message::decode(&question[..length]);
    }
    let mut circle = vec![0, 7, 0x81, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12];
    circle.extend([0; 10]);
    assert!(message::decode(&circle).unwrap_err().contains("circles"));
    assert!(message::encode(7, "a..b", message::A, true).is_err());
    assert!(message::encode(7, &"x".repeat(64), message::A, true).is_err());
    assert!(message::encode(7, &"abc.".repeat(70), message::A, true).is_err());
}

proptest::proptest! {
    #[test]
    fn no_message_makes_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = message::decode(&bytes);
        let mut answer = vec![0, 1, 0x81, 0x80, 0, 0, 0, 3, 0, 0, 0, 0];
        answer.extend(bytes);
        let _ = message::decode(&answer);
    }
}
