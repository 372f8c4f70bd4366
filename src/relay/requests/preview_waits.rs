use tokio::sync::{Semaphore, SemaphorePermit};

/// How many callers wait at the same time. Others are answered with what is here.
const MAX_WAITING: usize = 256;

/// The callers that wait for previews of other relays' jobs.
#[derive(Debug)]
pub(in crate::relay) struct PreviewWaits(Semaphore);

impl PreviewWaits {
    /// Counts one more until what it returns is dropped; `None` if there are too many.
    pub(super) fn begin(&self) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire().ok()
    }
}

impl Default for PreviewWaits {
    fn default() -> Self {
        Self(Semaphore::new(MAX_WAITING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let waits = PreviewWaits::default();
        let mut held: Vec<_> = (0..MAX_WAITING).map(|_| waits.begin().unwrap()).collect();
        assert!(waits.begin().is_none());
        held.pop();
        assert!(waits.begin().is_some());
    }
}
