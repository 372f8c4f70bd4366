use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// What is recorded of one client's connection. Clones share the record.
#[derive(Debug, Clone)]
pub struct Connection(Arc<ConnectionRecord>);

#[derive(Debug)]
struct ConnectionRecord {
    /// Milliseconds since 1970.
    connected_at: i64,
    address: IpAddr,
    wants_previews: bool,
    /// Milliseconds since 1970.
    received_at: AtomicI64,
}

/// How many connections subscribe to how many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCount {
    /// All connections. One that subscribes to several jobs counts for each.
    pub total: usize,
    /// Jobs with at least one connection.
    pub jobs: usize,
}

impl Connection {
    /// A client at `address` that has just connected, and wants preview images or not.
    pub fn new(address: IpAddr, wants_previews: bool) -> Self {
        let now = Timestamp::now().as_millisecond();
        Self(Arc::new(ConnectionRecord {
            connected_at: now,
            address,
            wants_previews,
            received_at: AtomicI64::new(now),
        }))
    }

    /// When the client connected.
    pub fn connected_at(&self) -> Timestamp {
        timestamp(self.0.connected_at)
    }

    /// The client's address.
    pub fn address(&self) -> IpAddr {
        self.0.address
    }

    /// Whether the client wants preview images.
    pub fn wants_previews(&self) -> bool {
        self.0.wants_previews
    }

    /// Records that something was received from the client just now.
    pub fn record_received(&self) {
        let now = Timestamp::now().as_millisecond();
        self.0.received_at.store(now, Ordering::Relaxed);
    }

    /// When something was last received from the client; at first when it connected.
    pub fn received_at(&self) -> Timestamp {
        timestamp(self.0.received_at.load(Ordering::Relaxed))
    }
}

/// Milliseconds that came from a timestamp, as a timestamp.
fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
