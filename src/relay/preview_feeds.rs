//! The streams of many jobs whose clients want previews, also of jobs that are still to be submitted.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::job::{Job, Selection};

/// What the streams that want previews select, as long as they are open.
#[derive(Debug, Default)]
pub(super) struct PreviewFeeds(Mutex<Vec<Weak<Selection>>>);

impl PreviewFeeds {
    /// Adds a stream. It is open as long as its selection is referred to.
    pub(super) fn add(&self, selection: &Arc<Selection>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|selection| selection.strong_count() > 0);
        open.push(Arc::downgrade(selection));
    }

    /// Whether there are any.
    pub(super) fn are_open(&self) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().any(|selection| selection.strong_count() > 0)
    }

    /// Whether one of the streams shows a job, in any status.
    pub(super) fn show(&self, job: &Job) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut selections = open.iter().filter_map(Weak::upgrade);
        selections.any(|selection| selection.is_of(job))
    }
}
