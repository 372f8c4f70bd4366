//! Other relays wake this one: it looks at once at what it would have looked at with the next tick.

use std::error::Error;

use tokio::time::Instant;

use super::Relay;
use super::backend::Lease;
use super::looks::WantedRows;
use super::registry::Entry;
use super::tracker::Tracker;
use crate::broker::{Hint, WakeUp};
use crate::job::JobId;
use crate::store::StoreError;

impl Relay {
    /// Has looked at what other relays have written, whenever they say so.
    pub(super) async fn follow_wake_ups(self) {
        let tracker = &self.0.tracker;
        loop {
            let woken = tokio::select! {
                () = self.0.stop.cancelled() => return,
                woken = tracker.broker.woken() => woken,
            };
            for wake_up in woken {
                tracker.on_woken(wake_up);
            }
        }
    }

    /// Reads the rows at which other relays hint.
    pub(super) async fn read_hinted(self) {
        let tracker = &self.0.tracker;
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = tracker.looks.rows.wanted() => {}
            }
            tracker.count_look();
            let began_at = Instant::now();
            let rows = tracker.looks.take_rows();
            if let Err(error) = self.read_hinted_rows(&rows).await {
                tracker.looks.put_back_rows(rows);
                let error = &error as &dyn Error;
                tracing::debug!(
                    error,
                    "cannot read what another relay has written, retrying"
                );
                continue;
            }
            tracker.looks.rows.took(began_at.elapsed());
        }
    }

    async fn read_hinted_rows(&self, wanted: &WantedRows) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        if wanted.has_cancels {
            self.follow_cancel_requests().await?;
        }
        if wanted.has_registered {
            tracker.take_registered_elsewhere().await?;
        }
        if wanted.has_new {
            tracker.read_new_rows().await?;
        }
        let jobs: Vec<JobId> = wanted.jobs.iter().cloned().collect();
        tracker.read_rows(&jobs).await?;
        let followed = jobs.into_iter().filter(|id| tracker.hub.is_followed(id));
        let followed: Vec<JobId> = followed.collect();
        // Their states come over the broker from now on. Those that came before were not for a relay that had the job.
        for id in &followed {
            tracker.follow_elsewhere(id);
        }
        for state in tracker.broker.newest(&followed).await.into_values() {
            tracker.apply_received(&mut tracker.registry(), state);
        }
        Ok(())
    }
}

impl Tracker {
    /// Counts a look at the database because of another relay.
    pub(super) fn count_look(&self) {
        if let Some(metrics) = self.broker.metrics() {
            metrics.looks.inc();
        }
    }

    fn on_woken(&self, wake_up: WakeUp) {
        for hint in wake_up.hints {
            self.on_hint(hint);
        }
        if let Some(jobs) = wake_up.previews {
            self.on_previews_wanted(wake_up.from, jobs);
        }
    }

    fn on_hint(&self, hint: Hint) {
        let looks = &self.looks;
        match hint {
            Hint::Operations => looks.operations.want(),
            Hint::Queue => looks.queue.want(),
            Hint::Cancel(job) => {
                if self.registry().get(&job).is_some_and(Entry::is_owned) {
                    looks.want_rows(|rows| rows.has_cancels = true);
                }
            }
            Hint::NewJobs => {
                if self.registry().has_feeds() {
                    looks.want_rows(|rows| rows.has_new = true);
                }
            }
            Hint::Owner(job) => {
                if self.registry().get(&job).is_some() {
                    looks.want_rows(|rows| rows.add(job.clone()));
                }
                if self.queue.has(&job) {
                    looks.queue.want();
                }
            }
            Hint::Registered(name) => {
                let mut backends = self.backends.iter();
                let is_ours = |held: &Lease| *held == Lease::Held;
                if backends.any(|it| it.name() == name && is_ours(&it.lease.borrow())) {
                    looks.want_rows(|rows| rows.has_registered = true);
                }
            }
        }
    }
}
