use std::sync::Arc;

use super::connection::Connection;
use super::mailbox::Mailbox;
use super::publication::{Preview, Publication};
use super::topic::Topic;
use super::topics::Topics;
use crate::job::JobId;

/// A thread's subscription to one job on behalf of many clients. Updates are delivered to the thread's
/// [`Mailbox`] until this is dropped.
#[derive(Debug)]
pub struct SharedSubscription {
    topics: Topics,
    job: JobId,
    topic: Arc<Topic>,
    mailbox: Arc<Mailbox>,
}

impl SharedSubscription {
    pub(super) fn new(topics: Topics, job: JobId, mailbox: Arc<Mailbox>) -> Self {
        let topic = topics.join(&job, |topic| {
            topic.attach(mailbox.clone());
            topic.clone()
        });
        Self {
            topics,
            job,
            topic,
            mailbox,
        }
    }

    /// The job.
    pub fn job(&self) -> &JobId {
        &self.job
    }

    /// The newest state, if there is one. It may be in the mailbox as well.
    pub fn newest(&self) -> Option<Arc<Publication>> {
        self.topic.newest()
    }

    /// The newest preview.
    pub fn preview(&self) -> Option<Arc<Preview>> {
        self.topic.preview()
    }

    /// Records the connection of one of the clients. Returns the id by which it is removed.
    pub fn add_connection(&self, connection: Connection) -> u64 {
        let id = self.topic.add_connection(connection);
        self.topics.changes().send_replace(());
        id
    }

    /// Removes the record of a connection.
    pub fn remove_connection(&self, id: u64) {
        self.topic.remove_connection(id);
        self.topics.changes().send_replace(());
    }
}

impl Drop for SharedSubscription {
    fn drop(&mut self) {
        self.topic.detach(&self.mailbox);
        self.topics.leave(&self.job, &self.topic);
    }
}
