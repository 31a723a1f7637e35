use super::message::{Message, MessageError, Question};

fn header(counts: [u16; 4], flags: u16) -> Vec<u8> {
    let mut out = vec![0, 7];
    for number in [flags].into_iter().chain(counts) {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}

fn record(name: &[u8], record_type: u16, data: &[u8]) -> Vec<u8> {
    let mut out = name.to_vec();
    out.extend_from_slice(&record_type.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 1, 44]);
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
    out
}

fn shown(record_type: u16, data: &[u8]) -> String {
    let bytes = [header([0, 1, 0, 0], 0x8180), record(b"\x01a\x02bc\0", record_type, data)].concat();
    Message::decode(&bytes).unwrap().answers[0].text.clone()
}

#[test]
fn records_have_the_text_of_the_go_library() {
    for (record_type, data, expected) in [
        (1, &[127, 0, 0, 1][..], "a.bc.\t300\tIN\tA\t127.0.0.1"),
        (28, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "a.bc.\t300\tIN\tAAAA\t::1"),
        (15, b"\0\x0a\xc0\x0c", "a.bc.\t300\tIN\tMX\t10 a.bc."),
        (16, b"\x03a\"b\x02\x07z", "a.bc.\t300\tIN\tTXT\t\"a\\\"b\" \"\\007z\""),
        (33, b"\0\x01\0\x02\x01\xbb\x01x\0", "a.bc.\t300\tIN\tSRV\t1 2 443 x."),
        (2, b"\x03n.s\0", "a.bc.\t300\tIN\tNS\tn\\.s."),
        (257, b"\0\x05issueca.x", "a.bc.\t300\tIN\tCAA\t0 issue \"ca.x\""),
        (43, b"\x04\xd2\x08\x02\xab\xcd", "a.bc.\t300\tIN\tDS\t1234 8 2 ABCD"),
        (65, b"\0\x01\0\0\x01\0\x03\x02h2\0\x03\0\x02\x01\xbb", "a.bc.\t300\tIN\tHTTPS\t1 . alpn=\"h2\" port=\"443\""),
        (47, b"\x01z\0\0\x01\x40", "a.bc.\t300\tIN\tNSEC\tz. A"),
        (65280, b"\x0a\xff", "a.bc.\t300\tIN\tTYPE65280\t\\# 2 0aff"),
    ] {
        assert_eq!(shown(record_type, data), expected);
    }
    let soa = b"\x02ns\0\x01h\0\0\0\0\x2a\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04";
    assert_eq!(shown(6, soa), "a.bc.\t300\tIN\tSOA\tns. h. 42 1 2 3 4");
}

#[test]
fn edns_counts_as_a_record_and_extends_the_code() {
    let opt = [&b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"[..]].concat();
    let bytes = [header([0, 0, 0, 1], 0x8180), opt].concat();
    let message = Message::decode(&bytes).unwrap();
    assert_eq!((message.rcode, message.additionals.len()), (16, 1));
    assert!(message.additionals[0].text.contains("udp: 1232"));
}

#[test]
fn names_that_lead_in_circles_are_refused() {
    for name in [&b"\xc0\x0c"[..], b"\xc0\x0d\xc0\x0c", b"\x01a\xc0\x0c", b"\xc0\xff"] {
        let bytes = [header([0, 1, 0, 0], 0x8180), record(name, 1, &[1, 2, 3, 4])].concat();
        assert_eq!(Message::decode(&bytes), Err(MessageError::Pointer), "{name:?}");
    }
    // labels that reach back again and again: 128 of them make more than a name may have
    let mut bytes = header([0, 1, 0, 0], 0x8180);
    let mut back = bytes.len() as u16;
    bytes.extend_from_slice(b"\x3faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0");
    for _ in 0..8 {
        let here = bytes.len() as u16;
        bytes.extend_from_slice(b"\x3fbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
        bytes.extend_from_slice(&(0xc000 | back).to_be_bytes());
        back = here;
    }
    let mut reader_bytes = header([0, 1, 0, 0], 0x8180);
    reader_bytes.extend_from_slice(&bytes[12..]);
    assert!(Message::decode(&reader_bytes).is_err());
}

#[test]
fn no_cut_or_flipped_message_panics() {
    let soa = b"\x02ns\0\x01h\0\0\0\0\x2a\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04";
    let whole = [
        header([1, 2, 0, 1], 0x8180),
        b"\x01a\x02bc\0\0\x01\0\x01".to_vec(),
        record(b"\xc0\x0c", 6, soa),
        record(b"\xc0\x0c", 65, b"\0\x01\0\0\x01\0\x03\x02h2"),
        record(b"\0", 16, b"\x01x"),
    ]
    .concat();
    assert!(Message::decode(&whole).is_ok());
    for end in 0..whole.len() {
        let _ = Message::decode(&whole[..end]);
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut broken = whole.clone();
            broken[at] ^= 1 << bit;
            let _ = Message::decode(&broken);
        }
    }
}

#[test]
fn a_query_on_the_wire() {
    let question = Question { id: 0x1234, name: "a\\.b.c.", record_type: 1, class: 1, recursion_desired: true };
    assert_eq!(question.encode().unwrap(), b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03a.b\x01c\0\0\x01\0\x01");
    let root = Question { name: ".", recursion_desired: false, ..question.clone() };
    assert_eq!(root.encode().unwrap(), b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01");
    for name in ["a..b", &"a".repeat(64), &"ab.".repeat(100), "a\\"] {
        assert!(Question { name, ..question.clone() }.encode().is_err(), "{name}");
    }
}
