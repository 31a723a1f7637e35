use std::fmt;

use serde::{Deserialize, Deserializer, de};

use super::Regexp;

/// A step of a dialogue.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "config.QueryResponse", deny_unknown_fields, default)]
pub(crate) struct QueryResponse {
    /// What a line must match; lines that do not are passed over.
    pub(crate) expect: Option<Regexp>,
    /// The bytes that must come.
    pub(crate) expect_bytes: ByteText,
    /// Labels of `probe_expect_info`, made of the groups of `expect`.
    pub(crate) labels: Vec<Label>,
    /// What is sent, with groups of `expect` filled in, and a line's end after it.
    pub(crate) send: ByteText,
    /// Whether TLS begins after this step.
    pub(crate) starttls: bool,
}

/// A label of `probe_expect_info`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "config.Label", deny_unknown_fields, default)]
pub(crate) struct Label {
    /// Its name.
    pub(crate) name: String,
    /// Its value, with groups to be filled in.
    pub(crate) value: String,
}

/// Text that may be any bytes: `!!binary` in the file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ByteText(pub Vec<u8>);

impl fmt::Debug for ByteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl<'de> Deserialize<'de> for ByteText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = ByteText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or binary data")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteText, E> {
                Ok(ByteText(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<ByteText, E> {
                Ok(ByteText(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
