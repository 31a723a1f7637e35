use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::response::Response;
use futures::FutureExt;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::basic_auth::Authenticator;
use super::pages::text_response;
use super::server_tls;
use super::web_config::{RateLimit, WebConfig, WebConfigError};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Addresses as Go writes them: `:9100` is every interface.
    Addresses(Vec<String>),
    /// The sockets that systemd hands over (`--web.systemd-socket`).
    Systemd,
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen.
    pub listen: Listen,
    /// The exporter-toolkit's web configuration file, read again when it or a certificate changes.
    pub web_config: Option<PathBuf>,
    /// Limits.
    pub limits: Limits,
}

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request body. A route may set its own with [`DefaultBodyLimit`].
    pub body_bytes: usize,
    /// Time for the TLS handshake, and for the headers of a request (and so for an idle connection).
    pub header_timeout: Duration,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Time that open requests are given at shutdown.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 2 * 1024 * 1024,
            header_timeout: Duration::from_secs(300),
            connections: 512,
            shutdown: Duration::from_secs(5),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address that is none.
    #[error("listen address {address:?}: {error}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// systemd has handed over no socket.
    #[error("no socket of systemd found: is the unit started by a .socket unit?")]
    NoSystemdSocket,
    /// The web configuration is wrong.
    #[error(transparent)]
    WebConfig(#[from] WebConfigError),
    /// The listening socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What happened in a server.
#[derive(Debug, Default)]
pub struct ServerStats {
    /// Handlers that panicked; their clients got status 500.
    pub panics: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed.
    pub closed: AtomicU64,
    /// TLS handshakes that failed.
    pub handshake_errors: AtomicU64,
    /// Told after each answer.
    pub answered: Notify,
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    options: ServerOptions,
    web: Arc<WebSettings>,
    stats: Arc<ServerStats>,
}

impl Server {
    /// Checks the web configuration and begins to listen. Needs a Tokio runtime.
    pub fn bind(options: ServerOptions) -> Result<Self, ServerError> {
        let web = Arc::new(WebSettings { file: options.web_config.clone(), ..WebSettings::default() });
        web.current()?;
        let mut listeners = Vec::new();
        match &options.listen {
            Listen::Addresses(addresses) => {
                for address in addresses {
                    let listener =
                        listen(address).map_err(|error| ServerError::Address { address: address.clone(), error })?;
                    listeners.push(TcpListener::from_std(listener)?);
                }
            }
            Listen::Systemd => {
                let mut sockets = listenfd::ListenFd::from_env();
                for at in 0..sockets.len() {
                    if let Some(listener) = sockets.take_tcp_listener(at)? {
                        listener.set_nonblocking(true)?;
                        listeners.push(TcpListener::from_std(listener)?);
                    }
                }
                if listeners.is_empty() {
                    return Err(ServerError::NoSystemdSocket);
                }
            }
        }
        Ok(Self { listeners, options, web, stats: Arc::default() })
    }

    /// The addresses listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    /// Whether clients have to speak TLS.
    pub fn is_tls(&self) -> bool {
        self.web.current().is_ok_and(|w| w.tls.is_some())
    }

    /// Counters of this server.
    pub fn stats(&self) -> Arc<ServerStats> {
        self.stats.clone()
    }

    /// Answers requests until the token is cancelled. Then no connection is accepted any more, idle ones are closed, and open
    /// requests have [`Limits::shutdown`] to end. Dropping the future closes all connections at once.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let router = router.layer(DefaultBodyLimit::max(self.options.limits.body_bytes));
        let context = Arc::new(Context {
            router,
            web: self.web,
            stats: self.stats,
            limits: self.options.limits,
            authenticator: Authenticator::default(),
            bucket: Mutex::new(None),
        });
        let slots = Arc::new(Semaphore::new(context.limits.connections.max(1)));
        let graceful = GracefulShutdown::new();
        // ends the connections when this future is dropped
        let connections = CancellationToken::new();
        let _drop = connections.clone().drop_guard();
        let accepting = futures::future::join_all(self.listeners.iter().map(|listener| {
            let (context, slots, graceful, connections) = (&context, &slots, &graceful, &connections);
            async move {
                loop {
                    let Ok(slot) = slots.clone().acquire_owned().await else { return };
                    match listener.accept().await {
                        Ok((stream, peer)) => {
                            context.stats.accepted.fetch_add(1, Ordering::Relaxed);
                            let (context, stop, watcher) = (context.clone(), connections.clone(), graceful.watcher());
                            tokio::spawn(async move {
                                let _slot = slot;
                                // pinned here: moved, it would take its room twice
                                let connection = pin!(connection(stream, peer, &context, watcher));
                                stop.run_until_cancelled(connection).await;
                                context.stats.closed.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                        // out of file descriptors, or the client has gone again
                        Err(error) => {
                            tracing::warn!(%error, "accepting a connection failed");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
            }
        }));
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = accepting => {}
        }
        drop(self.listeners);
        if tokio::time::timeout(context.limits.shutdown, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests that did not end in time are cut off");
        }
    }
}

/// Go's form of addresses: without a host, every interface of both protocols.
fn listen(address: &str) -> io::Result<std::net::TcpListener> {
    let listener = match address.strip_prefix(':') {
        Some(port) => {
            let port: u16 = port.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no port number"))?;
            std::net::TcpListener::bind(SocketAddr::from(([0u16; 8], port)))
                .or_else(|_| std::net::TcpListener::bind(SocketAddr::from(([0u8; 4], port))))?
        }
        None => {
            let addresses: Vec<_> = address.to_socket_addrs()?.collect();
            std::net::TcpListener::bind(addresses.as_slice())?
        }
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Context {
    router: Router,
    web: Arc<WebSettings>,
    stats: Arc<ServerStats>,
    limits: Limits,
    authenticator: Authenticator,
    bucket: Mutex<Option<(f64, Instant)>>,
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    context: &Arc<Context>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    stream.set_nodelay(true).ok();
    let web = match context.web.current() {
        Ok(web) => web,
        Err(error) => {
            tracing::error!(%error, "the web configuration cannot be read");
            return;
        }
    };
    match &web.tls {
        None => http1(stream, peer, context, watcher).await,
        // in a box: a connection without TLS shall not be as large as one with it
        Some(tls) => Box::pin(encrypted(stream, tls.clone(), peer, context, watcher)).await,
    }
}

async fn encrypted(
    stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    peer: SocketAddr,
    context: &Arc<Context>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let handshake = async {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        start.into_stream(tls).await
    };
    let stream = match tokio::time::timeout(context.limits.header_timeout, handshake).await {
        Ok(Ok(stream)) => stream,
        failed => {
            context.stats.handshake_errors.fetch_add(1, Ordering::Relaxed);
            if let Ok(Err(error)) = failed {
                tracing::debug!(%peer, %error, "TLS handshake failed");
            }
            return;
        }
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let context = context.clone();
        let service = service_fn(move |request| answer(request, peer, context.clone()));
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(250).max_header_list_size(1 << 20);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "connection ended");
        }
    } else {
        http1(stream, peer, context, watcher).await;
    }
}

async fn http1(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    context: &Arc<Context>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let timeout = context.limits.header_timeout;
    let context = context.clone();
    let service = service_fn(move |request| answer(request, peer, context.clone()));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
    peer: SocketAddr,
    context: Arc<Context>,
) -> Result<Response, Infallible> {
    let web = match context.web.current() {
        Ok(web) => web,
        Err(error) => {
            tracing::error!(%error, "the web configuration cannot be read");
            return Ok(text_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"));
        }
    };
    let mut response = match refusal(&request, &web.config, &context).await {
        Some(refusal) => refusal,
        None => routed(request, peer, &context).await,
    };
    response.headers_mut().extend(web.headers.iter().cloned());
    Ok(response)
}

/// The answer to a request that does not get to the router.
async fn refusal(
    request: &hyper::Request<hyper::body::Incoming>,
    config: &WebConfig,
    context: &Context,
) -> Option<Response> {
    if let Some(limit) = &config.rate_limit
        && !take_token(&context.bucket, limit)
    {
        return Some(text_response(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"));
    }
    let users = &config.basic_auth_users;
    if !users.is_empty() && !context.authenticator.allows(users, request.headers()).await {
        let mut response = text_response(StatusCode::UNAUTHORIZED, "Unauthorized\n");
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        return Some(response);
    }
    let path = request.uri().path();
    let is_pprof = path == "/debug/pprof" || path.starts_with("/debug/pprof/");
    let text = "There are no Go profiles here: this program is not written in Go.\n";
    is_pprof.then(|| text_response(StatusCode::NOT_FOUND, text))
}

/// The router's answer. What is kept of the request meanwhile is what the router keeps.
fn routed(
    request: hyper::Request<hyper::body::Incoming>,
    peer: SocketAddr,
    context: &Context,
) -> impl Future<Output = Response> {
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let call = AssertUnwindSafe(context.router.clone().call(request)).catch_unwind();
    call.map(|result| {
        context.stats.answered.notify_one();
        match result {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                context.stats.panics.fetch_add(1, Ordering::Relaxed);
                text_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
            }
        }
    })
}

/// A token bucket.
fn take_token(bucket: &Mutex<Option<(f64, Instant)>>, limit: &RateLimit) -> bool {
    if limit.interval.is_zero() {
        return true;
    }
    let now = Instant::now();
    let burst = f64::from(limit.burst);
    let mut bucket = bucket.lock();
    let (tokens, since) = bucket.unwrap_or((burst, now));
    let refilled = now.duration_since(since).as_secs_f64() / limit.interval.as_secs_f64();
    let tokens = (tokens + refilled).min(burst);
    let taken = tokens >= 1.0;
    *bucket = Some((if taken { tokens - 1.0 } else { tokens }, now));
    taken
}

/// The web configuration, loaded again when a file of it has changed.
#[derive(Debug, Default)]
struct WebSettings {
    file: Option<PathBuf>,
    loaded: ArcSwapOption<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: WebConfig,
    tls: Option<Arc<rustls::ServerConfig>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    stamps: Vec<(PathBuf, FileStamp)>,
}

impl WebSettings {
    /// The settings now. A stat call for each file where nothing has changed. After an error the old settings are not used, as
    /// in the exporter-toolkit: a certificate or user that was taken away must not go on being accepted.
    fn current(&self) -> Result<Arc<Loaded>, WebConfigError> {
        if let Some(loaded) = self.loaded.load_full()
            && loaded.stamps.iter().all(|(file, stamp)| FileStamp::of(file) == *stamp)
        {
            return Ok(loaded);
        }
        let Some(file) = &self.file else {
            let empty = Loaded { config: WebConfig::default(), tls: None, headers: Vec::new(), stamps: Vec::new() };
            let empty = Arc::new(empty);
            self.loaded.store(Some(empty.clone()));
            return Ok(empty);
        };
        let stamp = |file: &PathBuf| (file.clone(), FileStamp::of(file));
        let mut stamps = vec![stamp(file)];
        let config = WebConfig::load(file)?;
        let tls = &config.tls_server_config;
        let files = [&tls.cert_file, &tls.key_file, &tls.client_ca_file];
        stamps.extend(files.into_iter().filter(|f| !f.as_os_str().is_empty()).map(stamp));
        let tls = server_tls::server_config(&config)
            .map_err(|e| WebConfigError::Setting { file: file.clone(), reason: e.to_string() })?
            .map(Arc::new);
        let headers = config.http_server_config.headers.iter();
        let headers = headers.filter_map(|(n, v)| Some((n.parse().ok()?, v.parse().ok()?))).collect();
        let loaded = Arc::new(Loaded { config, tls, headers, stamps });
        self.loaded.store(Some(loaded.clone()));
        Ok(loaded)
    }
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp(Option<(SystemTime, u64, u64)>);

impl FileStamp {
    pub(super) fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let of = |m: std::fs::Metadata| Some((m.modified().ok()?, m.len(), m.ino()));
        Self(std::fs::metadata(path).ok().and_then(of))
    }
}
