use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// What a client makes of an answer: status, announced length, headers' number, body, and the error that ended it.
type Read = (u16, Option<u64>, usize, String, Option<String>);

/// Has a server send bytes, in parts of a size, and close.
async fn ask(method: Method, bytes: &[u8], part: usize) -> Result<Read, Error> {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let bytes = bytes.to_vec();
    let server = tokio::spawn(async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(far.read_u8().await.unwrap());
        }
        for part in bytes.chunks(part) {
            if far.write_all(part).await.is_err() {
                break;
            }
        }
    });
    let request = Request::builder().method(method).uri("/").body(Bytes::new()).unwrap();
    let answer = send(Stream::plain(near), encode(request)).await;
    let result = match answer {
        Ok(mut answer) => {
            let (mut body, mut error) = (Vec::new(), None);
            while let Some(part) = answer.body.next().await {
                match part {
                    Ok(part) => body.extend_from_slice(&part),
                    Err(text) => {
                        error = Some(text);
                        break;
                    }
                }
            }
            let text = String::from_utf8(body).unwrap();
            Ok((answer.head.status.as_u16(), answer.length, answer.head.headers.len(), text, error))
        }
        Err(error) => Err(error),
    };
    server.await.unwrap();
    result
}

#[tokio::test]
async fn bodies_end_where_they_are_said_to() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 3\r\n\r\n";
    for (answer, length, headers, body, error) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", Some(5), 1, "hello", None),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", Some(5), 1, "hello", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Some(5), 2, "hello", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Some(9), 1, "hello", Some("unexpected EOF")),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello", None, 1, "hello", None),
        ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", Some(0), 1, "", None),
        ("HTTP/1.1 304 No\r\n\r\nhello", Some(0), 0, "", None),
        // of HTTP/1.0 it means nothing
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", None, 0, "5\r\n", None),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nother", Some(0), 1, "other", None),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nb",
            None,
            0,
            "b",
            None,
        ),
        (&format!("{chunked}5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nT: x\r\n\r\nmore"), None, 0, "hello world", None),
        (&format!("{chunked}A  \r\n0123456789\r\n0\r\n\r\n"), None, 0, "0123456789", None),
        (&format!("{chunked}5\r\nhel"), None, 0, "hel", Some("unexpected EOF")),
        (&format!("{chunked}5\r\nhello\r\n"), None, 0, "hello", Some("unexpected EOF")),
        (&format!("{chunked}0\r\n"), None, 0, "", Some("unexpected EOF")),
        (&format!("{chunked}5\r\nhelloXX"), None, 0, "hello", Some("malformed chunked encoding")),
        (&format!("{chunked}5\nhello\n0\n\n"), None, 0, "", Some("chunked line ends with bare LF")),
        (&format!("{chunked}\r\n"), None, 0, "", Some("empty hex number for chunk length")),
        (&format!("{chunked}-5\r\n"), None, 0, "", Some("invalid byte in chunk length")),
        (&format!("{chunked}12345678901234567\r\n"), None, 0, "", Some("http chunk length too large")),
        (&format!("{chunked}{}", "9".repeat(5000)), None, 0, "", Some("header line too long")),
        (
            &format!("{chunked}0\r\n{}", "a: b\r\n".repeat(2000)),
            None,
            0,
            "",
            Some("suspiciously long trailer after chunked body"),
        ),
    ] {
        // whole, in pieces, and byte by byte
        for part in [1 << 20, 7, 1] {
            let (_, found_length, found_headers, found, ended) =
                ask(Method::GET, answer.as_bytes(), part).await.unwrap();
            let expected = (length, headers, body.to_owned(), error.map(str::to_owned));
            assert_eq!((found_length, found_headers, found, ended), expected, "{answer:?} in parts of {part}");
        }
    }
}

#[tokio::test]
async fn answers_to_head_have_no_body() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(ask(Method::HEAD, answer, 100).await.unwrap(), (200, Some(5), 1, String::new(), None));
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(ask(Method::HEAD, answer, 100).await.unwrap(), (200, None, 0, String::new(), None));
}

