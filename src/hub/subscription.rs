use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio_stream::wrappers::BroadcastStream;

use super::Hub;
use super::connection::Connection;
use super::publication::Publication;
use super::topic::Topic;
use crate::job::{JobError, JobId};

/// A state on its way to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The state.
    pub publication: Arc<Publication>,
    /// It is the one that was there when the subscriber came, not one that came since.
    pub is_snapshot: bool,
}

impl Delivery {
    /// Why the job has just failed: what an `error` message tells before the final state. Who comes
    /// later gets the final state alone.
    pub fn failure(&self) -> Option<&JobError> {
        let end = self
            .publication
            .end
            .as_ref()
            .filter(|_| !self.is_snapshot)?;
        end.error.as_ref()
    }
}

/// One client that follows one job: a stream of its newest state and every later one.
///
/// Never ends; when the job is forgotten it says no more. Dropping it takes the client off the books.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    job: JobId,
    topic: Arc<Topic>,
    connection: u64,
    snapshot: Option<Arc<Publication>>,
    states: BroadcastStream<Arc<Publication>>,
    seen: u64,
}

impl Subscription {
    /// Must be called while the hub's topics are locked: else the topic could be dropped meanwhile.
    pub(super) fn new(hub: Hub, job: JobId, topic: Arc<Topic>, connection: Connection) -> Self {
        let connection = topic.add_connection(connection);
        let (snapshot, states) = topic.subscribe();
        Self {
            hub,
            job,
            topic,
            connection,
            snapshot,
            states: BroadcastStream::new(states),
            seen: 0,
        }
    }

    /// Whether any state of the job is known yet.
    pub fn is_known(&self) -> bool {
        self.topic.newest().is_some()
    }

    /// The number of the newest state, if any state is known yet.
    pub fn newest_seq(&self) -> Option<u64> {
        self.topic.newest().map(|newest| newest.seq)
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let snapshot = self.snapshot.take();
            let is_snapshot = snapshot.is_some();
            let next = match snapshot {
                Some(newest) => Some(newest),
                None => match ready!(Pin::new(&mut self.states).poll_next(cx)) {
                    Some(Ok(next)) => Some(next),
                    // It lagged: the newest state is all that it needs.
                    Some(Err(_)) => self.topic.newest(),
                    // Never comes: the topic, which is ours as well, holds the sender.
                    None => return Poll::Ready(None),
                },
            };
            if let Some(next) = next
                && next.seq > self.seen
            {
                self.seen = next.seq;
                return Poll::Ready(Some(Delivery {
                    publication: next,
                    is_snapshot,
                }));
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub
            .remove_connection(&self.job, &self.topic, self.connection);
    }
}
