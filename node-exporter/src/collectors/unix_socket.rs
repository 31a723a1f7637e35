//! Connections to Unix sockets that do not wait for ever.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with};

/// Connects to the socket of a path, or with `@` before it of an abstract name. A server whose queue is full is left after
/// the timeout, which must not be zero; writes have the same one until another is set.
pub(super) fn connect(path: &str, timeout: Duration) -> io::Result<UnixStream> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        None => SocketAddrUnix::new(path)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // on Linux the limit on sending holds for connecting as well
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    connect_socket(&socket, &address).map_err(|error| match error {
        rustix::io::Errno::AGAIN => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        _ => error.into(),
    })?;
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_no_connection_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&server, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&server, 0).unwrap();
        let path = path.to_str().unwrap();
        let mut open = Vec::new();
        let error = loop {
            assert!(open.len() < 100, "the queue never fills");
            match connect(path, Duration::from_millis(20)) {
                Ok(stream) => open.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), "no answer in time");
        assert_eq!(connect("/does/not/exist", Duration::from_secs(1)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
