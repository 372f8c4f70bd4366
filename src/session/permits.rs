use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slotmap::{DefaultKey as Key, SlotMap};

/// Limits how many connections may be open, in all and from one address. Cheap to clone; clones share the
/// counts.
#[derive(Debug, Clone)]
pub(crate) struct Permits {
    /// The most connections in all; 0 for no limit.
    max_total: u32,
    /// The most connections from one address; 0 for no limit.
    max_per_address: u32,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    open: Mutex<OpenConnections>,
    /// The log says already that the limit is reached.
    is_logged: AtomicBool,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
    /// One allocation for all permits. With an `Arc` for each, idle subscribers take half as much memory
    /// again (`cargo bench --bench load -- idle`): a small allocation that lives as long as its connection
    /// keeps the allocator from returning the memory of the handshake around it.
    holds: SlotMap<Key, Hold>,
}

/// What one permit counts for.
#[derive(Debug)]
struct Hold {
    clones: u32,
    /// Whether it counts in the total.
    is_counted: bool,
    address: Option<IpAddr>,
}

/// The permit of one open connection. Clones are the same permit; it is released when the last of them
/// is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    counts: Arc<Counts>,
    /// `None` for a connection that only gets the answer that no permit is left.
    key: Option<Key>,
}

/// Why no permit is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// The limit of all connections is reached.
    Total,
    /// The limit of the address is reached.
    Address,
}

impl Permits {
    /// A limit of 0 means no limit.
    pub(crate) fn new(max_total: u32, max_per_address: u32) -> Self {
        Self {
            max_total,
            max_per_address,
            counts: Arc::default(),
        }
    }

    /// A permit for a connection. `address` is `None` if it counts for no address: a connection of a
    /// trusted proxy carries several clients.
    pub(crate) fn acquire(&self, address: Option<IpAddr>) -> Result<ConnectionPermit, NoPermit> {
        self.take(true, address)
    }

    /// A permit for one of several clients on a connection that has a permit of its own.
    pub(crate) fn acquire_shared(
        &self,
        address: Option<IpAddr>,
    ) -> Result<ConnectionPermit, NoPermit> {
        self.take(false, address)
    }

    /// In place of a permit, for a connection that only gets the answer that none is left.
    pub(crate) fn none(&self) -> ConnectionPermit {
        ConnectionPermit {
            counts: self.counts.clone(),
            key: None,
        }
    }

    fn take(
        &self,
        is_counted: bool,
        address: Option<IpAddr>,
    ) -> Result<ConnectionPermit, NoPermit> {
        let mut open = self.counts.open();
        let is_reached = |limit: u32, count: u32| limit > 0 && count >= limit;
        if is_counted && is_reached(self.max_total, open.total) {
            if !self.counts.is_logged.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    connections = open.total,
                    "the limit of open connections (MAX_CONNECTIONS) is reached; refusing further ones"
                );
            }
            return Err(NoPermit::Total);
        }
        if let Some(address) = address {
            let count = open.by_address.entry(address).or_default();
            if is_reached(self.max_per_address, *count) {
                return Err(NoPermit::Address);
            }
            *count += 1;
        }
        open.total += u32::from(is_counted);
        let key = open.holds.insert(Hold {
            clones: 1,
            is_counted,
            address,
        });
        Ok(ConnectionPermit {
            counts: self.counts.clone(),
            key: Some(key),
        })
    }
}

impl Counts {
    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for ConnectionPermit {
    fn clone(&self) -> Self {
        if let Some(key) = self.key {
            self.counts.open().holds[key].clones += 1;
        }
        Self {
            counts: self.counts.clone(),
            key: self.key,
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut open = self.counts.open();
        let hold = &mut open.holds[key];
        hold.clones -= 1;
        if hold.clones > 0 {
            return;
        }
        let Some(hold) = open.holds.remove(key) else {
            return;
        };
        if hold.is_counted {
            open.total -= 1;
            self.counts.is_logged.store(false, Ordering::Relaxed);
        }
        if let Some(address) = hold.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn permits_are_released_when_they_are_dropped() {
        let permits = Permits::new(3, 2);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = permits.acquire(one).unwrap();
        let second = permits.acquire(one).unwrap();
        assert_eq!(permits.acquire(one).unwrap_err(), NoPermit::Address);
        let third = permits.acquire(other).unwrap();
        assert_eq!(permits.acquire(other).unwrap_err(), NoPermit::Total);
        drop((first, second, third));
        assert_eq!(permits.counts.open().total, 0);
        assert!(permits.counts.open().by_address.is_empty());
        assert!(permits.acquire(one).is_ok());
    }

    #[test]
    fn clients_of_a_proxy_do_not_count_in_the_total() {
        let permits = Permits::new(1, 1);
        let _proxy = permits.acquire(None).unwrap();
        let _one = permits.acquire_shared(address("192.0.2.1")).unwrap();
        let _other = permits.acquire_shared(address("192.0.2.2")).unwrap();
        let refused = permits.acquire_shared(address("192.0.2.1"));
        assert_eq!(refused.unwrap_err(), NoPermit::Address);
    }
}
