//! What can happen to a job, independent of ComfyUI's protocol.

use jiff::Timestamp;

use super::{JobError, LoopRounds, NodeReport, Output, Plan, QueueWait, Status};

/// One thing that happened to a job.
///
/// Events may be lost, repeated or reordered: [`Job::apply`](super::Job::apply) accepts any sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The job's graph became known.
    Planned(Plan),
    /// The job waits in its backend's queue.
    Queued {
        /// How many prompts run or wait before it; `None` if the queue was not read.
        ahead: Option<usize>,
    },
    /// What is known of its wait in the relay's own queue.
    Waits(QueueWait),
    /// Execution began.
    Started,
    /// Execution began at an earlier time.
    StartedAt(Timestamp),
    /// These nodes need not run: ComfyUI has their results from earlier prompts.
    Cached {
        /// Node ids; some may be of nodes that no output needs.
        nodes: Vec<String>,
    },
    /// A node began. Repeated when a node that waited for lazy inputs goes on.
    NodeStarted {
        /// The id of the run, such as `5.0.0.1` if a loop or a subgraph made it.
        node: String,
        /// The node of the graph that it counts as; `None` if the server does not send it.
        display: Option<String>,
    },
    /// A progress bar moved.
    Bar {
        /// The node; `None` if the server does not send it.
        node: Option<String>,
        /// The position of the bar, in steps or in parts of `max`.
        value: f64,
        /// The length of the bar. Can be 0, and can change.
        max: f64,
    },
    /// The states of all nodes that have begun.
    Nodes(Vec<NodeReport>),
    /// A run has shown that a service does its work: its bar is a percentage without steps.
    Partner {
        /// The id of the run.
        node: String,
        /// The status of the work, in the words of the service.
        status: Option<String>,
        /// How many seconds the service expects to need from now on.
        remaining: Option<u64>,
    },
    /// A loop has said which of its rounds have ended.
    Rounds {
        /// The id of the run that opens it.
        node: String,
        /// How many have ended, and how many there are.
        rounds: LoopRounds,
    },
    /// A node has made outputs.
    Outputs(Vec<Output>),
    /// The socket reported that the work is done, without an outcome, as servers of 2023 do. The
    /// history has the outcome.
    WorkDone,
    /// The socket reported how the prompt ended. Its outputs are still to be read from the history.
    Ended(Outcome),
    /// The prompt's entry in the server's history: the job has ended.
    History(History),
    /// The server responds, but no longer knows the prompt.
    Vanished(Reason),
    /// ComfyUI has refused the graph after the job was accepted.
    Refused(JobError),
    /// The backend has accepted a request to cancel it, and has still to end it.
    CancelRequested,
    /// Whether the backend responds. The status of the job stays.
    Reachable(bool),
    /// Since when ComfyUI shows no sign of life, if that is too long; `None` once it does. The status of the job stays.
    Silence(Option<Timestamp>),
    /// The events of the prompt go to the client that has submitted it: which of its nodes runs is not received.
    StepsHidden,
    /// A producer other than ComfyUI reported the state of its job.
    Reported(Report),
    /// The relay itself ends the job, because nobody else will.
    Closed(Outcome),
}

/// How a prompt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All outputs were made.
    Completed,
    /// A node raised an error, or the prompt was lost.
    Failed(JobError),
    /// Interrupted or deleted.
    Cancelled,
}

/// A prompt's entry in the server's history.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The outcome by its list of messages, which decides.
    pub messages: Option<Outcome>,
    /// The outcome by its status word, which can be stale. Servers of 2023 send none.
    pub word: Option<Outcome>,
    /// When it began, by the server's clock; `None` from servers before the middle of 2024.
    pub started_at: Option<Timestamp>,
    /// When it ended, by the server's clock.
    pub ended_at: Option<Timestamp>,
    /// Every file that the prompt made.
    pub outputs: Vec<Output>,
    /// Whether any node left a result in the entry, file or not.
    pub produced: bool,
}

/// Why a prompt is in neither the queue nor the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was deleted from the queue before it ran.
    Deleted,
    /// The server was restarted, or has dropped it from its history.
    Forgotten,
    /// It was lost on two servers in a row while it ran, or another prompt of its workflow was: it is probably the cause.
    LostTwice,
}

/// The state of a job as a producer other than ComfyUI reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The status.
    pub status: Status,
    /// 0 to 100.
    pub progress: u8,
    /// Seconds until the end.
    pub estimated_remaining: Option<u64>,
    /// A sentence for people.
    pub message: Option<String>,
    /// The first final output.
    pub output_path: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}
