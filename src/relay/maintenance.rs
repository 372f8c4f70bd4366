//! What the relay does on its own, now and then.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::Relay;
use crate::job::{JobId, Status};

/// How often running jobs are looked through for one that has been silent: the heartbeat is late by
/// this much at most.
const TICKS_PER_HEARTBEAT: u32 = 4;

impl Relay {
    /// Publishes the state of running jobs from which nothing is heard again and again, with the
    /// estimate of the moment.
    pub(super) async fn heartbeat(self) {
        let heartbeat = self.0.config.heartbeat;
        let mut tick = interval(heartbeat / TICKS_PER_HEARTBEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stopping() => return,
                _ = tick.tick() => {}
            }
            let mut jobs = self.jobs();
            if jobs.iter().all(|entry| entry.job.status().is_final()) {
                self.0.clock.set();
                continue;
            }
            let silent: Vec<JobId> = jobs
                .iter()
                .filter(|entry| entry.job.status() == Status::Processing)
                .filter(|entry| entry.published_at.elapsed() >= heartbeat)
                // Of one whose server is not configured any more there is never any news.
                .filter(|entry| entry.backend.is_some() || entry.job.prompt_id().is_none())
                .map(|entry| entry.job.id().clone())
                .collect();
            for id in silent {
                if let Some(entry) = jobs.get_mut(&id) {
                    self.publish(entry);
                }
            }
        }
    }

    /// Forgets jobs that have ended long ago: the store answers for them. Deletes there what is older
    /// than what is to be kept.
    pub(super) async fn cleanup(self) {
        let mut tick = interval(self.0.config.cleanup_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stopping() => return,
                _ = tick.tick() => {}
            }
            self.forget_ended();
            if let Err(error) = self.delete_old().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot delete old jobs, trying on"
                );
            }
        }
    }

    fn forget_ended(&self) {
        let now = self.now();
        let recorder = self.recorder();
        let mut jobs = self.jobs();
        let is_old = |ended: Timestamp| {
            let since = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
            since >= self.0.config.remember
        };
        let old: Vec<JobId> = jobs
            .iter()
            .filter(|entry| entry.job.ended_at().is_some_and(is_old))
            // What is not written yet cannot be answered from the store.
            .filter(|entry| recorder.is_written(entry.job.id(), entry.recorded))
            .map(|entry| entry.job.id().clone())
            .collect();
        for id in &old {
            jobs.remove(id);
            self.hub().forget(id);
        }
        if !old.is_empty() {
            tracing::debug!(jobs = old.len(), "forgot jobs that ended long ago");
        }
    }
}
