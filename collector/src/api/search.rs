//! Requests beside queries that look through the store: they wait for their turn, take no more time and memory than a query, and end
//! when the client goes away.

use promql::{QueryError, Search};

use super::Server;
use super::query::Client;
use super::response::ApiError;
use crate::query::CancelOnDrop;

/// Runs a search when its turn comes, off the threads that serve connections.
pub(super) async fn search<T: Send + 'static>(
    server: &Server,
    client: &Client,
    look: impl FnOnce(Search) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, ApiError> {
    let cancel = CancelOnDrop::default();
    let (slot, search) = server.querier.search(&client.0, cancel.0.clone()).await?;
    let querier = server.querier.clone();
    let work = tokio::task::spawn_blocking(move || {
        // for as long as there is work, whether or not anybody waits for it
        let _slot = slot;
        look(search).inspect_err(|error| querier.metrics().failed(error))
    });
    let found = work.await;
    cancel.done();
    Ok(found.unwrap_or_else(|_| Err(QueryError::Execution("the search panicked".to_owned())))?)
}

/// Runs work that reads the store off the threads that serve connections.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::internal("the request panicked")),
    }
}
