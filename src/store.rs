//! The database, PostgreSQL or SQLite: jobs, the runs of their nodes, and the client id and the lease of each
//! backend.
//!
//! Each query is a method of [`Store`], written once for both databases. The table `jobs` may be one that the
//! pipeline has made: see [`adoption`]. [`Recorder`] writes the states of jobs in batches.

mod adoption;
mod backends;
mod connect;
mod database;
mod job_queries;
mod lease;
mod lease_owner;
mod pending;
mod recorder;
mod refusal;
mod rows;
mod run_queries;
mod schema;
mod upsert;

use std::sync::Arc;

use diesel::backend::Backend;
use diesel_async::{
    AnsiTransactionManager, AsyncMigrationHarness, SimpleAsyncConnection, TransactionManager,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::sync::OnceCell;

pub use database::StoreError;
pub use job_queries::{Cursor, JobFilter};
pub use lease_owner::LeaseOwner;
pub use recorder::{Recorder, RecorderHealth};
pub use refusal::Refusal;
pub use rows::{JobRecord, NodeCostRecord, NodeRunRecord};
pub use run_queries::StoredRun;

use crate::config::StoreConfig;
use connect::dedicated;
use database::Pools;
use pending::PendingMigrations;
use upsert::Statements;

const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The key of the PostgreSQL advisory lock under which relays that start at the same time migrate one after
/// another. Any number will do that no other program uses.
const MIGRATION_LOCK: i64 = 0x636f_6d66_795f_7265;

/// A database, which need not be reachable. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pools: Pools,
    statements: Arc<OnceCell<Statements>>,
}

impl Store {
    /// Opens the configured database. The first query connects.
    pub fn open(config: &StoreConfig) -> Self {
        Self {
            pools: connect::open(config),
            statements: Arc::default(),
        }
    }

    /// The kind of database: `postgres` or `sqlite`.
    pub fn kind(&self) -> &'static str {
        match self.pools {
            Pools::Postgres(_) => "postgres",
            Pools::Sqlite(_) => "sqlite",
        }
    }

    /// Migrates the schema, adopting a table `jobs` that exists already.
    ///
    /// Several relays may do so at the same time. Needs a multi-threaded runtime, because migrations block.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match &self.pools {
            Pools::Postgres(pool) => {
                // The lock ends with the transaction, also when the relay dies. Without a statement timeout, because
                // a large table takes long and the other relays wait for the lock.
                let mut connection = dedicated(pool).await?;
                if PendingMigrations::of(&mut connection).await?.is_empty() {
                    // A role without the right to create tables needs none.
                    drop(connection);
                    self.prepared().await?;
                    return Ok(());
                }
                AnsiTransactionManager::begin_transaction(&mut connection).await?;
                let lock = format!(
                    "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
                );
                connection.batch_execute(&lock).await?;
                adoption::adopt_in_postgres(&mut connection).await?;
                let mut harness = AsyncMigrationHarness::new(connection);
                apply(&mut harness, POSTGRES_MIGRATIONS)?;
                let mut connection = harness.into_inner();
                AnsiTransactionManager::commit_transaction(&mut connection).await?;
            }
            Pools::Sqlite(pool) => {
                let mut connection = pool.get().await?;
                // An immediate transaction takes the write lock: other relays wait until it is done.
                let migrated = connection.spawn_blocking(|connection| {
                    Ok(connection.immediate_transaction(|connection| {
                        adoption::adopt_in_sqlite(connection)?;
                        apply(connection, SQLITE_MIGRATIONS)
                    }))
                });
                migrated.await??;
            }
        }
        self.prepared().await?;
        Ok(())
    }

    /// The SQL of all migrations for PostgreSQL, after which `role` may use the tables.
    pub fn schema_sql(role: &str) -> String {
        PendingMigrations::all().sql(role)
    }

    /// The SQL of the migrations that the PostgreSQL database lacks; `None` if it lacks none, or is SQLite.
    pub async fn pending_sql(&self, role: &str) -> Result<Option<String>, StoreError> {
        let Pools::Postgres(pool) = &self.pools else {
            return Ok(None);
        };
        let pending = PendingMigrations::of(&mut dedicated(pool).await?).await?;
        Ok((!pending.is_empty()).then(|| pending.sql(role)))
    }

    /// Writes the states of jobs, and the node runs of those that have ended: all or nothing.
    pub async fn upsert(&self, records: &[JobRecord]) -> Result<(), StoreError> {
        let statements = self.prepared().await?;
        statements.execute(&self.pools, records).await
    }

    /// The statements for the kind of ids that the table `jobs` has.
    async fn prepared(&self) -> Result<&Statements, StoreError> {
        let prepare = || async {
            let ids = adoption::id_kind(&self.pools).await?;
            Ok(Statements::new(&self.pools, ids))
        };
        self.statements.get_or_try_init(prepare).await
    }
}

fn apply<D: Backend>(
    connection: &mut impl MigrationHarness<D>,
    migrations: EmbeddedMigrations,
) -> Result<(), StoreError> {
    let applied = connection.run_pending_migrations(migrations);
    applied.map_err(|error| StoreError::Migration(error.to_string()))?;
    Ok(())
}
