//! What a job is, and how events change it. No I/O, and no clock of its own.
//!
//! [`Job::apply`] folds events of any sequence: lost, repeated or out of order ones never make
//! its progress fall, and never change a final state.

mod end_source;
mod error;
mod event;
mod id;
mod nodes;
mod plan;
mod progress;
mod restore;
mod snapshot;
mod status;
mod text;

use jiff::Timestamp;

pub use end_source::EndSource;
pub use error::{ErrorCode, JobError};
pub use event::{Event, History, NodeReport, NodeState, Outcome, Reason, Report};
pub use id::{JobId, JobIdError};
pub use nodes::{Bar, Counts, Current, NodeRun, NodeTiming, Nodes};
pub use plan::{Plan, PlannedNode, Role};
pub use progress::{NodeView, NodesView, Output, Progress, Remaining};
pub use restore::StoredJob;
pub use status::Status;
pub use text::redact;

/// How many files a job remembers. A prompt with more keeps the first ones.
const MAX_OUTPUTS: usize = 1_000;

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
    outputs: Vec<Output>,
    ahead: Option<usize>,
    reachable: bool,
    socket_outcome: Option<Outcome>,
    work_done_at: Option<Timestamp>,
    report: Option<(Report, Timestamp)>,
    /// The furthest share that was ever published, 0 to 1: what is shown never falls below it.
    highest_fraction: f64,
    seq: u64,
}

