use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// One client's place on the books. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Place>);

#[derive(Debug)]
struct Place {
    connected_at: Timestamp,
    user_info: Box<str>,
    /// Milliseconds since 1970.
    heard_at: AtomicI64,
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
    /// A client that has just come. `user_info` is the address that it came from.
    pub fn new(user_info: String) -> Self {
        let now = super::now();
        Self(Arc::new(Place {
            connected_at: now,
            user_info: user_info.into(),
            heard_at: AtomicI64::new(now.as_millisecond()),
        }))
    }

    /// When it came.
    pub fn connected_at(&self) -> Timestamp {
        self.0.connected_at
    }

    /// Who it is: the address it came from.
    pub fn user_info(&self) -> &str {
        &self.0.user_info
    }

    /// Notes that the client has just been heard.
    pub fn heard(&self) {
        let now = super::now().as_millisecond();
        self.0.heard_at.store(now, Ordering::Relaxed);
    }

    /// When the client was last heard.
    pub fn heard_at(&self) -> Timestamp {
        let at = self.0.heard_at.load(Ordering::Relaxed);
        Timestamp::from_millisecond(at).unwrap_or(self.0.connected_at)
    }
}
