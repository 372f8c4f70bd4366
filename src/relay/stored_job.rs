//! What the store keeps of a job.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::estimate::Estimate;
use crate::job::{Bar, Job, NodeState, PlannedNode, Progress, StoredJob};
use crate::store::{JobRecord, LeaseOwner, NodeCostRecord, NodeRunRecord};

/// What the row of a job says of its end: what its owner estimated.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredEstimate {
    fraction: f64,
    remaining: Option<u64>,
    at: Timestamp,
}

impl StoredEstimate {
    /// `None` of a job that has ended.
    pub(super) fn of(stored: &StoredJob) -> Option<Self> {
        (!stored.status.is_final()).then(|| Self {
            fraction: f64::from(stored.progress) / 100.0,
            remaining: stored.estimated_remaining,
            at: stored.updated_at,
        })
    }

    /// The estimate at a moment.
    pub(super) fn at(self, now: Timestamp) -> Estimate {
        let since = now.duration_since(self.at).as_secs_f64().max(0.0);
        Estimate {
            fraction: self.fraction,
            remaining: (self.remaining).map(|seconds| (seconds as f64 - since).max(0.0)),
            ..Estimate::default()
        }
    }
}

/// What the store keeps of a job in this state. `costs` are those of its nodes; `None` if nothing was
/// learned from it.
pub(super) fn record(
    job: &Job,
    costs: Option<&HashMap<String, NodeCostRecord>>,
    mut progress: Progress,
    (owner, epoch): (&Arc<LeaseOwner>, u64),
) -> JobRecord {
    progress.outputs = job.stored_outputs();
    // Of a job that waits in the relay's own queue, the state names the server that is planned, which does not have it.
    progress.backend = job.backend().map(str::to_owned);
    let is_final = progress.status.is_final();
    JobRecord {
        created_at: job.created_at(),
        started_at: job.stored_start(),
        completed_at: job.ended_at(),
        error_code: job.error().map(|error| error.code.as_str()),
        message: job
            .report()
            .and_then(|(report, _)| report.message.as_ref())
            .map(|_| progress.message.clone()),
        learned_from: job.end_source().map(|source| source.as_str()),
        node_runs: if is_final {
            node_runs(job, costs)
        } else {
            Vec::new()
        },
        owner: owner.clone(),
        epoch,
        deliveries: Vec::new(),
        progress,
    }
}

fn node_runs(job: &Job, costs: Option<&HashMap<String, NodeCostRecord>>) -> Vec<NodeRunRecord> {
    // What was not learned must not be replayed either: nothing is learned from a run without a signature.
    let signature = |planned: Option<&PlannedNode>, was_learned: bool| {
        let planned = planned.filter(|_| was_learned);
        planned.map(|node| node.signature.clone())
    };
    let ended_at = job.ended_at().unwrap_or_default();
    let ran = job.runs().into_iter().map(|run| {
        let planned = job.plan().node(run.display);
        let cost = costs.and_then(|costs| costs.get(run.id).copied());
        NodeRunRecord {
            node: run.id.to_owned(),
            class: planned.map(|node| node.class_type.clone()),
            // The nodes that a node was expanded to have other costs than the node, but for copies that a loop has made of it.
            signature: signature(job.plan().node(run.id).or(planned), cost.is_some()),
            started_at: run.started_at,
            seconds: run.seconds(ended_at),
            steps: run.bar.and_then(Bar::steps).map(|(_, steps)| steps),
            cached: false,
            display: (run.display != run.id).then(|| run.display.to_owned()),
            title: planned.and_then(|node| node.title.clone()),
            state: Some(run.state),
            cost,
        }
    });
    let began_at = job.started_at().unwrap_or(ended_at);
    let cached = job.nodes().cached_ids().filter_map(|id| {
        let planned = job.plan().node(id).filter(|node| node.needed)?;
        Some(NodeRunRecord {
            node: id.to_owned(),
            class: Some(planned.class_type.clone()),
            signature: signature(Some(planned), costs.is_some()),
            started_at: began_at,
            seconds: 0.0,
            steps: None,
            cached: true,
            display: None,
            title: planned.title.clone(),
            state: Some(NodeState::Cached),
            cost: None,
        })
    });
    ran.chain(cached).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Event, JobId, QueueWait, Status};

    fn written(job: &mut Job) -> JobRecord {
        let progress = job.publish(0.0, None, Timestamp::UNIX_EPOCH);
        record(job, None, progress, (&Arc::new(LeaseOwner::new()), 1))
    }

    #[test]
    fn the_row_of_a_job_that_waits_names_no_server() {
        let id = JobId::parse("job").unwrap();
        let mut job = Job::new(id, Timestamp::UNIX_EPOCH).waiting("prompt");
        let planned = QueueWait {
            backend: Some("gpu1".into()),
            ..QueueWait::default()
        };
        job.apply(Event::Waits(planned), Timestamp::UNIX_EPOCH);
        assert_eq!(written(&mut job).progress.backend, None);
        job.hand_over("gpu2", "prompt");
        assert_eq!(written(&mut job).progress.backend.as_deref(), Some("gpu2"));
    }

    #[test]
    fn the_row_of_a_job_that_is_to_run_again_says_when_it_began() {
        let id = JobId::parse("job").unwrap();
        let began_at = Timestamp::from_second(7).unwrap();
        let mut job = Job::new(id, Timestamp::UNIX_EPOCH).waiting("prompt");
        job.hand_over("gpu1", "prompt");
        job.apply(Event::Started, began_at);
        job.take_back("another");
        let record = written(&mut job);
        assert_eq!(record.progress.status, Status::Processing);
        assert_eq!(record.started_at, Some(began_at));
        job.hand_over("gpu2", "another");
        assert_eq!(written(&mut job).started_at, None, "not in this attempt");
    }
}
