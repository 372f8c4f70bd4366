//! Explains the estimate of a job.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::estimate::{Explanation, NodeExplanation};
use crate::job::{JobId, NodeState, Status};
use crate::relay::requests::timeline::MAX_STORED_RUNS;
use crate::relay::{Relay, RelayError};
use crate::store::StoredRun;

/// Why the estimate of a job is what it is.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct EstimateView {
    /// The job.
    pub job_id: JobId,
    /// Its status.
    pub status: Status,
    /// The name of the backend that runs it.
    pub backend: Option<String>,
    /// The moment for which this holds, in whole milliseconds.
    pub timestamp: Timestamp,
    /// Why.
    #[serde(flatten)]
    pub explanation: Explanation,
}

impl Relay {
    /// Why the estimate of a job is what it is. Of a job that ended before the relay started, or so long
    /// ago that it is not in memory any more, the store knows what its nodes took, not what was predicted.
    pub async fn explain(&self, id: &JobId) -> Result<EstimateView, RelayError> {
        self.lookup(id).await?;
        let (mut view, started_at) = self
            .explain_known(id)
            .ok_or_else(|| RelayError::JobNotFound(id.clone()))?;
        if let Some(since) = started_at
            && view.status.is_final()
            && view.explanation.nodes.is_empty()
        {
            let store = self.recorder().store();
            let runs = store.node_runs_of(id, MAX_STORED_RUNS).await?;
            let nodes = runs.into_iter().map(|run| stored_node(run, since));
            view.explanation.nodes = nodes.collect();
        }
        Ok(view)
    }

    /// The same by what is in memory, and when the job began.
    fn explain_known(&self, id: &JobId) -> Option<(EstimateView, Option<Timestamp>)> {
        let tracker = &self.0.tracker;
        let now = tracker.now();
        let registry = tracker.registry();
        let entry = registry.get(id)?;
        let job = &entry.job;
        let view = EstimateView {
            job_id: job.id().clone(),
            status: job.status(),
            backend: job.backend().map(str::to_owned),
            timestamp: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
            explanation: tracker.estimator.explain(entry, now),
        };
        Some((view, job.started_at()))
    }
}

/// What the store knows of a run of a job that began at `since`.
fn stored_node(stored: StoredRun, since: Timestamp) -> NodeExplanation {
    let StoredRun {
        is_completed, run, ..
    } = stored;
    let state = run.state.or(match (run.cached, is_completed) {
        (true, _) => Some(NodeState::Cached),
        (false, true) => Some(NodeState::Finished),
        // The last one may have failed.
        (false, false) => None,
    });
    let began = run.started_at.duration_since(since).as_secs_f64();
    let cost = run.cost;
    NodeExplanation {
        id: run.node,
        class_type: run.class,
        title: run.title,
        state: state.map(NodeState::as_str),
        cold: cost.map(|cost| cost.cold),
        steps: cost
            .and_then(|cost| cost.planned_steps)
            .or(run.steps)
            .map(f64::from),
        steps_seen: cost.and_then(|cost| cost.ticks),
        units: cost.and_then(|cost| cost.units),
        began: (!run.cached).then_some(began),
        took: (!run.cached).then_some(run.seconds),
        ..NodeExplanation::default()
    }
}
