use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::keys::SubscriberKey;
use crate::relay::RelayError;

/// How long it counts that nobody had registered a job, without another look-up.
const REMEMBERED: Duration = Duration::from_secs(1);

/// The look-up of a job that nobody has registered: one for all of a topic's subscribers.
#[derive(Debug, Default)]
pub(super) struct JobLookup {
    /// The task that runs it.
    task: Option<AbortHandle>,
    /// Who waits for its result.
    asking: Vec<SubscriberKey>,
    /// When it was last found that there is no such job, and the error that says so.
    absent: Option<(Instant, Arc<RelayError>)>,
}

/// That a subscriber waits for a job to be registered.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobWait {
    /// Until when.
    pub(super) until: Instant,
    /// It is to get the result of the look-up that runs.
    pub(super) is_asking: bool,
}

impl JobLookup {
    /// The error of a look-up that has just found that there is no such job.
    pub(super) fn absent(&self, now: Instant) -> Option<Arc<RelayError>> {
        let (since, error) = self.absent.as_ref()?;
        (now.saturating_duration_since(*since) < REMEMBERED).then(|| error.clone())
    }

    /// Adds a subscriber to those that get the result. `start` starts the look-up, unless it runs.
    pub(super) fn ask(&mut self, key: SubscriberKey, start: impl FnOnce() -> AbortHandle) {
        self.asking.push(key);
        self.task.get_or_insert_with(start);
    }

    /// Records the result of the look-up. Returns who asked for it; some may have left.
    pub(super) fn finish(
        &mut self,
        result: &Result<(), Arc<RelayError>>,
        now: Instant,
    ) -> Vec<SubscriberKey> {
        self.task = None;
        self.absent = match result {
            Err(error) if matches!(**error, RelayError::JobNotFound(_)) => {
                Some((now, error.clone()))
            }
            _ => None,
        };
        std::mem::take(&mut self.asking)
    }
}

/// Nobody is left who could get the result.
impl Drop for JobLookup {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
