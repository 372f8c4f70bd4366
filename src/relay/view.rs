//! Jobs, as they are listed and shown.

use jiff::Timestamp;
use serde::Serialize;

use super::Relay;
use super::jobs::Entry;
use crate::estimate::Estimate;
use crate::job::{Bar, Job, JobId, NodeRun, NodeState, Progress, Status};

/// A part of the list of jobs, the newest first.
#[derive(Debug, Clone, Serialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// What to ask with for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// One job: the fields of its `progress` message, and what only its page shows.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    /// Its newest state.
    #[serde(flatten)]
    pub progress: Progress,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was heard that execution began.
    pub started_at: Option<Timestamp>,
    /// When its end was learned.
    pub completed_at: Option<Timestamp>,
    /// Where its end was learned: `ws`, `history`, `queue` or `producer`.
    pub learned_from: Option<&'static str>,
    /// A stable word for why it failed.
    pub error_code: Option<&'static str>,
    /// Its nodes in the order in which they began; only where one job is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Vec<NodeRunView>>,
}

/// One execution of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeRunView {
    /// The run's id; `5.0.0.1` and the like for nodes that were made at run time.
    pub id: String,
    /// The node of the graph that it counts as.
    pub display_node: String,
    /// Its class.
    pub class_type: Option<String>,
    /// What the author calls it.
    pub title: Option<String>,
    /// `running`, `finished`, `cached`, `failed` or `interrupted`.
    pub state: &'static str,
    /// The steps of its bar.
    pub steps: Option<u32>,
    /// When it was first heard of.
    pub started_at: Timestamp,
    /// How long it took, or has taken so far.
    pub seconds: f64,
}

impl Relay {
    /// One job, with its node timeline.
    pub fn job(&self, id: &JobId) -> Option<JobView> {
        let now = Timestamp::now();
        let jobs = self.jobs();
        let job = &jobs.get(id)?.job;
        let runs = job.nodes().timeline();
        let timeline = runs
            .into_iter()
            .map(|run| node_run(job, run, now))
            .collect();
        Some(JobView {
            timeline: Some(timeline),
            ..job_view(job, now)
        })
    }

    /// The number of a job's final state; `None` while it has not ended.
    pub fn final_seq(&self, id: &JobId) -> Option<u64> {
        let jobs = self.jobs();
        let job = &jobs.get(id)?.job;
        job.status().is_final().then(|| job.seq())
    }

    /// At most `limit` jobs, those of one status only where `status` says so, registered before the
    /// one that `cursor` names.
    pub fn list(&self, status: Option<Status>, limit: usize, cursor: Option<u64>) -> JobPage {
        let now = Timestamp::now();
        let jobs = self.jobs();
        let asked = |entry: &&Entry| status.is_none_or(|status| entry.job.status() == status);
        let mut found = jobs.newest_first(cursor).filter(asked);
        let page: Vec<&Entry> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        let last = page.last().filter(|_| more);
        JobPage {
            next_cursor: last.map(|entry| entry.number().to_string()),
            jobs: page
                .into_iter()
                .map(|entry| job_view(&entry.job, now))
                .collect(),
        }
    }
}

fn job_view(job: &Job, now: Timestamp) -> JobView {
    JobView {
        progress: job.progress(Estimate::of(job, now).remaining, now),
        created_at: job.created_at(),
        started_at: job.started_at(),
        completed_at: job.ended_at(),
        learned_from: job.learned_from().map(|source| source.as_str()),
        error_code: job.error().map(|error| error.code.as_str()),
        timeline: None,
    }
}

fn node_run(job: &Job, run: NodeRun<'_>, now: Timestamp) -> NodeRunView {
    let planned = job.plan().node(run.display);
    let until = run.ended_at.unwrap_or(now);
    NodeRunView {
        id: run.id.to_owned(),
        display_node: run.display.to_owned(),
        class_type: planned.map(|node| node.class_type.clone()),
        title: planned.and_then(|node| node.title.clone()),
        state: match run.state {
            NodeState::Running => "running",
            NodeState::Finished => "finished",
            NodeState::Cached => "cached",
            NodeState::Failed => "failed",
            NodeState::Interrupted => "interrupted",
        },
        steps: run.bar.and_then(Bar::steps).map(|(_, steps)| steps),
        started_at: run.started_at,
        seconds: until.duration_since(run.started_at).as_secs_f64().max(0.0),
    }
}
