//! [`StorePools`]: which work has connections of its own.

use super::connect::{self, ConnectFailure};
use super::database::Pools;
use crate::config::StoreConfig;

/// The pools of a store. Each kind of work has connections of its own, so that none waits for another: requests that take
/// all connections take no lease.
#[derive(Debug, Clone)]
pub(super) struct StorePools {
    /// For the jobs that callers, subscribers and reports name.
    pub(super) reads: Pools,
    /// For lists and totals, and for the deletion of old jobs.
    pub(super) lists: Pools,
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
                lists: reads.clone(),
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
        let half = StoreConfig {
            connections: config.connections.div_ceil(2),
            ..config.clone()
        };
        Self {
            reads,
            lists: connect::open(&half, &failure),
            writes: connect::open(&single, &failure),
            leases: connect::open(&single, &failure),
            mirror: connect::open(&single, &failure),
            failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::interval;

    use super::*;
    use crate::job::JobId;
    use crate::store::database::connection_of;
    use crate::store::{JobFilter, Store};

    #[tokio::test]
    async fn a_caller_waits_as_long_as_others_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("jobs.db").display());
        let config = StoreConfig {
            database: url.parse().unwrap(),
            connections: 1,
            ..StoreConfig::default()
        };
        let store = Store::open(&config);
        store.migrate().await.unwrap();
        let Pools::Sqlite(reads) = &store.pools.reads else {
            panic!("not the configured database");
        };
        let only = connection_of(reads).await.unwrap();
        let mut first = pin!(connection_of(reads));
        let mut waits = pin!(connection_of(reads));
        // Polled in this order, they wait in this order.
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut waits).now_or_never().is_none());
        drop(only);
        let served = first.await.unwrap();
        let timed_out = async {
            let mut ticks = interval(Duration::from_millis(10));
            while reads.state().statistics.get_timed_out == 0 {
                ticks.tick().await;
            }
        };
        tokio::select! {
            given_up = &mut waits => panic!("{:?}", given_up.map(drop)),
            () = timed_out => drop(served),
        }
        waits.await.unwrap();
    }

    #[tokio::test]
    async fn lists_that_take_all_connections_delay_no_look_up() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("jobs.db").display());
        let config = StoreConfig {
            database: url.parse().unwrap(),
            ..StoreConfig::default()
        };
        let store = Store::open(&config);
        store.migrate().await.unwrap();
        let Pools::Sqlite(lists) = &store.pools.lists else {
            panic!("not the configured database");
        };
        let mut held = Vec::new();
        for _ in 0..config.connections.div_ceil(2) {
            held.push(lists.get().await.unwrap());
        }
        assert!(
            store.jobs(&JobFilter::default(), 1).await.is_err(),
            "all are taken"
        );
        let job = JobId::parse("job").unwrap();
        assert!(store.job(&job).await.unwrap().is_none());
    }
}
