//! Wake-ups that wait: those that are to be sent, each hint once, and those that were received.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indexmap::IndexSet;
use tokio::sync::Notify;

use super::wake::{Hint, MAX_HINTS, WakeUp};
use crate::job::JobId;

/// How many hints, or messages of other relays, wait at most. What is dropped is found at the next look.
const MAX_WAITING: usize = 1_000;

/// Hints that wait for the network. Putting one never waits.
#[derive(Debug, Default)]
pub(super) struct WakeOutbox {
    waiting: Mutex<WaitingHints>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct WaitingHints {
    hints: IndexSet<Hint>,
    /// The jobs of which previews are wanted, if that is to be sent.
    previews: Option<HashSet<JobId>>,
    /// A message that none are wanted goes before it.
    is_anew: bool,
}

/// Messages of other relays that wait for this one.
#[derive(Debug, Default)]
pub(super) struct WakeInbox {
    waiting: Mutex<VecDeque<WakeUp>>,
    wake: Notify,
}

impl WakeOutbox {
    /// Puts a hint, unless the same waits already.
    pub(super) fn put(&self, hint: Hint) {
        let mut waiting = lock(&self.waiting);
        if waiting.hints.len() < MAX_WAITING && waiting.hints.insert(hint) {
            self.wake.notify_one();
        }
    }

    /// Puts the jobs of which previews are wanted, in place of those before.
    pub(super) fn put_previews(&self, jobs: HashSet<JobId>) {
        lock(&self.waiting).previews = Some(jobs);
        self.wake.notify_one();
    }

    /// Puts the jobs of which previews are wanted on a new connection. The owners are to send the newest ones of all of them,
    /// also of those that were wanted before: they may have been sent to a connection that was lost.
    pub(super) fn put_previews_anew(&self, jobs: HashSet<JobId>) {
        let mut waiting = lock(&self.waiting);
        (waiting.previews, waiting.is_anew) = (Some(jobs), true);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Puts back what could not be sent. What has been put since is newer.
    pub(super) fn put_back(&self, wake_up: WakeUp) {
        let mut waiting = lock(&self.waiting);
        waiting.hints.extend(wake_up.hints);
        waiting.hints.truncate(MAX_WAITING);
        if let Some(jobs) = wake_up.previews {
            waiting.is_anew |= jobs.is_empty() && waiting.previews.is_some();
            waiting
                .previews
                .get_or_insert_with(|| jobs.into_iter().collect());
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Waits for hints, and takes as many as one message has. May be cancelled at any moment.
    pub(super) async fn take(&self, from: &str) -> WakeUp {
        loop {
            if let Some(wake_up) = self.take_now(from) {
                return wake_up;
            }
            self.wake.notified().await;
        }
    }

    fn take_now(&self, from: &str) -> Option<WakeUp> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.hints.len().min(MAX_HINTS);
        let hints: Vec<Hint> = waiting.hints.drain(..count).collect();
        let previews = if std::mem::take(&mut waiting.is_anew) {
            Some(HashSet::new())
        } else {
            waiting.previews.take()
        };
        if hints.is_empty() && previews.is_none() {
            return None;
        }
        Some(WakeUp {
            from: from.to_owned(),
            hints,
            previews: previews.map(|jobs| jobs.into_iter().collect()),
        })
    }
}

impl WakeInbox {
    pub(super) fn put(&self, wake_up: WakeUp) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MAX_WAITING {
            waiting.push_back(wake_up);
            self.wake.notify_one();
        }
    }

    /// Waits for messages, and takes all that there are. May be cancelled at any moment.
    pub(super) async fn take(&self) -> Vec<WakeUp> {
        loop {
            let taken: Vec<WakeUp> = lock(&self.waiting).drain(..).collect();
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }
}

/// What these locks guard is consistent at any moment, also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn cancel(job: usize) -> Hint {
        Hint::Cancel(JobId::parse(&format!("job-{job}")).unwrap())
    }

    #[test]
    fn a_burst_of_one_hint_is_sent_once() {
        let outbox = WakeOutbox::default();
        for _ in 0..1_000 {
            outbox.put(Hint::Queue);
        }
        outbox.put(cancel(1));
        let taken = outbox.take_now("a").unwrap();
        assert_eq!(taken.hints, [Hint::Queue, cancel(1)]);
        assert_eq!(outbox.take_now("a"), None);
    }

    #[test]
    fn what_a_new_connection_wants_is_wanted_anew() {
        let outbox = WakeOutbox::default();
        let job = JobId::parse("shot").unwrap();
        let previews = || outbox.take_now("a").unwrap().previews.unwrap();
        outbox.put_previews_anew(HashSet::from([job.clone()]));
        assert!(previews().is_empty());
        assert_eq!(previews(), slice::from_ref(&job));
        outbox.put_previews(HashSet::from([job.clone()]));
        assert_eq!(previews(), slice::from_ref(&job));
        // Neither message gets lost.
        outbox.put_previews_anew(HashSet::from([job.clone()]));
        outbox.put_back(outbox.take_now("a").unwrap());
        assert!(previews().is_empty());
        outbox.put_back(outbox.take_now("a").unwrap());
        assert_eq!(previews(), [job]);
        assert_eq!(outbox.take_now("a"), None);
    }

    #[test]
    fn hints_that_are_put_back_are_bounded_and_sent_once() {
        let outbox = WakeOutbox::default();
        outbox.put(Hint::Queue);
        let taken = outbox.take_now("a").unwrap();
        (0..MAX_WAITING).for_each(|job| outbox.put(cancel(job)));
        outbox.put_back(taken);
        assert_eq!(lock(&outbox.waiting).hints.len(), MAX_WAITING);
        let taken = outbox.take_now("a").unwrap();
        outbox.put(cancel(0));
        outbox.put_back(taken);
        assert_eq!(lock(&outbox.waiting).hints.len(), MAX_WAITING);
    }

    #[test]
    fn hints_and_messages_are_bounded() {
        let outbox = WakeOutbox::default();
        (0..2 * MAX_WAITING).for_each(|job| outbox.put(cancel(job)));
        let mut taken = 0;
        while let Some(wake_up) = outbox.take_now("a") {
            assert!(wake_up.hints.len() <= MAX_HINTS);
            taken += wake_up.hints.len();
        }
        assert_eq!(taken, MAX_WAITING);
    }

    #[tokio::test]
    async fn messages_are_taken_in_their_order() {
        let inbox = WakeInbox::default();
        for job in 0..2 * MAX_WAITING {
            inbox.put(WakeUp {
                from: "a".to_owned(),
                hints: vec![cancel(job)],
                previews: None,
            });
        }
        let taken = inbox.take().await;
        assert_eq!(taken.len(), MAX_WAITING);
        assert_eq!(taken[1].hints, [cancel(1)]);
    }
}
