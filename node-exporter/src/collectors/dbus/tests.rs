use std::os::unix::net::UnixListener;

use super::fake::{FakeBus, Sent};
use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn call<'a>(member: &'a str, arguments: &[&'a str]) -> Call<'a> {
    Call {
        destination: "org.example",
        path: "/org/example",
        interface: "org.example.Thing",
        member,
        arguments: arguments.to_vec(),
    }
}

fn connect(bus: &FakeBus) -> Connection {
    Connection::bus(bus.path().to_str().expect("a path"), TIMEOUT).expect("a connection")
}

#[test]
fn calls_are_answered_in_their_order() {
    let bus = FakeBus::start(|member, path, arguments| match member {
        "Number" => Sent::Variant("t", Value::Unsigned(u64::MAX)),
        "No" => Sent::Error,
        _ => Sent::Variant("s", Value::Text(format!("{member} {path} {}", arguments.join(",")))),
    });
    let mut connection = connect(&bus);
    assert_eq!(
        connection.call(&call("Echo", &["a", "bcdef"])).unwrap(),
        Value::Text("Echo /org/example a,bcdef".to_owned())
    );
    // more than are on their way at once
    let calls: Vec<_> = ["Number", "No", "Echo"].iter().cycle().take(100).map(|member| call(member, &[])).collect();
    let answers = connection.call_all(&calls).unwrap();
    assert_eq!(answers.len(), 100);
    for (call, answer) in calls.iter().zip(answers) {
        match call.member {
            "Number" => assert_eq!(answer.unwrap(), Value::Unsigned(u64::MAX)),
            "No" => assert_eq!(answer.unwrap_err().to_string(), "org.example.No: there is none"),
            _ => assert_eq!(answer.unwrap(), Value::Text("Echo /org/example ".to_owned())),
        }
    }
}

#[test]
fn nested_values_are_read() {
    let value = || {
        Value::Array(vec![
            Value::Struct(vec![Value::Text("a".into()), Value::Unsigned(7), Value::Array(vec![Value::Bool(true)])]),
            Value::Struct(vec![Value::Text("bcd".into()), Value::Unsigned(8), Value::Array(vec![])]),
        ])
    };
    let bus = FakeBus::start(move |member, _, _| match member {
        "Some" => Sent::Plain("a(suab)", value()),
        _ => Sent::Plain("a(suab)", Value::Array(vec![])),
    });
    let mut connection = connect(&bus);
    assert_eq!(connection.call(&call("Some", &[])).unwrap(), value());
    assert_eq!(connection.call(&call("None", &[])).unwrap(), Value::Array(vec![]));
}

#[test]
fn malformed_messages_are_refused() {
    // an answer whose only field is the signature of its body
    let message = |signature: &str, body: &[u8]| {
        let mut fields = Writer::default();
        fields.bytes.push(FIELD_SIGNATURE);
        fields.signature("g");
        fields.signature(signature);
        let mut out = Vec::new();
        frame(&mut out, METHOD_RETURN, 1, fields, body);
        let end = out.len() - body.len();
        super::fake::read(&out, end).map_err(|e| e.to_string())
    };
    let fault = |text: &str| Err(format!("the bus sends a malformed message: {text}"));
    assert_eq!(message("u", &[1, 0, 0, 0]), Ok(vec![Value::Unsigned(1)]));
    assert_eq!(message("n", &[0xff, 0xff]), Ok(vec![Value::Signed(-1)]));
    assert_eq!(message("u", &[1, 0, 0]), fault("it is cut off"));
    assert_eq!(message("s", &[9, 0, 0, 0, b'a', 0]), fault("it is cut off"));
    assert_eq!(message("as", &[255, 255, 255, 255]), fault("it is cut off"));
    assert_eq!(message("a()", &[1, 0, 0, 0, 0, 0, 0, 0, 0]), fault("an array of nothing"));
    for signature in ["z", "(", "a", "(s", "a{", ")"] {
        assert!(message(signature, &[0; 16]).is_err(), "{signature}");
    }
    assert_eq!(message(&"a".repeat(200), &[0; 16]), fault("values are nested too deeply"));
    // a variant in a variant in a variant
    assert_eq!(message("v", &[1, b'v', 0].repeat(100)), fault("values are nested too deeply"));
}

proptest::proptest! {
    #[test]
    fn no_message_is_a_panic(bytes in proptest::collection::vec(0u8..=255, HEADER..200), end in HEADER..200usize) {
        super::fake::read(&bytes, end.min(bytes.len())).ok();
    }

    #[test]
    fn no_body_is_a_panic(signature in "[a(){}svuyotdgbn]{0,12}", body in proptest::collection::vec(0u8..8, 0..64)) {
        let mut reader = Reader { bytes: &body, at: 0, big: false };
        let mut types = signature.as_bytes();
        while !types.is_empty() && reader.value(&mut types, 0).is_ok() {}
    }
}

#[test]
fn both_orders_of_bytes_are_read() {
    let mut reader = Reader { bytes: &[0, 0, 0, 2, b'h', b'i', 0, 0, 0xff, 0xff, 0xff, 0xfe], at: 0, big: true };
    assert_eq!(reader.value(&mut "s".as_bytes(), 0).unwrap(), Value::Text("hi".to_owned()));
    assert_eq!(reader.value(&mut "i".as_bytes(), 0).unwrap(), Value::Signed(-2));
}

#[test]
fn a_bus_that_says_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let _silent = UnixListener::bind(&path).unwrap();
    let Err(error) = Connection::bus(path.to_str().unwrap(), Duration::from_millis(30)) else { panic!("a connection") };
    assert_eq!(error.to_string(), "no answer in time");
}

#[test]
fn a_bus_may_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 64];
        assert!(stream.read(&mut bytes).unwrap() > 0);
        stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        // the client goes first
        assert_eq!(stream.read(&mut bytes).unwrap(), 0);
    });
    let Err(error) = Connection::private(path.to_str().unwrap(), TIMEOUT) else { panic!("a connection") };
    assert_eq!(error.to_string(), "the bus refuses this user: \"REJECTED EXTERNAL\"");
}

#[test]
fn addresses_name_a_socket() {
    for (address, expected) in [
        (SYSTEM_BUS, Some("/var/run/dbus/system_bus_socket")),
        ("unix:path=/a%20b,guid=0", Some("/a b")),
        ("tcp:host=x;unix:abstract=y", Some("@y")),
        ("tcp:host=x", None),
        ("", None),
    ] {
        assert_eq!(socket_of(address).as_deref(), expected, "{address}");
    }
}
