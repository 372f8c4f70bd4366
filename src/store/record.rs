use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{JobId, Output, Progress, Status};

/// The longest path that an adopted table's `VARCHAR(500)` takes, in characters.
const MAX_OUTPUT_PATH: usize = 500;

/// A job's state as it is to be written.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// What subscribers were told.
    pub progress: Progress,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When execution began.
    pub started_at: Option<Timestamp>,
    /// When its end was learned.
    pub completed_at: Option<Timestamp>,
    /// Why it failed, in a stable word.
    pub error_code: Option<&'static str>,
    /// Where its end was learned.
    pub learned_from: Option<&'static str>,
    /// Its nodes; only with its final state.
    pub node_runs: Vec<NodeRunRecord>,
}

/// One execution of a node, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRunRecord {
    /// The run's id.
    pub node: String,
    /// The node's class.
    pub class: Option<String>,
    /// What its cost depends on, in one word.
    pub signature: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// The steps of its bar.
    pub steps: Option<u32>,
    /// It need not run.
    pub cached: bool,
}

/// A job as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedJob {
    /// The public id.
    pub job_id: JobId,
    /// ComfyUI's id for it.
    pub prompt_id: Option<String>,
    /// The name of its server.
    pub backend: Option<String>,
    /// Where it is in its life.
    pub status: Status,
    /// The first final output.
    pub output_path: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When execution began.
    pub started_at: Option<Timestamp>,
    /// When its end was learned.
    pub completed_at: Option<Timestamp>,
    /// What else was kept.
    pub metadata: Metadata,
}

/// The relay's keys in a job's `metadata`. Other keys are the pipeline's and are never touched.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// 0 to 100.
    pub progress: u8,
    /// Seconds until the end.
    pub estimated_remaining: Option<u64>,
    /// When this was true.
    pub last_updated: Option<Timestamp>,
    /// Every file that was made.
    pub outputs: Vec<Output>,
    /// What only the relay needs.
    pub relay: RelayMetadata,
}

/// What the relay keeps to go on with a job after a restart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayMetadata {
    /// The number of the state.
    pub seq: u64,
    /// Why it failed, in a stable word.
    pub error_code: Option<String>,
    /// Where its end was learned.
    pub learned_from: Option<String>,
}

/// A job's state in the form in which a batch carries it to the database.
#[derive(Debug, Serialize)]
pub(super) struct JobRow<'a> {
    job_key: &'a JobId,
    /// The row's own id, in an adopted table whose ids the database does not make.
    row_id: String,
    prompt_id: Option<&'a str>,
    backend: Option<&'a str>,
    status: Status,
    output_path: Option<String>,
    error_message: Option<&'a str>,
    metadata: Metadata,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
}

/// A node's execution in the form in which a batch carries it to the database.
#[derive(Debug, Serialize)]
pub(super) struct NodeRunRow<'a> {
    job_key: &'a JobId,
    backend: Option<&'a str>,
    node: &'a str,
    class: Option<&'a str>,
    signature: Option<&'a str>,
    started_at: String,
    seconds: f64,
    steps: Option<u32>,
    cached: bool,
}

impl JobRecord {
    /// Whether the job will not change again.
    pub fn is_final(&self) -> bool {
        self.progress.status.is_final()
    }

    pub(super) fn row(&self) -> JobRow<'_> {
        let progress = &self.progress;
        let path = progress.output_path.as_deref();
        JobRow {
            job_key: &progress.job_id,
            row_id: uuid::Uuid::new_v4().to_string(),
            prompt_id: progress.prompt_id.as_deref(),
            backend: progress.backend.as_deref(),
            status: progress.status,
            output_path: path.map(|path| path.chars().take(MAX_OUTPUT_PATH).collect()),
            error_message: progress.error.as_deref(),
            metadata: Metadata {
                progress: progress.progress,
                estimated_remaining: progress.estimated_remaining,
                last_updated: Some(progress.timestamp),
                outputs: progress.outputs.clone(),
                relay: RelayMetadata {
                    seq: progress.seq,
                    error_code: self.error_code.map(str::to_owned),
                    learned_from: self.learned_from.map(str::to_owned),
                },
            },
            created_at: moment(self.created_at),
            started_at: self.started_at.map(moment),
            completed_at: self.completed_at.map(moment),
        }
    }

    pub(super) fn node_run_rows(&self) -> impl Iterator<Item = NodeRunRow<'_>> {
        self.node_runs.iter().map(|run| NodeRunRow {
            job_key: &self.progress.job_id,
            backend: self.progress.backend.as_deref(),
            node: &run.node,
            class: run.class.as_deref(),
            signature: run.signature.as_deref(),
            started_at: moment(run.started_at),
            seconds: run.seconds,
            steps: run.steps,
            cached: run.cached,
        })
    }
}

/// A moment as both databases take it: `2026-11-23T08:00:00.000Z`, always of this length, so that the
/// order of texts is that of time.
pub(super) fn moment(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The JSON of a batch. PostgreSQL's texts cannot hold NUL.
pub(super) fn batch(rows: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string(rows)?.replace("\\u0000", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_one_length() {
        let whole = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(moment(whole), "2023-11-14T22:13:20.000Z");
        let late = Timestamp::from_millisecond(1_700_000_000_007).unwrap();
        assert_eq!(moment(late), "2023-11-14T22:13:20.007Z");
    }
}
