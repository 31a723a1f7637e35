//! Servers to be probed, well-behaved and not.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// Anything that can be read from and written to.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Serves every connection with a function.
pub async fn tcp<F, T>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("to listen");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A port that takes connections and never says anything.
pub async fn silent() -> SocketAddr {
    tcp(|mut stream| async move { while stream.read_u8().await.is_ok() {} }).await
}

/// Reads a request's head and gives its path.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// An HTTP/1.1 server that answers with bytes made of the request's head, and closes.
pub async fn http(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let answer = Arc::new(answer);
    tcp(move |mut stream| {
        let answer = answer.clone();
        async move {
            if let Some(head) = read_head(&mut stream).await {
                let _ = stream.write_all(&answer(&head)).await;
                let _ = stream.shutdown().await;
                // what the client may still send is read, so that it is not reset
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    })
    .await
}

/// The same over TLS.
pub async fn https(config: Arc<ServerConfig>, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let (acceptor, answer) = (TlsAcceptor::from(config), Arc::new(answer));
    tcp(move |stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if let Some(head) = read_head(&mut stream).await {
                let _ = stream.write_all(&answer(&head)).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    })
    .await
}

/// An HTTP/2 server over TLS that answers `hello`.
pub async fn http2(config: Arc<ServerConfig>) -> SocketAddr {
    let acceptor = TlsAcceptor::from(config);
    tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// A gRPC health server: the status by the service's name (`serving`, `down`, or unknown to it), over TLS if there is a configuration.
pub async fn grpc(config: Option<Arc<ServerConfig>>) -> SocketAddr {
    let acceptor = config.map(TlsAcceptor::from);
    tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream: Box<dyn Connection> = match acceptor {
                None => Box::new(stream),
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
            };
            let service = service_fn(|request: Request<Incoming>| async {
                let body =
                    request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let name = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
                let mut trailers = HeaderMap::new();
                let (code, data) = match name.as_str() {
                    "serving" => ("0", &[0, 0, 0, 0, 2, 8, 1][..]),
                    "down" => ("0", &[0, 0, 0, 0, 2, 8, 2][..]),
                    _ => ("5", &[][..]),
                };
                trailers.insert("grpc-status", code.parse().expect("a value"));
                let mut frames: Vec<Result<Frame<Bytes>, Infallible>> = Vec::new();
                if !data.is_empty() {
                    frames.push(Ok(Frame::data(Bytes::copy_from_slice(data))));
                }
                frames.push(Ok(Frame::trailers(trailers)));
                let response = Response::builder().header("content-type", "application/grpc");
                Ok::<_, Infallible>(response.body(StreamBody::new(futures::stream::iter(frames))).expect("a response"))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// A mail server that knows STARTTLS.
pub async fn smtp(config: Arc<ServerConfig>) -> SocketAddr {
    let acceptor = TlsAcceptor::from(config);
    tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut plain = BufReader::new(stream);
            let _ = plain.write_all(b"220 mail.example ESMTP Test/1.2\r\n").await;
            let mut line = String::new();
            while plain.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                match line.trim_end() {
                    "STARTTLS" => break,
                    _ => drop(plain.write_all(b"250-mail.example\r\n250-STARTTLS\r\n250 OK\r\n").await),
                }
                line.clear();
            }
            let _ = plain.write_all(b"220 ready\r\n").await;
            let Ok(secure) = acceptor.accept(plain.into_inner()).await else { return };
            let mut secure = BufReader::new(secure);
            line.clear();
            while secure.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                let _ = secure.write_all(b"250-mail.example\r\n250-AUTH PLAIN\r\n250 OK\r\n").await;
                let _ = secure.flush().await;
                line.clear();
            }
        }
    })
    .await
}

/// A DNS server on UDP and TCP with the same port; it answers queries with what a function makes of them.
pub async fn dns(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let answer = Arc::new(answer);
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("to listen");
        let address = socket.local_addr().expect("an address");
        let Ok(listener) = TcpListener::bind(address).await else { continue };
        let over_udp = answer.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&over_udp(&buffer[..len]), from).await;
            }
        });
        let over_tcp = answer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = over_tcp.clone();
                tokio::spawn(async move { answer_in_stream(&mut stream, &*answer).await });
            }
        });
        return address;
    }
}

