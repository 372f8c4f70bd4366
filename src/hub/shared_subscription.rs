use std::sync::Arc;

use super::Hub;
use super::connection::Connection;
use super::mailbox::Mailbox;
use super::publication::{Preview, Publication};
use super::topic::Topic;
use crate::job::JobId;

/// One topic, followed by a thread on behalf of many clients: its news come to the thread's
/// [`Mailbox`] until this is dropped.
#[derive(Debug)]
pub struct SharedSubscription {
    hub: Hub,
    job: JobId,
    topic: Arc<Topic>,
    mailbox: Arc<Mailbox>,
}

impl SharedSubscription {
    /// Must be called while the hub's topics are locked: else the topic could be dropped meanwhile.
    pub(super) fn new(hub: Hub, job: JobId, topic: Arc<Topic>, mailbox: Arc<Mailbox>) -> Self {
        topic.attach(mailbox.clone());
        Self {
            hub,
            job,
            topic,
            mailbox,
        }
    }

    /// The job that is followed.
    pub fn job(&self) -> &JobId {
        &self.job
    }

    /// The newest state, if any is known. What comes later comes to the outlet; so may this one.
    pub fn newest(&self) -> Option<Arc<Publication>> {
        self.topic.newest()
    }

    /// The newest preview.
    pub fn preview(&self) -> Option<Arc<Preview>> {
        self.topic.preview()
    }

    /// Puts a client on the books. Returns its place there.
    pub fn add_connection(&self, connection: Connection) -> u64 {
        let id = self.topic.add_connection(connection);
        self.hub.changes.send_replace(());
        id
    }

    /// Takes the client with this place off the books.
    pub fn remove_connection(&self, id: u64) {
        self.topic.connections().remove(&id);
        self.hub.changes.send_replace(());
    }
}

impl Drop for SharedSubscription {
    fn drop(&mut self) {
        self.topic.detach(&self.mailbox);
        self.hub.drop_unused(&self.job, &self.topic);
    }
}
