use model::quote;

/// A format that targets can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeProtocol {
    /// Delimited protobuf.
    PrometheusProto,
    /// Text 0.0.4.
    PrometheusText0_0_4,
    /// Text 1.0.0.
    PrometheusText1_0_0,
    /// OpenMetrics 0.0.1.
    OpenMetricsText0_0_1,
    /// OpenMetrics 1.0.0.
    OpenMetricsText1_0_0,
}

const NAMES: [(&str, ScrapeProtocol, &str); 5] = [
    ("OpenMetricsText0.0.1", ScrapeProtocol::OpenMetricsText0_0_1, "application/openmetrics-text;version=0.0.1"),
    ("OpenMetricsText1.0.0", ScrapeProtocol::OpenMetricsText1_0_0, "application/openmetrics-text;version=1.0.0"),
    (
        "PrometheusProto",
        ScrapeProtocol::PrometheusProto,
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
    ("PrometheusText0.0.4", ScrapeProtocol::PrometheusText0_0_4, "text/plain;version=0.0.4"),
    ("PrometheusText1.0.0", ScrapeProtocol::PrometheusText1_0_0, "text/plain;version=1.0.0"),
];

impl ScrapeProtocol {
    /// The name in configurations.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, p, _)| *p == self).map_or("", |(name, ..)| name)
    }

    /// The media type asked for in `Accept`.
    pub fn media_type(self) -> &'static str {
        NAMES.iter().find(|(_, p, _)| *p == self).map_or("", |(_, _, media)| media)
    }

    /// Whether the version knows escaping schemes.
    pub fn knows_escaping(self) -> bool {
        !matches!(self, Self::PrometheusText0_0_4 | Self::OpenMetricsText0_0_1)
    }

    pub(super) fn parse(name: &str) -> Result<Self, String> {
        NAMES.iter().find(|(n, ..)| *n == name).map(|(_, p, _)| *p).ok_or_else(|| {
            let supported: Vec<&str> = NAMES.iter().map(|(n, ..)| *n).collect();
            format!("unknown scrape protocol {name}, supported: [{}]", supported.join(" "))
        })
    }
}

/// What is asked for when the file says nothing.
pub(super) fn default_list(native_histograms: bool) -> Vec<ScrapeProtocol> {
    use ScrapeProtocol as P;
    let text = [P::OpenMetricsText1_0_0, P::OpenMetricsText0_0_1, P::PrometheusText1_0_0, P::PrometheusText0_0_4];
    native_histograms.then_some(P::PrometheusProto).into_iter().chain(text).collect()
}

pub(super) fn parse_list(names: &[String]) -> Result<Vec<ScrapeProtocol>, String> {
    if names.is_empty() {
        return Err("scrape_protocols cannot be empty".into());
    }
    let mut list = Vec::new();
    for name in names {
        let protocol = ScrapeProtocol::parse(name).map_err(|m| format!("scrape_protocols: {m}"))?;
        if list.contains(&protocol) {
            return Err(format!(
                "duplicated protocol in scrape_protocols, got [{}], first duplicate {}",
                names.join(" "),
                quote(name)
            ));
        }
        list.push(protocol);
    }
    Ok(list)
}
