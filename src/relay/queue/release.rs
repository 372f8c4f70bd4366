//! Lets jobs wait again that were claimed for a backend.

use uuid::Uuid;

use crate::broker::Hint;
use crate::job::JobId;
use crate::relay::Relay;
use crate::store::StoreError;

impl Relay {
    /// Lets a job wait again that was claimed for a backend.
    pub(super) async fn release_claim(&self, id: &JobId, backend: &str) {
        let store = self.0.tracker.recorder.store();
        match store.release_claim(id, backend).await {
            Ok(()) => self.0.tracker.broker.hint(Hint::Queue),
            Err(error) => log_unreleased(id, &error),
        }
    }

    /// Lets a job wait again that was claimed for a backend which may have its prompt: as another prompt, because the one that it
    /// was is cancelled there, whatever follows it.
    pub(super) async fn release_as_new(&self, id: &JobId, backend: &str) {
        let tracker = &self.0.tracker;
        let prompt_id = Uuid::new_v4().to_string();
        let store = tracker.recorder.store();
        match store.release_claim_as(&prompt_id, id, backend).await {
            Ok(true) => {
                tracker.broker.hint(Hint::Queue);
                let mut registry = tracker.registry();
                tracker.queue.rename_fresh(id, &prompt_id);
                let entry = registry.get(id);
                // It may have ended, or another relay may have it.
                if !entry.is_some_and(|entry| entry.is_owned() && entry.job.wait().is_some()) {
                    return;
                }
                registry.rename_prompt(id, &prompt_id);
                if let Some(entry) = registry.get_mut(id) {
                    // Others may hand it in once its row shows the same prompt as its submission.
                    tracker.publish(entry);
                }
            }
            Ok(false) => {}
            Err(error) => log_unreleased(id, &error),
        }
    }
}

fn log_unreleased(id: &JobId, error: &StoreError) {
    tracing::warn!(job_id = %id, %error, "cannot put a job back into the queue; it is found again at the next start");
}
