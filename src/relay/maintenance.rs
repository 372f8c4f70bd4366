//! What the relay does at intervals.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::Relay;
use super::input_files::INPUT_AGE;
use super::registry::{Entry, Remembered};
use super::requests::once::KEY_AGE;
use crate::job::JobId;
use crate::store::StoreError;

/// How often in a heartbeat silent jobs are looked for: a heartbeat is late by a quarter at most.
const TICKS_PER_HEARTBEAT: u32 = 4;

/// How long an ended job is remembered at least since somebody asked for it or it was read from the store: whoever has
/// looked it up must find it.
pub(super) const MIN_REMEMBERED: Duration = Duration::from_secs(1);

impl Relay {
    /// Publishes the state of running jobs again, with the estimate of the moment, if nothing was
    /// published for a heartbeat.
    pub(super) async fn heartbeat(self) {
        let tracker = &self.0.tracker;
        let heartbeat = self.0.config.heartbeat;
        let is_silent = |entry: &&Entry| {
            entry.is_owned() && entry.publishing.published_at.elapsed() >= heartbeat
        };
        // Nothing more is received about a job whose backend is not configured any more. The estimate of another producer is
        // nothing to learn from: it is only for those who follow the job.
        let is_wanted = |entry: &&Entry| match entry.job.prompt_id() {
            Some(_) => entry.backend.is_some(),
            None => tracker.hub.is_followed(entry.job.id()),
        };
        let mut tick = interval(heartbeat / TICKS_PER_HEARTBEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let mut registry = tracker.registry();
            if registry.all_open().next().is_none() {
                tracker.clock.reset();
                continue;
            }
            let silent = registry.processing().filter(is_silent).filter(is_wanted);
            let silent: Vec<JobId> = silent.map(|entry| entry.job.id().clone()).collect();
            for id in silent {
                if let Some(entry) = registry.get_mut(&id) {
                    tracker.republish(entry);
                }
            }
        }
    }

    /// Forgets jobs that ended long ago, which the store still has, deletes from the store what is older
    /// than the retention, and counts what it has.
    pub(super) async fn cleanup(self) {
        let mut tick = interval(self.0.config.cleanup_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.forget_ended();
            if let Err(error) = self.delete_expired().await {
                let error = &error as &dyn Error;
                tracing::warn!(error, "cannot delete old jobs, retrying");
            }
            // Rows were deleted, or other relays have ended jobs.
            self.0.tracker.count_stored().await;
        }
    }

    fn forget_ended(&self) {
        let now = self.0.tracker.now();
        let Ok(old) = now.checked_sub(self.0.config.remember) else {
            return;
        };
        let mut registry = self.0.tracker.registry();
        let is_due = |job: &Remembered<'_>| match job {
            // The store cannot answer for a state that is not written yet.
            Remembered::Whole(entry) => {
                entry.asked_at.elapsed() >= MIN_REMEMBERED
                    && self.recorder().is_written(entry.job.id())
            }
            Remembered::Ended(_) => true,
        };
        let old = registry.ended_by(old).filter(is_due);
        let old: Vec<JobId> = old.map(|job| job.id().clone()).collect();
        for id in &old {
            registry.remove(id);
            registry.remove_ended(id);
            self.0.tracker.hub.forget(id);
        }
        if !old.is_empty() {
            tracing::debug!(jobs = old.len(), "forgot jobs that ended long ago");
        }
    }

    async fn delete_expired(&self) -> Result<(), StoreError> {
        self.recorder().store().delete_requests(KEY_AGE).await?;
        self.recorder().store().delete_inputs(INPUT_AGE).await?;
        self.recorder().store().forget_ended_secrets().await?;
        self.0.tracker.delete_old_deliveries().await?;
        let Some(retention) = self.0.retention else {
            return Ok(());
        };
        // Ends have the time of the jobs' clock, which may be behind after a pause of the machine.
        let now = Timestamp::now().min(self.0.tracker.now());
        let Ok(before) = now.checked_sub(retention) else {
            return Ok(());
        };
        self.recorder().store().delete_assets(before).await?;
        let deleted = self.recorder().store().delete_before(before).await?;
        if deleted > 0 {
            tracing::info!(jobs = deleted, "deleted jobs older than RETENTION_DAYS");
        }
        Ok(())
    }
}
