//! TCP: a connection, TLS if wanted, and a dialogue on it.

use crate::config::TcpOptions;
use crate::connect::{connect, split_host_port};
use crate::failure::Failure;
use crate::log::note;
use crate::probe::Probe;
use crate::prober::dialogue::{Dialogue, Stream};

/// Probes `host:port`.
pub(crate) async fn probe(probe: &mut Probe<'_>, options: &TcpOptions) -> Result<(), Failure> {
    let Some((host, port)) = split_host_port(&probe.order.target) else {
        note!(probe.log, Error, "Error splitting target address and port", "err" = "want host:port");
        return Err(Failure::Configuration);
    };
    let mut address = probe.resolve(options.ip, host).await?;
    address.set_port(port);
    let source = probe.source(options.source)?;
    // the `hostname` parameter names the server unless the settings do
    let name = if probe.order.hostname.is_empty() { host } else { &probe.order.hostname };
    note!(probe.log, Debug, "Dialing TCP", "tls" = options.tls, "address" = address);
    let stream = match connect(address, source).await {
        Ok(stream) => stream,
        Err(error) => {
            note!(probe.log, Error, "Error dialing TCP", "err" = format!("dial {address}: {error}"));
            return Err(Failure::Connect);
        }
    };
    let mut stream = Stream::plain(stream);
    let mut handshake = None;
    if options.tls {
        match stream.upgrade(&options.tls_client, name).await {
            Ok(told) => handshake = Some(told),
            Err(error) => {
                note!(probe.log, Error, "Error dialing TCP", "err" = error);
                return Err(probe.tls_failure(&error));
            }
        }
    }
    note!(probe.log, Debug, "Successfully dialed");
    Dialogue { tls_client: &options.tls_client, name, steps: &options.query_response }
        .run(probe, stream, handshake)
        .await
}
