//! Signing requests for Amazon's services: Signature Version 4.

use std::fmt::Write as _;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use ring::{digest, hmac};

use super::aws::AwsCredentials;
use super::connection::ClientError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Signs a request whose body is in memory, as it would be sent at this time. Headers that are set afterwards are not signed, and
/// need not be. Replaces `Authorization`.
///
/// # Errors
/// When the body is a stream, or a credential cannot stand in a header.
pub fn sign(
    request: &mut Request,
    credentials: &AwsCredentials,
    region: &str,
    service: &str,
    at: Timestamp,
) -> Result<(), ClientError> {
    let time = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    let headers = request.headers_mut();
    headers.insert(DATE, header(&time, "x-amz-date")?);
    headers.remove(AUTHORIZATION);
    if !credentials.session_token.is_empty() {
        headers.insert(TOKEN, header(credentials.session_token.expose(), "x-amz-security-token")?);
    }
    let body = match request.body() {
        None => &[][..],
        Some(body) => {
            body.as_bytes().ok_or_else(|| ClientError::Header("authorization (the body is a stream)".into()))?
        }
    };
    let (canonical, signed) = canonical_request(request, body, service);
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let to_sign = format!(
        "{ALGORITHM}\n{time}\n{scope}\n{}",
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    );
    let mut key = format!("AWS4{}", credentials.secret_key.expose()).into_bytes();
    for part in [date, region, service, "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &to_sign));
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        credentials.access_key
    );
    request.headers_mut().insert(AUTHORIZATION, header(&authorization, "authorization")?);
    Ok(())
}

fn header(text: &str, name: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| ClientError::Header(name.to_owned()))?;
    value.set_sensitive(name != "x-amz-date");
    Ok(value)
}

/// The request in the form that is signed, and the names of the headers in it.
fn canonical_request(request: &Request, body: &[u8], service: &str) -> (String, String) {
    let url = request.url();
    let mut host = url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = url.port() {
        let _ = write!(host, ":{port}");
    }
    let mut headers = vec![("host".to_owned(), host)];
    // what proxies may change is left out
    for (name, value) in request.headers() {
        if name == reqwest::header::CONTENT_TYPE || name.as_str().starts_with("x-amz-") {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers.push((name.as_str().to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    headers.sort();
    let signed = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let headers: String = headers.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}:{value}");
        text
    });
    // the path as it is sent is encoded once more, but for the one service whose keys are paths
    let path = match url.path() {
        "" => "/".to_owned(),
        path if service == "s3" => path.to_owned(),
        path => path.split('/').map(encode).collect::<Vec<_>>().join("/"),
    };
    let mut query: Vec<(String, String)> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(&decode(name)), encode(&decode(value))))
        .collect();
    query.sort();
    let query = query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let hash = hex(digest::digest(&digest::SHA256, body).as_ref());
    (format!("{}\n{path}\n{query}\n{headers}\n{signed}\n{hash}", request.method()), signed)
}

/// A part of a query as the server will read it.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use reqwest::header::CONTENT_TYPE;

    use super::*;
    use crate::secret::Secret;

    fn signed(method: Method, url: &str, prepare: impl FnOnce(&mut Request)) -> String {
        let credentials = AwsCredentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            ..AwsCredentials::default()
        };
        let mut request = Request::new(method, url.parse().unwrap());
        prepare(&mut request);
        sign(&mut request, &credentials, "us-east-1", "iam", "2015-08-30T12:36:00Z".parse().unwrap()).unwrap();
        request.headers()[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// The example of Amazon's documentation.
    #[test]
    fn the_documented_example_is_signed_as_documented() {
        let got = signed(Method::GET, "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", |request| {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
            request.headers_mut().insert(CONTENT_TYPE, kind);
        });
        assert_eq!(
            got,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn every_part_counts() {
        let plain = signed(Method::GET, "https://x/a", |_| {});
        for (method, url, body) in [
            (Method::POST, "https://x/a", ""),
            (Method::GET, "https://y/a", ""),
            (Method::GET, "https://x/b", ""),
            (Method::GET, "https://x/a?b=c", ""),
            (Method::GET, "https://x/a", "body"),
        ] {
            let other = signed(method, url, |request| *request.body_mut() = Some(body.into()));
            assert_ne!(other, plain, "{url} {body}");
        }
        // order and spelling of a query do not
        let one = signed(Method::GET, "https://x/?b=1&a=%2Fx+y", |_| {});
        assert_eq!(one, signed(Method::GET, "https://x/?a=/x%20y&b=1", |_| {}));
    }
}
