//! [`Updates`]: when updates were posted, shared by the publisher and the clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;

/// How many updates of a job can be in flight at once: their times are kept in a ring.
const RING: usize = 1_024;

/// How many updates of a job are in flight in a saturated scenario. With two, the next one is already
/// posted when one has reached all subscribers.
const WINDOW: usize = 2;

/// When updates were posted, by job and number, and how many more may be posted.
pub(crate) struct Updates {
    epoch: Instant,
    jobs: Vec<JobUpdates>,
}

struct JobUpdates {
    /// When each update was posted, in nanoseconds since the epoch, by its number modulo [`RING`].
    posted: Vec<AtomicU64>,
    permits: Semaphore,
}

impl Updates {
    pub(crate) fn new(jobs: usize) -> Self {
        let job = || JobUpdates {
            posted: (0..RING).map(|_| AtomicU64::new(0)).collect(),
            permits: Semaphore::new(WINDOW),
        };
        Self {
            epoch: Instant::now(),
            jobs: (0..jobs).map(|_| job()).collect(),
        }
    }

    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Nanoseconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Records that update `mark` of a job is posted now.
    pub(crate) fn post(&self, job: usize, mark: u64) {
        self.jobs[job].posted[mark as usize % RING].store(self.now(), Ordering::Release);
    }

    /// When update `mark` of a job was posted.
    pub(crate) fn posted_at(&self, job: usize, mark: u64) -> u64 {
        self.jobs[job].posted[mark as usize % RING].load(Ordering::Acquire)
    }

    /// Records that an update of a job has reached all its subscribers.
    pub(crate) fn arrived(&self, job: usize) {
        self.jobs[job].permits.add_permits(1);
    }

    /// Waits until one more update of a job may be posted.
    pub(crate) async fn acquire(&self, job: usize) {
        // Fails only if the semaphore is closed, and these never are.
        if let Ok(permit) = self.jobs[job].permits.acquire().await {
            permit.forget();
        }
    }
}
