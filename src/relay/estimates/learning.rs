//! The cost model, and what it learns from: jobs as they end, and from before the start the node runs in
//! the store, or else the history of a backend. What is learned of jobs that end is newer, and is learned
//! again on top of what comes from before the start.

use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::comfy::{PromptTiming, RestError};
use crate::estimate::CostModel;
use crate::job::Job;
use crate::relay::backend::Backend;
use crate::relay::backends::Backends;
use crate::relay::estimates::stored_runs::{self, JobRuns};
use crate::store::{NodeCostRecord, Store};

/// How many prompts of a backend's history are learned: each is a graph that the server has to send.
const MAX_PROMPTS: usize = 100;

/// Of how many images that they have loaded the sizes are fetched.
const MAX_IMAGES: usize = 100;

/// How many jobs that ended before everything older was learned are kept, to be learned again.
const MAX_PENDING_JOBS: usize = 64;

/// The cost model, and what is still to be learned.
///
/// The lock order is: the jobs, `pending`, `model`.
#[derive(Debug)]
pub(in crate::relay) struct Learning {
    model: Mutex<CostModel>,
    /// How often the model has learned something.
    revision: AtomicU64,
    /// When the relay started: runs since then are learned as their jobs end.
    started_at: Timestamp,
    /// Held during a replay: one after another.
    replay_lock: tokio::sync::Mutex<()>,
    pending: Mutex<PendingTraining>,
}

#[derive(Debug, Default)]
struct PendingTraining {
    /// What was replayed so far.
    base: CostModel,
    /// The jobs that the model has learned from since the start, to be learned again on top of a base
    /// that grows.
    live: VecDeque<Job>,
    /// A replay is under way: no job is moved into the base.
    is_replaying: bool,
    /// The node runs of the store were replayed.
    stored_runs_replayed: bool,
    /// The backends of which nothing was replayed yet.
    due: HashSet<String>,
}

impl PendingTraining {
    fn add(&mut self, job: &Job) {
        if self.due.is_empty() || job.backend().is_none() {
            return;
        }
        self.live.push_back(job.clone());
        while self.live.len() > MAX_PENDING_JOBS && !self.is_replaying {
            if let Some(oldest) = self.live.pop_front() {
                self.base.learn(&oldest);
            }
        }
    }
}

