//! How often the states of one job are published. Every event is folded, however many come; what
//! comes of them is shown and written only so often, because nobody reads faster than that.

use tokio::time::{Instant, sleep_until};

use super::Relay;
use super::registry::Entry;
use crate::job::JobId;

impl Relay {
    /// Publishes the state of a job: at once where the last publication is long enough ago, else as
    /// soon as it is. Whatever publishes the job before then takes this state along.
    pub(super) fn publish_throttled(&self, entry: &mut Entry) {
        let due = entry.published_at + self.0.config.publish_interval;
        let is_first = entry.job.seq() == 0;
        if is_first || Instant::now() >= due {
            self.publish(entry);
        } else if entry.flush_at.is_none() {
            entry.flush_at = Some(due);
            let held = self.clone().publish_at(entry.job.id().clone(), due);
            self.0.tasks.spawn(held);
        }
    }

    /// Publishes the state that is held back until `due`, unless it has been published meanwhile.
    /// What is still held back when the relay stops has to be written.
    async fn publish_at(self, id: JobId, due: Instant) {
        tokio::select! {
            () = self.stopping() => {}
            () = sleep_until(due) => {}
        }
        let mut jobs = self.jobs();
        let held = jobs.get_mut(&id);
        if let Some(entry) = held.filter(|entry| entry.flush_at == Some(due)) {
            self.publish(entry);
        }
    }
}
