//! Fan-out on this node: the newest state of each job to everyone who follows it, encoded once.
//!
//! The guarantee: a subscriber sees the states of a job in their order, none twice, and always the
//! newest in the end; a final state is never skipped. One that reads too slowly skips states in
//! between. Deliberately absent: a log of all states, and what a job is.
//!
//! One client follows a job by a [`Subscription`], a stream of its own; a thread that serves thousands
//! holds one [`SharedSubscription`] of each job and finds what is new in its [`Mailbox`].

mod connection;
mod frame;
mod mailbox;
mod publication;
mod shared_subscription;
mod subscription;
mod topic;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

pub use connection::{Connection, Connections};
pub use frame::Frame;
pub use mailbox::{Mailbox, PendingUpdates, Update};
pub use publication::{End, Preview, Publication};
pub use shared_subscription::SharedSubscription;
pub use subscription::{Delivery, Subscription};

use crate::job::JobId;
use topic::Topic;

/// All topics of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub {
    topics: Arc<Mutex<HashMap<JobId, Arc<Topic>>>>,
    /// How many publications are kept for a subscriber that lags.
    backlog: usize,
    changes: watch::Sender<()>,
}

impl Hub {
    /// A hub without topics, whose subscribers may lag `backlog` publications behind.
    pub fn new(backlog: usize) -> Self {
        Self {
            topics: Arc::default(),
            backlog,
            changes: watch::Sender::new(()),
        }
    }

    /// Hands a job's next state to everyone who follows it. Never waits.
    pub fn publish(&self, job: &JobId, publication: Publication) {
        self.topic_in(&mut self.lock(), job).publish(publication);
    }

    /// Hands a preview image to everyone who asked for previews. Only the newest is kept.
    pub fn publish_preview(&self, job: &JobId, preview: Preview) {
        self.topic_in(&mut self.lock(), job)
            .publish_preview(preview);
    }

    /// Follows a job, known or not: first its newest state, if there is one, then every later one.
    ///
    /// Who subscribes counts as a connection of the job until the subscription is dropped.
    pub fn subscribe(&self, job: &JobId, connection: Connection) -> Subscription {
        let mut topics = self.lock();
        let topic = self.topic_in(&mut topics, job);
        let subscription = Subscription::new(self.clone(), job.clone(), topic, connection);
        drop(topics);
        self.changes.send_replace(());
        subscription
    }

    /// Follows a job, known or not, on behalf of many clients: what is new comes to the outlet.
    pub fn subscribe_shared(&self, job: &JobId, mailbox: Arc<Mailbox>) -> SharedSubscription {
        let mut topics = self.lock();
        let topic = self.topic_in(&mut topics, job);
        SharedSubscription::new(self.clone(), job.clone(), topic, mailbox)
    }

    /// Marked whenever a subscriber has come or left, and by whoever else has news for monitors.
    pub fn changes(&self) -> &watch::Sender<()> {
        &self.changes
    }

    /// The newest preview of a job.
    pub fn preview(&self, job: &JobId) -> Option<Arc<Preview>> {
        self.lock().get(job)?.preview()
    }

    /// Forgets a job's states. Who follows it still is told no more.
    pub fn forget(&self, job: &JobId) {
        self.lock().remove(job);
    }

    /// How many connections there are, and how many jobs have some.
    pub fn count(&self) -> Connections {
        let topics = self.lock();
        let counts = topics.values().map(|topic| topic.connections().len());
        counts
            .filter(|&count| count > 0)
            .fold(Connections::default(), |all, count| Connections {
                total: all.total + count,
                jobs: all.jobs + 1,
            })
    }

    /// At most `jobs` jobs with connections, and at most `each` connections of each; and whether
    /// there are more.
    pub fn connections(
        &self,
        jobs: usize,
        each: usize,
    ) -> (Vec<(JobId, usize, Vec<Connection>)>, bool) {
        let topics = self.lock();
        let mut truncated = false;
        let mut listed = Vec::new();
        for (job, topic) in topics.iter() {
            let connections = topic.connections();
            if connections.is_empty() {
                continue;
            }
            if listed.len() == jobs {
                truncated = true;
                break;
            }
            truncated |= connections.len() > each;
            let shown = connections.values().take(each).cloned().collect();
            listed.push((job.clone(), connections.len(), shown));
        }
        (listed, truncated)
    }

    /// Takes a subscription's connection off the books, and a topic that nobody needs with it.
    fn remove_connection(&self, job: &JobId, topic: &Arc<Topic>, connection: u64) {
        topic.connections().remove(&connection);
        self.drop_unused(job, topic);
        self.changes.send_replace(());
    }

    fn drop_unused(&self, job: &JobId, topic: &Arc<Topic>) {
        let mut topics = self.lock();
        let is_kept = topics.get(job).is_some_and(|kept| Arc::ptr_eq(kept, topic));
        if is_kept && topic.is_unused() {
            topics.remove(job);
        }
    }

    fn topic_in(&self, topics: &mut HashMap<JobId, Arc<Topic>>, job: &JobId) -> Arc<Topic> {
        if let Some(topic) = topics.get(job) {
            return topic.clone();
        }
        let topic = Arc::new(Topic::new(job.clone(), self.backlog));
        topics.insert(job.clone(), topic.clone());
        topic
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The present moment, for the books about connections.
fn now() -> Timestamp {
    Timestamp::now()
}
