//! [`Signals`]: wake-ups and previews, and the connections for them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::link::Link;
use crate::broker::metrics::BrokerMetrics;
use crate::broker::preview::{JobPreview, WantedJobs};
use crate::broker::state_queue::StateQueue;
use crate::broker::wake::MAX_PREVIEWED;
use crate::broker::wake_queue::{WakeInbox, WakeOutbox};
use crate::config::RedisConfig;
use crate::job::JobId;

/// Of how many jobs a preview waits at most: each may be megabytes.
const MAX_PICTURES: usize = 64;

/// Wake-ups and previews that wait, and the state of the connections for them.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) outbox: WakeOutbox,
    pub(super) inbox: WakeInbox,
    pub(super) previews_out: StateQueue<JobPreview>,
    pub(super) previews_in: StateQueue<JobPreview>,
    /// The jobs whose previews are to be received.
    wanted: Mutex<HashSet<JobId>>,
    pub(super) wanted_renewed: Notify,
    pub(super) sending: Link,
    pub(super) receiving: Link,
}

impl Signals {
    pub(super) fn new(config: &RedisConfig, metrics: &BrokerMetrics) -> Self {
        // A picture that is passed over for a newer one is no state that was.
        let pictures = || StateQueue::with_room_for(MAX_PICTURES, Default::default());
        Self {
            outbox: WakeOutbox::default(),
            inbox: WakeInbox::default(),
            previews_out: pictures(),
            previews_in: pictures(),
            wanted: Mutex::default(),
            wanted_renewed: Notify::new(),
            sending: Link::new("wake other relays over Redis", config, metrics),
            receiving: Link::new("be woken over Redis", config, metrics),
        }
    }

    /// Previews of these jobs are wanted, and of no others. If they are too many, of some of them: rather of jobs that exist,
    /// and of those before.
    pub(super) fn want(&self, jobs: WantedJobs) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_empty() && wanted.is_empty() {
            return;
        }
        *wanted = jobs.select(&wanted, MAX_PREVIEWED);
        drop(wanted);
        self.wanted_renewed.notify_one();
    }

    pub(super) fn wanted(&self) -> HashSet<JobId> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.clone()
    }
}
