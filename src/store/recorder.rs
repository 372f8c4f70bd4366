//! Writes the newest states of jobs in batches, on a task of its own: recording a state never waits.
//!
//! Guarantees: the newest state of each job is kept until it is written, however long the database is unreachable;
//! memory is bounded by the number of jobs, not of states.

mod batches;
mod pending;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::database::StoreError;
use super::mirror::MirrorTask;
use super::rows::JobRecord;
use crate::job::JobId;
use pending::Pending;

/// How long states are collected before they are written together.
const BATCH_INTERVAL: Duration = Duration::from_millis(250);

/// The pauses after failures of the database in a row. Without jitter: it is one database, and few relays.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_max_delay(MAX_PAUSE)
    .without_max_times();

/// The longest pause after a failure of the database.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long writing the last states may take when the relay stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Records the states of jobs, to be written soon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<RecorderState>);

#[derive(Debug)]
struct RecorderState {
    store: Store,
    pending: Mutex<Pending>,
    wake: Notify,
    /// Changes whenever states were written, refused, or found to be another relay's.
    settled: watch::Sender<()>,
    /// Whether the last attempt to reach the database succeeded, with its schema up to date.
    ready: watch::Sender<bool>,
}

/// What became of a recorded state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It or a newer one of its job is on the disk.
    Yes,
    /// Another relay has taken the job over, or ended it: the row is newer.
    Moved,
    /// The database refuses it, for this reason, while it accepts others.
    Refused(String),
}

/// The health of a recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderHealth {
    /// Whether the last attempt to write succeeded for every job.
    pub is_connected: bool,
    /// How many jobs have an unwritten state.
    pub pending: usize,
}

