//! Requests beside queries that look through the store: they wait for their turn, take no more time and memory than a query, and end
//! when the client goes away.

use model::Timestamp;
use promql::{QueryError, Search};

use super::Server;
use super::query::Client;
use super::response::ApiError;
use crate::query::{AskedSearch, CancelOnDrop};

/// Runs a search when its turn comes: at once if one for the same `text` and as much time was short, else off the threads that serve
/// connections. Without a text, always there.
pub(super) async fn search<T: Send + 'static>(
    server: &Server,
    client: &Client,
    text: Option<&str>,
    range: (Timestamp, Timestamp),
    look: impl Fn(Search) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, ApiError> {
    let cancel = CancelOnDrop::default();
    let (slot, waited) = server.querier.turn_to_search(&client.0).await?;
    let asked = AskedSearch::new(text, range, waited);
    if others_serve()
        && let Some(found) = server.querier.search_if_short(&asked, cancel.0.clone(), &look)
    {
        cancel.done();
        return Ok(found?);
    }
    let (querier, token) = (server.querier.clone(), cancel.0.clone());
    let work = tokio::task::spawn_blocking(move || {
        // for as long as there is work, whether or not anybody waits for it
        let _slot = slot;
        querier.search(&asked, token, look)
    });
    let found = work.await;
    cancel.done();
    Ok(found.unwrap_or_else(|_| Err(QueryError::Execution("the search panicked".to_owned())))?)
}

/// Whether there is a thread that serves connections beside this one.
pub(super) fn others_serve() -> bool {
    tokio::runtime::Handle::current().metrics().num_workers() > 1
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
