//! The published state of a job.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{JobId, Output, Status, Tags};
use crate::wire_schema::message_type;

/// What a job waits for that waits in the relay's own queue.
pub(super) const WAITING_FOR_SERVER: &str = "server";

/// The state of a job, as the documented `progress` message.
///
/// Fields keep their name, type and meaning for ever; new ones may be added.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "progress")]
#[schemars(rename = "Progress", transform = message_type("progress"))]
pub struct Progress {
    /// The job.
    pub job_id: JobId,
    /// Its status.
    pub status: Status,
    /// 0 to 100; never falls, and is 100 only with `completed`.
    #[schemars(range(max = 100))]
    pub progress: u8,
    /// Seconds until the job ends, the queue before it included; `null` without evidence.
    pub estimated_remaining: Option<u64>,
    /// The 10th percentile of `estimated_remaining`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_low: Option<u64>,
    /// The 90th percentile of `estimated_remaining`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_high: Option<u64>,
    /// The moment in which `estimated_remaining` ends, in whole milliseconds by the clock of `timestamp`;
    /// `None` without evidence, and once the job has ended.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "with_milliseconds"
    )]
    pub estimated_completion: Option<Timestamp>,
    /// The moment in which a job that waits will begin, as of its queue; `None` without evidence, and once it has begun.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "with_milliseconds"
    )]
    pub estimated_start: Option<Timestamp>,
    /// Whether its backend was asked to stop it, and has not yet; `None` if it was not, and once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelling: Option<bool>,
    /// `server` while it waits in the relay's own queue: `message` says what for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("const" = WAITING_FOR_SERVER))]
    pub waiting_for: Option<&'static str>,
    /// How often its prompt was handed in or waits to be; `None` while that is once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// One short sentence for people.
    pub message: String,
    /// The first final output, relative to ComfyUI's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_path: Option<String>,
    /// What went wrong, with the node; only on `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When this state was made, in whole milliseconds.
    pub timestamp: Timestamp,
    /// ComfyUI's id of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<String>,
    /// The number of this state: it grows with each, by more than one where another relay goes on.
    pub seq: u64,
    /// The node that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeView>,
    /// How many nodes are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesView>,
    /// 0 while it runs, else how many prompts run or wait before it, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<usize>,
    /// Seconds since execution began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed: Option<f64>,
    /// Every file that was made, once the job has ended; while it runs, the newest 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// How many files were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs_total: Option<usize>,
    /// The name of the ComfyUI server that runs it, or for which it is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What a client has said of it.
    #[serde(flatten, serialize_with = "shared")]
    pub tags: Arc<Tags>,
}

/// The time until a job ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remaining {
    /// The median, in seconds.
    pub seconds: f64,
    /// The 10th and the 90th percentile, in seconds.
    pub interval: Option<(f64, f64)>,
    /// The median until the job begins, in seconds; `None` for one that does not wait.
    pub starts_in: Option<f64>,
}

impl Remaining {
    /// The median as it is published: in whole seconds.
    pub fn whole_seconds(&self) -> u64 {
        whole_seconds(self.seconds)
    }

    /// The moment in which the median ends, in whole milliseconds; `None` if no calendar has it.
    pub(super) fn completion(&self, now: Timestamp) -> Option<Timestamp> {
        moment_in(self.seconds, now)
    }

    /// The moment in which the job begins, in whole milliseconds; `None` for one that does not wait.
    pub(super) fn start(&self, now: Timestamp) -> Option<Timestamp> {
        moment_in(self.starts_in?, now)
    }
}

fn moment_in(seconds: f64, now: Timestamp) -> Option<Timestamp> {
    let seconds = SignedDuration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    now.checked_add(seconds).ok().map(in_milliseconds)
}

/// Seconds as they are published: rounded, and at least 0.
pub(super) fn whole_seconds(seconds: f64) -> u64 {
    seconds.max(0.0).round() as u64
}

/// The millisecond in which a moment lies.
pub(super) fn in_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// RFC 3339 in UTC with three decimals, also where they are zeros.
fn with_milliseconds<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| format!("{time:.3}")).serialize(serializer)
}

fn shared<S: Serializer>(tags: &Arc<Tags>, serializer: S) -> Result<S::Ok, S::Error> {
    tags.as_ref().serialize(serializer)
}

/// The node that runs.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct NodeView {
    /// Its id in the graph.
    pub id: String,
    /// Its class; `null` while the graph is not known.
    pub class_type: Option<String>,
    /// The title that the author gave it.
    pub title: Option<String>,
    /// The current step of its bar; `null` if its bar does not count steps.
    pub step: Option<u32>,
    /// The number of steps of its bar.
    pub steps: Option<u32>,
}

/// How many nodes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Deserialize, Serialize)]
pub struct NodesView {
    /// Nodes that have run.
    pub done: usize,
    /// Nodes that need not run.
    pub cached: usize,
    /// All of them.
    pub total: usize,
}

/// What a state has that the row of its job has not, or not as exactly.
#[derive(Deserialize)]
struct Unstored {
    nodes: Option<NodesView>,
    elapsed: Option<f64>,
}

impl Progress {
    /// Takes from the same state, as it was published, what the row of its job has not, or not as exactly: the number of its
    /// nodes, and how long it ran.
    pub fn complete(&mut self, published: &[u8]) {
        if let Ok(Unstored { nodes, elapsed }) = serde_json::from_slice(published) {
            self.nodes = nodes.or(self.nodes);
            self.elapsed = elapsed.or(self.elapsed);
        }
    }
}
