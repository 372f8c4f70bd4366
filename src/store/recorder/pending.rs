//! [`Pending`]: the states that a recorder has not written yet.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use crate::job::JobId;
use crate::store::rows::JobRecord;

/// The states that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The newest unwritten state of each job.
    pub(super) records: HashMap<JobId, JobRecord>,
    /// The states that the database refuses while it accepts others.
    pub(super) refused: HashMap<JobId, RefusedRecord>,
    /// The jobs whose rows are newer than their states: another relay has them.
    pub(super) moved: HashSet<JobId>,
    /// Whether the next batch is written at once: it has a final state, or a caller waits for it.
    pub(super) urgent: bool,
    /// The jobs whose states are being written.
    pub(super) in_flight: HashSet<JobId>,
}

/// A state that the database refuses.
#[derive(Debug)]
pub(super) struct RefusedRecord {
    pub(super) record: JobRecord,
    /// The database's reason.
    pub(super) reason: String,
    /// When it is written again. Each has its own time: one that is refused for ever delays no other.
    pub(super) retry_at: Instant,
}

impl Pending {
    /// Adds the refused states that are due by then to the next batch, except those with a newer state.
    pub(super) fn retry_refused(&mut self, due_by: Option<Instant>) {
        let is_due = |refused: &RefusedRecord| due_by.is_none_or(|by| refused.retry_at <= by);
        for (id, refused) in self.refused.extract_if(|_, refused| is_due(refused)) {
            self.records.entry(id).or_insert(refused.record);
        }
    }

    /// When the next refused state is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.refused.values().map(|refused| refused.retry_at).min()
    }

    /// Whether a job has a state that is not written, or is not known to be.
    pub(super) fn has_unwritten(&self, id: &JobId) -> bool {
        self.records.contains_key(id)
            || self.in_flight.contains(id)
            || self.refused.contains_key(id)
    }
}
