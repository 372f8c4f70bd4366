//! Between the node runs of the store and those of the cost model.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::estimate::PastRun;
use crate::relay::Relay;
use crate::store::{NodeCostRecord, StoreError, StoredRun};

/// How many node runs of a server are recalled. The model remembers a dozen of each kind, and cached
/// ones, of which nothing is learned, are counted.
const MAX_RUNS: usize = 5_000;

/// The runs of one job, in the order of their starts.
pub(in crate::relay) struct JobRuns {
    pub(in crate::relay) backend: String,
    runs: Vec<StoredRun>,
}

/// The kept jobs of all configured servers, the oldest first.
pub(in crate::relay) async fn jobs(relay: &Relay) -> Result<Vec<JobRuns>, StoreError> {
    let mut jobs = Vec::new();
    for backend in &relay.0.backends {
        let store = relay.recorder().store();
        let since = relay.0.learning.since;
        let runs = store.node_runs(backend.name(), since, MAX_RUNS).await?;
        jobs.extend(JobRuns::of(backend.name(), runs));
    }
    jobs.sort_by_key(JobRuns::began_at);
    Ok(jobs)
}

impl JobRuns {
    /// The jobs whose runs these are, in no order.
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

    /// When its last node began: the jobs of a server run one after another.
    pub(in crate::relay) fn began_at(&self) -> Option<Timestamp> {
        self.runs.last().map(|last| last.run.started_at)
    }

    /// What can be learned of it.
    pub(in crate::relay) fn past(&self) -> Vec<PastRun<'_>> {
        self.runs.iter().filter_map(past).collect()
    }
}

fn past(kept: &StoredRun) -> Option<PastRun<'_>> {
    let run = &kept.run;
    let (class, signature) = (run.class.as_deref()?, run.signature.as_deref()?);
    let is_cached = run.cached;
    let seconds = run.seconds;
    if let Some(cost) = run.cost {
        return Some(PastRun {
            class,
            signature,
            units: Some(cost.units),
            steps: cost.planned_steps,
            is_cold: cost.cold,
            is_cached,
            seconds,
            tick: cost.tick,
            ticks: cost.ticks,
        });
    }
    // Kept before costs were: those of nodes that a loop or a subgraph made bear the signature of the
    // node that made them, and not all that began have ended.
    let is_whole = kept.is_completed && !run.node.contains('.');
    let ticks = run.steps.map(f64::from).filter(|ticks| *ticks > 0.0);
    (is_cached || is_whole).then_some(PastRun {
        class,
        signature,
        units: None,
        steps: None,
        is_cold: false,
        is_cached,
        seconds,
        tick: ticks.map(|ticks| seconds / ticks),
        ticks,
    })
}

/// What is kept of a run.
pub(in crate::relay) fn cost(run: &PastRun<'_>) -> Option<NodeCostRecord> {
    Some(NodeCostRecord {
        units: run.units?,
        planned_steps: run.steps,
        cold: run.is_cold,
        tick: run.tick,
        ticks: run.ticks,
    })
}
