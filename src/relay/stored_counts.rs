//! How many ended jobs only the database remembers.

use std::collections::HashMap;

use crate::job::Status;

/// How many ended jobs are in the database and not in memory, by status. Counted in the database now and
/// then, and kept up to date in between.
#[derive(Debug, Default)]
pub(super) struct StoredCounts(HashMap<Status, usize>);

impl FromIterator<(Status, usize)> for StoredCounts {
    fn from_iter<I: IntoIterator<Item = (Status, usize)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}

impl StoredCounts {
    pub(super) fn get(&self, status: Status) -> usize {
        self.0.get(&status).copied().unwrap_or_default()
    }

    /// A job is in memory no longer.
    pub(super) fn add(&mut self, status: Status) {
        *self.0.entry(status).or_default() += 1;
    }

    /// A job is in memory again.
    pub(super) fn remove(&mut self, status: Status) {
        if let Some(count) = self.0.get_mut(&status) {
            *count = count.saturating_sub(1);
        }
    }
}
