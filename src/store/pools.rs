//! [`StorePools`]: which work has connections of its own.

use super::connect::{self, ConnectFailure};
use super::database::Pools;
use crate::config::StoreConfig;

/// The pools of a store. Each kind of work has connections of its own, so that none waits for another: requests that take
/// all connections take no lease.
#[derive(Debug, Clone)]
pub(super) struct StorePools {
    /// For what callers and subscribers ask for.
    pub(super) reads: Pools,
    /// For the recorder.
    pub(super) writes: Pools,
    /// For leases and client ids.
    pub(super) leases: Pools,
    /// For the mirror.
    pub(super) mirror: Pools,
    pub(super) failure: ConnectFailure,
}

impl StorePools {
    /// Pools for the configured database. Nothing is connected yet.
    pub(super) fn open(config: &StoreConfig) -> Self {
        let failure = ConnectFailure::default();
        let reads = connect::open(config, &failure);
        // Each connection to `:memory:` would have a database of its own.
        if config.database.is_in_memory() {
            return Self {
                writes: reads.clone(),
                leases: reads.clone(),
                mirror: reads.clone(),
                reads,
                failure,
            };
        }
        let single = StoreConfig {
            connections: 1,
            ..config.clone()
        };
        Self {
            reads,
            writes: connect::open(&single, &failure),
            leases: connect::open(&single, &failure),
            mirror: connect::open(&single, &failure),
            failure,
        }
    }
}
