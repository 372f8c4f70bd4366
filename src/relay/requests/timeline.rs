//! The nodes of one job in the order in which they began.

use std::error::Error;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::job::{Bar, Job, JobId, NodeRun, NodeState};
use crate::relay::Relay;
use crate::store::StoredRun;

/// The most node runs that are read of a job whose nodes are not in memory.
pub(in crate::relay) const MAX_STORED_RUNS: usize = 5_000;

/// One execution of a node.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct NodeRunView {
    /// The run's id; such as `5.0.0.1` for a node that was made at run time.
    pub id: String,
    /// The node of the graph that it counts as.
    pub display_node: String,
    /// Its class.
    pub class_type: Option<String>,
    /// The title that the author of the graph gave it.
    pub title: Option<String>,
    /// `running`, `finished`, `cached`, `failed` or `interrupted`.
    #[schemars(with = "NodeState")]
    pub state: &'static str,
    /// The steps of its progress bar.
    pub steps: Option<u32>,
    /// When its first event was received.
    pub started_at: Timestamp,
    /// How long it took, or has taken so far, in seconds.
    pub seconds: f64,
}

impl NodeRunView {
    /// A run of a job that is in memory.
    pub(super) fn of(job: &Job, run: NodeRun<'_>, now: Timestamp) -> Self {
        let planned = job.plan().node(run.display);
        Self {
            id: run.id.to_owned(),
            display_node: run.display.to_owned(),
            class_type: planned.map(|node| node.class_type.clone()),
            title: planned.and_then(|node| node.title.clone()),
            state: run.state.as_str(),
            steps: run.bar.and_then(Bar::steps).map(|(_, steps)| steps),
            started_at: run.started_at,
            seconds: run.seconds(now),
        }
    }

    /// A run that the database has; `None` if it did not run, or is from a time when its state was not stored.
    fn stored(stored: StoredRun) -> Option<Self> {
        let run = stored.run;
        let state = run.state.filter(|_| !run.cached)?;
        Some(Self {
            display_node: run.display.unwrap_or_else(|| run.node.clone()),
            id: run.node,
            class_type: run.class,
            title: run.title,
            state: NodeState::as_str(state),
            steps: run.steps,
            started_at: run.started_at,
            seconds: run.seconds,
        })
    }
}

impl Relay {
    /// The timeline of a job that has ended, as the database has it; `None` while that is away.
    pub(super) async fn stored_timeline(&self, id: &JobId) -> Option<Vec<NodeRunView>> {
        let store = self.recorder().store();
        match store.node_runs_of(id, MAX_STORED_RUNS).await {
            Ok(runs) => Some(runs.into_iter().filter_map(NodeRunView::stored).collect()),
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::debug!(error, job_id = %id, "cannot read the nodes of a job");
                None
            }
        }
    }
}
