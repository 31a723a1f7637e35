//! The `tracing` section: where the server's own traces would go.

use super::Base;
use super::keys::{Key, Kind, Section, duration, flag, text};
use super::remote::reserved_header;

const TRACING: Section = Section::new(
    "config.plain",
    &[
        text("client_type").or("grpc"),
        text("endpoint"),
        Key::new("sampling_fraction", Kind::Float).or("0"),
        flag("insecure"),
        Key::new("tls_config", Kind::Tls),
        Key::new("headers", Kind::TextMap),
        text("compression"),
        duration("timeout", "0s"),
    ],
);

pub(super) fn check(node: &yaml::Node, base: &Base) -> Result<(), yaml::Error> {
    let tracing = TRACING.read(node, base)?;
    for header in tracing.names("headers") {
        let name = header.as_str().unwrap_or_default();
        if name.eq_ignore_ascii_case("authorization") {
            return Err(header.error("authorization header configuration is not yet supported"));
        }
        if reserved_header(name) {
            return Err(header.error(format!("{name} is a reserved header. It must not be changed")));
        }
    }
    tracing.require("endpoint", "tracing endpoint must be set")?;
    match tracing.text("client_type") {
        "grpc" | "http" => {}
        other => {
            let message = format!("expected tracing client type to be http or grpc, but got {other}");
            return tracing.fault("client_type", message);
        }
    }
    match tracing.text("compression") {
        "" | "gzip" => Ok(()),
        other => {
            tracing.fault("compression", format!("invalid compression type {other} provided, valid options: gzip"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        for (text, expected) in [
            ("endpoint: x", ""),
            ("{endpoint: x, compression: gzip, client_type: http, headers: {a: b}, timeout: 5s}", ""),
            ("sampling_fraction: 1", "line 1: tracing endpoint must be set"),
            ("endpoint: x\ncompression: zstd", "line 2: invalid compression type zstd provided, valid options: gzip"),
            ("endpoint: x\nclient_type: udp", "line 2: expected tracing client type to be http or grpc, but got udp"),
            ("endpoint: x\nheaders: {Authorization: a}", "line 2: authorization header configuration is not yet"),
            ("endpoint: x\nheaders: {Host: a}", "line 2: Host is a reserved header. It must not be changed"),
            ("endpoint: x\nnope: a", "line 2: field nope not found in type config.plain"),
        ] {
            let node = yaml::Node::parse(text).unwrap();
            let message = check(&node, &Base::default()).map_or_else(|e| e.to_string(), |()| String::new());
            assert!(message.starts_with(expected) && message.is_empty() == expected.is_empty(), "{text}\n{message}");
        }
    }
}
