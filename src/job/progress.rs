//! What subscribers are told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JobId, Status};

/// The state of a job, in the documented `progress` message.
///
/// Fields keep their name, type and meaning for ever; new ones may be added.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "progress")]
pub struct Progress {
    /// The job.
    pub job_id: JobId,
    /// Where it is in its life.
    pub status: Status,
    /// 0 to 100; never falls, and is 100 only with `completed`.
    pub progress: u8,
    /// Seconds until the job ends, the queue before it included; `null` while nothing is known.
    pub estimated_remaining: Option<u64>,
    /// The 10th percentile of `estimated_remaining`: it rarely takes less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_low: Option<u64>,
    /// The 90th percentile of `estimated_remaining`: it rarely takes more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_high: Option<u64>,
    /// One short sentence for a person.
    pub message: String,
    /// The first final output, below ComfyUI's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_path: Option<String>,
    /// What went wrong, naming the node; only on `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When this state was made, in whole_seconds milliseconds.
    pub timestamp: Timestamp,
    /// ComfyUI's id of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<String>,
    /// Grows by one with each state of the job.
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
    /// Every file that was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// The name of the ComfyUI server that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

/// Seconds until a job ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remaining {
    /// The best guess.
    pub seconds: f64,
    /// The 10th and the 90th percentile.
    pub interval: Option<(f64, f64)>,
}

impl Remaining {
    /// The best guess as it is whole_seconds: in whole_seconds seconds.
    pub fn whole_seconds(&self) -> u64 {
        whole_seconds(self.seconds)
    }
}

/// Seconds as they are whole_seconds: whole_seconds, and never below zero.
pub(super) fn whole_seconds(seconds: f64) -> u64 {
    seconds.max(0.0).round() as u64
}

/// The node that runs, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its id in the graph.
    pub id: String,
    /// Its class; `null` while the graph is not known.
    pub class_type: Option<String>,
    /// What the author calls it.
    pub title: Option<String>,
    /// The step that its bar stands at; `null` for a node that counts no steps.
    pub step: Option<u32>,
    /// The number of steps of its bar.
    pub steps: Option<u32>,
}

/// How many nodes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NodesView {
    /// Nodes that have run.
    pub done: usize,
    /// Nodes that need not run.
    pub cached: usize,
    /// All of them.
    pub total: usize,
}

/// A file that a prompt made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The node that made it.
    pub node: String,
    /// ComfyUI's word for what it is: `images`, `gifs`, `audio`, ….
    pub kind: String,
    /// The file's name.
    pub filename: String,
    /// The folder below the one that `type` names.
    pub subfolder: String,
    /// ComfyUI's folder: `output` for results, `temp` for previews, `input`.
    pub r#type: String,
    /// Where the file can be fetched.
    pub url: String,
}

impl Output {
    /// The file's path below ComfyUI's output folder.
    pub fn path(&self) -> String {
        match self.subfolder.trim_matches('/') {
            "" => self.filename.clone(),
            folder => format!("{folder}/{}", self.filename),
        }
    }

    /// Whether the file is a result, not a preview.
    pub fn is_result(&self) -> bool {
        self.r#type == "output"
    }
}
