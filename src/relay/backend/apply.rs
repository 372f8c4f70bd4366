//! Applies what a comparison with a backend's queue and history has shown.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::comfy::{HistoryEntry, Queue, QueueEntry, QueuePosition};
use crate::job::{Event, JobId};
use crate::relay::backend::decide::{Answers, PromptAnswer};
use crate::relay::backend::follower::Follower;
use crate::relay::backend::queue_graphs::QueueGraphs;
use crate::relay::backend::queued_plans::PlanSource;
use crate::relay::estimates::queue_plans::Plans;
use crate::relay::registry::Registry;

/// How many jobs get their positions under one lock: a tenth of a millisecond.
const JOBS_A_LOCK: usize = 100;

/// How many prompts a short queue has at most.
const SHORT_QUEUE: usize = 20;

/// An open job, and what its backend has answered about it in this comparison.
pub(in crate::relay) struct OpenJob {
    pub(in crate::relay) id: JobId,
    pub(in crate::relay) prompt_id: String,
    pub(in crate::relay) created_at: Timestamp,
    pub(in crate::relay) is_ending: bool,
    pub(in crate::relay) disconnects_when_seen: u64,
    pub(in crate::relay) answers: Answers,
}

/// The answer of the queue.
pub(in crate::relay) struct QueueAnswer {
    /// `None` if the answer cannot be read.
    pub(in crate::relay) queue: Option<Arc<Queue>>,
    /// The disconnect counter before the queue was asked.
    pub(in crate::relay) disconnects: u64,
}

