//! How often the states of one job are published. Every event is applied, however many come; what comes
//! of them is published and recorded at most once in an interval, because nobody reads faster than that.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::registry::Entry;
use super::tracker::Tracker;
use crate::job::JobId;

impl Tracker {
    /// Publishes the state of a job: at once if the last publication is long enough ago, otherwise as
    /// soon as it is. Any publication before then includes this state.
    pub(super) fn publish_throttled(self: &Arc<Self>, entry: &mut Entry) {
        let due = entry.publishing.published_at + self.publish_interval;
        let is_first = entry.job.seq() == 0;
        if is_first || Instant::now() >= due {
            self.republish(entry);
        } else if entry.publishing.flush_at.is_none() {
            entry.publishing.flush_at = Some(due);
            let flush = self.clone().flush_at(entry.job.id().clone(), due);
            self.tasks.spawn(flush);
        }
    }

    /// Publishes the state that is held back until `due`, unless it has been published meanwhile. At
    /// shutdown it is published at once, because it has to be written.
    async fn flush_at(self: Arc<Self>, id: JobId, due: Instant) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep_until(due) => {}
        }
        let mut registry = self.registry();
        let held = registry.get_mut(&id);
        if let Some(entry) = held.filter(|entry| entry.publishing.flush_at == Some(due)) {
            self.republish(entry);
        }
    }
}
