use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use indexmap::IndexMap;
use mio::Waker;

use super::publication::{Preview, Publication};
use crate::job::JobId;

/// What a topic has new.
#[derive(Debug, Clone)]
pub enum Update {
    /// A state.
    State(Arc<Publication>),
    /// A preview image.
    Preview(Arc<Preview>),
}

/// Where topics leave their news for a thread that hands them out. They never wait for it.
///
/// The thread takes all of it whenever it comes round, which is every few milliseconds. Should it
/// not, each topic keeps no more than its newest `limit`.
pub struct Mailbox {
    pending: Mutex<IndexMap<JobId, PendingUpdates>>,
    waker: Waker,
    limit: usize,
}

/// The news of one topic that wait to be handed out.
#[derive(Debug, Default)]
pub struct PendingUpdates {
    /// The oldest first.
    states: VecDeque<Arc<Publication>>,
    /// The newest.
    preview: Option<Arc<Preview>>,
    /// What went out last was a state: a preview is next.
    is_previews_turn: bool,
}

impl Update {
    /// Whether it is the last state of its job, which nobody may miss.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::State(publication) if publication.end.is_some())
    }
}

impl PendingUpdates {
    /// Takes one in. Only the newest `limit` states are kept, at least one: so the final one, which is
    /// the last, always is. Of previews only the newest is kept.
    pub fn push(&mut self, update: Update, limit: usize) {
        match update {
            Update::State(publication) => {
                self.states.push_back(publication);
                while self.states.len() > limit.max(1) {
                    self.states.pop_front();
                }
            }
            Update::Preview(preview) => self.preview = Some(preview),
        }
    }

    /// Takes the oldest state and the preview out by turns, so that neither waits for ever where they
    /// come faster than they are handed out.
    pub fn pop(&mut self) -> Option<Update> {
        if std::mem::take(&mut self.is_previews_turn)
            && let Some(preview) = self.preview.take()
        {
            return Some(Update::Preview(preview));
        }
        let state = self.states.pop_front().map(Update::State);
        self.is_previews_turn = state.is_some();
        state.or_else(|| self.preview.take().map(Update::Preview))
    }
}

impl Mailbox {
    /// An outlet of a thread that `waker` wakes.
    pub fn new(waker: Waker, limit: usize) -> Self {
        Self {
            pending: Mutex::default(),
            waker,
            limit,
        }
    }

    /// All that has come since the last time, by job.
    pub fn take(&self) -> IndexMap<JobId, PendingUpdates> {
        std::mem::take(&mut self.lock())
    }

    /// Wakes the thread for some other reason.
    pub fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a fan-out thread cannot be woken");
        }
    }

    pub(super) fn deliver(&self, job: &JobId, update: Update) {
        let mut mailbox = self.lock();
        let is_first = mailbox.is_empty();
        match mailbox.get_mut(job) {
            Some(pending) => pending.push(update, self.limit),
            None => {
                let mut pending = PendingUpdates::default();
                pending.push(update, self.limit);
                mailbox.insert(job.clone(), pending);
            }
        }
        drop(mailbox);
        if is_first {
            self.wake();
        }
    }

    /// What it guards is whole at any moment, also after a panic elsewhere.
    fn lock(&self) -> std::sync::MutexGuard<'_, IndexMap<JobId, PendingUpdates>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::hub::{End, Frame};

    fn state(seq: u64, is_final: bool) -> Update {
        Update::State(Arc::new(Publication {
            seq,
            frame: Frame::text("state"),
            end: is_final.then_some(End { error: None }),
        }))
    }

    fn preview(seq: u64) -> Update {
        Update::Preview(Arc::new(Preview {
            seq,
            mime: "image/png",
            image: Bytes::new(),
            frame: Frame::binary(&[]),
        }))
    }

    fn seqs(mut pending: PendingUpdates) -> Vec<u64> {
        std::iter::from_fn(|| pop(&mut pending)).collect()
    }

    fn pop(pending: &mut PendingUpdates) -> Option<u64> {
        pending.pop().map(|update| match update {
            Update::State(publication) => publication.seq,
            Update::Preview(preview) => preview.seq,
        })
    }

    #[test]
    fn the_newest_states_are_kept_and_the_final_one_always() {
        let mut pending = PendingUpdates::default();
        for seq in 1..=9 {
            pending.push(state(seq, false), 2);
        }
        pending.push(state(10, true), 0);
        assert_eq!(seqs(pending), [10]);
    }

    #[test]
    fn the_newest_preview_is_kept_and_takes_no_states_place() {
        let mut pending = PendingUpdates::default();
        for seq in 1..=3 {
            pending.push(state(seq, false), 2);
            pending.push(preview(10 + seq), 2);
        }
        assert_eq!(seqs(pending), [2, 13, 3]);
    }

    #[test]
    fn neither_states_nor_previews_wait_for_ever() {
        let mut pending = PendingUpdates::default();
        let mut out = Vec::new();
        for seq in 1..=4 {
            pending.push(state(seq, false), 9);
            pending.push(preview(10 + seq), 9);
            out.extend(pop(&mut pending));
        }
        assert_eq!(out, [1, 12, 2, 14]);
    }
}
