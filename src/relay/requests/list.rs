//! Jobs, as they are listed and shown.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::estimate::Estimate;
use crate::job::{Bar, Job, JobId, NodeRun, NodeState, Progress};
use crate::relay::Relay;
use crate::relay::error::RelayError;
use crate::store::{Cursor, JobFilter};

/// A part of the list of jobs, the newest first.
#[derive(Debug, Clone, Serialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// What to ask with for the next page; `null` on the last one.
    #[serde(serialize_with = "encode")]
    pub next_cursor: Option<Cursor>,
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

/// A cursor as clients hand it back: `MILLISECONDS.JOB_ID`.
fn encode<S: Serializer>(cursor: &Option<Cursor>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = cursor
        .as_ref()
        .map(|cursor| format!("{}.{}", cursor.created_at.as_millisecond(), cursor.job_id));
    text.serialize(serializer)
}

impl Relay {
    /// One job, with its node timeline.
    pub fn job(&self, id: &JobId) -> Option<JobView> {
        let now = self.now();
        let jobs = self.jobs();
        let entry = jobs.get(id)?;
        let job = &entry.job;
        let runs = job.nodes().timeline();
        let timeline = runs
            .into_iter()
            .map(|run| node_run(job, run, now))
            .collect();
        Some(JobView {
            timeline: Some(timeline),
            ..job_view(job, self.estimate(entry, &self.model(), now), now)
        })
    }

    /// The number of a job's final state; `None` while it has not ended.
    pub fn final_seq(&self, id: &JobId) -> Option<u64> {
        let jobs = self.jobs();
        let job = &jobs.get(id)?.job;
        job.status().is_final().then(|| job.seq())
    }

    /// At most `limit` jobs from the store, the newest first. Those that the relay remembers are shown
    /// as they are now.
    pub async fn list(&self, filter: &JobFilter, limit: usize) -> Result<JobPage, RelayError> {
        let mut found = self.recorder().store().jobs(filter, limit + 1).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| has_more);
        let next_cursor = last.map(|job| Cursor {
            created_at: job.created_at,
            job_id: job.id.clone(),
        });
        let now = self.now();
        let jobs = self.jobs();
        let model = self.model();
        let views = found.into_iter().map(|saved| match jobs.get(&saved.id) {
            Some(entry) => job_view(&entry.job, self.estimate(entry, &model, now), now),
            None => {
                let job = Job::restored(saved);
                job_view(&job, Estimate::of(&job, &model, now), now)
            }
        });
        // A job may have gone on since it was written.
        let asked = |view: &JobView| {
            let wanted = filter.status;
            wanted.is_none_or(|status| view.progress.status == status)
        };
        Ok(JobPage {
            jobs: views.filter(asked).collect(),
            next_cursor,
        })
    }
}

fn job_view(job: &Job, estimate: Estimate, now: Timestamp) -> JobView {
    JobView {
        progress: job.progress(estimate.remaining_time(), now),
        created_at: job.created_at(),
        started_at: job.started_at(),
        completed_at: job.ended_at(),
        learned_from: job.end_source().map(|source| source.as_str()),
        error_code: job.error().map(|error| error.code.as_str()),
        timeline: None,
    }
}

fn node_run(job: &Job, run: NodeRun<'_>, now: Timestamp) -> NodeRunView {
    let planned = job.plan().node(run.display);
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
        seconds: run.seconds(now),
    }
}
