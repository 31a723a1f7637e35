//! Unix sockets: a connection, TLS if wanted, and a dialogue on it.

use tokio::net::UnixStream;

use crate::config::UnixOptions;
use crate::failure::Failure;
use crate::log::note;
use crate::probe::Probe;
use crate::prober::dialogue::{Dialogue, Stream};

/// Probes the socket at a path.
pub(crate) async fn probe(probe: &mut Probe<'_>, options: &UnixOptions) -> Result<(), Failure> {
    let path = &probe.order.target;
    if !probe.environment.guard.allows_local_files() {
        note!(probe.log, Error, "Probing local sockets is not allowed");
        return Err(Failure::Forbidden);
    }
    note!(probe.log, Debug, "Dialing unix", "tls" = options.tls);
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) => {
            note!(probe.log, Error, "Error dialing unix", "err" = format!("dial unix {path}: {error}"));
            return Err(Failure::Connect);
        }
    };
    let mut stream = Stream::plain(stream);
    let mut handshake = None;
    // a socket has no name that a certificate could bear
    let name = "";
    if options.tls {
        match stream.upgrade(&options.tls_client, name).await {
            Ok(told) => handshake = Some(told),
            Err(error) => {
                note!(probe.log, Error, "Error dialing unix", "err" = error);
                return Err(probe.tls_failure(&error));
            }
        }
    }
    note!(probe.log, Debug, "Successfully dialed");
    Dialogue { tls_client: &options.tls_client, name, steps: &options.query_response }
        .run(probe, stream, handshake)
        .await
}
