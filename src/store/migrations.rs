//! Creates the relay's own tables, and brings them up to date.
//!
//! The migrations are applied here and not by a library: they go into a schema whose name is a setting, and the table
//! that counts them lies there too. They are SQL text.

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::Store;
use super::database::{Pools, StoreError};
use super::names::Names;

/// The migrations in their order; the number of the first is 1.
static POSTGRES: [&str; 1] = [include_str!("../../migrations/postgres/1_tables.sql")];
static SQLITE: [&str; 1] = [include_str!("../../migrations/sqlite/1_tables.sql")];

/// The key of the PostgreSQL advisory lock under which relays that start at the same time migrate one after
/// another. Any number will do that no other program uses.
const MIGRATION_LOCK: i64 = 0x636f_6d66_795f_7265;

const COUNT_APPLIED: &str = "SELECT max(version) AS version FROM comfy_relay.migrations";

const CREATE_COUNT: &str =
    "CREATE TABLE IF NOT EXISTS comfy_relay.migrations (version BIGINT PRIMARY KEY NOT NULL)";

#[derive(Debug, QueryableByName)]
struct LastMigration {
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
}

#[derive(Debug, QueryableByName)]
struct Existence {
    #[diesel(sql_type = Bool)]
    schema: bool,
    #[diesel(sql_type = Bool)]
    migrations: bool,
}

impl Store {
    /// Creates the tables, or brings them up to date. Several relays may do so at the same time.
    pub(super) async fn create_tables(&self) -> Result<(), StoreError> {
        let names = self.names.clone();
        match &self.pools.writes {
            Pools::Postgres(pool) => {
                let mut connection = pool.get().await?;
                if applied_in_postgres(&mut connection, &names).await? < POSTGRES.len() {
                    migrate_postgres(&mut connection, &names).await?;
                }
            }
            Pools::Sqlite(pool) => {
                let mut connection = pool.get().await?;
                // An immediate transaction takes the write lock: other relays wait until it is done.
                let migrated = connection.spawn_blocking(move |connection| {
                    connection.immediate_transaction(|connection| {
                        connection.batch_execute(&names.text(CREATE_COUNT))?;
                        let query = sql_query(names.text(COUNT_APPLIED));
                        let applied: LastMigration =
                            diesel::RunQueryDsl::get_result(query, connection)?;
                        for sql in pending(&SQLITE, applied.count(), &names) {
                            connection.batch_execute(&sql)?;
                        }
                        Ok(())
                    })
                });
                migrated.await?;
            }
        }
        Ok(())
    }
}

/// The migrations that are not applied yet, each with the statement that counts it.
fn pending(
    migrations: &'static [&'static str],
    applied: usize,
    names: &Names,
) -> impl Iterator<Item = String> {
    let numbered = migrations.iter().zip(1..).skip(applied);
    numbered.map(|(sql, number)| {
        names.text(&format!(
            "{sql};INSERT INTO comfy_relay.migrations VALUES ({number})"
        ))
    })
}

/// A role without the right to create anything needs none where the tables are up to date.
async fn applied_in_postgres(
    connection: &mut AsyncPgConnection,
    names: &Names,
) -> Result<usize, StoreError> {
    if !existence(connection, names).await?.migrations {
        return Ok(0);
    }
    let query = sql_query(names.text(COUNT_APPLIED));
    let applied: LastMigration = query.get_result(connection).await?;
    Ok(applied.count())
}

async fn existence(
    connection: &mut AsyncPgConnection,
    names: &Names,
) -> Result<Existence, StoreError> {
    let Names::Postgres(schema) = names else {
        unreachable!("PostgreSQL has schemas");
    };
    let query = sql_query(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS schema, \
         EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                 WHERE nspname = $1 AND relname = 'migrations') AS migrations",
    );
    Ok(query.bind::<Text, _>(schema).get_result(connection).await?)
}

async fn migrate_postgres(
    connection: &mut AsyncPgConnection,
    names: &Names,
) -> Result<(), StoreError> {
    connection
        .transaction(async |connection| {
            // Without a statement timeout, because the other relays wait for the lock. It ends with the transaction.
            let lock = format!(
                "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
            );
            connection.batch_execute(&lock).await?;
            // `IF NOT EXISTS` would ask for the right to create a schema.
            if !existence(connection, names).await?.schema {
                let create = names.text("CREATE SCHEMA comfy_relay.");
                let create = create.trim_end_matches('.');
                connection.batch_execute(create).await?;
            }
            if !existence(connection, names).await?.migrations {
                connection.batch_execute(&names.text(CREATE_COUNT)).await?;
            }
            let applied = applied_in_postgres(connection, names).await?;
            for sql in pending(&POSTGRES, applied, names) {
                connection.batch_execute(&sql).await?;
            }
            Ok(())
        })
        .await
}

impl LastMigration {
    fn count(&self) -> usize {
        let version = self.version.unwrap_or_default();
        version.try_into().unwrap_or_default()
    }
}
