use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use indexmap::IndexMap;

use super::lock::{Mutex, MutexGuard};
use super::publication::{Preview, Publication};
use crate::job::JobId;

/// What a topic delivers to a subscriber.
#[derive(Debug, Clone)]
pub enum Update {
    /// A state.
    State(Arc<Publication>),
    /// A preview image.
    Preview(Arc<Preview>),
}

/// Where topics deliver updates for a thread that serves many subscribers. Delivering never waits for
/// the thread.
///
/// The thread takes all updates every few milliseconds. If it does not keep up, only the newest
/// `limit` states of each job are kept.
#[derive(Debug)]
pub struct Mailbox {
    pending: Mutex<IndexMap<JobId, PendingUpdates>>,
    waker: Waker,
    limit: usize,
}

/// The updates of one job that have not been sent yet.
#[derive(Debug, Default)]
pub struct PendingUpdates {
    /// The oldest first.
    states: VecDeque<Arc<Publication>>,
    /// The newest.
    preview: Option<Arc<Preview>>,
    /// A state was popped last: the preview comes next.
    is_previews_turn: bool,
}

impl Update {
    /// The job.
    pub fn job(&self) -> &JobId {
        match self {
            Self::State(publication) => &publication.job,
            Self::Preview(preview) => &preview.job,
        }
    }

    /// Whether it is the last state of its job, which no subscriber may miss.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::State(publication) if publication.is_final())
    }
}

impl PendingUpdates {
    /// Adds an update. Only the newest `limit` states are kept, at least one: so the final state, which
    /// is the last one, always is. Of previews only the newest is kept.
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

    /// Removes the oldest state and the preview in turn, so that neither waits for ever if they come
    /// faster than they are sent. The final state comes last: a subscriber may leave after it.
    pub fn pop(&mut self) -> Option<Update> {
        let is_final_next = self.states.front().is_some_and(|next| next.is_final());
        let is_previews_turn = std::mem::take(&mut self.is_previews_turn) || is_final_next;
        if is_previews_turn && let Some(preview) = self.preview.take() {
            return Some(Update::Preview(preview));
        }
        let state = self.states.pop_front().map(Update::State);
        self.is_previews_turn = state.is_some();
        state.or_else(|| self.preview.take().map(Update::Preview))
    }
}

impl Mailbox {
    /// The mailbox of a thread that `waker` wakes.
    pub fn new(waker: Waker, limit: usize) -> Self {
        Self {
            pending: Mutex::default(),
            waker,
            limit,
        }
    }

    /// Takes all updates that were delivered since the last call, by job.
    pub fn take(&self) -> IndexMap<JobId, PendingUpdates> {
        std::mem::take(&mut self.lock())
    }

    /// Wakes the thread for another reason than an update.
    pub fn wake(&self) {
        self.waker.wake_by_ref();
    }

    pub(super) fn deliver(&self, update: Update) {
        let mut pending = self.lock();
        let is_first = pending.is_empty();
        match pending.get_mut(update.job()) {
            Some(updates) => updates.push(update, self.limit),
            None => {
                let job = update.job().clone();
                let mut updates = PendingUpdates::default();
                updates.push(update, self.limit);
                pending.insert(job, updates);
            }
        }
        drop(pending);
        if is_first {
            self.wake();
        }
    }

    /// The map is consistent at any moment, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, IndexMap<JobId, PendingUpdates>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::job::{Outcome, Status};

    fn job() -> JobId {
        JobId::parse("job").unwrap()
    }

    fn state(seq: u64, is_final: bool) -> Update {
        Update::State(Arc::new(Publication {
            job: job(),
            seq,
            status: Status::Processing,
            payload: Bytes::new(),
            outcome: is_final.then_some(Outcome::Completed),
            event_at: None,
        }))
    }

    fn preview(seq: u64) -> Update {
        Update::Preview(Arc::new(Preview {
            job: job(),
            node: None,
            seq,
            mime: "image/png",
            image: Bytes::new(),
            event: Default::default(),
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
    fn the_newest_preview_is_kept_beside_the_limit_of_states() {
        let mut pending = PendingUpdates::default();
        for seq in 1..=3 {
            pending.push(state(seq, false), 2);
            pending.push(preview(10 + seq), 2);
        }
        assert_eq!(seqs(pending), [2, 13, 3]);
    }

    #[test]
    fn a_preview_that_waits_comes_before_the_final_state() {
        let mut pending = PendingUpdates::default();
        pending.push(preview(11), 9);
        pending.push(state(2, true), 9);
        assert_eq!(seqs(pending), [11, 2]);
    }

    #[test]
    fn neither_states_nor_previews_wait_for_ever() {
        let mut pending = PendingUpdates::default();
        let mut popped = Vec::new();
        for seq in 1..=4 {
            pending.push(state(seq, false), 9);
            pending.push(preview(10 + seq), 9);
            popped.extend(pop(&mut pending));
        }
        assert_eq!(popped, [1, 12, 2, 14]);
    }
}
