//! Writes the states that wait, so that one that the database refuses delays no other.

use std::time::Duration;

use tokio::time::Instant;

use super::Recorder;
use super::pending::RefusedRecord;
use crate::job::JobId;
use crate::store::database::{Fault, StoreError};
use crate::store::rows::JobRecord;

/// How many jobs one statement writes at most.
const MAX_BATCH: usize = 1_000;

/// The pause before a state is written again that the database refuses while it accepts others. Most likely it never
/// accepts it, but a disk that is nearly full looks the same.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// How many states of a batch in a row must fail one by one before the fault is the database's.
const MAX_FAILURES: usize = 3;

impl Recorder {
    /// Writes all pending states. Those that could not be written become pending again.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        self.delete_removed().await?;
        let mut unwritten = {
            let mut pending = self.pending();
            pending.retry_refused(Some(Instant::now()));
            pending.take()
        };
        while !unwritten.is_empty() {
            let batch = unwritten.split_off(unwritten.len().saturating_sub(MAX_BATCH));
            if let Err((error, failed)) = self.write(batch).await {
                unwritten.extend(failed);
                self.put_back(unwritten);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Deletes the rows of jobs that were forgotten. Before anything is written: one of them may have been recorded again.
    async fn delete_removed(&self) -> Result<(), StoreError> {
        let removed: Vec<JobId> = self.pending().removed.iter().cloned().collect();
        if removed.is_empty() {
            return Ok(());
        }
        self.0.store.delete_jobs(&removed).await?;
        let mut pending = self.pending();
        for id in &removed {
            pending.removed.remove(id);
        }
        Ok(())
    }

    /// Writes a batch. If the database refuses it but accepts some of its jobs one by one, the others are set aside, so
    /// that they do not block the rest. Returns the jobs that could not be written because of the database.
    async fn write(&self, mut batch: Vec<JobRecord>) -> Result<(), (StoreError, Vec<JobRecord>)> {
        let error = match self.0.store.upsert(&batch).await {
            Ok(moved) => {
                self.settle(&batch, moved);
                return Ok(());
            }
            Err(error) => error,
        };
        match (error.fault(), batch.len()) {
            (Fault::Database, _) | (Fault::Either, 1) => return Err((error, batch)),
            (Fault::Data, 1) => {
                self.set_aside(batch.into_iter().map(|record| (record, reason(&error))));
                return Ok(());
            }
            _ => {}
        }
        let (mut refused, mut is_the_data) = (Vec::new(), true);
        let total = batch.len();
        // Ends are written first: what holds the batch up may hold the others up too.
        batch.sort_by_key(|record| !record.is_final());
        let mut left = batch.into_iter();
        while let Some(record) = left.next() {
            let saved = self.0.store.upsert(std::slice::from_ref(&record)).await;
            let error = match saved {
                Ok(moved) => {
                    self.settle(&[record], moved);
                    continue;
                }
                Err(error) => error,
            };
            refused.push((record, reason(&error)));
            is_the_data &= error.fault() == Fault::Data;
            let tried = total - left.len();
            // Nothing can be written, such as while somebody locks the table: each attempt takes as long as the lock.
            let all_fail = refused.len() == tried && tried >= MAX_FAILURES && !is_the_data;
            if all_fail || error.fault() == Fault::Database {
                let refused = refused.into_iter().map(|(record, _)| record);
                return Err((error, refused.chain(left).collect()));
            }
        }
        if refused.len() == total && !is_the_data {
            let refused = refused.into_iter().map(|(record, _)| record);
            return Err((error, refused.collect()));
        }
        self.set_aside(refused);
        Ok(())
    }

    /// A batch was written, except the jobs that another relay has.
    fn settle(&self, batch: &[JobRecord], moved: Vec<JobId>) {
        let mut pending = self.pending();
        for record in batch {
            pending.in_flight.remove(&record.progress.job_id);
        }
        pending.moved.extend(moved);
        drop(pending);
        self.0.settled.send_replace(());
    }

    /// Keeps the states that the database refuses, to write them again later.
    fn set_aside(&self, refused: impl IntoIterator<Item = (JobRecord, String)>) {
        let retry_at = Instant::now() + REFUSED_PAUSE;
        let mut pending = self.pending();
        for (record, reason) in refused {
            if let Some(state) = pending.give_back(record) {
                let job_id = state.record.progress.job_id.clone();
                tracing::error!(%job_id, reason, "the database refuses this job; it will be written again later");
                let refused = RefusedRecord {
                    state,
                    reason,
                    retry_at,
                };
                pending.refused.insert(job_id, refused);
            }
        }
        drop(pending);
        self.0.settled.send_replace(());
    }

    fn put_back(&self, records: Vec<JobRecord>) {
        let mut pending = self.pending();
        for record in records {
            pending.urgent |= record.is_final();
            if let Some(state) = pending.give_back(record) {
                let id = state.record.progress.job_id.clone();
                pending.records.insert(id, state);
            }
        }
    }
}

/// The database's own reason for an error.
fn reason(error: &StoreError) -> String {
    match error {
        StoreError::Query(error) => error.to_string(),
        error => error.to_string(),
    }
}
