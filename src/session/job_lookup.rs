use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::keys::SubscriberKey;
use crate::relay::RelayError;

/// How long it counts that nobody had registered a job, without another look-up.
const REMEMBERED: Duration = Duration::from_secs(1);

/// How long it counts that nobody could be asked: thousands can come at once, and the server may be back soon.
const FAILURE_REMEMBERED: Duration = Duration::from_millis(250);

/// The look-up of a job that nobody has registered: one for all of a topic's subscribers.
#[derive(Debug, Default)]
pub(super) struct JobLookup {
    /// The task that runs it.
    task: Option<AbortHandle>,
    /// The subscribers that wait for its result.
    asking: Vec<SubscriberKey>,
    /// Until when it counts that the job was not found, and the error that says so.
    missed: Option<(Instant, Arc<RelayError>)>,
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
    /// The error of a look-up that has just not found the job.
    pub(super) fn missed(&self, now: Instant) -> Option<Arc<RelayError>> {
        let (until, error) = self.missed.as_ref()?;
        (now < *until).then(|| error.clone())
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
        self.missed = result.as_ref().err().map(|error| {
            let remembered = match **error {
                RelayError::JobNotFound(_) => REMEMBERED,
                _ => FAILURE_REMEMBERED,
            };
            (now + remembered, error.clone())
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    #[test]
    fn what_was_missed_counts_for_a_while() {
        let now = Instant::now();
        let unknown = RelayError::JobNotFound(JobId::parse("render").unwrap());
        let held = RelayError::HeldByPeer("gpu".to_owned());
        for (error, remembered) in [(unknown, REMEMBERED), (held, FAILURE_REMEMBERED)] {
            let mut lookup = JobLookup::default();
            assert!(lookup.missed(now).is_none());
            lookup.finish(&Err(Arc::new(error)), now);
            let last = now + remembered - Duration::from_millis(1);
            assert!(lookup.missed(last).is_some());
            assert!(lookup.missed(now + remembered).is_none());
            lookup.finish(&Ok(()), now);
            assert!(lookup.missed(now).is_none());
        }
    }
}
