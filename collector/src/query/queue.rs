//! The queue of queries: so many run at once, the others wait for their turn. It is fair between clients: a free place goes to the
//! client that has the fewest queries running, and one client never has all places.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Who asks, as far as turns are concerned: an address, or the 64 bits of an IPv6 address that a site is given. `None`: unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(Option<IpAddr>);

impl From<Option<IpAddr>> for Client {
    fn from(address: Option<IpAddr>) -> Self {
        let site = |address: IpAddr| match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        };
        Self(address.map(site))
    }
}

/// Too many queries wait already, of all clients or of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many queries are waiting (at most {limit}{}, --query.max-queued): try again later", if *.of_one { " of one client" } else { "" })]
pub(crate) struct QueueFull {
    limit: usize,
    of_one: bool,
}

/// The queue. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Queries that may run at once.
    places: usize,
    /// Queries of one client that may run at once.
    of_one: usize,
    /// Queries that may wait.
    waiting: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    /// Those that run or wait.
    clients: HashMap<Client, Turns>,
    /// Queries that have ever waited.
    arrivals: u64,
}

#[derive(Debug, Default)]
struct Turns {
    running: usize,
    /// By arrival.
    waiting: VecDeque<(u64, oneshot::Sender<Slot>)>,
}

/// Leave to run a query, until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    queue: Queue,
    client: Client,
}

/// A query that waits; dropped, it gives up its turn.
struct Waiting<'q> {
    queue: &'q Queue,
    client: Client,
    arrival: u64,
}

impl Queue {
    /// A queue in which `places` queries run and `waiting` wait.
    pub(crate) fn new(places: usize, waiting: usize) -> Self {
        let places = places.max(1);
        // so that others find a place before a client's own queries end
        let kept = if places == 1 { 0 } else { (places / 4).max(1) };
        Self(Arc::new(Inner { places, of_one: places - kept, waiting, state: Mutex::default() }))
    }

    /// A queue of as many places, in which nobody waits.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.0.places, self.0.waiting)
    }

    /// Waits for leave to run a query. Dropping the future gives up the turn.
    ///
    /// # Errors
    /// When too many queries wait.
    pub(crate) async fn enter(&self, client: Client) -> Result<Slot, QueueFull> {
        let (turn, waiting) = {
            let mut state = self.0.state.lock();
            let State { running, waiting, clients, arrivals } = &mut *state;
            let turns = clients.entry(client).or_default();
            // nobody who may run is made to wait, so whoever waits could not run now
            if *running < self.0.places && turns.running < self.0.of_one {
                *running += 1;
                turns.running += 1;
                return Ok(Slot { queue: self.clone(), client });
            }
            let of_one = self.0.waiting.div_ceil(2);
            let full = match (*waiting >= self.0.waiting, turns.waiting.len() >= of_one) {
                (true, _) => Some(QueueFull { limit: self.0.waiting, of_one: false }),
                (false, true) => Some(QueueFull { limit: of_one, of_one: true }),
                (false, false) => None,
            };
            if let Some(full) = full {
                state.forget(client);
                return Err(full);
            }
            let (sender, turn) = oneshot::channel();
            *waiting += 1;
            *arrivals += 1;
            turns.waiting.push_back((*arrivals, sender));
            (turn, Waiting { queue: self, client, arrival: *arrivals })
        };
        let slot = turn.await;
        drop(waiting);
        // the queue is there for as long as somebody waits in it
        slot.map_err(|_| QueueFull { limit: self.0.waiting, of_one: false })
    }

    /// How many queries may run at once.
    pub(crate) fn places(&self) -> usize {
        self.0.places
    }

    /// How many run, and how many wait.
    pub(crate) fn length(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        (state.running, state.waiting)
    }

    fn next(&self) -> Option<(Client, oneshot::Sender<Slot>)> {
        let mut state = self.0.state.lock();
        if state.running >= self.0.places {
            return None;
        }
        let may = |turns: &Turns| turns.running < self.0.of_one;
        let first = |turns: &Turns| turns.waiting.front().map(|(arrival, _)| (turns.running, *arrival));
        let waiting = state.clients.iter().filter(|(_, turns)| may(turns));
        let (_, client) =
            waiting.filter_map(|(client, turns)| Some((first(turns)?, *client))).min_by_key(|(at, _)| *at)?;
        let turns = state.clients.get_mut(&client)?;
        let (_, sender) = turns.waiting.pop_front()?;
        turns.running += 1;
        state.waiting -= 1;
        state.running += 1;
        Some((client, sender))
    }
}