#[tokio::test]
async fn chunks_that_are_mostly_lines_are_refused() {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..1000 {
        answer.extend_from_slice(format!("1;{}\r\nx\r\n", "e".repeat(100)).as_bytes());
    }
    let read = ask(Method::GET, &answer, 1 << 20).await.unwrap();
    assert_eq!(read.4.as_deref(), Some("chunked encoding contains too much non-data"));
    assert!(read.3.len() < 200, "{}", read.3.len());
    // short chunks alone are no attack
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    answer.extend_from_slice(&b"1\r\nx\r\n".repeat(20_000));
    answer.extend_from_slice(b"0\r\n\r\n");
    let read = ask(Method::GET, &answer, 1 << 20).await.unwrap();
    assert_eq!((read.3.len(), read.4), (20_000, None));
}

#[tokio::test]
async fn what_is_no_answer_is_refused() {
    let head = "HTTP/1.1 200 OK\r\n";
    for answer in [
        "SSH-2.0-x\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/3.7 200 OK\r\n\r\n",
        &format!("{head}no colon\r\n\r\n"),
        &format!("{head}Content-Length: 5x\r\n\r\n"),
        &format!("{head}Content-Length: -5\r\n\r\n"),
        &format!("{head}Content-Length: +5\r\n\r\n"),
        &format!("{head}Content-Length: 99999999999999999999\r\n\r\n"),
        &format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        &format!("{head}Transfer-Encoding: gzip\r\n\r\n"),
        &format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        &format!("{head}A: {}\r\n\r\n", "a".repeat(MAX_HEAD)),
        &"HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 25 + 1),
        &format!("{head}{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1)),
    ] {
        let shown = &answer[..answer.len().min(80)];
        let error = ask(Method::GET, answer.as_bytes(), 1 << 20).await.map(drop).expect_err(shown);
        assert!(matches!(error, Error::Malformed(_)), "{shown}: {error}");
    }
    for answer in ["", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nA: b\r\n"] {
        assert!(matches!(ask(Method::GET, answer.as_bytes(), 3).await, Err(Error::Ended)), "{answer}");
    }
}

#[tokio::test]
async fn many_headers_and_lines_that_go_on_are_read() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS));
    assert_eq!(ask(Method::GET, many.as_bytes(), 1000).await.unwrap().2, MAX_HEADERS);
    let head = parse(&Bytes::from_static(b"HTTP/1.1 200 OK\r\nA: one\r\n  two\r\n\r\n")).unwrap().unwrap();
    assert_eq!(head.headers["a"], "one two");
}

#[test]
fn requests_are_written_as_go_writes_them() {
    let show = |builder: http::request::Builder, body: &'static [u8]| {
        let Encoded { unsent: [head, rest], .. } = encode(builder.body(Bytes::from_static(body)).unwrap());
        (String::from_utf8(head.to_vec()).unwrap(), rest.len())
    };
    let builder = Request::builder().uri("/a?b=c").header("host", "h").header("x-some-thing", "v");
    // these two would contradict the body
    let builder = builder.header("content-length", "7").header("transfer-encoding", "chunked");
    assert_eq!(show(builder, b""), ("GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-Some-Thing: v\r\n\r\n".to_owned(), 0));
    let builder = Request::builder().method("POST").uri("http://h/a");
    assert_eq!(show(builder, b""), ("POST http://h/a HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(), 0));
    let builder = Request::builder().method("PUT").uri("/");
    assert_eq!(show(builder, b"abc"), ("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 0));
    let large = &[b'x'; SMALL_BODY + 1];
    let builder = Request::builder().method("DELETE").uri("/");
    let expected = format!("DELETE / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", large.len());
    assert_eq!(show(builder, large), (expected, large.len()));
}

#[tokio::test]
async fn an_answer_before_the_whole_request_is_taken() {
    // the server reads the head only, so that the body does not fit
    let (near, mut far) = tokio::io::duplex(1024);
    let server = tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(far.read_u8().await.unwrap());
        }
        far.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n").await.unwrap();
        // the body goes on being sent while the answer's is awaited
        let mut rest = vec![0; 100_000];
        far.read_exact(&mut rest).await.unwrap();
        far.write_all(b"no").await.unwrap();
    });
    let request = Request::builder().method("POST").uri("/").body(Bytes::from(vec![0; 100_000])).unwrap();
    let mut answer = send(Stream::plain(near), encode(request)).await.unwrap();
    assert_eq!(answer.head.status, 413);
    assert_eq!(answer.body.next().await.unwrap().unwrap(), "no");
    assert!(answer.body.next().await.is_none());
    server.await.unwrap();
}
