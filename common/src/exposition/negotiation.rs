use super::EscapingScheme;

/// A format family and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FormatKind {
    /// Prometheus text 0.0.4.
    Text0_0_4,
    /// Prometheus text 1.0.0: the same with quoted UTF-8 names.
    Text1_0_0,
    /// OpenMetrics text before its first version.
    OpenMetrics0_0_1,
    /// OpenMetrics text 1.0.0.
    OpenMetrics1_0_0,
    /// `io.prometheus.client.MetricFamily` messages, each after its length.
    Protobuf,
}

/// What a page is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// The format.
    pub kind: FormatKind,
    /// What becomes of names that are not legacy ones.
    pub escaping: EscapingScheme,
}

impl Format {
    /// Text 0.0.4 with the default escaping: what a client gets that asks for nothing.
    pub const TEXT: Self = Self { kind: FormatKind::Text0_0_4, escaping: EscapingScheme::Underscores };

    /// The `Content-Type` header, as the Prometheus client libraries write it.
    pub fn content_type(self) -> String {
        let base = match self.kind {
            FormatKind::Text0_0_4 => "text/plain; version=0.0.4; charset=utf-8",
            FormatKind::Text1_0_0 => "text/plain; version=1.0.0; charset=utf-8",
            FormatKind::OpenMetrics0_0_1 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            FormatKind::OpenMetrics1_0_0 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            FormatKind::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        };
        format!("{base}; escaping={}", self.escaping.as_str())
    }

    /// The format of a response with this `Content-Type`, as a scraper sees it; `None` if it is none of ours.
    pub fn from_content_type(content_type: &str) -> Option<FormatKind> {
        let mut parts = content_type.split(';');
        let media = parts.next()?.trim().to_ascii_lowercase();
        let version = || param(content_type, "version").unwrap_or("");
        match media.as_str() {
            "text/plain" => Some(if version() == "1.0.0" { FormatKind::Text1_0_0 } else { FormatKind::Text0_0_4 }),
            "application/openmetrics-text" => {
                Some(if version() == "0.0.1" { FormatKind::OpenMetrics0_0_1 } else { FormatKind::OpenMetrics1_0_0 })
            }
            "application/vnd.google.protobuf" => {
                let agrees = |key, expected: &str| param(content_type, key).is_none_or(|v| v == expected);
                let ours = agrees("encoding", "delimited") && agrees("proto", "io.prometheus.client.MetricFamily");
                ours.then_some(FormatKind::Protobuf)
            }
            _ => None,
        }
    }
}

fn param<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case(key).then(|| value.trim().trim_matches('"'))
    })
}

/// Chooses the format for an `Accept` header (`expfmt.Negotiate`, with `open_metrics` `expfmt.NegotiateIncludingOpenMetrics`):
/// the clause with the highest q-value that names a format of ours, text 0.0.4 if there is none. An `escaping` parameter of a
/// clause counts from there on. The text forms of protobuf are not offered: such a clause is passed over.
pub fn negotiate(accept: &str, open_metrics: bool) -> Format {
    let mut escaping = EscapingScheme::Underscores;
    for clause in clauses(accept) {
        let media = clause.text.split(';').next().unwrap_or("").trim();
        if let Some(scheme) = param(clause.text, "escaping").and_then(EscapingScheme::parse) {
            escaping = scheme;
        }
        let version = param(clause.text, "version").unwrap_or("");
        let kind = match (media, version) {
            ("application/vnd.google.protobuf", _)
                if param(clause.text, "proto") == Some("io.prometheus.client.MetricFamily")
                    && param(clause.text, "encoding") == Some("delimited") =>
            {
                FormatKind::Protobuf
            }
            ("text/plain", "0.0.4" | "") => FormatKind::Text0_0_4,
            ("text/plain", "1.0.0") => FormatKind::Text1_0_0,
            ("application/openmetrics-text", "0.0.1" | "") if open_metrics => FormatKind::OpenMetrics0_0_1,
            ("application/openmetrics-text", "1.0.0") if open_metrics => FormatKind::OpenMetrics1_0_0,
            _ => continue,
        };
        return Format { kind, escaping };
    }
    Format { kind: FormatKind::Text0_0_4, escaping }
}

