//! URLs as the ecosystem's files may write them, which is more than the `url` crate takes: `localhost:9090` and `kubernetes:443` are fine.

use model::quote;

/// The parts of a URL that checks look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WebAddress<'a> {
    /// `http` of `http://host/path`; empty where none is written.
    pub(super) scheme: &'a str,
    /// Host and port, empty where there is no `//`.
    pub(super) host: &'a str,
}

/// Splits a URL.
///
/// # Errors
/// Text that is no URL: control characters, nothing before the `:`, a wrong port.
pub(super) fn parse(text: &str) -> Result<WebAddress<'_>, String> {
    let fault = |what: &str| Err(format!("parse {}: {what}", quote(text)));
    if text.chars().any(|c| c.is_ascii_control()) {
        return fault("invalid control character in URL");
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(text.len());
    let (scheme, rest) = match text[end..].strip_prefix(':') {
        Some(_) if end == 0 => return fault("missing protocol scheme"),
        Some(rest) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => (&text[..end], rest),
        Some(_) => return fault("first path segment in URL cannot contain colon"),
        None => ("", text),
    };
    let Some(rest) = rest.strip_prefix("//") else { return Ok(WebAddress { scheme, host: "" }) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, after)| after);
    if let Some((_, port)) = after_brackets.rsplit_once(':')
        && !port.bytes().all(|b| b.is_ascii_digit())
    {
        return fault(&format!("invalid port {} after host", quote(&format!(":{port}"))));
    }
    if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) {
        return fault("invalid character in host name");
    }
    Ok(WebAddress { scheme, host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        for (text, expected) in [
            ("http://host:90/path", Ok(("http", "host:90"))),
            ("https://user@[::1]:9?q", Ok(("https", "[::1]:9"))),
            ("http://", Ok(("http", ""))),
            ("localhost:9090", Ok(("localhost", ""))),
            ("eureka.com", Ok(("", ""))),
            ("unix:///var/run/x", Ok(("unix", ""))),
            ("", Ok(("", ""))),
            ("://x", Err("parse \"://x\": missing protocol scheme")),
            ("1.2.3.4:90", Err("parse \"1.2.3.4:90\": first path segment in URL cannot contain colon")),
            ("http://a:b", Err("parse \"http://a:b\": invalid port \":b\" after host")),
            ("http://a b", Err("parse \"http://a b\": invalid character in host name")),
        ] {
            let got = parse(text).map(|a| (a.scheme, a.host));
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        }
    }
}
