//! What has been done since a moment.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::job::Status;
use crate::relay::{Relay, RelayError};

/// What has been done since a moment, by the database: a restart does not change it.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Totals {
    /// The moment.
    pub since: Timestamp,
    /// How many jobs have completed.
    pub completed: usize,
    /// How many have failed.
    pub failed: usize,
    /// How many were cancelled.
    pub cancelled: usize,
    /// The share of the intervals that the relay has published since its start in which the end was; `null` before the
    /// first job has completed.
    pub inside_interval: Option<f64>,
}

impl Relay {
    /// What has been done since a moment.
    pub async fn totals(&self, since: Timestamp) -> Result<Totals, RelayError> {
        let counts = self.recorder().store().count_ended(Some(since)).await?;
        let count = |wanted| {
            let found = counts.iter().find(|(status, _)| *status == wanted);
            found.map_or(0, |(_, count)| *count)
        };
        Ok(Totals {
            since,
            completed: count(Status::Completed),
            failed: count(Status::Failed),
            cancelled: count(Status::Cancelled),
            inside_interval: self.0.tracker.metrics.inside_share(),
        })
    }
}
