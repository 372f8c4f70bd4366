//! What must survive: jobs, the runs of their nodes, and who we are to each ComfyUI server, in
//! PostgreSQL or SQLite.
//!
//! Each query is a function named for what it finds or does, written once for both databases. The
//! table `jobs` may be the pipeline's own: see [`adoption`].

mod adoption;
mod backends;
mod database;
mod job_queries;
mod lease;
mod lease_owner;
mod recorder;
mod rows;
mod run_queries;
mod schema;
mod upsert;

use std::sync::Arc;

use diesel::backend::Backend;
use diesel_async::{AsyncMigrationHarness, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::sync::OnceCell;

pub use database::StoreError;
pub use job_queries::{Cursor, JobFilter};
pub use lease_owner::LeaseOwner;
pub use recorder::{Recorder, RecorderHealth};
pub use rows::{JobRecord, NodeCostRecord, NodeRunRecord};
pub use run_queries::StoredRun;

use crate::config::StoreConfig;
use database::{Pools, dedicated};
use upsert::Statements;

const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The lock under which relays that start at once migrate one after another: any number that nobody
/// else takes.
const MIGRATION_LOCK: i64 = 0x636f_6d66_795f_7265;

/// A database, opened but not necessarily there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pools: Pools,
    statements: Arc<OnceCell<Statements>>,
}

impl Store {
    /// Opens the configured database. Nothing is dialled before the first query.
    pub fn open(config: &StoreConfig) -> Self {
        Self {
            pools: Pools::open(config),
            statements: Arc::default(),
        }
    }

    /// What kind of database it is.
    pub fn kind(&self) -> &'static str {
        match self.pools {
            Pools::Postgres(_) => "postgres",
            Pools::Sqlite(_) => "sqlite",
        }
    }

    /// Brings the schema up to date, adopting a table `jobs` that is there already.
    ///
    /// Several relays may do so at once. Needs a runtime of several threads, because migrations block.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match &self.pools {
            Pools::Postgres(pool) => {
                // The lock belongs to this connection: should the relay die, the server lets go of it. A
                // large table takes its time, and the other relays wait for it.
                let mut connection = dedicated(pool).await?;
                let lock =
                    format!("SET statement_timeout = 0; SELECT pg_advisory_lock({MIGRATION_LOCK})");
                connection.batch_execute(&lock).await?;
                adoption::adopt_in_postgres(&mut connection).await?;
                apply(
                    &mut AsyncMigrationHarness::new(connection),
                    POSTGRES_MIGRATIONS,
                )?;
            }
            Pools::Sqlite(pool) => {
                let mut connection = pool.get().await?;
                // Who writes first locks the others out until it is done.
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

    /// The statements for the shape that the table `jobs` has.
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
