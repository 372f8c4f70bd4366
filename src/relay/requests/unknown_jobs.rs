use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::JobId;

/// How long a job that was not found counts as unknown without another search.
const REMEMBERED: Duration = Duration::from_secs(1);

/// How many ids are remembered at most.
const MAX_REMEMBERED: usize = 10_000;

/// The ids that neither the database nor any backend knew a moment ago: a client that asks for the same one again
/// and again costs them one search a second.
#[derive(Debug, Default)]
pub(in crate::relay) struct UnknownJobs(Mutex<HashMap<JobId, Instant>>);

impl UnknownJobs {
    pub(super) fn contains(&self, id: &JobId) -> bool {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(id)
            .is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    pub(super) fn add(&self, id: JobId) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= MAX_REMEMBERED {
            ids.retain(|_, since| since.elapsed() < REMEMBERED);
            if ids.len() >= MAX_REMEMBERED {
                ids.clear();
            }
        }
        ids.insert(id, Instant::now());
    }
}
