use std::fmt;

/// The type of a PromQL expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// Series with one sample each, at the same time.
    Vector,
    /// Series with a range of samples each.
    Matrix,
    /// A text.
    String,
}

impl ValueType {
    /// The name the HTTP API uses (`scalar`, `vector`, `matrix`, `string`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }

    /// The name the documentation uses (`instant vector`, `range vector`).
    pub fn documented(self) -> &'static str {
        match self {
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Scalar | Self::String => self.as_str(),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
