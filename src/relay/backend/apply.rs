//! Applies what a comparison with a backend's queue and history has shown.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::comfy::{HistoryEntry, Queue, QueueEntry, QueuePosition};
use crate::job::{Event, JobId};
use crate::relay::backend::decide::{Answers, PromptAnswer};
use crate::relay::backend::follower::Follower;
use crate::relay::backend::last_comparison::{DueLook, LastComparison};
use crate::relay::backend::queue_graphs::QueueGraphs;
use crate::relay::backend::queued_plans::PlanSource;
use crate::relay::estimates::queue_forecast::Lack;
use crate::relay::estimates::queue_plans::Plans;
use crate::relay::registry::{DueJobs, Entry, Registry};

/// How many jobs get their positions under one lock: some tenths of a millisecond.
const JOBS_A_LOCK: usize = 200;

/// How many prompts a short queue has at most.
const SHORT_QUEUE: usize = 20;

/// An open job, and what its backend has answered about it in this comparison.
pub(in crate::relay) struct OpenJob {
    pub(in crate::relay) id: JobId,
    pub(in crate::relay) prompt_id: String,
    pub(in crate::relay) created_at: Timestamp,
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
    /// seen before, and the jobs that are not in the queue, or whose end the socket has received. Those in `compared` are left
    /// out: their histories were read in this comparison.
    ///
    /// Only those are looked at that are due, and those that somebody follows: of the others nothing but the place may have
    /// changed, which is read from the queue when somebody asks for it.
    ///
    /// Thousands can wait: the jobs are locked for a part of them at a time, because the reader of the socket must not wait.
    pub(in crate::relay) fn apply_positions(
        &self,
        answer: &QueueAnswer,
        graphs: &QueueGraphs,
        compared: &HashSet<JobId>,
        due: &DueLook,
    ) -> (HashSet<u64>, Vec<OpenJob>) {
        let (mut seen, mut others) = (HashSet::new(), Vec::new());
        let due = self.due_ids(due);
        if due.len() < self.tracker.registry().count_open(&self.backend) {
            // The others are in the queue, as before.
            seen.insert(answer.disconnects);
        }
        for ids in due.chunks(JOBS_A_LOCK) {
            let mut registry = self.tracker.registry();
            for id in ids.iter().filter(|id| !compared.contains(*id)) {
                match self.apply_position(&mut registry, id, answer, graphs) {
                    Some(disconnects_when_seen) => {
                        seen.insert(disconnects_when_seen);
                    }
                    None => others.extend(registry.get(id).and_then(OpenJob::of)),
                }
            }
        }
        // Of the jobs that follow one prompt, the first has seen most of it: it is to be learned from.
        others.sort_by_key(|job| job.created_at);
        (seen, others)
    }

    /// Applies the position of a job, if its prompt waits or runs. Returns the disconnect counter under which it was seen
    /// before; `None` if it does not.
    fn apply_position(
        &self,
        registry: &mut Registry,
        id: &JobId,
        answer: &QueueAnswer,
        graphs: &QueueGraphs,
    ) -> Option<u64> {
        let queue = answer.queue.as_ref()?;
        let entry = registry.get_mut(id)?;
        let prompt_id = entry.job.prompt_id()?;
        let position = queue.position(prompt_id)?;
        if entry.job.is_ending() {
            return None;
        }
        let mut is_hidden = false;
        if let Some(shown) = graphs.entry(prompt_id) {
            entry.comparison.own_client = self.is_own_client(shown);
            is_hidden = self.is_hidden(shown);
        }
        let comparison = &mut entry.comparison;
        let disconnects_before =
            std::mem::replace(&mut comparison.disconnects_when_seen, answer.disconnects);
        comparison.missing_since = None;
        comparison.is_unanswered = false;
        match position {
            QueuePosition::Pending { ahead } => {
                let event = Event::Queued { ahead: Some(ahead) };
                self.tracker.ingest_place(registry, id, event);
            }
            QueuePosition::Running => {
                let prompt_id = prompt_id.to_owned();
                let began_at = self.began_at(registry, queue, graphs, &prompt_id);
                let event = began_at.map_or(Event::Started, Event::StartedAt);
                self.tracker.ingest_place(registry, id, event);
            }
        }
        if is_hidden {
            self.tracker.ingest_locked(registry, id, Event::StepsHidden);
        }
        Some(disconnects_before)
    }

    /// Publishes the states of the jobs that wait again that would show another estimate, if somebody follows them.
    pub(in crate::relay) fn republish_waiting(&self) {
        let open = self.tracker.registry().count_open(&self.backend);
        // Thousands may wait that nobody follows, and thousands may be followed at other backends.
        let ids = self.tracker.hub.followed(open);
        let ids = ids.unwrap_or_else(|| self.open_ids());
        for ids in ids.chunks(JOBS_A_LOCK) {
            let mut registry = self.tracker.registry();
            for id in ids {
                if let Some(entry) = registry.get_mut(id).filter(|it| self.follows(it)) {
                    self.tracker.republish_waiting(entry);
                }
            }
        }
    }

    fn follows(&self, entry: &Entry) -> bool {
        let backend = entry.backend.as_ref();
        backend.is_some_and(|backend| backend.index == self.backend.index)
    }

    /// The open jobs that are to be looked at.
    fn due_ids(&self, due: &DueLook) -> Vec<JobId> {
        let registry = self.tracker.registry();
        let open = registry.count_open(&self.backend);
        let followed = self.tracker.hub.followed(open);
        let (DueJobs::These(jobs), Some(followed)) = (&due.jobs, followed) else {
            return registry.open_ids(&self.backend).cloned().collect();
        };
        let of_prompt = |prompt: &String| registry.of_prompt(&self.backend, prompt).iter();
        let changed = due.prompts.iter().flat_map(of_prompt);
        let due: HashSet<&JobId> = jobs.iter().chain(changed).chain(&followed).collect();
        let is_open = |id: &&JobId| {
            let entry = registry.get(id);
            entry.is_some_and(|entry| !entry.job.status().is_final() && self.follows(entry))
        };
        due.into_iter().filter(is_open).cloned().collect()
    }

