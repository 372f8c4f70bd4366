//! [`Operations`]: what operators have stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Whether the queue hands jobs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::relay) enum QueueOperation {
    /// The database has not answered yet.
    #[default]
    Unknown,
    Running,
    Paused,
}

/// What operators have stopped. What concerns a backend is in its state.
#[derive(Debug, Default)]
pub(in crate::relay) struct Operations {
    queue: Mutex<QueueOperation>,
    /// Whether the database answered when it was last asked, about a second ago.
    is_readable: AtomicBool,
    /// Held while the database is read or written: what was read before a change must not undo it.
    pub(in crate::relay) changing: tokio::sync::Mutex<()>,
    /// Has the task that follows the database look at once.
    pub(super) look: Notify,
}

impl Operations {
    /// Whether the queue hands jobs in.
    pub(in crate::relay) fn queue(&self) -> QueueOperation {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the database answered when it was last asked.
    pub(in crate::relay) fn is_readable(&self) -> bool {
        self.is_readable.load(Ordering::Relaxed)
    }

    pub(super) fn set_readable(&self, is_readable: bool) {
        self.is_readable.store(is_readable, Ordering::Relaxed);
    }

    /// Returns whether that is a change.
    pub(super) fn set_queue(&self, operation: QueueOperation) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *queue, operation) != operation
    }

    /// Why the queue hands nothing in, as a part of a sentence; `None` if it does.
    pub(in crate::relay) fn refusal(&self) -> Option<Arc<str>> {
        match self.queue() {
            QueueOperation::Unknown => Some("the database does not answer".into()),
            QueueOperation::Paused => Some("the queue is paused".into()),
            QueueOperation::Running => None,
        }
    }
}
