//! Why probes fail, in classes that can be counted.

/// The class of a failure. What happened in particular stands in the probe's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The target's name has no address, or none of the wanted protocol.
    Resolve,
    /// The target is outside what the guard allows.
    Forbidden,
    /// No connection.
    Connect,
    /// The TLS handshake failed, the certificate's chain aside.
    Tls,
    /// The certificate's chain is not right.
    Certificate,
    /// The deadline came first.
    Timeout,
    /// The settings or the target do not make sense.
    Configuration,
    /// The connection broke.
    Connection,
    /// The answer breaks its protocol.
    Protocol,
    /// The status, code or response is not a valid one.
    Status,
    /// The protocol version is not a valid one.
    Version,
    /// A regular expression decided so.
    Regex,
    /// A CEL expression decided so.
    Cel,
    /// Expected bytes did not come.
    Bytes,
    /// TLS was or was not spoken against the settings.
    Ssl,
    /// The body is too large or cannot be decompressed.
    Body,
    /// Too many probes run already.
    Overload,
    /// The prober panicked.
    Panic,
}

impl Failure {
    /// The value of the label `reason`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Forbidden => "forbidden",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Timeout => "timeout",
            Self::Configuration => "configuration",
            Self::Connection => "connection",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Version => "version",
            Self::Regex => "regex",
            Self::Cel => "cel",
            Self::Bytes => "bytes",
            Self::Ssl => "ssl",
            Self::Body => "body",
            Self::Overload => "overload",
            Self::Panic => "panic",
        }
    }
}
