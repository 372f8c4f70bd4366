use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::job::{JobId, StoredJob};

/// The place of a state among all states of its job, whichever relay published them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// How often another relay had taken the job over.
    pub epoch: u64,
    /// The number among the states since the job began.
    pub seq: u64,
}

/// A state of a job, as its owner publishes it.
#[derive(Debug, Clone)]
pub struct JobState {
    /// The job.
    pub job: JobId,
    /// Its place.
    pub position: Position,
    /// Whether the job has ended.
    pub is_final: bool,
    /// The documented `progress` message, as JSON.
    pub payload: Bytes,
    /// When the job was registered.
    pub created_at: Timestamp,
    /// When execution began.
    pub started_at: Option<Timestamp>,
    /// When its end was learned.
    pub ended_at: Option<Timestamp>,
    /// The word of its error.
    pub error_code: Option<&'static str>,
    /// The word for how its end was learned.
    pub learned_from: Option<&'static str>,
    /// Where the files that the message lists are at ComfyUI, in the same order.
    pub output_urls: Vec<String>,
}

/// A state of a job that another relay has published.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedState {
    /// The job, as its row will show it.
    pub stored: StoredJob,
    /// The documented `progress` message, as JSON: what the owner sends to its subscribers.
    pub payload: Bytes,
}

impl ReceivedState {
    /// Raises its progress to what subscribers have seen: it comes from a relay that has taken the job over, and may know
    /// less than its last owner had published.
    pub(crate) fn raise(&mut self, progress: u8) {
        if self.stored.progress >= progress {
            return;
        }
        let Ok(mut message) = serde_json::from_slice::<Map<String, Value>>(&self.payload) else {
            return;
        };
        message.insert("progress".to_owned(), progress.into());
        self.stored.progress = progress;
        self.payload = Bytes::from(Value::from(message).to_string());
    }
}

/// A state that has a place among those of its job.
pub(crate) trait Positioned {
    fn job(&self) -> &JobId;
    fn position(&self) -> Position;
    fn is_final(&self) -> bool;
}

impl Positioned for JobState {
    fn job(&self) -> &JobId {
        &self.job
    }

    fn position(&self) -> Position {
        self.position
    }

    fn is_final(&self) -> bool {
        self.is_final
    }
}

impl Positioned for ReceivedState {
    fn job(&self) -> &JobId {
        &self.stored.id
    }

    fn position(&self) -> Position {
        Position {
            epoch: self.stored.epoch,
            seq: self.stored.seq,
        }
    }

    fn is_final(&self) -> bool {
        self.stored.status.is_final()
    }
}
