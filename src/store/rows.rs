//! The records of jobs and node runs, and the rows as which a batch of them travels to the database.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::lease_owner::LeaseOwner;
use super::new_delivery::NewDelivery;
use crate::job::{JobId, NodeState, Output, Progress, Status};

/// A job's state, to be written.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// The state that was published.
    pub progress: Progress,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When execution began.
    pub started_at: Option<Timestamp>,
    /// When the relay learned of its end.
    pub completed_at: Option<Timestamp>,
    /// The error code of a failed job.
    pub error_code: Option<&'static str>,
    /// The message of its producer.
    pub message: Option<String>,
    /// From which source the relay learned of its end.
    pub learned_from: Option<&'static str>,
    /// The runs of its nodes; only with its final state.
    pub node_runs: Vec<NodeRunRecord>,
    /// The relay that writes it.
    pub owner: Arc<LeaseOwner>,
    /// How often another relay has taken it over.
    pub epoch: u64,
    /// What is to be sent to webhooks because of it, and of the states that it stands for.
    pub deliveries: Vec<NewDelivery>,
}

/// One execution of a node, to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRunRecord {
    /// The run's id.
    pub node: String,
    /// The node's class.
    pub class: Option<String>,
    /// What its cost depends on, as one text.
    pub signature: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in seconds; for the last node of a job until the job ended.
    pub seconds: f64,
    /// The steps of its bar.
    pub steps: Option<u32>,
    /// Whether its result was cached, so that it did not run.
    pub cached: bool,
    /// The node of the graph that it counts as; `None` if it is that node itself.
    pub display: Option<String>,
    /// The title that the author of the graph gave the node.
    pub title: Option<String>,
    /// Its state when the job ended; `None` in runs from before this was stored.
    pub state: Option<NodeState>,
    /// What the cost model observed; `None` if it observed nothing, and in runs from before there was a model.
    pub cost: Option<NodeCostRecord>,
}

/// What the cost model observed in a run, in addition to its seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeCostRecord {
    /// The amount of work, in units of the cost model; `None` if it depends on a size that was not known.
    pub units: Option<f64>,
    /// How often it called its model; `None` in runs from before this was stored, whose units may be wrong.
    pub calls: Option<f64>,
    /// A hash of its models.
    pub models: u64,
    /// The steps that the graph asks for.
    pub planned_steps: Option<u32>,
    /// Whether models had to be loaded from disk.
    pub cold: bool,
    /// Seconds for each tick of its bar after the first.
    pub tick: Option<f64>,
    /// The ticks of all its bars together.
    pub ticks: Option<f64>,
    /// Whether another node began during it; `false` in runs from before this was stored.
    pub is_parallel: bool,
}

/// A job's state as a row of a batch. What it lacks is left out: a key that is not there is NULL, too, and the database reads less.
#[derive(Debug, Serialize)]
pub(super) struct JobRow<'a> {
    pub(super) job_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backend: Option<&'a str>,
    pub(super) status: Status,
    pub(super) progress: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) estimated_remaining: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) learned_from: Option<&'a str>,
    pub(super) seq: i64,
    pub(super) outputs: &'a [Output],
    pub(super) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completed_at: Option<String>,
    pub(super) last_updated: String,
    /// Whether the pipeline's table is to show the job's end.
    pub(super) mirror_due: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<&'a str>,
    pub(super) epoch: i64,
    /// A JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workflow: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cancelling: Option<bool>,
}

/// A node's execution as a row of a batch. What it lacks is left out.
#[derive(Debug, Serialize)]
pub(super) struct NodeRunRow<'a> {
    job_key: &'a JobId,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    started_at: String,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u32>,
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    planned_steps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cold: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tick: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticks: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

impl JobRecord {
    /// Whether the state is final.
    pub fn is_final(&self) -> bool {
        self.progress.status.is_final()
    }

    /// Takes over what is to be sent because of the states before, which it stands for.
    pub(super) fn deliver_first(&mut self, mut before: Vec<NewDelivery>) {
        if !before.is_empty() {
            before.append(&mut self.deliveries);
            self.deliveries = before;
        }
    }

