//! [`Looks`]: what is to be looked at in the database at once, because another relay has written it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::job::JobId;

/// The least time between two looks of one kind: a burst of a thousand submissions is a few of them.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause after a look that has failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// After a look that took a second, the next one waits so many seconds: the database is for others, too.
const REST_FACTOR: u32 = 4;

/// How many jobs are read by their ids in one look at most. The others are read at the next tick.
const MAX_JOBS: usize = 1_000;

/// What is to be looked at in the database at once, and not at the next tick.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// What operators have stopped.
    pub(super) operations: Look,
    /// The jobs that wait.
    pub(super) queue: Look,
    /// The rows below.
    pub(super) rows: Look,
    wanted: Mutex<WantedRows>,
    /// The jobs that are being cancelled because other relays were asked to. Held while it is read what is to be: no job is
    /// cancelled twice at the same time.
    pub(super) cancelling: tokio::sync::Mutex<HashSet<JobId>>,
}

/// The rows that are to be read.
#[derive(Debug, Default)]
pub(super) struct WantedRows {
    /// Jobs that another relay has taken over.
    pub(super) jobs: HashSet<JobId>,
    /// Jobs of ours are to be cancelled.
    pub(super) has_cancels: bool,
    /// Feeds are followed here, and there are new jobs.
    pub(super) has_new: bool,
    /// Jobs were registered on backends that this relay follows.
    pub(super) has_registered: bool,
}

/// A look that can be asked for.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// It is asked for, and has not happened since.
    is_wanted: AtomicBool,
    wake: Notify,
    /// When the next one may be.
    due: Mutex<Option<Instant>>,
}

impl Looks {
    /// Has rows read.
    pub(super) fn want_rows(&self, change: impl FnOnce(&mut WantedRows)) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut wanted);
        drop(wanted);
        self.rows.want();
    }

    /// Has rows read later that could not be read.
    pub(super) fn put_back_rows(&self, rows: WantedRows) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        rows.jobs.into_iter().for_each(|job| wanted.add(job));
        wanted.has_cancels |= rows.has_cancels;
        wanted.has_new |= rows.has_new;
        wanted.has_registered |= rows.has_registered;
        drop(wanted);
        self.rows.failed();
    }

    /// The rows that are to be read.
    pub(super) fn take_rows(&self) -> WantedRows {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut wanted)
    }
}

impl WantedRows {
    /// Has the row of a job read.
    pub(super) fn add(&mut self, job: JobId) {
        if self.jobs.len() < MAX_JOBS {
            self.jobs.insert(job);
        }
    }
}

impl Look {
    /// Asks for a look. Those that are asked for before it happens are one.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits until a look is asked for, and the last one is long enough ago. May be cancelled at any moment: the look is asked
    /// for until this returns.
    pub(super) async fn wanted(&self) {
        while !self.is_wanted.load(Ordering::Acquire) {
            self.wake.notified().await;
        }
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(due) = due {
            sleep_until(due).await;
        }
        // What is asked for from here on may be written after this look has read.
        self.is_wanted.store(false, Ordering::Release);
        self.rest(PAUSE);
    }

    /// Records how long a look took.
    pub(super) fn took(&self, time: Duration) {
        self.rest(PAUSE.max(time * REST_FACTOR));
    }

    /// Has a look that has failed made again later.
    pub(super) fn failed(&self) {
        self.want();
        self.rest(FAILURE_PAUSE);
    }

    fn rest(&self, pause: Duration) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = Some(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_is_one_look_and_the_next_comes_later() {
        let look = Look::default();
        (0..1_000).for_each(|_| look.want());
        look.wanted().await;
        let first = Instant::now();
        (0..1_000).for_each(|_| look.want());
        look.wanted().await;
        assert!(first.elapsed() >= PAUSE / 2, "{:?}", first.elapsed());
        let third = tokio::time::timeout(2 * PAUSE, look.wanted());
        assert!(third.await.is_err());
    }

    #[tokio::test]
    async fn after_a_long_look_the_next_one_waits() {
        let look = Look::default();
        look.want();
        look.wanted().await;
        let first = Instant::now();
        look.took(PAUSE);
        look.want();
        look.wanted().await;
        let waited = first.elapsed();
        assert!(waited >= PAUSE * (REST_FACTOR - 1), "{waited:?}");
    }

    #[tokio::test]
    async fn a_look_that_is_waited_for_twice_is_not_lost() {
        let look = Look::default();
        look.want();
        look.wanted().await;
        look.want();
        // It rests: what else happens meanwhile ends the wait.
        let first = tokio::time::timeout(PAUSE / 10, look.wanted());
        assert!(first.await.is_err());
        let second = tokio::time::timeout(100 * PAUSE, look.wanted());
        assert!(second.await.is_ok());
        let third = tokio::time::timeout(2 * PAUSE, look.wanted());
        assert!(third.await.is_err());
    }

    #[test]
    fn rows_are_bounded_and_taken_once() {
        let looks = Looks::default();
        for job in 0..2 * MAX_JOBS {
            let id = JobId::parse(&format!("job-{job}")).unwrap();
            looks.want_rows(|rows| rows.add(id));
        }
        assert_eq!(looks.take_rows().jobs.len(), MAX_JOBS);
        assert!(looks.take_rows().jobs.is_empty());
    }

    #[tokio::test]
    async fn rows_that_could_not_be_read_are_read_later() {
        let looks = Looks::default();
        looks.want_rows(|rows| rows.has_cancels = true);
        looks.rows.wanted().await;
        let failed = looks.take_rows();
        looks.want_rows(|rows| rows.add(JobId::parse("shot").unwrap()));
        let began = Instant::now();
        looks.put_back_rows(failed);
        looks.rows.wanted().await;
        assert!(began.elapsed() >= FAILURE_PAUSE);
        let rows = looks.take_rows();
        assert!(rows.has_cancels && !rows.has_new && rows.jobs.len() == 1);
    }
}