impl Follower {
    /// Applies the positions of the jobs that run or wait. Returns the disconnect counters under which their prompts were
    /// seen before, and the jobs that are not in the queue, or whose end the socket has received.
    ///
    /// Thousands can wait: the jobs are locked for a part of them at a time, because the reader of the socket must not wait.
    pub(in crate::relay) fn apply_positions(
        &self,
        jobs: Vec<OpenJob>,
        answer: &QueueAnswer,
        graphs: &QueueGraphs,
    ) -> (HashSet<u64>, Vec<OpenJob>) {
        let Some(queue) = &answer.queue else {
            return (HashSet::new(), jobs);
        };
        let (mut seen, mut others) = (HashSet::new(), Vec::new());
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let mut registry = self.tracker.registry();
            for job in jobs.by_ref().take(JOBS_A_LOCK) {
                if self.apply_position(&mut registry, &job, queue, graphs, answer.disconnects) {
                    seen.insert(job.disconnects_when_seen);
                } else {
                    others.push(job);
                }
            }
        }
        (seen, others)
    }

    /// Applies the position of a job, if its prompt waits or runs. Returns whether it does.
    fn apply_position(
        &self,
        registry: &mut Registry,
        job: &OpenJob,
        queue: &Queue,
        graphs: &QueueGraphs,
        disconnects: u64,
    ) -> bool {
        let Some(position) = queue.position(&job.prompt_id) else {
            return false;
        };
        let Some(entry) = registry.get_mut(&job.id) else {
            return false;
        };
        if entry.job.is_ending() {
            return false;
        }
        if let Some(shown) = graphs.entry(&job.prompt_id) {
            entry.comparison.own_client = self.is_own_client(shown);
        }
        entry.comparison.disconnects_when_seen = disconnects;
        entry.comparison.missing_since = None;
        entry.comparison.is_unanswered = false;
        let event = match position {
            QueuePosition::Pending { ahead } => Event::Queued { ahead: Some(ahead) },
            QueuePosition::Running => self
                .began_at(registry, queue, graphs, &job.prompt_id)
                .map_or(Event::Started, Event::StartedAt),
        };
        let is_as = (registry.get(&job.id)).is_some_and(|entry| entry.job.is_as(&event));
        if !is_as {
            let answers = Event::Reachable(true);
            self.tracker.ingest_locked(registry, &job.id, answers);
            self.tracker.ingest_locked(registry, &job.id, event);
        }
        self.tracker.republish_waiting(registry, &job.id);
        true
    }

    /// Reads the plans of jobs whose graphs the queue shows for the first time: it names the outputs that the
    /// server executes.
    pub(in crate::relay) fn confirm_graphs(&self, jobs: &[OpenJob], graphs: &QueueGraphs) {
        for job in jobs.iter().filter(|job| self.is_unconfirmed(job)) {
            if let Some(entry) = graphs.entry(&job.prompt_id) {
                self.tracker.confirm_graph(&job.id, entry.graph());
            }
        }
    }

    /// The prompts of a queue without graphs whose graphs are to be read: those of jobs whose plans are not known, and those
    /// that run before the last of our jobs.
    ///
    /// A graph that the relay has submitted itself is read again only while the queue is short: what it executes differs
    /// seldom.
    pub(in crate::relay) fn prompts_without_plan(
        &self,
        jobs: &[OpenJob],
        queue: &Queue,
        plans: &Plans,
        graphs: &QueueGraphs,
    ) -> Vec<String> {
        let is_short = queue.prompt_ids().take(SHORT_QUEUE + 1).count() <= SHORT_QUEUE;
        let registry = self.tracker.registry();
        let is_wanted = |job: &&OpenJob| {
            let pending = registry.get(&job.id).map(|entry| &entry.pending_plan);
            let is_wanted = pending.is_some_and(|pending| {
                !pending.is_confirmed() && (is_short || pending.graph().is_none())
            });
            is_wanted && queue.position(&job.prompt_id).is_some()
        };
        let wanted = jobs.iter().filter(is_wanted);
        let mut wanted: Vec<String> = wanted.map(|job| job.prompt_id.clone()).collect();
        let is_followed = |prompt: &str| !registry.of_prompt(&self.backend, prompt).is_empty();
        let followed = queue.count_up_to_last(is_followed);
        drop(registry);
        let source = PlanSource {
            follower: self,
            graphs,
        };
        wanted.extend(plans.unknown(queue.prompt_ids().take(followed), &source));
        wanted
    }

    /// The prompt has ended. If its socket was open all the time and `events_missed`, the socket receives
    /// nothing: a new one may.
    pub(in crate::relay) fn apply_history(
        &self,
        job: &OpenJob,
        entry: HistoryEntry,
        events_missed: bool,
    ) {
        {
            let mut state = self.backend.state();
            state.api.seen_in_history = Some(job.prompt_id.clone());
            if events_missed && state.socket.count_missed_ending(job.disconnects_when_seen) {
                tracing::warn!(
                    "a prompt of ours ended, but the socket received nothing: reconnecting"
                );
                self.backend.redial.notify_one();
            }
        }
        if entry.graph.is_some() && self.is_unconfirmed(job) {
            self.tracker.confirm_graph(&job.id, entry.graph);
        }
        self.tracker.ingest(&job.id, Event::History(entry.history));
    }

    /// The queue has another prompt that this server had at the same time as the missing one: it is the
    /// same server. Recorded now, because the next disconnect takes the evidence away.
    pub(in crate::relay) fn confirm_server(&self, job: &mut OpenJob, disconnects: u64) {
        job.disconnects_when_seen = disconnects;
        if let Some(entry) = self.tracker.registry().get_mut(&job.id) {
            entry.comparison.disconnects_when_seen = disconnects;
        }
    }

    /// Replaces a socket that receives nothing although a prompt of ours runs: the server may have
    /// forgotten it, and then it is open, healthy and silent for ever.
    pub(in crate::relay) fn replace_stale_socket(&self, queue: &Queue, graphs: &QueueGraphs) {
        let is_ours = {
            let registry = self.tracker.registry();
            let mut running = queue.running().iter();
            running.any(|entry| self.is_own(&registry, graphs, &entry.prompt_id))
        };
        if !is_ours {
            return;
        }
        let silent_for = self
            .backend
            .state()
            .socket
            .check_stale(self.config.max_silence);
        if let Some(timeout) = silent_for {
            tracing::warn!(
                ?timeout,
                "a prompt of ours runs, but the socket received nothing: reconnecting"
            );
            self.backend.redial.notify_one();
        }
    }

    /// Updates the forecast of the queue, from which the estimates of jobs that wait are made.
    pub(in crate::relay) fn forecast_queue(
        &self,
        plans: &mut Plans,
        queue: Option<&Queue>,
        graphs: &QueueGraphs,
    ) {
        let (backend, estimator) = (&self.backend, &self.estimator);
        let Some(queue) = queue else {
            return estimator.clear_queue(backend);
        };
        let source = PlanSource {
            follower: self,
            graphs,
        };
        let predicted = estimator.predict_queue(backend, plans, queue, &source);
        let registry = self.tracker.registry();
        let now = self.tracker.now();
        let live = |prompt: &String| {
            let mut jobs = registry.entries_of_prompt(backend, prompt);
            let entry = jobs.find(|entry| entry.has_live_estimate())?;
            Some((prompt.clone(), estimator.estimate(entry, now)))
        };
        let live = predicted.running.keys().filter_map(live).collect();
        let began_at = |prompt: &str| self.began_at(&registry, queue, graphs, prompt);
        estimator.update_queue(backend, predicted, &live, began_at, now);
    }

    /// When a prompt of another client began that runs, if that is known. Of our own, events are received.
    fn began_at(
        &self,
        registry: &Registry,
        queue: &Queue,
        graphs: &QueueGraphs,
        prompt_id: &str,
    ) -> Option<Timestamp> {
        let mut running = queue.running().iter();
        let entry = running.find(|entry| entry.prompt_id == prompt_id)?;
        let now = self.tracker.now();
        let is_own = self.is_own(registry, graphs, prompt_id);
        (!is_own).then(|| self.backend.state().queue.began_at(entry, now))?
    }

    /// Whether our socket receives the events of a prompt: by its entry in the queue, or by what a job of it has shown.
    fn is_own(&self, registry: &Registry, graphs: &QueueGraphs, prompt_id: &str) -> bool {
        match graphs.entry(prompt_id) {
            Some(shown) => self.is_own_client(shown),
            None => registry
                .entries_of_prompt(&self.backend, prompt_id)
                .any(|entry| entry.comparison.own_client),
        }
    }

    fn is_own_client(&self, entry: &QueueEntry) -> bool {
        entry.client_id.as_deref() == Some(self.backend.comfy.client_id())
    }

    fn is_unconfirmed(&self, job: &OpenJob) -> bool {
        let registry = self.tracker.registry();
        let entry = registry.get(&job.id);
        entry.is_some_and(|entry| !entry.pending_plan.is_confirmed())
    }
}

impl QueueAnswer {
    pub(in crate::relay) fn position(&self, prompt_id: &str) -> PromptAnswer<QueuePosition> {
        match &self.queue {
            None => PromptAnswer::Unreadable,
            Some(queue) => queue
                .position(prompt_id)
                .map_or(PromptAnswer::Absent, PromptAnswer::Found),
        }
    }
}
