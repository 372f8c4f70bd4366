//! What a job is, and how events change it. Pure: no I/O, and the caller passes the time.
//!
//! [`Job::apply`] accepts events in any sequence. Lost, repeated or reordered ones never make progress
//! fall, and never change a final state.

mod apply;
mod end_source;
mod error;
mod event;
mod group;
mod id;
mod new_report;
mod node_state;
mod nodes;
mod output;
mod plan;
mod progress;
mod queue_wait;
mod restore;
mod selection;
mod snapshot;
mod status;
mod tags;
mod text;
mod waiting;

use std::sync::Arc;

use indexmap::IndexSet;
use jiff::Timestamp;

pub use end_source::EndSource;
pub use error::{ErrorCode, JobError};
pub use event::{Event, History, Outcome, Reason, Report};
pub use group::{GroupMember, JobGroup};
pub use id::{JobId, JobIdError};
pub use new_report::{NewReport, ReportError};
pub use node_state::{NodeReport, NodeState};
pub use nodes::{Bar, Current, LoopRounds, NodeCounts, NodeRun, NodeTiming, Nodes, ServiceEnd};
pub use output::Output;
pub use plan::{
    ImageFile, ImageSize, ImageSizes, ObservedSize, ObservedSizes, Plan, PlannedNode, PromptGraph,
    Role, SavedImages, SizeFinding, SizeKey, outputs,
};
pub use progress::{NodeView, NodesView, Progress, Remaining};
pub use queue_wait::QueueWait;
pub use restore::StoredJob;
pub use selection::Selection;
pub use status::Status;
pub use tags::{TagError, Tags, group_schema, labels_schema};
pub use text::{excerpt, passed, printable, printable_json, redact};

/// One job: a prompt on a ComfyUI server, or the work of another producer.
#[derive(Debug, Clone)]
pub struct Job {
    id: JobId,
    prompt_id: Option<String>,
    backend: Option<String>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    status: Status,
    error: Option<JobError>,
    end_source: Option<EndSource>,
    plan: Plan,
    nodes: Nodes,
    outputs: IndexSet<Output>,
    /// How many bytes of texts are among them.
    text_size: usize,
    /// The place of the one that its output path names, where the graph that decides that is not known any more.
    main_output: Option<usize>,
    ahead: Option<usize>,
    /// Set while it waits in the relay's own queue.
    wait: Option<QueueWait>,
    /// How often its prompt was handed in or waits to be, from 1.
    attempt: u32,
    /// When it first began, in an earlier attempt.
    began_before: Option<Timestamp>,
    /// Since when its backend does not answer; `None` while it does.
    unreachable_since: Option<Timestamp>,
    /// Its backend was asked to stop it, and has not yet.
    is_cancelling: bool,
    /// Since when its backend shows no sign of life, if that is too long.
    silent_since: Option<Timestamp>,
    /// Its events go to another client: which of its nodes runs is not received.
    has_hidden_steps: bool,
    socket_outcome: Option<Outcome>,
    work_done_at: Option<Timestamp>,
    report: Option<(Report, Timestamp)>,
    /// The largest fraction that was published, 0 to 1. Published progress never falls below it.
    highest_fraction: f64,
    seq: u64,
    tags: Arc<Tags>,
}

impl Job {
    /// A queued job, without a backend.
    pub fn new(id: JobId, created_at: Timestamp) -> Self {
        Self {
            id,
            prompt_id: None,
            backend: None,
            created_at,
            started_at: None,
            ended_at: None,
            status: Status::Queued,
            error: None,
            end_source: None,
            plan: Plan::default(),
            nodes: Nodes::default(),
            outputs: IndexSet::new(),
            text_size: 0,
            main_output: None,
            ahead: None,
            wait: None,
            attempt: 1,
            began_before: None,
            unreachable_since: None,
            is_cancelling: false,
            silent_since: None,
            has_hidden_steps: false,
            socket_outcome: None,
            work_done_at: None,
            report: None,
            highest_fraction: 0.0,
            seq: 0,
            tags: Arc::default(),
        }
    }

    /// The same job as the prompt `prompt_id` of the backend called `backend`.
    pub fn on_backend(mut self, backend: &str, prompt_id: &str) -> Self {
        self.backend = Some(backend.to_owned());
        self.prompt_id = Some(prompt_id.to_owned());
        self
    }

    /// The same job with what a client has said of it.
    pub fn tagged(mut self, tags: Arc<Tags>) -> Self {
        self.tags = tags;
        self
    }

    /// Another job of the same prompt: it has come as far, and nothing of it was published.
    pub fn follower(&self, id: JobId, created_at: Timestamp, tags: Arc<Tags>) -> Self {
        Self {
            id,
            created_at,
            seq: 0,
            ..self.clone().tagged(tags)
        }
    }

    /// A client says something else of it from now on.
    pub fn set_tags(&mut self, tags: Arc<Tags>) {
        self.tags = tags;
    }

