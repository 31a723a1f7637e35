use std::time::Duration;

use common::metrics::Page;
use model::MetricType::{Counter, Gauge};

use super::xmlrpc::{Endpoint, Value};
use crate::collector::{Collector, CollectorError, Registration};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "supervisord",
    default: false,
    flags: &[Flag::value("collector.supervisord.url", "http://localhost:9001/RPC2", "XML RPC endpoint.")],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let flag = "collector.supervisord.url";
    let endpoint = Endpoint::parse(settings.text(flag)).map_err(|error| format!("--{flag}: {error}"))?;
    Ok(Box::new(Supervisord { endpoint }))
}

struct Supervisord {
    endpoint: Endpoint,
}

/// A supervisor that has not answered by then fails the collector. All that wait for other programs end together within the usual
/// ten seconds of a scrape.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The states of a process that is there: starting, running, stopping.
const RUNNING: [i64; 3] = [10, 20, 40];

impl Collector for Supervisord {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let processes = self
            .endpoint
            .call("supervisor.getAllProcessInfo", TIMEOUT)
            .map_err(|error| CollectorError::failed(format!("unable to call supervisord: {error}")))?;
        let Value::Array(processes) = processes else {
            return Err(CollectorError::failed("unable to call supervisord: the answer is no list of processes"));
        };
        let up = page.family("node_supervisord_up", "Process Up", Gauge);
        let state = page.family("node_supervisord_state", "Process State", Gauge);
        let exit_status = page.family("node_supervisord_exit_status", "Process Exit Status", Gauge);
        let start_time = page.family("node_supervisord_start_time_seconds", "Process start time", Counter);
        for process in &processes {
            let Value::Struct(members) = process else { continue };
            let find = |name: &str| members.iter().find(|(n, _)| n == name).map(|(_, value)| value);
            let text = |name: &str| match find(name) {
                Some(Value::Text(text)) => text.as_str(),
                _ => "",
            };
            let number = |name: &str| match find(name) {
                Some(Value::Int(number)) => *number,
                _ => 0,
            };
            let labels = [("group", text("group")), ("name", text("name"))];
            let running = RUNNING.contains(&number("state"));
            page.sample(state, &labels, number("state") as f64);
            page.sample(exit_status, &labels, number("exitstatus") as f64);
            page.sample(up, &labels, f64::from(u8::from(running)));
            if running {
                page.sample(start_time, &labels, number("start") as f64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::collectors::fixture::{check, samples};

    fn process(fields: &[(&str, &str, &str)]) -> String {
        let members: Vec<_> = fields
            .iter()
            .map(|(name, kind, value)| {
                format!("<member>\n<name>{name}</name>\n<value><{kind}>{value}</{kind}></value>\n</member>\n")
            })
            .collect();
        format!("<value><struct>\n{}</struct></value>\n", members.concat())
    }

    fn processes() -> String {
        [
            process(&[
                ("name", "string", "web&amp;api"),
                ("group", "string", "front"),
                ("start", "int", "1700000000"),
                ("stop", "int", "0"),
                ("state", "int", "20"),
                ("statename", "string", "RUNNING"),
                ("exitstatus", "int", "0"),
                ("description", "string", "pid 7, uptime 0:01:40"),
            ]),
            process(&[
                ("name", "string", "once"),
                ("group", "string", "jobs"),
                ("start", "int", "1700000001"),
                ("state", "int", "100"),
                ("exitstatus", "int", "3"),
            ]),
            process(&[("name", "string", "going"), ("group", "string", "jobs"), ("state", "int", "40")]),
        ]
        .concat()
    }

    /// Answers one request as supervisord does, keeping the connection open, and gives the request.
    fn answer(mut stream: impl Read + Write, processes: &str) -> String {
        let content = format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n{processes}</data></array></value>\n</param>\n</params>\n</methodResponse>\n"
        );
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        while !request.ends_with(b"</methodCall>") {
            let len = stream.read(&mut chunk).expect("a request");
            assert!(len > 0, "the request is cut off");
            request.extend_from_slice(&chunk[..len]);
        }
        write!(
            stream,
            "HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{content}",
            content.len()
        )
        .expect("an answer");
        // the client goes first
        assert_eq!(stream.read(&mut chunk).expect("an end"), 0);
        String::from_utf8(request).expect("text")
    }

    fn collector(url: &str) -> Supervisord {
        Supervisord { endpoint: Endpoint::parse(url).expect("an address") }
    }

    #[test]
    fn processes_are_shown() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://user:secret@{}/RPC2", server.local_addr().expect("an address"));
        let served = std::thread::spawn(move || answer(server.accept().expect("a connection").0, &processes()));
        check(
            &collector(&url),
            &Ok(()),
            &[
                "node_supervisord_exit_status{group=\"front\",name=\"web&api\"} 0",
                "node_supervisord_exit_status{group=\"jobs\",name=\"going\"} 0",
                "node_supervisord_exit_status{group=\"jobs\",name=\"once\"} 3",
                "node_supervisord_start_time_seconds{group=\"front\",name=\"web&api\"} 1.7e+09",
                "node_supervisord_start_time_seconds{group=\"jobs\",name=\"going\"} 0",
                "node_supervisord_state{group=\"front\",name=\"web&api\"} 20",
                "node_supervisord_state{group=\"jobs\",name=\"going\"} 40",
                "node_supervisord_state{group=\"jobs\",name=\"once\"} 100",
                "node_supervisord_up{group=\"front\",name=\"web&api\"} 1",
                "node_supervisord_up{group=\"jobs\",name=\"going\"} 1",
                "node_supervisord_up{group=\"jobs\",name=\"once\"} 0",
            ],
        );
        let request = served.join().expect("a request");
        assert!(request.starts_with("POST /RPC2 HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{request}");
        assert!(request.contains("<methodName>supervisor.getAllProcessInfo</methodName>"), "{request}");
    }

    #[test]
    fn a_unix_socket_serves_as_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("supervisor.sock");
        let server = UnixListener::bind(&path).expect("a socket");
        let served = std::thread::spawn(move || answer(server.accept().expect("a connection").0, &processes()));
        let (lines, result) = samples(&collector(&format!("unix://{}", path.display())));
        assert_eq!((lines.len(), result), (11, Ok(())));
        assert!(served.join().expect("a request").starts_with("POST /RPC2 HTTP/1.0\r\nHost: unix\r\n"));
    }

    #[test]
    fn a_supervisor_that_is_not_there_is_a_failure() {
        let (lines, result) = samples(&collector("unix:///does/not/exist"));
        let text = "unable to call supervisord: No such file or directory (os error 2)";
        assert_eq!((lines.len(), result), (0, Err(CollectorError::failed(text))));
    }
}
