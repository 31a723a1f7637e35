//! A ZooKeeper server for tests: a tree, reading requests and notices.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

type Tree = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Tells all sessions of every change: tests need no more.
pub(in crate::discovery) struct Server {
    pub(in crate::discovery) address: SocketAddr,
    tree: Tree,
    changes: watch::Sender<u64>,
    /// Ends all connections when it changes.
    cut: watch::Sender<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(in crate::discovery) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tree: Tree = Arc::default();
        let (changes, cut) = (watch::Sender::new(0), watch::Sender::new(0));
        let (shared, told, end) = (Arc::clone(&tree), changes.clone(), cut.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tree, told, mut end) = (Arc::clone(&shared), told.subscribe(), end.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serve(stream, tree, told) => {}
                        _ = end.changed() => {}
                    }
                });
            }
        });
        Self { address, tree, changes, cut, task }
    }

    pub(in crate::discovery) fn set(&self, path: &str, data: &str) {
        self.tree.lock().insert(path.to_owned(), data.as_bytes().to_vec());
        self.changes.send_modify(|count| *count += 1);
    }

    pub(in crate::discovery) fn remove(&self, path: &str) {
        self.tree.lock().remove(path);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Ends all connections.
    pub(in crate::discovery) fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    stream.write_all(&[&(message.len() as u32).to_be_bytes()[..], message].concat()).await
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

async fn serve(mut stream: TcpStream, tree: Tree, mut told: watch::Receiver<u64>) -> std::io::Result<()> {
    receive(&mut stream).await?;
    // version, session's timeout in milliseconds, session, password
    let hello = [&0i32.to_be_bytes()[..], &6000i32.to_be_bytes(), &1i64.to_be_bytes(), &framed(&[0; 16])].concat();
    send(&mut stream, &hello).await?;
    loop {
        let mut first = [0];
        tokio::select! {
            // a message has begun, and is read whole
            came = stream.peek(&mut first) => if came? == 0 { return Ok(()) },
            changed = told.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                // a node's data has changed, says a notice about a path that nobody looks at
                let notice = [&(-1i32).to_be_bytes()[..], &(-1i64).to_be_bytes(), &[0; 4], &3i32.to_be_bytes(), &3i32.to_be_bytes(), &framed(b"/")];
                send(&mut stream, &notice.concat()).await?;
                continue;
            }
        }
        let message = receive(&mut stream).await?;
        let number = |at: usize| i32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        let (id, kind) = (number(0), number(4));
        let path = if kind == 11 {
            String::new()
        } else {
            String::from_utf8_lossy(&message[12..message.len() - 1]).into_owned()
        };
        let (code, body) = {
            let tree = tree.lock();
            let below = format!("{}/", path.trim_end_matches('/'));
            let child = |name: &String| name.strip_prefix(&below).filter(|rest| !rest.contains('/')).map(str::to_owned);
            match (kind, tree.get(&path)) {
                (11, _) => (0, Vec::new()),
                (_, None) => (-101, Vec::new()),
                (4, Some(data)) => (0, [framed(data), vec![0; 68]].concat()),
                (8, Some(_)) => {
                    let names: Vec<String> = tree.keys().filter_map(child).collect();
                    let list: Vec<u8> = names.iter().flat_map(|name| framed(name.as_bytes())).collect();
                    (0, [&(names.len() as u32).to_be_bytes()[..], &list].concat())
                }
                _ => (0, vec![0; 68]),
            }
        };
        let head = [&id.to_be_bytes()[..], &1i64.to_be_bytes(), &i32::to_be_bytes(code), &body].concat();
        send(&mut stream, &head).await?;
    }
}
