//! The one place that says when a job of the relay will end.

pub(super) mod learning;
pub(super) mod queue_forecast;
pub(super) mod queue_plans;
mod stored_runs;

use jiff::Timestamp;

use super::Relay;
use super::backend::Backend;
use super::estimates::queue_plans::Plans;
use super::registry::{Entry, Registry};
use crate::comfy::Queue;
use crate::estimate::{CostModel, Estimate, EstimateLog};
use crate::job::{JobId, Plan, Status};

impl Relay {
    /// The estimate for a job at a moment: for one that waits, by what is before it in the queue.
    pub(super) fn estimate(&self, entry: &Entry, model: &CostModel, now: Timestamp) -> Estimate {
        let job = &entry.job;
        match (entry.backend, job.prompt_id()) {
            (Some(index), Some(prompt)) if job.status() == Status::Queued => {
                self.0.backends[index].state().forecast.of(prompt, now)
            }
            _ => Estimate::of(job, model, now),
        }
    }

    /// Has those that wait know what a job has left that runs before them.
    pub(super) fn update_forecast(&self, entry: &Entry, estimate: Estimate, now: Timestamp) {
        if let (Some(index), Some(prompt)) = (entry.backend, entry.job.prompt_id())
            && has_live_estimate(entry)
        {
            let mut state = self.0.backends[index].state();
            state.forecast.update_running(prompt, estimate, now);
        }
    }

    /// Keeps what is said of a job that runs, to judge it at its end. What producers say is not ours.
    pub(super) fn log_estimate(
        &self,
        entry: &mut Entry,
        estimate: Estimate,
        progress: u8,
        now: Timestamp,
    ) {
        let job = &entry.job;
        if job.status() == Status::Processing && job.prompt_id().is_some() {
            let estimate_log = entry
                .estimate_log
                .get_or_insert_with(|| Box::new(EstimateLog::new(job, &self.model())));
            estimate_log.record(estimate, progress, now);
        }
    }

    /// Takes note of how long the queue of a backend will take. The locks are never held for longer
    /// than one plan takes: graphs can be megabytes, and the reader of the socket waits for nothing.
    pub(super) fn forecast(
        &self,
        index: usize,
        backend: &Backend,
        plans: &mut Plans,
        queue: Option<&Queue>,
    ) {
        let Some(queue) = queue else {
            backend.state().forecast.clear();
            return;
        };
        let own = |prompt: &str| -> Option<Plan> {
            let jobs = self.jobs();
            let followers = jobs.of_prompt(index, prompt).iter();
            let mut plans = followers.filter_map(|id| Some(jobs.get(id)?.job.plan()));
            plans.find(|plan| !plan.is_empty()).cloned()
        };
        let predict = |plan: &Plan, cached: &[String]| {
            Estimate::of_prompt(backend.name(), plan, cached, &self.model())
        };
        let predicted = plans.predict(queue, own, predict);
        let (jobs, model, now) = (self.jobs(), self.model(), self.now());
        let live = |prompt: &str| {
            let followers = jobs.of_prompt(index, prompt).iter();
            let mut entries = followers.filter_map(|id| jobs.get(id));
            let entry = entries.find(|entry| has_live_estimate(entry))?;
            Some(Estimate::of(&entry.job, &model, now))
        };
        backend.state().forecast.update(predicted, live, now);
    }

    /// Publishes the state of a job that waits anew, where the seconds that its subscribers were told
    /// are not those of this moment.
    pub(super) fn republish_waiting(&self, jobs: &mut Registry, id: &JobId) {
        let Some(entry) = jobs.get_mut(id) else {
            return;
        };
        if entry.job.status() != Status::Queued {
            return;
        }
        let now = self.now();
        let outlook = self.estimate(entry, &self.model(), now).remaining_time();
        if outlook.map(|outlook| outlook.whole_seconds()) != entry.published_remaining {
            self.publish(entry);
        }
    }
}

/// Whether its own events tell what a job has left that runs or has run.
fn has_live_estimate(entry: &Entry) -> bool {
    let status = entry.job.status();
    status.is_final() || (entry.own_client && status == Status::Processing)
}