impl State {
    /// Forgets a client that has nothing here.
    fn forget(&mut self, client: Client) {
        if self.clients.get(&client).is_some_and(|turns| turns.running == 0 && turns.waiting.is_empty()) {
            self.clients.remove(&client);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.queue.0.state.lock();
            state.running -= 1;
            if let Some(turns) = state.clients.get_mut(&self.client) {
                turns.running -= 1;
            }
            state.forget(self.client);
        }
        while let Some((client, sender)) = self.queue.next() {
            // whoever has gone away meanwhile gives the slot back, which comes here again
            let _ = sender.send(Slot { queue: self.queue.clone(), client });
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.0.state.lock();
        if let Some(turns) = state.clients.get_mut(&self.client) {
            let before = turns.waiting.len();
            turns.waiting.retain(|(arrival, _)| *arrival != self.arrival);
            let gone = before - turns.waiting.len();
            state.waiting -= gone;
        }
        state.forget(self.client);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt;

    use super::*;

    type Turn<'q> = Pin<Box<dyn Future<Output = Result<Slot, QueueFull>> + 'q>>;

    fn client(n: u8) -> Client {
        Some(IpAddr::from([10, 0, 0, n])).into()
    }

    fn enter(queue: &Queue, n: u8) -> Turn<'_> {
        Box::pin(queue.enter(client(n)))
    }

    /// The slot, if it is there already.
    fn now(turn: &mut Turn<'_>) -> Option<Slot> {
        turn.now_or_never().map(|slot| slot.expect("a place in the queue"))
    }

    #[test]
    fn a_client_that_floods_does_not_starve_others() {
        let queue = Queue::new(4, 100);
        let running: Vec<Slot> = (0..3).filter_map(|_| now(&mut enter(&queue, 1))).collect();
        assert_eq!(running.len(), 3);
        let mut flood: Vec<Turn<'_>> = (0..40).map(|_| enter(&queue, 1)).collect();
        assert!(flood.iter_mut().all(|turn| now(turn).is_none()), "one client does not get all places");
        // another one finds the place that was kept, and then is served first
        let other = now(&mut enter(&queue, 2)).expect("a place at once");
        let mut more: Vec<Turn<'_>> = (0..2).map(|_| enter(&queue, 2)).collect();
        assert!(more.iter_mut().all(|turn| now(turn).is_none()));
        assert_eq!(queue.length(), (4, 42));
        let mut running = running.into_iter();
        drop(running.next());
        let second = now(&mut more[0]).expect("the next free place");
        assert!(flood.iter_mut().all(|turn| now(turn).is_none()));
        // as many running: whoever waits longest
        drop(running.next());
        let mine = now(&mut flood[0]).expect("the first of the flood");
        assert!(now(&mut more[1]).is_none());
        drop((other, second, mine, running, flood, more));
        assert_eq!(queue.length(), (0, 0));
        assert!(queue.0.state.lock().clients.is_empty());
    }

    #[test]
    fn whoever_goes_away_gives_up_the_turn() {
        let queue = Queue::new(1, 10);
        let slot = now(&mut enter(&queue, 1)).unwrap();
        let mut first = enter(&queue, 1);
        let mut second = enter(&queue, 2);
        let mut third = enter(&queue, 3);
        assert!(now(&mut first).is_none() && now(&mut second).is_none() && now(&mut third).is_none());
        drop(second);
        assert_eq!(queue.length(), (1, 2));
        // the slot is sent, and nobody takes it
        drop(slot);
        assert_eq!(queue.length(), (1, 1));
        drop(first);
        assert_eq!(queue.length(), (1, 0));
        assert!(now(&mut third).is_some());
        assert_eq!(queue.length(), (0, 0));
    }

    #[test]
    fn the_queue_is_bounded_for_all_and_for_each() {
        let queue = Queue::new(2, 4);
        let slots: Vec<_> = (1..3).map(|n| now(&mut enter(&queue, n)).unwrap()).collect();
        let mut waiting: Vec<Turn<'_>> = (0..2).map(|_| enter(&queue, 1)).collect();
        assert!(waiting.iter_mut().all(|turn| now(turn).is_none()));
        let full = |n: u8| enter(&queue, n).now_or_never().unwrap().unwrap_err().to_string();
        assert!(full(1).contains("at most 2 of one client"), "{}", full(1));
        waiting.extend([3, 4].map(|n| enter(&queue, n)));
        assert!(waiting.iter_mut().all(|turn| now(turn).is_none()));
        let text = full(5);
        assert!(text.contains("at most 4,") && text.contains("--query.max-queued"), "{text}");
        drop((waiting, slots));
        assert!(queue.0.state.lock().clients.is_empty());
    }

    #[test]
    fn one_place_is_for_all() {
        let queue = Queue::new(0, 4);
        assert_eq!(queue.places(), 1);
        assert!(now(&mut enter(&queue, 1)).is_some());
    }

    #[test]
    fn a_site_is_one_client() {
        let of = |text: &str| Client::from(Some(text.parse::<IpAddr>().unwrap()));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.1.2.3"), of("10.1.2.3"));
        assert_ne!(of("10.1.2.3"), of("10.1.2.4"));
    }
}
