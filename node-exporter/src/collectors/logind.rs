use std::collections::HashMap;
use std::time::Duration;

use common::metrics::Page;
use model::MetricType::Gauge;

use super::dbus::{Call, Connection, DbusError, Value};
use crate::collector::{Collector, CollectorError, Registration};

pub(super) const REGISTRATION: Registration = Registration {
    name: "logind",
    default: false,
    flags: &[],
    build: |_| Ok(Box::new(Logind { connect: || Connection::system(TIMEOUT) })),
};

struct Logind<C> {
    connect: C,
}

/// A bus that has not answered by then fails the collector. All that wait for other programs end together within the usual
/// ten seconds of a scrape.
const TIMEOUT: Duration = Duration::from_secs(2);

const SERVICE: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const REMOTE: [&str; 2] = ["true", "false"];
/// Kinds and classes of sessions that have a label of their own; others are `other`.
const KINDS: [&str; 7] = ["other", "unspecified", "tty", "x11", "wayland", "mir", "web"];
const CLASSES: [&str; 5] = ["other", "user", "greeter", "lock-screen", "background"];

/// Seat, remote, kind and class.
type Session = (String, &'static str, &'static str, &'static str);

impl<C: Fn() -> Result<Connection, DbusError> + Send + Sync> Collector for Logind<C> {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let failed = |what: &str, error: DbusError| CollectorError::failed(format!("unable to {what}: {error}"));
        let mut bus = (self.connect)().map_err(|error| failed("connect to dbus", error))?;
        let manager =
            |member| Call { destination: SERVICE, path: PATH, interface: MANAGER, member, arguments: Vec::new() };
        let list = bus.call(&manager("ListSeats")).map_err(|error| failed("get seats", error))?;
        let mut seats: Vec<&str> = rows(&list).filter_map(|row| row.first()?.as_text()).collect();
        // sessions from elsewhere have none
        seats.push("");
        let list = bus.call(&manager("ListSessions")).map_err(|error| failed("get sessions", error))?;
        // number, user, user's name, seat, object
        let sessions: Vec<(&str, &str)> =
            rows(&list).filter_map(|row| Some((row.get(3)?.as_text()?, row.get(4)?.as_text()?))).collect();
        let calls: Vec<Call<'_>> = sessions
            .iter()
            .flat_map(|(_, path)| ["Remote", "Type", "Class"].map(|p| Call::property(SERVICE, path, SESSION, p)))
            .collect();
        let answers = bus.call_all(&calls).map_err(|error| failed("get sessions", error))?;
        let mut counts: HashMap<Session, u32> = HashMap::new();
        for ((seat, _), answers) in sessions.iter().zip(answers.chunks(3)) {
            // a session that ended in between is none
            let [Ok(Value::Bool(remote)), Ok(Value::Text(kind)), Ok(Value::Text(class))] = answers else { continue };
            let remote = if *remote { "true" } else { "false" };
            let session = ((*seat).to_owned(), remote, known(kind, &KINDS), known(class, &CLASSES));
            *counts.entry(session).or_default() += 1;
        }
        let family = page.family("node_logind_sessions", "Number of sessions registered in logind.", Gauge);
        for remote in REMOTE {
            for kind in KINDS {
                for class in CLASSES {
                    for seat in &seats {
                        let labels = [("class", class), ("remote", remote), ("seat", seat), ("type", kind)];
                        let count = counts.get(&((*seat).to_owned(), remote, kind, class)).copied().unwrap_or(0);
                        page.sample(family, &labels, f64::from(count));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The structures of a list.
fn rows(list: &Value) -> impl Iterator<Item = &[Value]> {
    list.as_array().unwrap_or_default().iter().filter_map(Value::as_struct)
}

fn known(value: &str, known: &[&'static str]) -> &'static str {
    known.iter().find(|k| **k == value).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::dbus::fake::{FakeBus, Sent};
    use crate::collectors::fixture::samples;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn session(seat: &str, path: &str) -> Value {
        Value::Struct(vec![text("1"), Value::Unsigned(1000), text("someone"), text(seat), text(path)])
    }

    #[test]
    fn sessions_are_counted_by_seat_and_kind() {
        let bus = FakeBus::start(|member, path, arguments| match (member, arguments.get(1).map_or("", |a| a)) {
            ("ListSeats", _) => Sent::Plain(
                "a(so)",
                Value::Array(vec![Value::Struct(vec![text("seat0"), text("/org/freedesktop/login1/seat/seat0")])]),
            ),
            ("ListSessions", _) => Sent::Plain(
                "a(susso)",
                Value::Array(vec![
                    session("seat0", "/local"),
                    session("", "/remote"),
                    session("", "/remote"),
                    session("", "/gone"),
                    session("", "/strange"),
                ]),
            ),
            _ if path == "/gone" => Sent::Error,
            ("Get", "Remote") => Sent::Variant("b", Value::Bool(path == "/remote")),
            ("Get", "Type") => Sent::Variant("s", text(if path == "/strange" { "telepathy" } else { "tty" })),
            ("Get", "Class") => Sent::Variant("s", text(if path == "/strange" { "manager" } else { "user" })),
            _ => Sent::Error,
        });
        let path = bus.path().to_str().expect("a path").to_owned();
        let logind = Logind { connect: move || Connection::bus(&path, Duration::from_secs(10)) };
        let (lines, result) = samples(&logind);
        assert_eq!(result, Ok(()));
        assert_eq!(lines.len(), 2 * 7 * 5 * 2);
        let counted: Vec<_> = lines.iter().filter(|l| !l.ends_with(" 0")).collect();
        assert_eq!(
            counted,
            [
                "node_logind_sessions{class=\"other\",remote=\"false\",seat=\"\",type=\"other\"} 1",
                "node_logind_sessions{class=\"user\",remote=\"false\",seat=\"seat0\",type=\"tty\"} 1",
                "node_logind_sessions{class=\"user\",remote=\"true\",seat=\"\",type=\"tty\"} 2",
            ]
        );
    }

    #[test]
    fn no_bus_is_a_failure() {
        let logind = Logind { connect: || Connection::bus("/does/not/exist", Duration::from_secs(10)) };
        let text = "unable to connect to dbus: No such file or directory (os error 2)";
        assert_eq!(samples(&logind), (vec![], Err(CollectorError::failed(text))));
    }
}
