//! Runs an HTTP connection and the work on it in one task, so that both end together.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Runs `work` to its end and `connection` beside it. The connection may end earlier; it is dropped with the work's end.
pub(crate) async fn drive<W: Future>(connection: impl Future, work: W) -> W::Output {
    let (mut connection, mut work) = (pin!(connection), pin!(work));
    let mut open = true;
    poll_fn(move |cx| {
        if open {
            open = connection.as_mut().poll(cx).is_pending();
        }
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        // the work may have given the connection something to do
        if open && connection.as_mut().poll(cx).is_ready() {
            open = false;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}
