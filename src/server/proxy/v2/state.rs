//! [`ShownState`]: what Comfy API v2 shows of a published state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::{NodesView, Output, Progress, Status};

/// A published state, as far as Comfy API v2 shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ShownState {
    pub(super) status: Status,
    /// 0 to 100.
    progress: u8,
    #[serde(default)]
    cancelling: Option<bool>,
    message: String,
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default)]
    node: Option<ShownNode>,
    #[serde(default)]
    nodes: Option<NodesView>,
    #[serde(default)]
    queue_position: Option<usize>,
    /// In seconds.
    #[serde(default)]
    pub(super) elapsed: Option<f64>,
    /// The newest ones while it runs.
    #[serde(default)]
    pub(super) outputs: Vec<Output>,
    #[serde(default)]
    outputs_total: Option<usize>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(super) eta: Eta,
}

#[derive(Debug, Clone, Deserialize)]
struct ShownNode {
    id: String,
    class_type: Option<String>,
    step: Option<u32>,
    steps: Option<u32>,
}

/// The remaining time, in the words of the relay's own API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Eta {
    /// Seconds until the job ends; `null` without evidence.
    estimated_remaining: Option<u64>,
    /// The 10th percentile of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    estimated_low: Option<u64>,
    /// The 90th percentile of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    estimated_high: Option<u64>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    estimated_completion: Option<String>,
    /// When a job that waits begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    estimated_start: Option<String>,
}

/// The status of a job, as Comfy API v2 calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum V2Status {
    Queued,
    Running,
    Succeeded,
    Canceling,
    Canceled,
    Failed,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct V2Progress {
    /// The share of its time that has passed, 0 to 1.
    value: f64,
    nodes_done: usize,
    nodes_total: usize,
    current_node: Option<String>,
    current_node_class: Option<String>,
    step: Option<u32>,
    steps: Option<u32>,
    message: Option<String>,
    #[serde(flatten)]
    eta: Eta,
}

impl V2Status {
    pub(super) fn of(status: Status, is_cancelling: bool) -> Self {
        match status {
            Status::Queued | Status::Processing if is_cancelling => Self::Canceling,
            Status::Queued => Self::Queued,
            Status::Processing => Self::Running,
            Status::Completed => Self::Succeeded,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Canceled,
        }
    }
}

impl ShownState {
    /// Reads a state as it was published.
    pub(super) fn read(payload: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(payload)
    }

    pub(super) fn of(progress: &Progress) -> serde_json::Result<Self> {
        Self::read(&serde_json::to_vec(progress)?)
    }

    pub(super) fn v2_status(&self) -> V2Status {
        V2Status::of(self.status, self.cancelling == Some(true))
    }

    /// How many prompts run or wait before it, while it waits.
    pub(super) fn queue_position(&self) -> Option<usize> {
        self.queue_position
            .filter(|_| self.status == Status::Queued)
    }

    /// The place of the first of its `outputs` among all that it has made.
    pub(super) fn first_output(&self) -> usize {
        let total = self.outputs_total.unwrap_or_default();
        total.saturating_sub(self.outputs.len())
    }

    /// `None` while it waits.
    pub(super) fn v2_progress(&self) -> Option<V2Progress> {
        if self.status == Status::Queued {
            return None;
        }
        let nodes = self.nodes.as_ref();
        let node = self.node.as_ref();
        Some(V2Progress {
            value: f64::from(self.progress) / 100.0,
            nodes_done: nodes.map_or(0, |nodes| nodes.done + nodes.cached),
            nodes_total: nodes.map_or(0, |nodes| nodes.total),
            current_node: node.map(|node| node.id.clone()),
            current_node_class: node.and_then(|node| node.class_type.clone()),
            step: node.and_then(|node| node.step),
            steps: node.and_then(|node| node.steps),
            message: Some(self.message.clone()).filter(|message| !message.is_empty()),
            eta: self.eta.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(changes: &serde_json::Value) -> ShownState {
        let mut state = json!({"type": "progress", "job_id": "a", "status": "processing", "progress": 42,
            "estimated_remaining": 7, "message": "Sampling", "timestamp": "2025-12-10T15:30:45Z", "seq": 3});
        for (name, value) in changes.as_object().unwrap() {
            state[name] = value.clone();
        }
        ShownState::read(state.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn progress_is_complete_and_has_the_remaining_time() {
        let node =
            json!({"id": "3", "class_type": "KSampler", "title": null, "step": 21, "steps": 50});
        let nodes = json!({"done": 3, "cached": 2, "total": 9});
        let shown = state(&json!({"node": node, "nodes": nodes, "estimated_low": 5}));
        let progress = serde_json::to_value(shown.v2_progress()).unwrap();
        let expected = json!({"value": 0.42, "nodes_done": 5, "nodes_total": 9, "current_node": "3",
            "current_node_class": "KSampler", "step": 21, "steps": 50, "message": "Sampling", "estimated_remaining": 7,
            "estimated_low": 5});
        assert_eq!(progress, expected);
    }

    #[test]
    fn a_job_that_is_being_cancelled_says_so_until_it_has_ended() {
        let shown = |status: &str| {
            let shown = state(&json!({"status": status, "cancelling": true, "queue_position": 2}));
            (shown.v2_status(), shown.queue_position())
        };
        assert_eq!(shown("queued"), (V2Status::Canceling, Some(2)));
        assert_eq!(shown("processing"), (V2Status::Canceling, None));
        assert_eq!(shown("cancelled"), (V2Status::Canceled, None));
    }
}
