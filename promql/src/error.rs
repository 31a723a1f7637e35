use crate::ParseError;
use crate::storage::StorageError;

/// Why a query gave no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is no valid expression (the HTTP API's `bad_data`).
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// The parameters make no sense together (the HTTP API's `bad_data`).
    #[error("{0}")]
    BadData(String),
    /// The evaluation failed (the HTTP API's `execution`).
    #[error("{0}")]
    Execution(String),
    /// The caller canceled it.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// It took longer than allowed.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// It needs more samples at once than allowed.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The storage failed.
    #[error("expanding series: {0}")]
    Storage(#[from] StorageError),
}

impl QueryError {
    pub(crate) fn execution(text: impl Into<String>) -> Self {
        Self::Execution(text.into())
    }
}