    /// Follows the prompt under another id: the server has not kept the one that was chosen for it.
    pub fn rename_prompt(&mut self, prompt_id: &str) {
        self.prompt_id = Some(prompt_id.to_owned());
    }

    /// Its public id.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// ComfyUI's id for it.
    pub fn prompt_id(&self) -> Option<&str> {
        self.prompt_id.as_deref()
    }

    /// The name of the backend that runs it.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Why it failed.
    pub fn error(&self) -> Option<&JobError> {
        self.error.as_ref()
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.status {
            Status::Completed => Some(Outcome::Completed),
            Status::Cancelled => Some(Outcome::Cancelled),
            Status::Failed => {
                // The database may hold a job of which only the status was stored.
                let error = self.error.clone();
                Some(Outcome::Failed(
                    error.unwrap_or_else(|| JobError::reported(None)),
                ))
            }
            Status::Queued | Status::Processing => None,
        }
    }

    /// How its end was learned.
    pub fn end_source(&self) -> Option<EndSource> {
        self.end_source
    }

    /// When it was registered.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When the first event of its execution was received.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// When its final status was learned.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended_at
    }

    /// When its work was done: the socket reported its end, while its outputs may still be unread.
    pub fn work_done_at(&self) -> Option<Timestamp> {
        self.work_done_at
    }

    /// Seconds since execution first began, until `now` or its end, in whole milliseconds.
    pub fn elapsed(&self, now: Timestamp) -> Option<f64> {
        let until = self.ended_at.unwrap_or(now);
        let since = self.began_before.or(self.started_at)?;
        let seconds = until.duration_since(since).as_secs_f64().max(0.0);
        Some((seconds * 1000.0).round() / 1000.0)
    }

    /// The runs of its nodes in the order of their starts, each ended when the work was done at the
    /// latest.
    ///
    /// If the job completed and every node was seen to end, the last one takes until the work was done:
    /// servers without `progress_state` report no earlier end, and what ComfyUI does after its last
    /// node belongs to no other node.
    pub fn runs(&self) -> Vec<NodeRun<'_>> {
        let mut runs = self.nodes.timeline();
        let Some(work_done_at) = self.work_done_at else {
            return runs;
        };
        for run in &mut runs {
            let end = run
                .ended_at
                .map_or(work_done_at, |end| end.min(work_done_at));
            run.ended_at = Some(end);
        }
        let counts = self.nodes.counts(&self.plan);
        let have_all_ended = counts.done + counts.cached == counts.total;
        if self.status == Status::Completed
            && have_all_ended
            && let Some(last) = runs.iter_mut().max_by_key(|run| run.ended_at)
        {
            last.ended_at = Some(work_done_at);
        }
        runs
    }

    /// The share of its time that had passed before a restart, 0 to 1, as long as nothing has shown which of
    /// its nodes run.
    pub fn resumed_fraction(&self) -> Option<f64> {
        self.nodes.is_resuming().then_some(self.highest_fraction)
    }

    /// Its graph.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The class of the node that a run counts as, if the job has it, begun or not.
    pub fn class_of_run(&self, run: &str) -> Option<&str> {
        let node = self.nodes.node_of(run, &self.plan);
        Some(&self.plan.node(&node)?.class_type)
    }

    /// The state of its nodes.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Every file and text that it has made so far.
    pub fn outputs(&self) -> &IndexSet<Output> {
        &self.outputs
    }

    /// Whether the socket has reported its end, while its outputs are still unread.
    pub fn is_ending(&self) -> bool {
        self.socket_outcome.is_some() && !self.status.is_final()
    }

    /// Whether its backend was asked to stop it, and has not yet.
    pub fn is_cancelling(&self) -> bool {
        self.is_cancelling
    }

    /// How it ended, as the socket reported it.
    pub fn socket_outcome(&self) -> Option<&Outcome> {
        self.socket_outcome.as_ref()
    }

    /// The number of the state that was published last.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What a client has said of it.
    pub fn tags(&self) -> &Arc<Tags> {
        &self.tags
    }

    /// Whether it is where this event would bring it, and its backend answers: [`Event::Queued`], [`Event::Started`] and
    /// [`Event::StartedAt`] are then nothing new.
    pub fn is_as(&self, event: &Event) -> bool {
        let is_there = match event {
            Event::Queued { ahead } => self.status != Status::Queued || self.ahead == *ahead,
            Event::Started | Event::StartedAt(_) => self.status != Status::Queued,
            _ => false,
        };
        is_there && self.is_reachable()
    }

    /// Whether its backend answers.
    pub fn is_reachable(&self) -> bool {
        self.unreachable_since.is_none()
    }

    /// What its producer reported last, and when.
    pub fn report(&self) -> Option<(&Report, Timestamp)> {
        self.report.as_ref().map(|(report, at)| (report, *at))
    }
}

#[cfg(test)]
mod tests;