impl Recorder {
    /// A recorder that writes to `store` while [`Recorder::run`] runs.
    pub fn new(store: Store) -> Self {
        Self(Arc::new(RecorderState {
            store,
            pending: Mutex::default(),
            wake: Notify::new(),
            settled: watch::Sender::new(()),
            ready: watch::Sender::new(false),
        }))
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Records a state in place of an unwritten earlier one of the same job. Never waits.
    pub fn record(&self, record: JobRecord) {
        let mut pending = self.pending();
        let is_urgent = record.is_final();
        let is_first = pending.records.is_empty();
        pending.record(record);
        drop(pending);
        if is_first || is_urgent {
            self.0.wake.notify_one();
        }
    }

    /// Drops what is not written of a job, and deletes its row soon. It can be recorded again afterwards. Never waits.
    pub fn forget(&self, id: &JobId) {
        self.pending().remove(id);
        self.0.wake.notify_one();
    }

    /// Waits until the state of a job that is the newest at this moment is written, or cannot be.
    pub async fn written(&self, id: &JobId) -> Written {
        let newest = {
            let mut pending = self.pending();
            // The caller waits: no more states are collected first.
            pending.urgent = true;
            pending.last_number
        };
        self.0.wake.notify_one();
        let mut settled = self.0.settled.subscribe();
        loop {
            settled.borrow_and_update();
            {
                let pending = self.pending();
                if pending.moved.contains(id) {
                    return Written::Moved;
                }
                if let Some(refused) = pending.refused.get(id) {
                    return Written::Refused(refused.reason.clone());
                }
                if !pending.has_unwritten(id, newest) {
                    return Written::Yes;
                }
            }
            // Fails only without a sender, and `self` holds it.
            let _ = settled.changed().await;
        }
    }

    /// Whether the newest state of a job is written.
    pub fn is_written(&self, id: &JobId) -> bool {
        let pending = self.pending();
        !pending.has_unwritten(id, pending.last_number) && !pending.moved.contains(id)
    }

    /// The jobs whose newest states are not written, or not known to be.
    pub fn unwritten(&self) -> HashSet<JobId> {
        let pending = self.pending();
        let waiting = pending.records.keys().chain(pending.refused.keys());
        let others = pending.in_flight.keys().chain(&pending.moved);
        waiting.chain(others).cloned().collect()
    }

    /// Waits until rows turn out to be newer than the states of their jobs. Returns these jobs, again and again until
    /// [`Recorder::forget_moved`].
    pub async fn moved(&self) -> Vec<JobId> {
        let mut settled = self.0.settled.subscribe();
        loop {
            settled.borrow_and_update();
            let moved: Vec<JobId> = self.pending().moved.iter().cloned().collect();
            if !moved.is_empty() {
                return moved;
            }
            // Fails only without a sender, and `self` holds it.
            let _ = settled.changed().await;
        }
    }

    /// The rows of these jobs have been read.
    pub fn forget_moved(&self, ids: &[JobId]) {
        let mut pending = self.pending();
        for id in ids {
            pending.moved.remove(id);
        }
    }

    /// Whether the last attempt to reach the database succeeded, with its schema up to date.
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Waits until the database is reachable and its schema up to date.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        // Fails only without a sender, and `self` holds it.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Waits for that until a deadline, or as long as rows of an earlier release are copied. Returns whether it is so.
    pub async fn ready_by(&self, deadline: Instant) -> bool {
        let mut until = deadline;
        while timeout_at(until, self.ready()).await.is_err() {
            if !self.0.store.is_copying() {
                return false;
            }
            until = Instant::now() + BATCH_INTERVAL;
        }
        true
    }

    /// Its health.
    pub fn health(&self) -> RecorderHealth {
        let pending = self.pending();
        let in_flight = pending.in_flight.keys();
        let in_flight = in_flight
            .filter(|id| !pending.records.contains_key(*id))
            .count();
        RecorderHealth {
            is_connected: self.is_ready() && pending.refused.is_empty(),
            pending: pending.records.len() + pending.refused.len() + in_flight,
        }
    }

    /// Migrates the schema, then writes batches until `stop`, then the states that are left.
    pub async fn run(self, stop: CancellationToken) {
        // `None` as long as the database works.
        let mut backoff = None;
        if !self.migrate(&mut backoff, &stop).await {
            return self.log_loss();
        }
        let written = CancellationToken::new();
        let mirror = MirrorTask {
            mirror: self.0.store.mirror.clone(),
            store: self.0.store.clone(),
        };
        let mirroring = tokio::spawn(mirror.run(written.clone()));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.batch_is_due() => {}
            }
            match self.flush().await {
                Ok(()) => self.on_success(&mut backoff),
                Err(error) => {
                    let pause = self.on_failure(&mut backoff, &error);
                    if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        break;
                    }
                }
            }
        }
        self.drain().await;
        written.cancel();
        // A panic was logged.
        let _ = mirroring.await;
    }

    /// Tries until the schema is up to date. Returns `false` if it is time to stop first.
    async fn migrate(
        &self,
        backoff: &mut Option<ExponentialBackoff>,
        stop: &CancellationToken,
    ) -> bool {
        loop {
            // Waits for a lock if another relay migrates.
            let pause = match stop.run_until_cancelled(self.0.store.migrate()).await {
                None => return false,
                Some(Ok(())) => {
                    self.on_success(backoff);
                    return true;
                }
                Some(Err(error)) => self.on_failure(backoff, &error),
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return false;
            }
        }
    }

    /// Waits for the first state, then for more of them until the batch is urgent or due.
    async fn batch_is_due(&self) {
        while self.pending().is_empty() {
            let retry_at = self.pending().retry_at();
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = until(retry_at) => self.pending().retry_refused(Some(Instant::now())),
            }
        }
        let due = Instant::now() + BATCH_INTERVAL;
        while !self.pending().urgent {
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = sleep_until(due) => return,
            }
        }
    }

    fn on_success(&self, backoff: &mut Option<ExponentialBackoff>) {
        if backoff.take().is_some() {
            tracing::info!("the database works again, everything is written");
        }
        self.0.ready.send_replace(true);
    }

    /// Logs the first failure in a row. Returns the pause before the next attempt.
    fn on_failure(&self, backoff: &mut Option<ExponentialBackoff>, error: &StoreError) -> Duration {
        if backoff.is_none() {
            let reason = match error {
                // Its own reason is that a connection took too long.
                StoreError::Unreachable(_) => self.0.store.connect_failure(),
                _ => None,
            };
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                error,
                reason,
                "the database fails; states are kept in memory until it works again"
            );
        }
        self.0.ready.send_replace(false);
        let backoff = backoff.get_or_insert_with(|| BACKOFF.build());
        backoff.next().unwrap_or(MAX_PAUSE)
    }

    async fn drain(&self) {
        self.pending().retry_refused(None);
        let drained = timeout(DRAIN_TIMEOUT, async {
            while !self.pending().is_empty() {
                self.flush().await?;
            }
            Ok::<(), StoreError>(())
        });
        match drained.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "the last states could not be written");
            }
            Err(_) => tracing::error!("the database did not accept the last states in time"),
        }
        self.log_loss();
    }

    fn log_loss(&self) {
        let jobs = self.health().pending;
        if jobs > 0 {
            tracing::error!(jobs, "the newest states of some jobs could not be written");
        }
    }

    /// A panic elsewhere leaves the value consistent, so a poisoned lock is used as it is.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until `moment`, for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
