//! Ends the jobs of producers that have reported nothing for too long.

use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Relay;
use super::registry::{Entry, Registry};
use crate::job::{Event, JobError, JobId, Outcome};

/// How often in the time of a producer silent ones are looked for: a job ends late by a twentieth at most.
const LOOKS: u32 = 20;

/// The longest and the shortest time between two looks.
const MAX_PAUSE: Duration = Duration::from_secs(10);
const MIN_PAUSE: Duration = Duration::from_millis(10);

impl Relay {
    /// Ends the jobs of silent producers until the relay stops.
    pub(super) async fn end_lost_producers(self) {
        let limit = self.0.config.producer_timeout;
        if limit.is_zero() {
            return;
        }
        let pause = (limit / LOOKS).clamp(MIN_PAUSE, MAX_PAUSE);
        let mut tick = interval(pause);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked_at = Instant::now();
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if looked_at.elapsed() > pause + limit / 2 {
                // The relay itself stood still, and received no reports.
                restart_silence(&mut self.0.tracker.registry());
            }
            looked_at = Instant::now();
            self.end_silent(limit).await;
        }
    }

    async fn end_silent(&self, limit: Duration) {
        let tracker = &self.0.tracker;
        let silent: Vec<JobId> = {
            let registry = tracker.registry();
            let silent = registry.open_without_backend();
            let silent = silent.filter(|entry| is_silent(entry, limit));
            silent.map(|entry| entry.job.id().clone()).collect()
        };
        if silent.is_empty() {
            return;
        }
        // Their producers may report to another relay by now.
        if let Err(error) = tracker.read_rows(&silent).await {
            let error = &error as &dyn Error;
            return tracing::debug!(error, "cannot read the jobs of silent producers, retrying");
        }
        for id in silent {
            let mut registry = tracker.registry();
            if registry
                .get(&id)
                .is_some_and(|entry| is_silent(entry, limit))
            {
                let lost = Outcome::Failed(JobError::producer_lost(limit));
                tracker.ingest_locked(&mut registry, &id, Event::Closed(lost));
            }
        }
    }
}

fn is_silent(entry: &Entry, limit: Duration) -> bool {
    entry.is_owned()
        && entry.job.prompt_id().is_none()
        && !entry.job.status().is_final()
        && entry.reported_at.elapsed() >= limit
}

fn restart_silence(registry: &mut Registry) {
    let open = registry.open_without_backend();
    let open: Vec<JobId> = open.map(|entry| entry.job.id().clone()).collect();
    for id in open {
        if let Some(entry) = registry.get_mut(&id) {
            entry.reported_at = Instant::now();
        }
    }
}
