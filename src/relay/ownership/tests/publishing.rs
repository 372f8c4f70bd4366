//! What a relay publishes of its own jobs, and records.

use super::cluster::job_number;
use super::held_job::HeldJob;
use super::process::SimulatedRelay;
use crate::broker::JobState;
use crate::hub::Publication;
use crate::job::{Event, Status};
use crate::relay::shared_states::state_of;

impl SimulatedRelay {
    /// As `Tracker::ingest`.
    pub(super) fn ingest(&self, number: usize, event: Event) {
        let mut jobs = self.jobs.borrow_mut();
        let Some(held) = jobs.get_mut(&number).filter(|held| held.has_backend) else {
            return;
        };
        if let Event::Bar { value, max, .. } = &event {
            held.fraction = value / max;
        }
        let is_recorded = !matches!(event, Event::Queued { .. });
        let before = held.job.status();
        if !held.job.apply(event, self.world.now()) {
            return;
        }
        held.is_changed |= is_recorded;
        if held.job.status() == before {
            self.republish(held);
        } else {
            self.publish(held);
        }
    }

    /// Publishes the jobs that run again, as the heartbeat does.
    pub(super) fn beat(&self) {
        for held in self.jobs.borrow_mut().values_mut() {
            if held.is_owned() && held.job.status() == Status::Processing {
                self.republish(held);
            }
        }
    }

    pub(super) fn publish(&self, held: &mut HeldJob) {
        let state = self.publish_unrecorded(held);
        self.record(held, state);
    }

    fn republish(&self, held: &mut HeldJob) {
        let state = self.publish_unrecorded(held);
        if held.is_changed || held.recorded != Some(held.job.percent()) {
            self.record(held, state);
        }
    }

    fn publish_unrecorded(&self, held: &mut HeldJob) -> JobState {
        let progress = held.job.publish(held.fraction, None, self.world.now());
        let publication = Publication::encode(&progress, held.job.outcome()).unwrap();
        held.published_at = self.world.executor.clock.now();
        self.hub.publish(publication.clone());
        let state = state_of(&held.job, held.epoch, &publication);
        if held.is_owned() {
            self.outbox.put(state.clone());
        }
        state
    }

    pub(super) fn record(&self, held: &mut HeldJob, state: JobState) {
        if held.is_owned() {
            held.is_changed = false;
            held.recorded = Some(held.job.percent());
            let number = job_number(&state.job);
            self.unwritten.borrow_mut().insert(number, state);
            self.recorded.notify_one();
        }
    }

    /// The state of a job that was published last.
    pub(super) fn newest_state(&self, held: &HeldJob) -> (Publication, JobState) {
        let progress = held.job.progress(None, self.world.now());
        let publication = Publication::encode(&progress, held.job.outcome()).unwrap();
        let state = state_of(&held.job, held.epoch, &publication);
        (publication, state)
    }

    /// As `Tracker::share_open`.
    pub(super) fn share_open(&self) {
        for held in self.jobs.borrow().values() {
            if held.is_owned() && !held.job.status().is_final() {
                self.outbox.put(self.newest_state(held).1);
            }
        }
    }
}
