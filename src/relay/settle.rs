//! Drops what memory has of ended jobs beyond their final states: the database answers for it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::time::{MissedTickBehavior, interval};

use super::Relay;
use super::maintenance::MIN_REMEMBERED;
use super::registry::{Entry, Registry, StatePacker};
use super::tracker::Tracker;
use crate::hub::Publication;
use crate::job::JobId;

/// How many jobs are looked at under one lock: some tenths of a millisecond.
const JOBS_A_LOCK: usize = 100;

/// How often in the time for which details are kept is looked: a job is late by a tenth at most.
const LOOKS: u32 = 10;

/// The least time between two looks.
const MIN_PAUSE: Duration = Duration::from_millis(1);

impl Relay {
    /// Has the details of ended jobs dropped, and the states of those that nobody follows, until the relay stops.
    ///
    /// On a thread of its own: an allocator gives each thread memory of its own. What stays of the jobs lies together there, and not
    /// between the details of others, of which it would keep pages.
    pub(super) fn start_settling(self) {
        let others = Handle::current();
        let runtime = Builder::new_current_thread().enable_time().build();
        let started = runtime.and_then(|runtime| {
            let settling = move || runtime.block_on(self.settle_ended(&others));
            thread::Builder::new()
                .name("settle".to_owned())
                .spawn(settling)
        });
        if let Err(error) = started {
            tracing::error!(%error, "cannot drop the details of ended jobs: the relay takes ever more memory");
        }
    }

    /// `others` has the threads that the details are dropped on.
    async fn settle_ended(self, others: &Handle) {
        let (tracker, config) = (&self.0.tracker, &self.0.config);
        let mut tick = interval((config.details_for / LOOKS).max(MIN_PAUSE));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut packer = StatePacker::default();
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let (kept, age) = (config.details_of, config.details_for);
            loop {
                let due = tracker.registry().take_settling(kept, age, JOBS_A_LOCK);
                let is_last = due.len() < JOBS_A_LOCK;
                let details = tracker.settle(due, &mut packer);
                // What this thread frees, it takes for what stays of the next ones.
                let dropping = others.spawn_blocking(move || drop(details));
                // Fails only if the relay stops.
                let _ = dropping.await;
                if is_last {
                    break;
                }
            }
        }
    }
}

impl Tracker {
    /// Takes away what is not needed of these jobs, and returns their details. The others are looked at again.
    fn settle(&self, due: Vec<JobId>, packer: &mut StatePacker) -> Vec<Entry> {
        let states = self.settled(due);
        // Not under the lock: it takes tens of microseconds.
        let packed: Vec<_> = states
            .into_iter()
            .map(|state| (packer.pack(&state), state))
            .collect();
        let mut registry = self.registry();
        let mut details = Vec::new();
        for (packed, state) in packed {
            let id = &state.job;
            let is_newest =
                (self.hub.newest(id)).is_some_and(|newest| Arc::ptr_eq(&newest, &state));
            let is_settled = registry.get(id).is_some_and(|entry| self.is_settled(entry));
            if is_newest && is_settled {
                details.extend(registry.pack(id, packed));
                self.release(&mut registry, id);
            } else {
                registry.settle_later(id);
            }
        }
        details
    }

    /// The final states of those of the jobs whose details can be dropped.
    fn settled(&self, due: Vec<JobId>) -> Vec<Arc<Publication>> {
        let mut registry = self.registry();
        let mut states = Vec::new();
        for id in due {
            match registry.get(&id) {
                Some(entry) if self.is_settled(entry) => match self.hub.newest(&id) {
                    Some(state) if state.is_final() => states.push(state),
                    // It was read from its row, and nobody has followed it.
                    _ => registry.remove(&id),
                },
                Some(_) => registry.settle_later(&id),
                None => self.release(&mut registry, &id),
            }
        }
        states
    }

    /// Whether nothing more happens to a job, and the database can answer for it.
    fn is_settled(&self, entry: &Entry) -> bool {
        let job = &entry.job;
        job.status().is_final()
            && entry.asked_at.elapsed() >= MIN_REMEMBERED
            && !entry.is_ahead_of_row
            && !self.kept.is_under_way(job.id())
            && self.recorder.is_written(job.id())
    }

    /// Has the hub forget the final state of a job without details, once nobody follows it.
    fn release(&self, registry: &mut Registry, id: &JobId) {
        if !self.hub.forget_unfollowed(id) {
            registry.settle_later(id);
        }
    }

    /// Publishes the final state of a job without details again, for a subscriber that has come. Returns whether the job is
    /// one.
    pub(super) fn reopen(&self, registry: &mut Registry, id: &JobId) -> bool {
        let Some(ended) = registry.ended(id) else {
            return false;
        };
        if self.hub.newest(id).is_none() {
            self.hub.publish(ended.final_state());
            registry.settle_later(id);
        }
        true
    }
}
