//! Frames and messages of RFC 6455.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest message.
const MAX_MESSAGE: usize = 4 << 20;
/// Frames that may come before a message is whole.
const MAX_FRAMES: usize = 10_000;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client's end of a WebSocket.
#[derive(Debug)]
pub(super) struct Messages<S> {
    stream: S,
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> [u8; N] {
    use ring::rand::SecureRandom;
    let mut bytes = [0; N];
    // masks are to keep proxies from being misled, not secrets
    ring::rand::SystemRandom::new().fill(&mut bytes).ok();
    bytes
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("websocket: {text}"))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Messages<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream }
    }

    /// The next text or binary message. Pings are answered.
    pub(super) async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        let mut begun = false;
        for _ in 0..MAX_FRAMES {
            let head = [self.stream.read_u8().await?, self.stream.read_u8().await?];
            let (last, opcode) = (head[0] & 0x80 != 0, head[0] & 0x0f);
            if head[0] & 0x70 != 0 {
                return Err(invalid("reserved bits are set"));
            }
            if head[1] & 0x80 != 0 {
                return Err(invalid("a server's frame is masked"));
            }
            let len = match head[1] {
                126 => u64::from(self.stream.read_u16().await?),
                127 => self.stream.read_u64().await?,
                len => u64::from(len),
            };
            let len = usize::try_from(len).ok().filter(|len| message.len() + len <= MAX_MESSAGE);
            let len = len.ok_or_else(|| invalid("the message is too long"))?;
            if opcode >= CLOSE && (len > 125 || !last) {
                return Err(invalid("a control frame is too long or in parts"));
            }
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload).await?;
            match opcode {
                TEXT | BINARY if !begun => {
                    begun = true;
                    message = payload;
                }
                0 if begun => message.extend_from_slice(&payload),
                PING => {
                    self.write(PONG, &payload).await?;
                    continue;
                }
                PONG => continue,
                CLOSE => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "websocket: closed by the server")),
                _ => return Err(invalid("a frame does not fit")),
            }
            if last {
                return Ok(message);
            }
        }
        Err(invalid("too many frames without a message"))
    }

    /// Sends a text message.
    pub(super) async fn write_text(&mut self, text: &[u8]) -> io::Result<()> {
        self.write(TEXT, text).await
    }

    /// Says good-bye.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.write(CLOSE, &1000u16.to_be_bytes()).await
    }

    async fn write(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let mask = random::<4>();
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(frames: &[u8]) -> Result<Vec<u8>, String> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(frames).await.unwrap();
        theirs.shutdown().await.unwrap();
        Messages::new(ours).read().await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn messages_come_whole_or_in_parts() {
        assert_eq!(read(b"\x81\x02hi").await.unwrap(), b"hi");
        assert_eq!(read(b"\x82\x00").await.unwrap(), b"");
        assert_eq!(read(b"\x01\x01a\x89\x01p\x80\x01b").await.unwrap(), b"ab");
        let long = [&b"\x81\x7e\x01\x00"[..], &[b'x'; 256]].concat();
        assert_eq!(read(&long).await.unwrap().len(), 256);
    }

    #[tokio::test]
    async fn wrong_frames_are_errors() {
        for (frames, expected) in [
            (&b"\xc1\x00"[..], "reserved"),
            (b"\x81\x82aaaahi", "masked"),
            (b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "too long"),
            (b"\x80\x01x", "does not fit"),
            (b"\x01\x01a\x81\x01b", "does not fit"),
            (b"\x09\x00", "control frame"),
            (b"\x88\x00", "closed by the server"),
            (b"\x81\x05ab", "eof"),
        ] {
            let error = read(frames).await.unwrap_err();
            assert!(error.contains(expected), "{frames:?}: {error}");
        }
    }

    #[tokio::test]
    async fn what_is_sent_is_masked() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        Messages::new(ours).write_text(b"hello").await.unwrap();
        let mut frame = vec![0; 11];
        theirs.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..2], [0x81, 0x85]);
        let plain: Vec<u8> = frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(b, m)| b ^ m).collect();
        assert_eq!(plain, b"hello");
    }
}
