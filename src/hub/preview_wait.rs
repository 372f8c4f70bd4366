use std::sync::Arc;

use super::publication::Preview;
use super::topic::Topic;
use super::topics::Topics;
use crate::job::JobId;

/// Wants the previews of a job until it is dropped, for a caller that is no subscriber.
#[derive(Debug)]
pub struct PreviewWait {
    topics: Topics,
    job: JobId,
    topic: Arc<Topic>,
}

impl PreviewWait {
    pub(super) fn new(topics: Topics, job: &JobId) -> Self {
        let topic = topics.join(job, |topic| {
            topic.begin_preview_wait();
            topic.clone()
        });
        topics.changes().send_replace(());
        Self {
            topics,
            job: job.clone(),
            topic,
        }
    }

    /// The newest preview, as soon as there is one. Cancel safe.
    pub async fn preview(&self) -> Arc<Preview> {
        loop {
            // Before the look: a preview that comes after it ends the wait.
            let published = self.topic.previewed.notified();
            if let Some(preview) = self.topic.preview() {
                return preview;
            }
            published.await;
        }
    }
}

impl Drop for PreviewWait {
    fn drop(&mut self) {
        self.topic.end_preview_wait();
        self.topics.leave(&self.job, &self.topic);
        self.topics.changes().send_replace(());
    }
}
