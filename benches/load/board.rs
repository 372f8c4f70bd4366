//! What the publisher and the client know of each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;

/// How many updates of a job may be under way at once: their moments are kept in a ring.
const RING: usize = 1_024;

/// How many updates of a job are under way in a saturated scenario: the next one waits already when
/// one has reached everybody.
const WINDOW: usize = 2;

/// The moments at which updates were posted, by job and number, and the leave to post more.
pub(crate) struct Board {
    epoch: Instant,
    lanes: Vec<Lane>,
}

struct Lane {
    /// Nanoseconds since the epoch at which the update with this number, in the ring, was posted.
    posted: Vec<AtomicU64>,
    leave: Semaphore,
}

impl Board {
    pub(crate) fn new(jobs: usize) -> Self {
        let lane = || Lane {
            posted: (0..RING).map(|_| AtomicU64::new(0)).collect(),
            leave: Semaphore::new(WINDOW),
        };
        Self {
            epoch: Instant::now(),
            lanes: (0..jobs).map(|_| lane()).collect(),
        }
    }

    pub(crate) fn jobs(&self) -> usize {
        self.lanes.len()
    }

    /// Nanoseconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Update `mark` of a job is posted now.
    pub(crate) fn post(&self, job: usize, mark: u64) {
        self.lanes[job].posted[mark as usize % RING].store(self.now(), Ordering::Release);
    }

    /// When update `mark` of a job was posted.
    pub(crate) fn posted_at(&self, job: usize, mark: u64) -> u64 {
        self.lanes[job].posted[mark as usize % RING].load(Ordering::Acquire)
    }

    /// An update of a job has reached all its subscribers.
    pub(crate) fn arrived(&self, job: usize) {
        self.lanes[job].leave.add_permits(1);
    }

    /// Waits until one more update of a job may be posted.
    pub(crate) async fn leave(&self, job: usize) {
        // Fails only for a semaphore that is closed, which these never are.
        if let Ok(permit) = self.lanes[job].leave.acquire().await {
            permit.forget();
        }
    }
}
