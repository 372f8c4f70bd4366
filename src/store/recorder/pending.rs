//! [`Pending`]: the states that a recorder has not written yet.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::job::JobId;
use crate::store::rows::JobRecord;

/// The states that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The newest unwritten state of each job.
    pub(super) records: HashMap<JobId, JobRecord>,
    /// The states that the database refuses while it accepts others.
    pub(super) refused: HashMap<JobId, JobRecord>,
    /// When the refused states are written again.
    pub(super) retry_at: Option<Instant>,
    /// How many states have been recorded.
    pub(super) recorded: u64,
    /// Whether the next batch is written at once: it has a final state, or a caller waits for it.
    pub(super) urgent: bool,
    /// The jobs whose states are being written.
    pub(super) in_flight: Vec<JobId>,
}

impl Pending {
    /// Adds the refused states to the next batch, except those with a newer state.
    pub(super) fn retry_refused(&mut self) {
        self.retry_at = None;
        for (id, record) in self.refused.drain() {
            self.records.entry(id).or_insert(record);
        }
    }
}