    pub(super) fn row(&self, mirror_due: bool) -> JobRow<'_> {
        let progress = &self.progress;
        JobRow {
            job_key: progress.job_id.as_str(),
            prompt_id: progress.prompt_id.as_deref(),
            backend: progress.backend.as_deref(),
            status: progress.status,
            progress: progress.progress,
            estimated_remaining: progress
                .estimated_remaining
                .map(|seconds| seconds.try_into().unwrap_or(i64::MAX)),
            message: self.message.as_deref(),
            output_path: progress.output_path.as_deref(),
            error_message: progress.error.as_deref(),
            error_code: self.error_code,
            learned_from: self.learned_from,
            seq: progress.seq.try_into().unwrap_or(i64::MAX),
            outputs: &progress.outputs,
            created_at: timestamp(self.created_at),
            started_at: self.started_at.map(timestamp),
            completed_at: self.completed_at.map(timestamp),
            last_updated: timestamp(progress.timestamp),
            mirror_due,
            owner: Some(self.owner.as_str()),
            epoch: self.epoch.try_into().unwrap_or(i64::MAX),
            labels: labels_text(&progress.tags.labels),
            job_group: progress.tags.group.as_deref(),
            workflow: progress.tags.workflow.as_deref(),
            cancelling: progress.cancelling,
        }
    }

    pub(super) fn node_run_rows(&self) -> impl Iterator<Item = NodeRunRow<'_>> {
        self.node_runs.iter().map(|run| NodeRunRow {
            job_key: &self.progress.job_id,
            backend: self.progress.backend.as_deref(),
            node: &run.node,
            class: run.class.as_deref(),
            signature: run.signature.as_deref(),
            started_at: timestamp(run.started_at),
            seconds: run.seconds,
            steps: run.steps,
            cached: run.cached,
            units: run.cost.and_then(|cost| cost.units),
            calls: run.cost.and_then(|cost| cost.calls),
            models: run.cost.map(|cost| cost.models.cast_signed()),
            planned_steps: run.cost.and_then(|cost| cost.planned_steps),
            cold: run.cost.map(|cost| cost.cold),
            tick: run.cost.and_then(|cost| cost.tick),
            ticks: run.cost.and_then(|cost| cost.ticks),
            parallel: run.cost.map(|cost| cost.is_parallel),
            display: run.display.as_deref(),
            title: run.title.as_deref(),
            state: run.state.map(NodeState::as_str),
        })
    }
}

/// Labels as the database has them; `None` where there are none.
pub(super) fn labels_text(labels: &BTreeMap<String, String>) -> Option<String> {
    let text = serde_json::to_string(labels).expect("texts by texts are JSON");
    (!labels.is_empty()).then_some(text)
}

/// A timestamp as both databases read it: `2026-11-23T08:00:00.000Z`, always of this length, so that texts sort by
/// time.
pub(super) fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The JSON of a batch, without NUL characters: PostgreSQL's `text` cannot hold them.
pub(super) fn batch(rows: &impl Serialize) -> serde_json::Result<String> {
    Ok(without_nul(&serde_json::to_string(rows)?))
}

/// Removes the escape `\u0000`. A backslash that is itself escaped begins no escape.
fn without_nul(json: &str) -> String {
    let mut kept = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        kept.push_str(before);
        rest = match escape.strip_prefix("\\u0000") {
            Some(after) => after,
            // An ASCII character follows a backslash, so an escape has at least two bytes.
            None => {
                let (escape, after) = escape.split_at(2);
                kept.push_str(escape);
                after
            }
        };
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nul_is_removed() {
        let texts = ["a\0b", r"a\u0000b", "\\\0", "\u{1}", "\"", ""];
        let read: Vec<String> = serde_json::from_str(&batch(&texts).unwrap()).unwrap();
        assert_eq!(read, ["ab", r"a\u0000b", "\\", "\u{1}", "\"", ""]);
    }

    #[test]
    fn timestamps_have_one_length() {
        let whole = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(timestamp(whole), "2023-11-14T22:13:20.000Z");
        let late = Timestamp::from_millisecond(1_700_000_000_007).unwrap();
        assert_eq!(timestamp(late), "2023-11-14T22:13:20.007Z");
    }
}
