//! What nodes cost, from before the start: the store's node runs, or else the server's history. What
//! is learned meanwhile is newer, and goes on top.

use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::comfy::PromptTiming;
use crate::estimate::CostModel;
use crate::job::Job;
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::estimates::stored_runs::{self, JobRuns};
use crate::store::NodeCostRecord;

/// How many prompts of a server's history are recalled: each is a graph that the server has to send.
const MAX_PROMPTS: usize = 100;

/// How many jobs that ended before everything older was recalled are kept to be learned again.
const MAX_PENDING_JOBS: usize = 64;

/// What has to be known until everything from before the start is recalled.
///
/// Locked after the jobs, and before the model.
#[derive(Debug)]
pub(in crate::relay) struct Learning {
    /// When the relay started: what ran since, it learns itself.
    pub(in crate::relay) since: Timestamp,
    /// Taken by who recalls: one after another.
    replay_lock: tokio::sync::Mutex<()>,
    pending: Mutex<PendingTraining>,
}

#[derive(Debug, Default)]
struct PendingTraining {
    /// What was recalled so far.
    base: CostModel,
    /// The jobs of which the model has learned since the start, to be learned again on top of a base
    /// that grows.
    live: VecDeque<Job>,
    /// The base is about to grow: no job is moved into it.
    is_growing: bool,
    /// The node runs of the store were recalled.
    stored_runs_replayed: bool,
    /// The servers of which nothing has been recalled yet.
    due: HashSet<String>,
}

impl Learning {
    /// For servers with these names.
    pub(in crate::relay) fn new<'a>(backends: impl Iterator<Item = &'a str>) -> Self {
        Self {
            since: Timestamp::now(),
            replay_lock: tokio::sync::Mutex::default(),
            pending: Mutex::new(PendingTraining {
                due: backends.map(str::to_owned).collect(),
                ..PendingTraining::default()
            }),
        }
    }

    /// They are whole at any moment, as the jobs are.
    fn pending(&self) -> MutexGuard<'_, PendingTraining> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingTraining {
    fn keep(&mut self, job: &Job) {
        if self.due.is_empty() || job.backend().is_none() {
            return;
        }
        self.live.push_back(job.clone());
        while self.live.len() > MAX_PENDING_JOBS && !self.is_growing {
            if let Some(oldest) = self.live.pop_front() {
                self.base.learn(&oldest);
            }
        }
    }
}

impl Relay {
    /// Takes note of what the nodes of a job that is over have cost, and tells what that is, by node.
    pub(in crate::relay) fn learn(&self, job: &Job) -> HashMap<String, NodeCostRecord> {
        let mut pending = self.0.learning.pending();
        let mut model = self.model();
        let runs = model.runs(job).into_iter();
        let costs =
            runs.filter_map(|(node, run)| Some((node.to_owned(), stored_runs::cost(&run)?)));
        let costs = costs.collect();
        model.learn(job);
        pending.keep(job);
        costs
    }

    /// Recalls what the store has kept of the configured servers, once. Says whether the database
    /// could tell. The history of those of which it has kept nothing is asked for.
    pub(in crate::relay) async fn replay_stored_runs(&self) -> bool {
        if self.0.learning.pending().stored_runs_replayed {
            return true;
        }
        let jobs = match stored_runs::jobs(self).await {
            Ok(jobs) => jobs,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, "cannot read what nodes have cost before the start");
                return false;
            }
        };
        let tells = |job: &&JobRuns| job.past().iter().any(|run| !run.is_cached);
        let known = jobs.iter().filter(tells).map(|job| job.backend.clone());
        let known: HashSet<String> = known.collect();
        tracing::debug!(jobs = jobs.len(), "recalling what nodes have cost");
        let teach = move |model: &mut CostModel| {
            for job in &jobs {
                model.learn_runs(&job.backend, &job.past());
            }
        };
        self.recall(known.iter(), teach).await;
        self.0.learning.pending().stored_runs_replayed = true;
        for backend in &self.0.backends {
            if !known.contains(backend.name()) {
                backend.state().history_due = true;
            }
        }
        true
    }

    /// Recalls a server's history, where that is due. Never in the way of anything.
    pub(in crate::relay) fn start_history_replay(&self, backend: &Arc<Backend>) {
        if !std::mem::take(&mut backend.state().history_due) {
            return;
        }
        let (relay, backend) = (self.clone(), backend.clone());
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = relay.stopping() => {}
                () = relay.replay_history(&backend) => {}
            }
        });
    }

    async fn replay_history(&self, backend: &Backend) {
        let name = backend.name().to_owned();
        let prompts = match backend.comfy.rest().timings(MAX_PROMPTS).await {
            Ok(prompts) => prompts,
            // It is gone again before it was asked.
            Err(error) if error.is_unreachable() && !error.may_be_done() => {
                backend.state().history_due = true;
                return;
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(
                    backend = name,
                    error,
                    "learning nothing from ComfyUI's history"
                );
                Vec::new()
            }
        };
        tracing::debug!(
            backend = name,
            prompts = prompts.len(),
            "recalling ComfyUI's history"
        );
        let known = name.clone();
        let teach = move |model: &mut CostModel| {
            for PromptTiming {
                plan,
                cached,
                seconds,
            } in &prompts
            {
                model.learn_prompt(&name, plan, cached, *seconds);
            }
        };
        self.recall([&known], teach).await;
    }

    /// Teaches the model what is older than all that was learned since the start, and notes of which
    /// servers that was the last.
    async fn recall(
        &self,
        known: impl IntoIterator<Item = &String>,
        teach: impl FnOnce(&mut CostModel) + Send + 'static,
    ) {
        let learning = &self.0.learning;
        let _replay_lock = learning.replay_lock.lock().await;
        let mut base = {
            let mut pending = learning.pending();
            pending.is_growing = true;
            pending.base.clone()
        };
        // Thousands of runs take a while, in which jobs go on.
        let taught = tokio::task::spawn_blocking(move || {
            teach(&mut base);
            base
        });
        let taught = taught.await;
        let mut pending = learning.pending();
        pending.is_growing = false;
        match taught {
            Ok(base) => {
                let mut model = base.clone();
                pending.live.iter().for_each(|job| model.learn(job));
                *self.model() = model;
                pending.base = base;
            }
            Err(error) => tracing::error!(%error, "cannot recall what nodes have cost"),
        }
        for name in known {
            pending.due.remove(name);
        }
        if pending.due.is_empty() {
            pending.base = CostModel::default();
            pending.live.clear();
        }
    }
}

#[cfg(test)]
mod tests;
