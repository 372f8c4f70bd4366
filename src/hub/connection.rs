use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// One client's place on the books. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Connection(Arc<ConnectionRecord>);

#[derive(Debug)]
struct ConnectionRecord {
    /// Milliseconds since 1970.
    connected_at: i64,
    address: IpAddr,
    /// Milliseconds since 1970.
    received_at: AtomicI64,
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
    /// A client that has just come from an address.
    pub fn new(address: IpAddr) -> Self {
        let now = super::now().as_millisecond();
        Self(Arc::new(ConnectionRecord {
            connected_at: now,
            address,
            received_at: AtomicI64::new(now),
        }))
    }

    /// When it came.
    pub fn connected_at(&self) -> Timestamp {
        timestamp(self.0.connected_at)
    }

    /// The address that it came from.
    pub fn address(&self) -> IpAddr {
        self.0.address
    }

    /// Notes that the client has just been heard.
    pub fn record_received(&self) {
        let now = super::now().as_millisecond();
        self.0.received_at.store(now, Ordering::Relaxed);
    }

    /// When the client was last heard.
    pub fn received_at(&self) -> Timestamp {
        timestamp(self.0.received_at.load(Ordering::Relaxed))
    }
}

/// Of milliseconds that came from a timestamp.
fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
