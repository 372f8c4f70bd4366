//! Publishes the states of jobs to the subscribers of this process.
//!
//! A subscriber gets the states of a job in order, none twice, and the newest one in the end; the final
//! state is never skipped. A subscriber that reads too slowly skips states in between. The hub keeps
//! the newest state of each job, not a log, and it does not know what a job is: a [`Publication`] is
//! data that could as well travel to another process.
//!
//! There are two ways to subscribe. A [`Subscription`] is a stream for one client. A thread that serves
//! thousands of clients holds one [`SharedSubscription`] for each of their jobs, and takes the updates
//! of all these jobs from its [`Mailbox`].

mod connection;
#[cfg(all(test, feature = "shuttle"))]
mod hand_over;
mod lock;
mod mailbox;
mod preview_wait;
mod publication;
mod shared_subscription;
mod subscription;
mod topic;
mod topics;

use std::sync::Arc;

use tokio::sync::watch;

pub use connection::{Connection, ConnectionCount};
pub use mailbox::{Mailbox, PendingUpdates, Update};
pub use preview_wait::PreviewWait;
pub use publication::{Preview, Publication};
pub use shared_subscription::SharedSubscription;
pub use subscription::Subscription;

use crate::job::JobId;
use topics::Topics;

/// The topics of this process, one for each job. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Hub {
    topics: Topics,
}

impl Hub {
    /// A hub without topics. A [`Subscription`] that is more than `backlog` publications behind skips
    /// to the newest one.
    pub fn new(backlog: usize) -> Self {
        Self {
            topics: Topics::new(backlog),
        }
    }

    /// Publishes the next state of a job to its subscribers. Never waits.
    pub fn publish(&self, publication: Publication) {
        let job = publication.job.clone();
        self.topics
            .with_topic(&job, |topic| topic.publish(publication));
    }

    /// Replaces the newest state of a job by one that says more under the same number, or an end by one under another number:
    /// clients that subscribe later get it, and those that have that state get nothing.
    pub fn replace(&self, publication: Publication) {
        if let Some(topic) = self.topics.get(&publication.job) {
            topic.replace(publication);
        }
    }

    /// Publishes a preview image to the subscribers that asked for previews, under its number or the next one here, if that is
    /// higher. Only the newest is kept. Returns what was published.
    pub fn publish_preview(&self, preview: Preview) -> Arc<Preview> {
        let job = preview.job.clone();
        self.topics
            .with_topic(&job, |topic| topic.publish_preview(preview))
    }

    /// The same, of a job of another relay: one that comes when the job is forgotten here leaves nothing behind.
    pub fn pass_preview(&self, preview: Preview) {
        if let Some(topic) = self.topics.get(&preview.job) {
            topic.publish_preview(preview);
        }
    }

    /// Subscribes one client to a job, which need not be known yet: it gets the newest state, if there
    /// is one, and then every later one.
    ///
    /// The client counts as a connection of the job until the subscription is dropped.
    pub fn subscribe(&self, job: &JobId, connection: Connection) -> Subscription {
        Subscription::new(self.topics.clone(), job, connection)
    }

    /// Subscribes a thread to a job, which need not be known yet, on behalf of any number of clients:
    /// updates are delivered to the mailbox.
    pub fn subscribe_shared(&self, job: &JobId, mailbox: Arc<Mailbox>) -> SharedSubscription {
        SharedSubscription::new(self.topics.clone(), job.clone(), mailbox)
    }

    /// Has the previews of a job wanted, as by a subscriber, until what it returns is dropped.
    pub fn wait_for_preview(&self, job: &JobId) -> PreviewWait {
        PreviewWait::new(self.topics.clone(), job)
    }

    /// Marked when a client subscribes or leaves, and by everybody else who changes what monitors show.
    pub fn changes(&self) -> &watch::Sender<()> {
        self.topics.changes()
    }

    /// The newest state of a job.
    pub fn newest(&self, job: &JobId) -> Option<Arc<Publication>> {
        self.topics.get(job)?.newest()
    }

    /// The newest preview of a job.
    pub fn preview(&self, job: &JobId) -> Option<Arc<Preview>> {
        self.topics.get(job)?.preview()
    }

    /// Whether somebody follows a job.
    pub fn is_followed(&self, job: &JobId) -> bool {
        self.topics.is_followed(job)
    }

    /// The jobs that somebody follows; `None` if they are more than `max`.
    pub fn followed(&self, max: usize) -> Option<Vec<JobId>> {
        self.topics.followed(max)
    }

    /// Whether a client that is subscribed to a job wants its previews, or somebody waits for one.
    pub fn wants_previews(&self, job: &JobId) -> bool {
        let topic = self.topics.get(job);
        topic.is_some_and(|topic| topic.wants_previews())
    }

    /// The jobs whose previews a client that is subscribed to them wants, or for whose previews somebody waits.
    pub fn previewed(&self) -> Vec<JobId> {
        self.topics.previewed()
    }

    /// Forgets the preview of a job.
    pub fn forget_preview(&self, job: &JobId) {
        if let Some(topic) = self.topics.get(job) {
            topic.forget_preview();
        }
    }

    /// At most `max` jobs that have subscribers and no state yet.
    pub fn awaited(&self, max: usize) -> Vec<JobId> {
        self.topics.awaited(max)
    }

    /// Forgets the states of a job that nobody follows. Returns whether that is so.
    pub fn forget_unfollowed(&self, job: &JobId) -> bool {
        self.topics.remove_unfollowed(job)
    }

    /// Forgets the states of a job. Its present subscribers get no more updates.
    pub fn forget(&self, job: &JobId) {
        self.topics.remove(job);
    }

    /// How many connections there are, and how many jobs have any.
    pub fn count(&self) -> ConnectionCount {
        self.topics.count_connections()
    }

    /// The connections of at most `max_jobs` jobs, at most `max_each` of each, with the count of all
    /// connections of the job; and whether anything was left out.
    pub fn connections(
        &self,
        max_jobs: usize,
        max_each: usize,
    ) -> (Vec<(JobId, usize, Vec<Connection>)>, bool) {
        self.topics.list_connections(max_jobs, max_each)
    }
}
