use std::sync::{Arc, Mutex, PoisonError};

use slotmap::DefaultKey as Key;

use super::super::wait::Missed;
use super::Arrival;
use super::line::Line;
use crate::hub::Outlet;
use crate::job::JobId;
use crate::relay::RelayError;

/// What the rest of the server tells a shard.
#[derive(Debug)]
pub(super) enum Word {
    /// A client has shaken hands.
    Come {
        line: Line,
        /// What it has said already.
        early: Vec<u8>,
        arrival: Box<Arrival>,
    },
    /// A job that a subscriber waits for was not found.
    Missed {
        who: Key,
        job: JobId,
        missed: Missed,
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
    words: Mutex<Vec<Word>>,
    outlet: Arc<Outlet>,
}

impl Inbox {
    /// The outlet's thread is the one that reads this.
    pub(super) fn new(outlet: Arc<Outlet>) -> Self {
        Self {
            words: Mutex::default(),
            outlet,
        }
    }

    /// Where topics leave their news.
    pub(super) fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    pub(super) fn tell(&self, word: Word) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.push(word);
        let is_first = words.len() == 1;
        drop(words);
        if is_first {
            self.outlet.wake();
        }
    }

    pub(super) fn take(&self) -> Vec<Word> {
        std::mem::take(&mut self.words.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