/// How a response body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The `Content-Encoding` header, `None` for no compression.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Chooses the compression for an `Accept-Encoding` header (`promhttp`): the highest q-value counts, and between equal ones
/// identity comes before gzip and gzip before zstd.
pub fn negotiate_compression(accept_encoding: &str) -> Compression {
    let (mut best, mut best_q) = (Compression::Identity, -1.0);
    for (name, compression) in
        [("identity", Compression::Identity), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)]
    {
        for clause in accept_encoding.split(',').map(Clause::of) {
            let value = clause.text.split(';').next().unwrap_or("").trim();
            if clause.q > best_q && !value.is_empty() && (value == "*" || value.eq_ignore_ascii_case(name)) {
                (best, best_q) = (compression, clause.q);
            }
        }
    }
    if best_q == 0.0 { Compression::Identity } else { best }
}

struct Clause<'a> {
    text: &'a str,
    q: f64,
}

impl<'a> Clause<'a> {
    fn of(text: &'a str) -> Self {
        let q = param(text, "q").and_then(|q| q.parse::<f64>().ok()).unwrap_or(1.0);
        Self { text: text.trim(), q }
    }
}

/// Clauses in falling order of preference; wildcards come last among equals.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<_> = accept.split(',').filter(|c| !c.trim().is_empty()).map(Clause::of).collect();
    let wildness = |clause: &Clause<'_>| {
        let media = clause.text.split(';').next().unwrap_or("").trim();
        (media.starts_with("*/"), media.ends_with("/*"))
    };
    clauses.sort_by(|a, b| b.q.total_cmp(&a.q).then_with(|| wildness(a).cmp(&wildness(b))));
    clauses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, plain: &str, with_open_metrics: &str) {
        assert_eq!(negotiate(accept, false).content_type(), plain, "{accept}");
        assert_eq!(negotiate(accept, true).content_type(), with_open_metrics, "{accept}");
    }

    #[test]
    fn formats_are_negotiated_as_client_libraries_do() {
        let text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        let text_1 = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
        let proto = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        let proto_plain = format!("{proto}; escaping=underscores");
        let om = |version, escaping| {
            format!("application/openmetrics-text; version={version}; charset=utf-8; escaping={escaping}")
        };
        check("", text, text);
        check("text/html,application/xhtml+xml,*/*;q=0.8", text, text);
        check("application/openmetrics-text", text, &om("0.0.1", "underscores"));
        check("application/openmetrics-text;version=1.0.0", text, &om("1.0.0", "underscores"));
        check("application/openmetrics-text;version=9", text, text);
        check(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;q=0.3",
            &proto_plain,
            &proto_plain,
        );
        // what Prometheus 3 sends
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;\
             q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            text_1,
            &om("1.0.0", "allow-utf-8"),
        );
        // the order of the header does not count, q does
        check("text/plain;version=0.0.4;q=0.2,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.9", text_1, text_1);
        // an escaping that is not known counts for nothing
        check("text/plain;version=0.0.4;escaping=runes", text, text);
        check(
            "text/plain;version=0.0.4;escaping=dots",
            "text/plain; version=0.0.4; charset=utf-8; escaping=dots",
            "text/plain; version=0.0.4; charset=utf-8; escaping=dots",
        );
    }

    #[test]
    fn compression_is_negotiated_by_q() {
        for (header, expected) in [
            ("", Compression::Identity),
            ("gzip", Compression::Gzip),
            ("gzip, zstd", Compression::Gzip),
            ("zstd;q=1.0, gzip;q=0.5", Compression::Zstd),
            ("deflate, br", Compression::Identity),
            ("gzip;q=0", Compression::Identity),
            ("*", Compression::Identity),
            ("gzip;q=0.5, identity", Compression::Identity),
        ] {
            assert_eq!(negotiate_compression(header), expected, "{header}");
        }
    }

    #[test]
    fn scrapers_know_their_formats() {
        for (header, expected) in [
            ("text/plain", Some(FormatKind::Text0_0_4)),
            ("text/plain; version=1.0.0; escaping=allow-utf-8", Some(FormatKind::Text1_0_0)),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Some(FormatKind::OpenMetrics1_0_0)),
            ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", {
                Some(FormatKind::Protobuf)
            }),
            ("application/vnd.google.protobuf; encoding=text", None),
            ("text/html", None),
            ("", None),
        ] {
            assert_eq!(Format::from_content_type(header), expected, "{header}");
        }
    }
}
