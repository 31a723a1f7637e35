//! Cookies across the redirects of one probe.

use url::Url;

/// What servers have set so far.
#[derive(Debug, Default)]
pub(super) struct Cookies(Vec<Cookie>);

#[derive(Debug)]
struct Cookie {
    name: String,
    value: String,
    host: String,
    /// Whether hosts below it get it too.
    with_subdomains: bool,
    path: String,
    secure: bool,
}

/// Cookies kept, and the longest of one.
const MAX_COOKIES: usize = 100;
const MAX_COOKIE: usize = 4096;

impl Cookies {
    /// Takes a `Set-Cookie` header of an answer from an address.
    pub(super) fn set(&mut self, header: &str, url: &Url) {
        let mut parts = header.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        if header.len() > MAX_COOKIE || name.trim().is_empty() {
            return;
        }
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        // without a path it holds for the folder of the address
        let folder = url.path().rsplit_once('/').map_or("/", |(folder, _)| folder);
        let mut cookie = Cookie {
            name: name.trim().to_owned(),
            value: value.trim().trim_matches('"').to_owned(),
            host: host.clone(),
            with_subdomains: false,
            path: if folder.is_empty() { "/".to_owned() } else { folder.to_owned() },
            secure: false,
        };
        let mut gone = false;
        for part in parts {
            let (key, value) = part.split_once('=').map_or((part, ""), |(k, v)| (k.trim(), v.trim()));
            match key.to_ascii_lowercase().as_str() {
                "secure" => cookie.secure = true,
                "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
                "max-age" => gone |= value.parse::<i64>().is_ok_and(|age| age <= 0),
                "expires" => {
                    gone |= httpdate::parse_http_date(value).is_ok_and(|at| at <= std::time::SystemTime::now());
                }
                "domain" if !value.is_empty() => {
                    let domain = value.trim_start_matches('.').to_ascii_lowercase();
                    let below = host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
                    // a name of one part is a whole country or a machine: not to be shared
                    if host != domain && !(below && domain.contains('.')) {
                        return;
                    }
                    cookie.with_subdomains = host.parse::<std::net::IpAddr>().is_err();
                    cookie.host = domain;
                }
                _ => {}
            }
        }
        self.0.retain(|c| (&c.name, &c.host, &c.path) != (&cookie.name, &cookie.host, &cookie.path));
        if !gone && self.0.len() < MAX_COOKIES {
            self.0.push(cookie);
        }
    }

    /// The `Cookie` header for a request, if there are any for it.
    pub(super) fn header(&self, url: &Url) -> Option<String> {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let fits = |cookie: &&Cookie| {
            let below =
                cookie.with_subdomains && host.strip_suffix(&cookie.host).is_some_and(|rest| rest.ends_with('.'));
            let path = url.path().strip_prefix(&cookie.path);
            (host == cookie.host || below)
                && path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie.path.ends_with('/'))
                && (!cookie.secure || url.scheme() == "https")
        };
        let mut found: Vec<&Cookie> = self.0.iter().filter(fits).collect();
        found.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> = found.iter().map(|c| format!("{}={}", c.name, c.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &str, from: &str, to: &str, expected: Option<&str>) {
        let mut cookies = Cookies::default();
        cookies.set(set, &from.parse().unwrap());
        assert_eq!(cookies.header(&to.parse().unwrap()).as_deref(), expected, "{set}: {from} -> {to}");
    }

    #[test]
    fn cookies_go_where_they_belong() {
        check("a=b", "http://x.y/p/q", "http://x.y/p/r", Some("a=b"));
        check("a=b", "http://x.y/p/q", "http://x.y/other", None);
        check("a=b; Path=/", "http://x.y/p/q", "http://x.y/other", Some("a=b"));
        check("a=b; Path=/p", "http://x.y/", "http://x.y/pq", None);
        check("a=b; Path=/", "http://x.y/", "http://z.y/", None);
        check("a=b; Path=/; Domain=y.z", "http://x.y.z/", "http://w.y.z/", Some("a=b"));
        check("a=b; Path=/; Domain=other.z", "http://x.y.z/", "http://other.z/", None);
        check("a=b; Path=/; Domain=com", "http://x.com/", "http://y.com/", None);
        check("a=b; Path=/; Secure", "https://x.y/", "http://x.y/", None);
        check("a=b; Path=/; Secure", "https://x.y/", "https://x.y/", Some("a=b"));
        check("a=b; Path=/; Max-Age=0", "http://x.y/", "http://x.y/", None);
        check("a=b; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "http://x.y/", "http://x.y/", None);
        check("nonsense", "http://x.y/", "http://x.y/", None);
    }

    #[test]
    fn a_new_value_takes_the_place_of_the_old() {
        let mut cookies = Cookies::default();
        let url = "http://x.y/".parse().unwrap();
        for header in ["a=1", "b=2", "a=3"] {
            cookies.set(header, &url);
        }
        assert_eq!(cookies.header(&url).as_deref(), Some("b=2; a=3"));
        for at in 0..2 * MAX_COOKIES {
            cookies.set(&format!("n{at}=x"), &url);
        }
        assert_eq!(cookies.0.len(), MAX_COOKIES);
    }
}
