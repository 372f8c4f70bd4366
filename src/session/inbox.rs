use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slotmap::DefaultKey as Key;

use super::Arrival;
use super::await_job::NotFound;
use super::line::Handover;
use crate::hub::Mailbox;
use crate::job::JobId;
use crate::relay::RelayError;

/// What the rest of the server tells a shard.
#[derive(Debug)]
pub(super) enum Word {
    /// A client has shaken hands.
    Come(Box<(Handover, Arrival)>),
    /// A job that a subscriber waits for was not found.
    NotFound {
        who: Key,
        job: JobId,
        missed: NotFound,
    },
    /// What came of a subscriber's wish to cancel a job.
    Cancelled {
        who: Key,
        job: JobId,
        result: Result<(), RelayError>,
    },
    /// The server stops.
    Stop,
}

/// Where a shard is told what is new.
#[derive(Debug)]
pub(super) struct Inbox {
    /// `None` once nobody reads them any more.
    words: Mutex<Option<Vec<Word>>>,
    outlet: Arc<Mailbox>,
}

impl Inbox {
    /// The outlet's thread is the one that reads this.
    pub(super) fn new(outlet: Arc<Mailbox>) -> Self {
        Self {
            words: Mutex::new(Some(Vec::new())),
            outlet,
        }
    }

    /// Where topics leave their news.
    pub(super) fn outlet(&self) -> &Arc<Mailbox> {
        &self.outlet
    }

    /// Tells the shard something. Where it has ended, a client that is handed over is hung up on.
    pub(super) fn tell(&self, word: Word) {
        let mut words = self.lock();
        let Some(open) = words.as_mut() else {
            return;
        };
        open.push(word);
        let is_first = open.len() == 1;
        drop(words);
        if is_first {
            self.outlet.wake();
        }
    }

    pub(super) fn take(&self) -> Vec<Word> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Word>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
