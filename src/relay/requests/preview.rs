//! The newest preview of a job, also of one that another relay has.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::hub::Preview;
use crate::job::JobId;
use crate::relay::Relay;

/// How long a caller waits for the preview of another relay's job. It comes within half a second, if there is one.
const PATIENCE: Duration = Duration::from_secs(2);

impl Relay {
    /// The newest preview image of a job that this relay has.
    pub fn preview(&self, job: &JobId) -> Option<Arc<Preview>> {
        self.0.tracker.hub.preview(job)
    }

    /// The newest preview image of a job. That of a job of another relay is asked for, as by a subscriber that wants previews, and
    /// waited for.
    pub async fn newest_preview(&self, job: &JobId) -> Option<Arc<Preview>> {
        let tracker = &self.0.tracker;
        let here = self.preview(job);
        if here.is_some() || tracker.broker.is_alone() || job.group().is_some() {
            return here;
        }
        let _permit = self.0.preview_waits.begin()?;
        tracker.restore_from_store(job).await;
        {
            let registry = tracker.registry();
            // What is in no database and was never published by another relay is not waited for.
            let entry = registry.get(job)?;
            if entry.is_owned() || entry.job.status().is_final() {
                return None;
            }
        }
        let wait = tracker.hub.wait_for_preview(job);
        tokio::select! {
            () = self.0.stop.cancelled() => None,
            preview = timeout(PATIENCE, wait.preview()) => preview.ok(),
        }
    }
}
