//! Takes up what an earlier attempt of the same request has left behind: its relay has ended after it handed the job in, and
//! before it has registered it.

use crate::job::Job;
use crate::relay::requests::once::RequestId;
use crate::relay::requests::post_prompt::Work;
use crate::relay::requests::register::{Accepted, Reservation};
use crate::relay::{Relay, RelayError};

impl Relay {
    /// Registers a job whose prompt a backend may have from an earlier attempt. `None` if there is none.
    ///
    /// The queue finds out whether the backend has it, and hands it in again only where it does not.
    pub(super) async fn adopt(
        &self,
        reservation: &Reservation,
        work: &Work,
        request: &RequestId,
    ) -> Result<Option<Accepted>, RelayError> {
        let tracker = &self.0.tracker;
        let id = &reservation.id;
        let left = tracker.recorder.store().submission(id).await?;
        // One that waits was not handed in: it is replaced.
        let left = left.filter(|left| left.digest == request.digest);
        let Some((left, backend)) = left.and_then(|left| {
            let backend = left.backend.clone()?;
            Some((left, backend))
        }) else {
            return Ok(None);
        };
        {
            let mut registry = tracker.registry();
            let mut job = Job::new(id.clone(), tracker.now())
                .tagged(work.tags.clone())
                .waiting(&left.prompt_id);
            job.set_attempt(left.attempt);
            let entry = registry.insert(job, None, 0);
            tracing::info!(job_id = %id, backend, "an earlier attempt has handed the job in");
            tracker.publish(entry);
        }
        tracker.queue.wake();
        Ok(Some(Accepted {
            job_id: id.clone(),
            prompt_id: left.prompt_id,
            backend,
            is_unanswered: false,
            ignored: Vec::new(),
            is_written: self.is_written(id).await?,
            is_replayed: false,
        }))
    }
}
