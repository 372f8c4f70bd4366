//! Writes the newest states of jobs in batches, on a task of its own: recording a state never waits.
//!
//! Guarantees: the newest state of each job is kept until it is written, however long the database is unreachable;
//! memory is bounded by the number of jobs, not of states.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::database::{Fault, StoreError};
use super::mirror::MirrorTask;
use super::rows::JobRecord;
use crate::job::JobId;

/// How long states are collected before they are written together.
const BATCH_INTERVAL: Duration = Duration::from_millis(250);

/// How many jobs one statement writes at most.
const MAX_BATCH: usize = 1_000;

/// The pauses after failures of the database in a row. Without jitter: it is one database, and few relays.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_max_delay(MAX_PAUSE)
    .without_max_times();

/// The longest pause after a failure of the database.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The pause before a state is written again that the database refuses while it accepts others. Most likely it never
/// accepts it, but a disk that is nearly full looks the same.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

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
    /// All states up to this number are written.
    written: watch::Sender<u64>,
    /// Whether the last attempt to reach the database succeeded, with its schema up to date.
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Pending {
    /// The newest unwritten state of each job.
    records: HashMap<JobId, JobRecord>,
    /// The states that the database refuses while it accepts others.
    refused: HashMap<JobId, JobRecord>,
    /// When the refused states are written again.
    retry_at: Option<Instant>,
    /// How many states have been recorded.
    recorded: u64,
    /// Whether the next batch is written at once: it has a final state, or a caller waits for it.
    urgent: bool,
    /// The jobs whose states are being written.
    in_flight: Vec<JobId>,
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
            written: watch::Sender::new(0),
            ready: watch::Sender::new(false),
        }))
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Records a state in place of an unwritten earlier one of the same job. Never waits.
    ///
    /// Returns the number of the state, for [`Recorder::written`].
    pub fn record(&self, record: JobRecord) -> u64 {
        let mut pending = self.pending();
        let is_urgent = record.is_final();
        let is_first = pending.records.is_empty();
        let id = record.progress.job_id.clone();
        pending.refused.remove(&id);
        pending.records.insert(id, record);
        pending.recorded += 1;
        pending.urgent |= is_urgent;
        let number = pending.recorded;
        drop(pending);
        if is_first || is_urgent {
            self.0.wake.notify_one();
        }
        number
    }

    /// Waits until a state or a newer one of its job is written.
    pub async fn written(&self, number: u64) {
        // The caller waits: no more states are collected first.
        self.pending().urgent = true;
        self.0.wake.notify_one();
        let mut written = self.0.written.subscribe();
        // Fails only without a sender, and `self` holds it.
        let _ = written.wait_for(|written| *written >= number).await;
    }

    /// Whether the newest state of a job is written; `number` is that of the state.
    pub fn is_written(&self, id: &JobId, number: u64) -> bool {
        let pending = self.pending();
        *self.0.written.borrow() >= number
            && !pending.records.contains_key(id)
            && !pending.refused.contains_key(id)
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
        let in_flight = pending.in_flight.iter();
        let in_flight = in_flight
            .filter(|id| !pending.records.contains_key(*id))
            .count();
        RecorderHealth {
            is_connected: *self.0.ready.borrow() && pending.refused.is_empty(),
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
        while self.pending().records.is_empty() {
            let retry_at = self.pending().retry_at;
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = until(retry_at) => self.pending().retry_refused(),
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

    /// Writes all pending states. Those that could not be written become pending again.
    async fn flush(&self) -> Result<(), StoreError> {
        let (records, recorded) = {
            let mut pending = self.pending();
            pending.urgent = false;
            if pending.retry_at.is_some_and(|due| due <= Instant::now()) {
                pending.retry_refused();
            }
            pending.in_flight = pending.records.keys().cloned().collect();
            (std::mem::take(&mut pending.records), pending.recorded)
        };
        let mut unwritten: Vec<JobRecord> = records.into_values().collect();
        while !unwritten.is_empty() {
            let batch = unwritten.split_off(unwritten.len().saturating_sub(MAX_BATCH));
            if let Err((error, failed)) = self.write(batch).await {
                unwritten.extend(failed);
                self.put_back(unwritten);
                return Err(error);
            }
        }
        self.pending().in_flight.clear();
        self.0.written.send_replace(recorded);
        Ok(())
    }

    /// Writes a batch. If the database refuses it but accepts some of its jobs one by one, the others are set aside, so
    /// that they do not block the rest. Returns the jobs that could not be written because of the database.
    async fn write(&self, batch: Vec<JobRecord>) -> Result<(), (StoreError, Vec<JobRecord>)> {
        let error = match self.0.store.upsert(&batch).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match (error.fault(), batch.len()) {
            (Fault::Database, _) | (Fault::Either, 1) => return Err((error, batch)),
            (Fault::Data, 1) => {
                self.set_aside(batch, &error);
                return Ok(());
            }
            _ => {}
        }
        let (mut refused, mut is_the_data) = (Vec::new(), true);
        let total = batch.len();
        let mut left = batch.into_iter();
        while let Some(record) = left.next() {
            let saved = self.0.store.upsert(std::slice::from_ref(&record)).await;
            let Err(error) = saved else { continue };
            refused.push(record);
            if error.fault() == Fault::Database {
                refused.extend(left);
                return Err((error, refused));
            }
            is_the_data &= error.fault() == Fault::Data;
        }
        if refused.len() == total && !is_the_data {
            return Err((error, refused));
        }
        self.set_aside(refused, &error);
        Ok(())
    }

    /// Keeps the states that the database refuses, to write them again later.
    fn set_aside(&self, refused: Vec<JobRecord>, error: &StoreError) {
        let error = error as &dyn std::error::Error;
        let mut pending = self.pending();
        for record in refused {
            let job_id = record.progress.job_id.clone();
            if !pending.records.contains_key(&job_id) {
                tracing::error!(%job_id, error, "the database refuses this job; it will be written again later");
                pending.refused.insert(job_id, record);
            }
        }
        pending.retry_at = Some(Instant::now() + REFUSED_PAUSE);
    }

    fn put_back(&self, records: Vec<JobRecord>) {
        let mut pending = self.pending();
        pending.in_flight.clear();
        for record in records {
            pending.urgent |= record.is_final();
            let id = record.progress.job_id.clone();
            // A newer state may have been recorded meanwhile.
            pending.records.entry(id).or_insert(record);
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
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the database fails; states are kept in memory until it works again"
            );
        }
        self.0.ready.send_replace(false);
        let backoff = backoff.get_or_insert_with(|| BACKOFF.build());
        backoff.next().unwrap_or(MAX_PAUSE)
    }

    async fn drain(&self) {
        self.pending().retry_refused();
        let drained = timeout(DRAIN_TIMEOUT, async {
            while !self.pending().records.is_empty() {
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

impl Pending {
    /// Adds the refused states to the next batch, except those with a newer state.
    fn retry_refused(&mut self) {
        self.retry_at = None;
        for (id, record) in self.refused.drain() {
            self.records.entry(id).or_insert(record);
        }
    }
}

/// Waits until `moment`, for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