    fn open_ids(&self) -> Vec<JobId> {
        let registry = self.tracker.registry();
        registry.open_ids(&self.backend).cloned().collect()
    }

    /// Reads the plans of jobs whose graphs the queue shows for the first time: it names the outputs that the
    /// server executes.
    pub(in crate::relay) fn confirm_graphs(&self, graphs: &QueueGraphs) {
        if graphs.is_empty() {
            return;
        }
        let shown: Vec<(JobId, QueueEntry)> = {
            let registry = self.tracker.registry();
            let unconfirmed = registry.unconfirmed(&self.backend);
            let shown = unconfirmed.filter_map(|entry| {
                let shown = graphs.entry(entry.job.prompt_id()?)?;
                Some((entry.job.id().clone(), shown.clone()))
            });
            shown.collect()
        };
        for (id, entry) in shown {
            if let Some(graph) = entry.graph() {
                self.tracker.confirm_graph(&id, graph);
            }
        }
    }

    /// The prompts of a queue without graphs whose graphs are to be read: those of jobs whose plans are not known, and if the
    /// forecast lacks any, those that run before the last of our jobs.
    ///
    /// A graph that the relay has submitted itself is read again only while the queue is short: what it executes differs
    /// seldom.
    pub(in crate::relay) fn prompts_without_plan(
        &self,
        queue: &Queue,
        last: &LastComparison,
        lacks_graphs: bool,
    ) -> Vec<String> {
        let is_short = queue.prompt_ids().take(SHORT_QUEUE + 1).count() <= SHORT_QUEUE;
        let (mut wanted, followed) = {
            let registry = self.tracker.registry();
            let prompts = |entries: &mut dyn Iterator<Item = &Entry>| -> Vec<String> {
                let prompts = entries.filter_map(|entry| entry.job.prompt_id());
                let shown = prompts.filter(|prompt| queue.position(prompt).is_some());
                shown.map(str::to_owned).collect()
            };
            let wanted = if is_short {
                prompts(&mut registry.unconfirmed(&self.backend))
            } else {
                prompts(&mut registry.without_graph(&self.backend))
            };
            let is_followed = |prompt: &str| !registry.of_prompt(&self.backend, prompt).is_empty();
            (wanted, queue.count_up_to_last(is_followed))
        };
        if lacks_graphs {
            let source = PlanSource {
                follower: self,
                graphs: &last.graphs,
            };
            let prompts = queue.prompt_ids().take(followed);
            wanted.extend(last.plans.unknown(prompts, &source));
        }
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
            let disconnects = state.socket.disconnects;
            state.api.seen_history.add(disconnects, &job.prompt_id);
            if events_missed && state.socket.count_missed_ending(job.disconnects_when_seen) {
                tracing::warn!(
                    "a prompt of ours ended, but the socket received nothing: reconnecting"
                );
                self.backend.redial.notify_one();
            }
        }
        if let Some(graph) = entry.graph.filter(|_| self.is_unconfirmed(job)) {
            self.tracker.confirm_graph(&job.id, graph);
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

    /// Updates the forecast of the queue, from which the estimates of jobs that wait are made. Returns what it lacks.
    pub(in crate::relay) fn forecast_queue(
        &self,
        plans: &mut Plans,
        queue: &Arc<Queue>,
        graphs: &QueueGraphs,
    ) -> Lack {
        let (backend, estimator) = (&self.backend, &self.estimator);
        let source = PlanSource {
            follower: self,
            graphs,
        };
        let predicted = estimator.predict_queue(backend, plans, queue, &source);
        let lack = predicted.lack;
        let registry = self.tracker.registry();
        let now = self.tracker.now();
        let live = |prompt: &String| {
            let mut jobs = registry.entries_of_prompt(backend, prompt);
            let entry = jobs.find(|entry| entry.has_live_estimate())?;
            Some((prompt.clone(), estimator.estimate(entry, now)))
        };
        let live = predicted.running.keys().filter_map(live).collect();
        let began_at = |prompt: &str| self.began_at(&registry, queue, graphs, prompt);
        estimator.update_queue(backend, queue, predicted, &live, began_at, now);
        lack
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
        let entry = running.find(|entry| *entry.prompt_id == *prompt_id)?;
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

    /// Whether another client is sent the events of a prompt. Of one without a client all are sent some.
    pub(in crate::relay) fn is_hidden(&self, entry: &QueueEntry) -> bool {
        entry.client_id.is_some() && !self.is_own_client(entry)
    }

    pub(in crate::relay) fn is_own_client(&self, entry: &QueueEntry) -> bool {
        entry.client_id.as_deref() == Some(self.backend.comfy.client_id())
    }

    fn is_unconfirmed(&self, job: &OpenJob) -> bool {
        let registry = self.tracker.registry();
        let entry = registry.get(&job.id);
        entry.is_some_and(|entry| !entry.pending_plan.is_confirmed())
    }
}

impl OpenJob {
    /// A job of which nothing is asked yet; `None` if it has no prompt.
    pub(in crate::relay) fn of(entry: &Entry) -> Option<Self> {
        Some(Self {
            id: entry.job.id().clone(),
            prompt_id: entry.job.prompt_id()?.to_owned(),
            created_at: entry.job.created_at(),
            disconnects_when_seen: entry.comparison.disconnects_when_seen,
            answers: Answers::default(),
        })
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
