//! [`StateQueue`]: states that wait, the newest of each job.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::job_state::Positioned;
use crate::job::JobId;

/// How many jobs have a state that waits, at most. A state is about 1 kB, and shared with the hub.
const MAX_JOBS: usize = 100_000;

/// States that wait for the network or for the relay, in the order of their jobs' first. Putting one never waits.
#[derive(Debug)]
pub(crate) struct StateQueue<T> {
    waiting: Mutex<IndexMap<JobId, QueuedState<T>>>,
    wake: Notify,
    /// States that were replaced by a newer one before they were taken, or for which there was no room.
    conflated: Counter,
    max_jobs: usize,
}

#[derive(Debug)]
struct QueuedState<T> {
    state: T,
    since: Instant,
}

impl<T: Positioned> StateQueue<T> {
    pub(crate) fn new(conflated: Counter) -> Self {
        Self::with_room_for(MAX_JOBS, conflated)
    }

    /// For states that are larger, of fewer jobs.
    pub(super) fn with_room_for(max_jobs: usize, conflated: Counter) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            conflated,
            max_jobs,
        }
    }

    /// Puts a state in place of an older one of its job. A final one is replaced by a final one only.
    pub(crate) fn put(&self, state: T) {
        let mut waiting = self.lock();
        if let Some(older) = waiting.get_mut(state.job()) {
            self.conflated.inc();
            let is_newer = state.position() >= older.state.position();
            if is_newer && (state.is_final() || !older.state.is_final()) {
                older.state = state;
            }
            return;
        }
        if waiting.len() >= self.max_jobs {
            self.conflated.inc();
            // Of a job that goes on there will be another state.
            let open = waiting.values().position(|it| !it.state.is_final());
            match open.filter(|_| state.is_final()) {
                Some(open) => waiting.swap_remove_index(open),
                None => return,
            };
        }
        let since = Instant::now();
        let is_first = waiting.is_empty();
        waiting.insert(state.job().clone(), QueuedState { state, since });
        drop(waiting);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Puts a state back that could not be passed on, unless a newer one waits.
    pub(crate) fn put_back(&self, state: T) {
        let mut waiting = self.lock();
        let since = Instant::now();
        let entry = waiting.entry(state.job().clone());
        entry.or_insert(QueuedState { state, since });
        drop(waiting);
        self.wake.notify_one();
    }

    /// Waits for states, and takes at most `max`, those that have waited the longest. May be cancelled at any moment.
    pub(crate) async fn take(&self, max: usize) -> Vec<T> {
        loop {
            let taken = self.take_now(max);
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    /// Takes at most `max` states, those that have waited the longest.
    pub(crate) fn take_now(&self, max: usize) -> Vec<T> {
        let mut waiting = self.lock();
        let count = waiting.len().min(max);
        let taken = waiting.drain(..count);
        taken.map(|(_, queued)| queued.state).collect()
    }

    /// How many states wait, and how long the oldest has waited.
    pub(crate) fn backlog(&self) -> (usize, Duration) {
        let waiting = self.lock();
        let oldest = waiting.values().map(|queued| queued.since).min();
        let lag = oldest.map(|since| since.elapsed()).unwrap_or_default();
        (waiting.len(), lag)
    }

    /// The map is consistent at any moment, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, IndexMap<JobId, QueuedState<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::broker::{JobState, Position};

    fn state(job: &str, seq: u64, is_final: bool) -> JobState {
        JobState {
            job: JobId::parse(job).unwrap(),
            position: Position { epoch: 1, seq },
            is_final,
            payload: Bytes::new(),
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            ended_at: None,
            error_code: None,
            learned_from: None,
            output_urls: Vec::new(),
        }
    }

    fn taken(queue: &StateQueue<JobState>) -> Vec<(String, u64)> {
        let taken = queue.take_now(usize::MAX).into_iter();
        taken
            .map(|state| (state.job.to_string(), state.position.seq))
            .collect()
    }

    #[test]
    fn the_newest_state_of_each_job_is_taken_in_the_order_of_their_first() {
        let conflated = Counter::default();
        let queue = StateQueue::new(conflated.clone());
        queue.put(state("a", 1, false));
        queue.put(state("b", 1, false));
        queue.put(state("a", 3, false));
        queue.put(state("a", 2, false));
        assert_eq!(queue.backlog().0, 2);
        assert_eq!(taken(&queue), [("a".into(), 3), ("b".into(), 1)]);
        assert_eq!(conflated.get(), 2);
        assert_eq!(taken(&queue), []);
    }

    #[test]
    fn a_final_state_is_never_replaced_nor_left_out() {
        let queue = StateQueue::with_room_for(2, Counter::default());
        queue.put(state("a", 1, false));
        queue.put(state("b", 5, true));
        queue.put(state("b", 6, false));
        // There is no room for another job that goes on, but for one that has ended.
        queue.put(state("c", 1, false));
        queue.put(state("d", 9, true));
        let mut all = taken(&queue);
        all.sort();
        assert_eq!(all, [("b".into(), 5), ("d".into(), 9)]);
    }

    #[test]
    fn a_state_that_is_put_back_replaces_no_newer_one() {
        let queue = StateQueue::new(Counter::default());
        queue.put(state("a", 2, false));
        queue.put_back(state("a", 1, false));
        queue.put_back(state("b", 1, true));
        assert_eq!(taken(&queue), [("a".into(), 2), ("b".into(), 1)]);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let queue = std::sync::Arc::new(StateQueue::new(Counter::default()));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take(1).await }
        });
        queue.put(state("a", 1, false));
        assert_eq!(waiting.await.unwrap().len(), 1);
    }
}
