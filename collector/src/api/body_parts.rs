//! Bodies that are made while they are sent.

use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc::{self, Receiver, error::TrySendError};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// Parts that wait to be sent while the next one is made.
const WAITING: usize = 2;

/// What makes parts, and the part there was no room for.
type Interrupted<P> = (P, Vec<u8>);

/// The parts of a body, made by another thread while those before them are sent. That goes on for as long as they are taken: to hand each
/// over to a thread of its own costs more than to make it. Who does not take them holds no thread, and after [`WAITING`] and one more
/// none is made for it.
pub(super) fn made_ahead<P>(parts: P) -> impl Stream<Item = Result<Vec<u8>, JoinError>> + Send
where
    P: Iterator<Item = Vec<u8>> + Send + 'static,
{
    stream::try_unfold(make(parts), |(mut made, job)| async move {
        // the job is over when nothing comes any more
        if let Some(part) = made.recv().await {
            return Ok(Some((part, (made, job))));
        }
        Ok(job.await?.map(|(parts, part)| (part, make(parts))))
    })
}

/// The parts of a body, of which the first `in_turn` take little time each: they are made when it is their turn to be sent, one in the
/// memory of the other, which costs less than to hand them over. Where there are more than that, another thread makes those ahead.
pub(super) fn made_in_turn<P>(parts: P, in_turn: usize) -> impl Stream<Item = Result<Vec<u8>, JoinError>> + Send
where
    P: Iterator<Item = Vec<u8>> + Send + 'static,
{
    let next = |(parts, left): (Option<P>, usize)| async move {
        let mut parts = parts?;
        if left == 0 {
            return Some((made_ahead(parts).left_stream(), (None, 0)));
        }
        let part = parts.next()?;
        Some((stream::iter([Ok(part)]).right_stream(), (Some(parts), left - 1)))
    };
    stream::unfold((Some(parts), in_turn), next).flatten()
}

/// Makes parts until too many wait, which is where it can go on, or until there are no more.
fn make<P>(mut parts: P) -> (Receiver<Vec<u8>>, JoinHandle<Option<Interrupted<P>>>)
where
    P: Iterator<Item = Vec<u8>> + Send + 'static,
{
    let (waiting, made) = mpsc::channel(WAITING);
    let job = spawn_blocking(move || {
        while let Some(part) = parts.next() {
            match waiting.try_send(part) {
                Ok(()) => {}
                Err(TrySendError::Full(part)) => return Some((parts, part)),
                Err(TrySendError::Closed(_)) => break,
            }
        }
        None
    });
    (made, job)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::TryStreamExt;

    use super::*;

    /// So many parts, and how many have been made.
    fn counted(len: usize) -> (impl Iterator<Item = Vec<u8>> + Send + 'static, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let parts = (0..len).map(move |number| {
            count.fetch_add(1, Ordering::SeqCst);
            number.to_le_bytes().to_vec()
        });
        (parts, made)
    }

    #[tokio::test]
    async fn all_parts_come_in_order_whoever_is_faster() {
        for pauses in [false, true] {
            for len in [0, 1, 2, 3, 4, 7, 500] {
                let (parts, _) = counted(len);
                let parts = made_ahead(parts).then(|part| async move {
                    if pauses {
                        tokio::time::sleep(std::time::Duration::from_micros(50)).await;
                    }
                    part
                });
                let parts: Vec<Vec<u8>> = parts.try_collect().await.unwrap();
                assert!(parts.into_iter().eq((0..len).map(|number| number.to_le_bytes().to_vec())));
            }
        }
    }

    #[tokio::test]
    async fn parts_are_made_in_turn_and_if_there_are_many_ahead() {
        const IN_TURN: usize = 20;
        for len in [0, 1, 2, IN_TURN - 1, IN_TURN, IN_TURN + 1, IN_TURN + 10] {
            let (parts, made) = counted(len);
            let mut parts = pin!(made_in_turn(parts, IN_TURN));
            for number in 0..len {
                assert_eq!(parts.next().await.unwrap().unwrap(), number.to_le_bytes());
                if number < IN_TURN {
                    assert_eq!(made.load(Ordering::SeqCst), number + 1);
                }
            }
            assert!(parts.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn few_are_made_for_who_takes_none_and_none_for_who_is_gone() {
        let (parts, made) = counted(100);
        let mut parts = Box::pin(made_ahead(parts));
        parts.next().await.unwrap().unwrap();
        while made.load(Ordering::SeqCst) < WAITING + 1 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let before = made.load(Ordering::SeqCst);
        assert!(before <= WAITING + 2, "{before}");
        drop(parts);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert_eq!(made.load(Ordering::SeqCst), before);
    }

    #[tokio::test]
    async fn a_part_that_cannot_be_made_is_an_error() {
        let parts = (0..5).map(|number| if number == 3 { panic!("a part") } else { vec![0] });
        let mut parts = pin!(made_ahead(parts));
        let mut good = 0;
        while let Some(Ok(_)) = parts.next().await {
            good += 1;
        }
        assert_eq!(good, 3);
    }
}
