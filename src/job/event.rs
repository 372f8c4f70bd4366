//! What can happen to a job, in our words.

use super::{JobError, Output, Plan, Status};

/// One thing that happened to a job.
///
/// Events may be lost, repeated or come in another order than they happened in:
/// [`Job::apply`](super::Job::apply) makes sense of any sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The job's graph became known.
    Planned(Plan),
    /// The job waits in its backend's queue.
    Queued {
        /// How many prompts run or wait before it; `None` while nobody has looked.
        ahead: Option<usize>,
    },
    /// Execution began.
    Started,
    /// These nodes need not run: their results are known from earlier prompts.
    Cached {
        /// Node ids; some may be nodes that no output needs.
        nodes: Vec<String>,
    },
    /// A node began. Comes again for a node that was waiting for lazy inputs.
    NodeStarted {
        /// The node that runs; an id such as `5.0.0.1` where it was made at run time.
        node: String,
        /// The node of the graph that it counts as; `None` where the server does not say.
        display: Option<String>,
    },
    /// A progress bar moved.
    Bar {
        /// The node; `None` from servers that do not say.
        node: Option<String>,
        /// Where the bar stands, in steps or in parts of `max`.
        value: f64,
        /// Where the bar ends. Can be 0, and can change.
        max: f64,
    },
    /// How all nodes that have begun stand.
    Nodes(Vec<NodeReport>),
    /// A node has made outputs.
    Outputs(Vec<Output>),
    /// The work is over, as heard on the socket from a server that does not say how it ended, as those
    /// of 2023. History tells that.
    WorkDone,
    /// How the prompt ended, as heard on the socket. Its outputs are still to be read from history.
    Ended(Outcome),
    /// The prompt's entry in the server's history: the job is over.
    History(History),
    /// The server answers, but knows the prompt no longer.
    Vanished(Reason),
    /// Whether the backend answers. An unreachable one changes no status.
    Reachable(bool),
    /// A producer that is not ComfyUI tells how the job stands.
    Reported(Report),
}

/// One node within [`Event::Nodes`].
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// The node that runs.
    pub node: String,
    /// The node of the graph that it counts as.
    pub display: Option<String>,
    /// Where its bar stands.
    pub value: f64,
    /// Where its bar ends; 1 for a node without a bar.
    pub max: f64,
    /// Running, finished, or failed.
    pub state: NodeState,
    /// The node loads a model at the moment.
    pub loading: bool,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// At work.
    Running,
    /// Done.
    Finished,
    /// Done, because its result was known.
    Cached,
    /// It raised an error.
    Failed,
    /// It was at work when the job was cancelled.
    Interrupted,
}

/// How a prompt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With its outputs made.
    Completed,
    /// With an error.
    Failed(JobError),
    /// Interrupted or deleted.
    Cancelled,
}

/// What the server's history says of a prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// What its list of messages says. It decides.
    pub messages: Option<Outcome>,
    /// What its status word says. It can be stale, and is missing in 2023.
    pub word: Option<Outcome>,
    /// Every file that the prompt made.
    pub outputs: Vec<Output>,
    /// Whether any node left something in the entry, be it a file or not.
    pub produced: bool,
}

/// Why a prompt is neither in the queue nor in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Somebody took it out of the queue before it ran.
    Deleted,
    /// The server was restarted or has forgotten it.
    Forgotten,
}

/// What a producer that is not ComfyUI reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Where the job is in its life.
    pub status: Status,
    /// 0 to 100.
    pub progress: u8,
    /// Seconds until the end.
    pub estimated_remaining: Option<u64>,
    /// A sentence for a person.
    pub message: Option<String>,
    /// The first final output.
    pub output_path: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}