impl Learning {
    /// For backends with these names.
    pub(in crate::relay) fn new<'a>(backends: impl Iterator<Item = &'a str>) -> Self {
        Self {
            model: Mutex::default(),
            revision: AtomicU64::new(0),
            started_at: Timestamp::now(),
            replay_lock: tokio::sync::Mutex::default(),
            pending: Mutex::new(PendingTraining {
                due: backends.map(str::to_owned).collect(),
                ..PendingTraining::default()
            }),
        }
    }

    /// A backend was added. Its history is read like that of the others, if what the database has of earlier runs was not read
    /// yet; later it would be older than what was learned since.
    pub(in crate::relay) fn expect(&self, name: &str) {
        let mut pending = self.pending();
        if !pending.stored_runs_replayed {
            pending.due.insert(name.to_owned());
        }
    }

    /// Locks the model. It is consistent at any moment, as the jobs are.
    pub(in crate::relay) fn model(&self) -> MutexGuard<'_, CostModel> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the model has learned something: as long as this stays, so do its predictions.
    pub(in crate::relay) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Learns what the nodes of a job that has ended have cost. Returns their costs by node.
    pub(in crate::relay) fn learn(&self, job: &Job) -> HashMap<String, NodeCostRecord> {
        let mut pending = self.pending();
        let mut model = self.model();
        let runs = model.runs(job).into_iter();
        let costs =
            runs.filter_map(|(node, run)| Some((node.to_owned(), stored_runs::cost(&run)?)));
        let costs = costs.collect();
        model.learn(job);
        self.revision.fetch_add(1, Ordering::Relaxed);
        pending.add(job);
        costs
    }

    /// Learns once from the node runs of these backends in the store. The history of a backend that has
    /// none there becomes due. Returns whether the database answered.
    pub(in crate::relay) async fn replay_stored_runs(
        &self,
        store: &Store,
        backends: &Backends,
    ) -> bool {
        if self.pending().stored_runs_replayed {
            return true;
        }
        let names = backends.iter().map(|backend| backend.name());
        let jobs = match stored_runs::read(store, names, self.started_at).await {
            Ok(jobs) => jobs,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, "cannot read the costs of nodes from the database");
                return false;
            }
        };
        let has_run = |job: &&JobRuns| job.past().iter().any(|run| !run.is_cached);
        let known = jobs
            .iter()
            .filter(has_run)
            .map(|job| job.backend().to_owned());
        let known: HashSet<String> = known.collect();
        tracing::debug!(jobs = jobs.len(), "learning from the database");
        let teach = move |model: &mut CostModel| {
            for job in &jobs {
                model.learn_runs(job.backend(), &job.past(), job.began_at());
            }
        };
        self.replay(known.iter(), teach).await;
        self.pending().stored_runs_replayed = true;
        for backend in backends.iter() {
            if !known.contains(backend.name()) {
                backend.state().api.history_due = true;
            }
        }
        true
    }

    /// Learns from a backend's history, at the sizes of images that it still has.
    pub(in crate::relay) async fn replay_history(&self, backend: &Arc<Backend>) {
        let name = backend.name().to_owned();
        let prompts = match backend.comfy.rest().timings(MAX_PROMPTS).await {
            Ok(prompts) => prompts,
            // The server has gone before it was asked: ask again when it is back.
            Err(error) if error.is_unreachable() && !error.may_be_done() => {
                backend.state().api.history_due = true;
                return;
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(backend = name, error, "cannot learn from ComfyUI's history");
                Vec::new()
            }
        };
        tracing::debug!(
            backend = name,
            prompts = prompts.len(),
            "learning from ComfyUI's history"
        );
        fetch_sizes(backend, &prompts).await;
        let (known, backend) = (name.clone(), backend.clone());
        let teach = move |model: &mut CostModel| {
            for prompt in &prompts {
                let plan = backend.plan(&prompt.graph);
                model.learn_prompt(&name, &plan, &prompt.cached, prompt.seconds);
            }
        };
        self.replay([&known], teach).await;
    }

    /// Teaches the model what is older than everything learned since the start. `known` are the backends
    /// of which this was the last.
    async fn replay(
        &self,
        known: impl IntoIterator<Item = &String>,
        teach: impl FnOnce(&mut CostModel) + Send + 'static,
    ) {
        let _replay_lock = self.replay_lock.lock().await;
        let mut base = {
            let mut pending = self.pending();
            pending.is_replaying = true;
            pending.base.clone()
        };
        // Thousands of runs take a while, in which jobs go on.
        let taught = tokio::task::spawn_blocking(move || {
            teach(&mut base);
            base
        });
        let taught = taught.await;
        let mut pending = self.pending();
        pending.is_replaying = false;
        match taught {
            Ok(base) => {
                let mut model = base.clone();
                pending.live.iter().for_each(|job| model.learn(job));
                *self.model() = model;
                self.revision.fetch_add(1, Ordering::Relaxed);
                pending.base = base;
            }
            Err(error) => tracing::error!(%error, "cannot learn the costs of nodes"),
        }
        for name in known {
            pending.due.remove(name);
        }
        if pending.due.is_empty() {
            pending.base = CostModel::default();
            pending.live.clear();
        }
    }

    /// Locks it. Consistent at any moment, as the jobs are.
    fn pending(&self) -> MutexGuard<'_, PendingTraining> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches the sizes of images that prompts have loaded, one after the other, as long as the backend
/// answers.
async fn fetch_sizes(backend: &Backend, prompts: &[PromptTiming]) {
    let mut files = HashSet::new();
    for prompt in prompts {
        files.extend(backend.plan(&prompt.graph).files().iter().cloned());
        // A graph takes a while to read.
        tokio::task::yield_now().await;
    }
    for file in files.iter().take(MAX_IMAGES) {
        let fetched = backend.images.fetch(backend.comfy.rest(), file).await;
        let has_answered = !fetched.as_ref().is_err_and(RestError::is_unreachable);
        backend.images.record(file, fetched);
        if !has_answered {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
