//! Converts between the node runs of the store and those of the cost model.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::estimate::PastRun;
use crate::store::{NodeCostRecord, Store, StoreError, StoredRun};

/// How many node runs of a backend are read. The model remembers a dozen of each kind; cached ones, from
/// which nothing is learned, count too.
const MAX_RUNS: usize = 5_000;

/// The node runs of one job, in the order of their starts.
pub(in crate::relay) struct JobRuns {
    backend: String,
    runs: Vec<StoredRun>,
}

/// Reads the runs of these backends from before a moment, by job, the oldest job first.
pub(in crate::relay) async fn read<'a>(
    store: &Store,
    backends: impl Iterator<Item = &'a str>,
    before: Timestamp,
) -> Result<Vec<JobRuns>, StoreError> {
    let mut jobs = Vec::new();
    for backend in backends {
        let runs = store.node_runs(backend, before, MAX_RUNS).await?;
        jobs.extend(JobRuns::of(backend, runs));
    }
    jobs.sort_by_key(JobRuns::began_at);
    Ok(jobs)
}

impl JobRuns {
    /// The jobs of a backend that these runs belong to, in no order.
    pub(in crate::relay) fn of(backend: &str, runs: Vec<StoredRun>) -> impl Iterator<Item = Self> {
        let mut jobs: HashMap<String, Vec<StoredRun>> = HashMap::new();
        for run in runs {
            jobs.entry(run.job_key.clone()).or_default().push(run);
        }
        jobs.into_values().map(|runs| Self {
            backend: backend.to_owned(),
            runs,
        })
    }

    pub(in crate::relay) fn backend(&self) -> &str {
        &self.backend
    }

    /// When its last node began: the jobs of a backend run one after another.
    pub(in crate::relay) fn began_at(&self) -> Option<Timestamp> {
        self.runs.last().map(|last| last.run.started_at)
    }

    /// The runs that can be learned from.
    pub(in crate::relay) fn past(&self) -> Vec<PastRun<'_>> {
        self.runs.iter().filter_map(past).collect()
    }
}

fn past(stored: &StoredRun) -> Option<PastRun<'_>> {
    let run = &stored.run;
    let (class, signature) = (run.class.as_deref()?, run.signature.as_deref()?);
    let is_cached = run.cached;
    let seconds = run.seconds;
    if let Some(cost) = run.cost {
        return Some(PastRun {
            class,
            signature,
            units: cost.units,
            calls: cost.calls,
            models: cost.models,
            steps: cost.planned_steps,
            is_cold: cost.cold,
            is_cached,
            seconds,
            tick: cost.tick,
            ticks: cost.ticks,
            is_parallel: cost.is_parallel,
        });
    }
    // Stored by a version that stored no costs. Nodes that a loop or a subgraph made have the signature of
    // the node that made them there, and not all nodes that began have ended.
    let is_whole = stored.is_completed && !run.node.contains('.');
    let ticks = run.steps.map(f64::from).filter(|ticks| *ticks > 0.0);
    (is_cached || is_whole).then_some(PastRun {
        class,
        signature,
        units: None,
        calls: None,
        models: 0,
        steps: None,
        is_cold: false,
        is_cached,
        seconds,
        tick: ticks.map(|ticks| seconds / ticks),
        ticks,
        is_parallel: false,
    })
}

/// What is stored of a run, if anything can be learned from it.
pub(in crate::relay) fn cost(run: &PastRun<'_>) -> Option<NodeCostRecord> {
    Some(NodeCostRecord {
        units: run.units,
        calls: Some(run.calls?),
        models: run.models,
        planned_steps: run.steps,
        cold: run.is_cold,
        tick: run.tick,
        ticks: run.ticks,
        is_parallel: run.is_parallel,
    })
}
