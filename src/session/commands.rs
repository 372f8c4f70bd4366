use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::keys::{SubscriberKey, TopicKey};
use super::subscriber::NewSubscriber;
use super::transport::Handover;
use crate::hub::Mailbox;
use crate::job::JobId;
use crate::relay::RelayError;

/// What a shard is asked to do from other threads.
#[derive(Debug)]
pub(super) enum ShardCommand {
    /// Serve a client whose handshake is done.
    Add(Box<(Handover, NewSubscriber)>),
    /// A job that subscribers wait for was looked for.
    LookedUp {
        topic: TopicKey,
        result: Result<(), Arc<RelayError>>,
    },
    /// A subscriber's request to cancel a job was handled.
    Cancelled {
        key: SubscriberKey,
        job: JobId,
        result: Result<(), RelayError>,
    },
    /// Close all sockets, and end.
    Stop,
    /// End as by a bug.
    #[cfg(test)]
    Panic,
}

/// How other threads reach a shard. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ShardHandle {
    /// `None` once the shard has ended.
    commands: Arc<Mutex<Option<Vec<ShardCommand>>>>,
    mailbox: Arc<Mailbox>,
}

impl ShardHandle {
    /// `mailbox` wakes the thread that takes the commands.
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self {
            commands: Arc::new(Mutex::new(Some(Vec::new()))),
            mailbox,
        }
    }

    /// Where the updates of the shard's jobs are delivered.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Sends a command. After the shard has ended the command is dropped, and with it the connection
    /// of a client that was to be added.
    pub(super) fn send(&self, command: ShardCommand) {
        let mut commands = self.lock();
        let Some(open) = commands.as_mut() else {
            return;
        };
        open.push(command);
        let is_first = open.len() == 1;
        drop(commands);
        if is_first {
            self.mailbox.wake();
        }
    }

    /// Takes all commands that were sent since the last call.
    pub(super) fn take(&self) -> Vec<ShardCommand> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Drops all commands from now on.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    /// Whether the shard has ended.
    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<ShardCommand>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
