//! When jobs will end: the cost model, and the queue of each backend.

pub(super) mod learning;
pub(super) mod queue_forecast;
pub(super) mod queue_plans;
mod stored_runs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::backend::Backend;
use super::registry::Entry;
use crate::comfy::Queue;
use crate::estimate::{Estimate, EstimateLog, Explanation, Familiarity};
use crate::job::{Job, Plan, Progress, Status};
use learning::Learning;
use queue_forecast::{QueueForecast, QueuePrediction};
use queue_plans::{Plans, QueuedPlans};

/// Estimates when jobs will end. Its locks are taken after that of the jobs, never before.
#[derive(Debug)]
pub(super) struct Estimator {
    pub(super) learning: Learning,
    /// By backend.
    queues: Mutex<HashMap<usize, QueueForecast>>,
}

impl Estimator {
    /// An estimator that has learned nothing yet of these backends.
    pub(super) fn new(backends: &[Arc<Backend>]) -> Self {
        Self {
            learning: Learning::new(backends.iter().map(|backend| backend.name())),
            queues: Mutex::default(),
        }
    }

    /// The estimate for a job at a moment. That of a job that waits rests on what is before it in the
    /// queue.
    pub(super) fn estimate(&self, entry: &Entry, now: Timestamp) -> Estimate {
        let job = &entry.job;
        if let Some(stored) = entry.stored_estimate {
            return stored.at(now);
        }
        if job.wait().is_some() {
            return entry.queued_estimate(now);
        }
        match (&entry.backend, job.prompt_id()) {
            (Some(backend), Some(prompt)) if job.status() == Status::Queued => {
                let queues = self.queues();
                let forecast = queues.get(&backend.index);
                forecast.map_or_else(Estimate::default, |forecast| forecast.of(prompt, now))
            }
            _ => self.estimate_stored(job, now),
        }
    }

    /// The estimate for a job of which only the store knows.
    pub(super) fn estimate_stored(&self, job: &Job, now: Timestamp) -> Estimate {
        Estimate::of(job, &self.learning.model(), now)
    }

    /// Why the estimate of a job is what it is at a moment.
    pub(super) fn explain(&self, entry: &Entry, now: Timestamp) -> Explanation {
        let estimate = self.estimate(entry, now);
        let estimate_log = entry.publishing.estimate_log.as_deref();
        let start = estimate_log.and_then(EstimateLog::start);
        Explanation::of(&entry.job, estimate, start, &self.learning.model(), now)
    }

    /// Records an estimate that was published: what a running job has left moves those that wait behind
    /// it, and is scored at its end. Estimates of other producers are not ours.
    pub(super) fn on_published(
        &self,
        entry: &mut Entry,
        estimate: Estimate,
        progress: &Progress,
        now: Timestamp,
    ) {
        let job = &entry.job;
        let Some(prompt) = job.prompt_id() else {
            return;
        };
        if let Some(backend) = &entry.backend
            && entry.has_live_estimate()
            && let Some(forecast) = self.queues().get_mut(&backend.index)
        {
            forecast.update_running(prompt, estimate, now);
        }
        if job.status() == Status::Processing {
            let estimate_log = entry.publishing.estimate_log.get_or_insert_default();
            if estimate_log.awaits_start(job) {
                estimate_log.begin(job, &self.learning.model(), now);
            }
            estimate_log.record(estimate, progress.progress, now);
        }
    }

    /// Predicts how long the prompts of a queue take. `source` has their plans.
    ///
    /// The model is locked for one plan at a time: graphs can be megabytes, and the reader of the socket
    /// must not wait.
    pub(super) fn predict_queue(
        &self,
        backend: &Backend,
        plans: &mut Plans,
        queue: &Queue,
        source: &impl QueuedPlans,
    ) -> QueuePrediction {
        plans.predict(queue, source, |plan, cached| {
            Estimate::of_prompt(backend.name(), plan, cached, &self.learning.model())
        })
    }

    /// How long a prompt with this plan runs on a backend, from its start to its end; `loaded` are the ids of the nodes that
    /// need not run.
    pub(super) fn predict(&self, backend: &Backend, plan: &Plan, loaded: &[String]) -> Estimate {
        Estimate::of_prompt(backend.name(), plan, loaded, &self.learning.model())
    }

    /// Whether all nodes of a plan that are not `loaded` have run on a backend before, with the same inputs.
    pub(super) fn is_known(&self, backend: &Backend, plan: &Plan, loaded: &[String]) -> bool {
        let model = self.learning.model();
        Familiarity::of_prompt(backend.name(), plan, loaded, &model) == Familiarity::Known
    }

    /// When all prompts have ended that a backend's queue has shown; `None` if that is not known.
    pub(super) fn queue_end(&self, backend: &Backend, now: Timestamp) -> Option<Estimate> {
        self.queues().get(&backend.index)?.end(now)
    }

    /// How many prompts run or wait before that of a job in its backend's queue; `None` if it does not wait there.
    pub(super) fn prompts_ahead(&self, entry: &Entry) -> Option<usize> {
        let (backend, prompt) = entry.backend.as_ref().zip(entry.job.prompt_id())?;
        self.queues().get(&backend.index)?.prompts_ahead(prompt)
    }

    /// Whether a backend's queue has shown a prompt.
    pub(super) fn has_seen(&self, backend: &Backend, prompt_id: &str) -> bool {
        let queues = self.queues();
        let forecast = queues.get(&backend.index);
        forecast.is_some_and(|forecast| forecast.has_seen(prompt_id))
    }

    /// Records a backend's queue. `live` are the estimates of running prompts by their own events; `began_at`
    /// is when a running prompt began, if that is known.
    pub(super) fn update_queue(
        &self,
        backend: &Backend,
        queue: &Arc<Queue>,
        predicted: QueuePrediction,
        live: &HashMap<String, Estimate>,
        began_at: impl Fn(&str) -> Option<Timestamp>,
        now: Timestamp,
    ) {
        let mut queues = self.queues();
        let forecast = queues.entry(backend.index).or_default();
        forecast.update(
            queue,
            predicted,
            |prompt| live.get(prompt).copied(),
            began_at,
            now,
        );
    }

    /// Records that a backend's queue is not known any more.
    pub(super) fn clear_queue(&self, backend: &Backend) {
        if let Some(forecast) = self.queues().get_mut(&backend.index) {
            forecast.clear();
        }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<usize, QueueForecast>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
