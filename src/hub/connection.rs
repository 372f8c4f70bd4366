use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// One client's place on the books. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Connection {
    /// When it came.
    pub connected_at: Timestamp,
    /// Who it is: the address it came from.
    pub user_info: String,
    heard_at: Arc<AtomicI64>,
}

/// How many clients follow how many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connections {
    /// Connections, one that follows several jobs counted for each.
    pub total: usize,
    /// Jobs with at least one.
    pub jobs: usize,
}

impl Connection {
    /// A client that has just come.
    pub fn new(user_info: String) -> Self {
        let now = super::now();
        Self {
            connected_at: now,
            user_info,
            heard_at: Arc::new(AtomicI64::new(now.as_millisecond())),
        }
    }

    /// Notes that the client has just been heard.
    pub fn heard(&self) {
        let now = super::now().as_millisecond();
        self.heard_at.store(now, Ordering::Relaxed);
    }

    /// When the client was last heard.
    pub fn heard_at(&self) -> Timestamp {
        let at = self.heard_at.load(Ordering::Relaxed);
        Timestamp::from_millisecond(at).unwrap_or(self.connected_at)
    }
}
