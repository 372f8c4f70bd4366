//! Writes the states of jobs, newest wins, in batches. Whoever records never waits.
//!
//! What is promised: each job's newest state is kept until it is written, however long the database
//! is away; memory is bounded by the number of jobs, not of states.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::database::{Fault, StoreError};
use super::rows::JobRecord;
use crate::job::JobId;

/// How long states are gathered before they are written together.
const BATCH_INTERVAL: Duration = Duration::from_millis(250);

/// How many jobs one statement writes at the most.
const MAX_BATCH: usize = 1_000;

/// The pause before a database that failed is tried again, and what it grows to.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How long a state rests that the database refuses, while it takes others: most likely it never takes
/// it, but a disk that is nearly full looks the same.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// How long the last states are tried to be written when the relay stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes the states of jobs and sees to it that they are written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<RecorderState>);

#[derive(Debug)]
struct RecorderState {
    store: Store,
    pending: Mutex<Pending>,
    wake: Notify,
    /// The number of the last state up to which all are written.
    written: watch::Sender<u64>,
    /// Whether the database is there and its schema up to date.
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Pending {
    /// The newest state of each job that is not written yet.
    records: HashMap<JobId, JobRecord>,
    /// Those that the database refuses, while it takes others.
    refused: HashMap<JobId, JobRecord>,
    /// When the refused ones are tried again.
    retry_at: Option<Instant>,
    /// How many states were recorded so far.
    recorded: u64,
    /// A final state waits, and is to be written at once.
    urgent: bool,
    /// The jobs whose states are being written at the moment.
    in_flight: Vec<JobId>,
}

/// How the recorder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderHealth {
    /// Whether the last attempt to write succeeded, for every job.
    pub is_connected: bool,
    /// How many jobs have a state that is not written yet.
    pub pending: usize,
}

impl Recorder {
    /// A recorder to a store. It writes once [`Recorder::run`] runs.
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

    /// Takes a state; an earlier one of the same job that is not written yet is dropped. Never waits.
    ///
    /// Returns the state's number, for [`Recorder::written`].
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

    /// Waits until a state, or a newer one of its job, is written.
    pub async fn written(&self, number: u64) {
        {
            // Somebody waits for it: no need to gather more.
            self.pending().urgent = true;
            self.0.wake.notify_one();
        }
        let mut written = self.0.written.subscribe();
        // Fails only where the recorder is gone, and this is a handle to it.
        let _ = written.wait_for(|written| *written >= number).await;
    }

    /// Whether the newest state of a job, which has this number, is written.
    pub fn is_written(&self, id: &JobId, number: u64) -> bool {
        let pending = self.pending();
        *self.0.written.borrow() >= number
            && !pending.records.contains_key(id)
            && !pending.refused.contains_key(id)
    }

    /// Waits until the database is there and its schema up to date.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        // Fails only where the recorder is gone, and this is a handle to it.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// How it does.
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

    /// Migrates, then writes until `stop`; then writes what is left.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        if !self.migrate(&mut failures, &stop).await {
            return self.tell_loss();
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.batch_is_due() => {}
            }
            match self.flush().await {
                Ok(()) => self.succeeded(&mut failures),
                Err(error) => {
                    self.failed(&mut failures, &error);
                    if self.pause(failures, &stop).await {
                        break;
                    }
                }
            }
        }
        self.drain().await;
    }

    /// Tries until the schema is up to date. `false` where it is time to stop.
    async fn migrate(&self, failures: &mut u32, stop: &CancellationToken) -> bool {
        loop {
            // Where another relay migrates, it is waited for.
            let migrated = stop.run_until_cancelled(self.0.store.migrate()).await;
            match migrated {
                None => return false,
                Some(Ok(())) => {
                    self.succeeded(failures);
                    return true;
                }
                Some(Err(error)) => self.failed(failures, &error),
            }
            if self.pause(*failures, stop).await {
                return false;
            }
        }
    }

    /// Waits until something is recorded, and then for more of it, unless it is urgent.
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

    /// Writes everything that is pending. What could not be written is pending again.
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
        let mut left: Vec<JobRecord> = records.into_values().collect();
        while !left.is_empty() {
            let batch = left.split_off(left.len().saturating_sub(MAX_BATCH));
            if let Err((error, unwritten)) = self.write(batch).await {
                left.extend(unwritten);
                self.put_back(left);
                return Err(error);
            }
        }
        self.pending().in_flight.clear();
        self.0.written.send_replace(recorded);
        Ok(())
    }

    /// Writes a batch. Where the database refuses it, but takes others of its jobs one by one, the
    /// refused ones rest for a while, so that they hold up nobody.
    async fn write(&self, batch: Vec<JobRecord>) -> Result<(), (StoreError, Vec<JobRecord>)> {
        let error = match self.0.store.upsert(&batch).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match (error.fault(), batch.len()) {
            (Fault::Database, _) | (Fault::Either, 1) => return Err((error, batch)),
            (Fault::Data, 1) => {
                self.rest(batch, &error);
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
        self.rest(refused, &error);
        Ok(())
    }

    /// Keeps the states that the database refuses, to try them again later.
    fn rest(&self, refused: Vec<JobRecord>, error: &StoreError) {
        let error = error as &dyn std::error::Error;
        let mut pending = self.pending();
        for record in refused {
            let job_id = record.progress.job_id.clone();
            if !pending.records.contains_key(&job_id) {
                tracing::error!(%job_id, error, "the database refuses this job, which is tried again");
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
            // A newer state may have come meanwhile.
            pending.records.entry(id).or_insert(record);
        }
    }

    fn succeeded(&self, failures: &mut u32) {
        if *failures > 0 {
            tracing::info!("the database is back, everything is written");
        }
        *failures = 0;
        self.0.ready.send_replace(true);
    }

    fn failed(&self, failures: &mut u32, error: &StoreError) {
        if *failures == 0 {
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the database fails; states are kept until it is back"
            );
        }
        *failures = failures.saturating_add(1);
        self.0.ready.send_replace(false);
    }

    /// Waits before the next attempt. Says whether it is time to stop.
    async fn pause(&self, failures: u32, stop: &CancellationToken) -> bool {
        let (first, most) = RETRY_PAUSE;
        let pause = first.saturating_mul(1 << failures.min(8)).min(most);
        tokio::select! {
            () = stop.cancelled() => true,
            () = sleep_until(Instant::now() + pause) => false,
        }
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
                tracing::debug!(error, "the database fails to the last");
            }
            Err(_) => tracing::error!("the database did not take the newest states in time"),
        }
        self.tell_loss();
    }

    fn tell_loss(&self) {
        let jobs = self.health().pending;
        if jobs > 0 {
            tracing::error!(jobs, "the newest states of some jobs could not be written");
        }
    }

    /// What is pending is whole at any moment, also after a panic elsewhere.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Has the refused states tried again with the next batch, unless there are newer ones.
    fn retry_refused(&mut self) {
        self.retry_at = None;
        for (id, record) in self.refused.drain() {
            self.records.entry(id).or_insert(record);
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