/// Reads a query behind its length, and writes the answer so.
async fn answer_in_stream(stream: &mut impl Connection, answer: &impl Fn(&[u8]) -> Vec<u8>) {
    let Ok(len) = stream.read_u16().await else { return };
    let mut query = vec![0; usize::from(len)];
    if stream.read_exact(&mut query).await.is_ok() {
        let bytes = answer(&query);
        let _ = stream.write_u16(bytes.len() as u16).await;
        let _ = stream.write_all(&bytes).await;
    }
}

/// A DNS server over TLS.
pub async fn dns_over_tls(
    config: Arc<ServerConfig>,
    answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> SocketAddr {
    let (acceptor, answer) = (TlsAcceptor::from(config), Arc::new(answer));
    tcp(move |stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            answer_in_stream(&mut stream, &*answer).await;
            let _ = stream.flush().await;
            let _ = stream.read_u8().await;
        }
    })
    .await
}

/// An answer to a query: a response code, and records of the name asked for as (section, type, data).
pub fn dns_answer(query: &[u8], rcode: u8, records: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let count = |section| records.iter().filter(|(s, ..)| *s == section).count() as u8;
    let mut out = query.to_vec();
    out[2] |= 0x80;
    out[3] = 0x80 | rcode;
    (out[7], out[9], out[11]) = (count(0), count(1), count(2));
    for (_, record_type, data) in records {
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&record_type.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 1, 44]);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}

/// A WebSocket server that greets, and answers a first message with `Welcome`.
pub async fn websocket() -> SocketAddr {
    tcp(|mut stream| async move {
        let Some(head) = read_head(&mut stream).await else { return };
        let key = head.lines().find_map(|l| l.to_ascii_lowercase().starts_with("sec-websocket-key: ").then(|| l[19..].to_owned()));
        let sum = ring::digest::digest(
            &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
            format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.unwrap_or_default()).as_bytes(),
        );
        let accept = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sum.as_ref());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(b"\x81\x0aHello, bob").await;
        let _ = stream.read_u8().await;
        let _ = stream.write_all(b"\x81\x07Welcome").await;
        while stream.read_u8().await.is_ok() {}
    })
    .await
}

/// An HTTP/3 server that answers `hello` to GET, and what was sent to POST.
pub async fn http3(config: Arc<ServerConfig>) -> SocketAddr {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).expect("a configuration");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().expect("an address")).expect("to listen");
    let address = endpoint.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                let connection = h3::server::Connection::new(h3_quinn::Connection::new(connection)).await;
                let Ok(mut connection) = connection else { return };
                while let Ok(Some(resolver)) = connection.accept().await {
                    let Ok((_, mut stream)) = resolver.resolve_request().await else { continue };
                    let mut body = Vec::new();
                    while let Ok(Some(mut data)) = stream.recv_data().await {
                        let len = bytes::Buf::remaining(&data);
                        body.extend_from_slice(&bytes::Buf::copy_to_bytes(&mut data, len));
                    }
                    let response = Response::builder().header("content-length", "5").body(()).expect("a response");
                    let _ = stream.send_response(response).await;
                    let answer = if body.is_empty() { Bytes::from_static(b"hello") } else { Bytes::from(body) };
                    let _ = stream.send_data(answer).await;
                    let _ = stream.finish().await;
                }
            });
        }
    });
    address
}

/// A proxy: CONNECT, plain requests with the whole address, and SOCKS 5 by the first byte. Everything goes to `target`.
pub async fn proxy(target: SocketAddr) -> SocketAddr {
    tcp(move |mut client| async move {
        let mut first = [0];
        if client.peek(&mut first).await.is_err() {
            return;
        }
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        if first[0] == 5 {
            let mut greeting = [0; 3];
            let _ = client.read_exact(&mut greeting).await;
            let _ = client.write_all(&[5, 0]).await;
            let mut request = [0; 10];
            let _ = client.read_exact(&mut request).await;
            let _ = client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        } else {
            let Some(head) = read_head(&mut client).await else { return };
            if head.starts_with("CONNECT ") {
                let with_header = head.contains("X-Proxy: 1\r\n");
                let status = if with_header { "200 OK" } else { "407 Proxy Authentication Required" };
                let _ = client.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
            } else {
                let path = head.split(' ').nth(1).and_then(|url| url.splitn(4, '/').nth(3)).unwrap_or_default();
                let _ = server.write_all(format!("GET /{path} HTTP/1.1\r\nVia: proxy\r\n\r\n").as_bytes()).await;
            }
        }
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    })
    .await
}