impl Job {
    /// A job that waits.
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
            outputs: Vec::new(),
            ahead: None,
            reachable: true,
            socket_outcome: None,
            work_done_at: None,
            report: None,
            highest_fraction: 0.0,
            seq: 0,
        }
    }

    /// The same job as the prompt `prompt_id` of the ComfyUI server called `backend`.
    pub fn on_backend(mut self, backend: &str, prompt_id: &str) -> Self {
        self.backend = Some(backend.to_owned());
        self.prompt_id = Some(prompt_id.to_owned());
        self
    }

    /// Folds one event, and says whether subscribers would see a difference.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> bool {
        if self.status.is_final() {
            return false;
        }
        match event {
            Event::Planned(plan) => {
                let news = self.plan != plan && !plan.is_empty();
                if news {
                    self.plan = plan;
                }
                news
            }
            Event::Queued { ahead } => {
                let news = self.status == Status::Queued && ahead.is_some() && self.ahead != ahead;
                if news {
                    self.ahead = ahead;
                }
                news
            }
            Event::Started => self.start(now),
            Event::Cached { nodes } => self.start(now) | self.nodes.cached(nodes),
            Event::NodeStarted { node, display } => {
                self.go_on();
                self.start(now) | self.nodes.started(node, display, &self.plan, now)
            }
            Event::Bar { node, value, max } => {
                self.go_on();
                self.start(now) | self.nodes.bar(node, Bar { value, max }, &self.plan, now)
            }
            Event::Nodes(reports) => self.start(now) | self.nodes.report(reports, &self.plan, now),
            Event::Outputs(outputs) => self.keep(outputs),
            Event::WorkDone => {
                self.work_done_at.get_or_insert(now);
                false
            }
            Event::Ended(socket_outcome) => {
                let news = self.socket_outcome.is_none();
                self.socket_outcome.get_or_insert(socket_outcome);
                self.work_done_at.get_or_insert(now);
                news
            }
            Event::History(history) => self.read(history, now),
            Event::Vanished(reason) => self.vanish(reason, now),
            Event::Reachable(reachable) => {
                let news = self.reachable != reachable;
                self.reachable = reachable;
                news
            }
            Event::Reported(report) => self.take(report, now),
        }
    }

    fn start(&mut self, now: Timestamp) -> bool {
        let news = self.status == Status::Queued;
        if news {
            self.status = Status::Processing;
            self.started_at = Some(now);
            self.ahead = None;
        }
        news
    }

    /// A node is at work: it was not the end of this job that was heard, unless it said how.
    fn go_on(&mut self) {
        if self.socket_outcome.is_none() {
            self.work_done_at = None;
        }
    }

    fn keep(&mut self, outputs: Vec<Output>) -> bool {
        let before = self.outputs.len();
        for output in outputs {
            if self.outputs.len() < MAX_OUTPUTS && !self.outputs.contains(&output) {
                self.outputs.push(output);
            }
        }
        self.outputs.len() > before
    }

    /// The entry's messages decide, then what was heard on the socket, then its status word, which
    /// can be stale. Servers of 2023 leave neither, but outputs only where the prompt succeeded.
    fn read(&mut self, history: History, now: Timestamp) -> bool {
        let by_outputs = || match history.produced {
            true => Outcome::Completed,
            false => Outcome::Failed(JobError::without_outputs()),
        };
        let socket_outcome = history
            .messages
            .or(self.socket_outcome.take())
            .or(history.word)
            .unwrap_or_else(by_outputs);
        self.keep(history.outputs);
        self.end(socket_outcome, EndSource::History, now)
    }

    fn vanish(&mut self, reason: Reason, now: Timestamp) -> bool {
        let (socket_outcome, source) = match (self.socket_outcome.take(), reason) {
            (Some(heard), _) => (heard, EndSource::Ws),
            (None, Reason::Deleted) => (Outcome::Cancelled, EndSource::Queue),
            (None, Reason::Forgotten) => (Outcome::Failed(JobError::lost()), EndSource::Queue),
        };
        self.end(socket_outcome, source, now)
    }

    fn take(&mut self, mut report: Report, now: Timestamp) -> bool {
        if report.status != Status::Queued {
            self.start(now);
        }
        let socket_outcome = match report.status {
            Status::Queued | Status::Processing => None,
            Status::Completed => Some(Outcome::Completed),
            Status::Failed => Some(Outcome::Failed(JobError::reported(report.error.as_deref()))),
            Status::Cancelled => Some(Outcome::Cancelled),
        };
        // An output that was reported once stays, as those of ComfyUI do.
        if let Some((before, _)) = self.report.take() {
            report.output_path = report.output_path.or(before.output_path);
        }
        self.report = Some((report, now));
        if let Some(socket_outcome) = socket_outcome {
            self.end(socket_outcome, EndSource::Producer, now);
        }
        true
    }

    fn end(&mut self, socket_outcome: Outcome, source: EndSource, now: Timestamp) -> bool {
        self.status = match socket_outcome {
            Outcome::Completed => Status::Completed,
            Outcome::Cancelled => Status::Cancelled,
            Outcome::Failed(error) => {
                self.error = Some(error);
                Status::Failed
            }
        };
        let nodes_end = match self.status {
            Status::Completed => NodeState::Finished,
            Status::Cancelled => NodeState::Interrupted,
            _ => NodeState::Failed,
        };
        self.nodes.close(nodes_end, now);
        self.ended_at = Some(now);
        self.work_done_at.get_or_insert(now);
        self.end_source = Some(source);
        self.ahead = None;
        true
    }

    /// Seconds since execution began, until now or its end.
    pub fn elapsed(&self, now: Timestamp) -> Option<f64> {
        let until = self.ended_at.unwrap_or(now);
        let since = self.started_at?;
        let seconds = until.duration_since(since).as_secs_f64().max(0.0);
        Some((seconds * 1000.0).round() / 1000.0)
    }

    /// The job's name.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// ComfyUI's name for it.
    pub fn prompt_id(&self) -> Option<&str> {
        self.prompt_id.as_deref()
    }

    /// The name of the ComfyUI server that runs it.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    /// Where it is in its life.
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

    /// Where its end was learned.
    pub fn end_source(&self) -> Option<EndSource> {
        self.end_source
    }

    /// When it was registered.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When it was heard that execution began.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// When its end was learned.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended_at
    }

    /// When its work was over: its end was heard, while its outputs were perhaps still to be read.
    pub fn work_done_at(&self) -> Option<Timestamp> {
        self.work_done_at
    }

    /// What its nodes' runs came to once it is over, in the order of their starts.
    ///
    /// None is longer than its work. Where all nodes were heard of to its end, the last one takes until
    /// its work was over: servers without `progress_state` tell of no end before that, and what ComfyUI
    /// does after its last node is no other node's.
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
        let are_all_heard = counts.done + counts.cached == counts.total;
        if self.status == Status::Completed
            && are_all_heard
            && let Some(last) = runs.iter_mut().max_by_key(|run| run.ended_at)
        {
            last.ended_at = Some(work_done_at);
        }
        runs
    }

    /// Its graph.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How far its nodes are.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Whether its end was heard on the socket, while its outputs are not yet read.
    pub fn is_ending(&self) -> bool {
        self.socket_outcome.is_some() && !self.status.is_final()
    }

    /// How it ended, as heard on the socket.
    pub fn socket_outcome(&self) -> Option<&Outcome> {
        self.socket_outcome.as_ref()
    }

    /// The number of the state that was published last.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What its producer said last, and when.
    pub fn report(&self) -> Option<(&Report, Timestamp)> {
        self.report.as_ref().map(|(report, at)| (report, *at))
    }
}

#[cfg(test)]
mod tests;
