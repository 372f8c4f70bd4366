use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio_stream::wrappers::BroadcastStream;

use super::connection::Connection;
use super::publication::Publication;
use super::topic::Topic;
use super::topics::Topics;
use crate::job::JobId;

/// One client's subscription to one job: a stream of its newest state and every later one.
///
/// Never ends; after the job was forgotten it yields nothing more. Dropping it removes the record of
/// the client's connection.
#[derive(Debug)]
pub struct Subscription {
    topics: Topics,
    job: JobId,
    topic: Arc<Topic>,
    connection_id: u64,
    snapshot: Option<Arc<Publication>>,
    /// `None` only while it is dropped.
    states: Option<BroadcastStream<Arc<Publication>>>,
    /// The number of the last state that was yielded; 0 before the first.
    last_seq: u64,
}

impl Subscription {
    pub(super) fn new(topics: Topics, job: &JobId, connection: Connection) -> Self {
        let (topic, connection_id) = topics.join(job, |topic| {
            (topic.clone(), topic.add_connection(connection))
        });
        let (snapshot, states) = topic.subscribe();
        topics.changes().send_replace(());
        Self {
            topics,
            job: job.clone(),
            topic,
            connection_id,
            snapshot,
            states: Some(BroadcastStream::new(states)),
            last_seq: 0,
        }
    }

    /// Whether the job has a state yet.
    pub fn is_known(&self) -> bool {
        self.topic.newest().is_some()
    }

    /// The number of the newest state, if there is one.
    pub fn newest_seq(&self) -> Option<u64> {
        self.topic.newest().map(|newest| newest.seq)
    }
}

impl Stream for Subscription {
    type Item = Arc<Publication>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = match self.snapshot.take() {
                Some(newest) => Some(newest),
                None => {
                    // Neither ends: the topic, which this keeps alive, holds the sender as long as there is a receiver.
                    let Some(states) = self.states.as_mut() else {
                        return Poll::Ready(None);
                    };
                    match ready!(Pin::new(states).poll_next(cx)) {
                        Some(Ok(next)) => Some(next),
                        // It lagged: the newest state replaces all that it has missed.
                        Some(Err(_)) => self.topic.newest(),
                        None => return Poll::Ready(None),
                    }
                }
            };
            if let Some(next) = next
                && next.seq > self.last_seq
            {
                self.last_seq = next.seq;
                return Poll::Ready(Some(next));
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.states = None;
        self.topic.trim();
        self.topic.remove_connection(self.connection_id);
        self.topics.leave(&self.job, &self.topic);
        self.topics.changes().send_replace(());
    }
}
