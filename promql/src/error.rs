use crate::ParseError;
use crate::memory::ByteSize;
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
    /// Its selectors match more series than allowed.
    #[error(
        "the query's selectors match {found} series, more than the {limit} a query may read (--query.max-series): match fewer"
    )]
    TooManySeries {
        /// Series that the query would read.
        found: usize,
        /// Series that a query may read.
        limit: usize,
    },
    /// It needs more memory than allowed.
    #[error(
        "query needs more than the {limit} of memory a query may take (--query.max-memory): \
         ask for fewer series, a shorter range or a longer step"
    )]
    TooMuchMemory {
        /// What a query may take.
        limit: ByteSize,
    },
    /// Other queries leave it too little memory.
    #[error(
        "queries have taken all of the {limit} of memory they may take together (--query.max-memory-total): try again later"
    )]
    MemoryTaken {
        /// What all queries together may take.
        limit: ByteSize,
    },
    /// The storage failed.
    #[error("expanding series: {0}")]
    Storage(#[from] StorageError),
}

impl QueryError {
    pub(crate) fn execution(text: impl Into<String>) -> Self {
        Self::Execution(text.into())
    }
}
