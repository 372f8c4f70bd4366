use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::job::JobId;

/// The groups that are followed, by their ids.
#[derive(Debug, Default)]
pub(super) struct FollowedGroups(Mutex<HashSet<JobId>>);

impl FollowedGroups {
    /// Locks them. The set is consistent at any moment, also after a panic elsewhere.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
