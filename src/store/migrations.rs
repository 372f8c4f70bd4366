//! Creates the relay's own tables, and brings them up to date.
//!
//! The migrations are applied here and not by a library: they go into a schema whose name is a setting, and the table
//! that counts them lies there too. They are SQL text.

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

use super::Store;
use super::connect::session::PostgresConnection;
use super::database::{Pools, StoreError};
use super::names::Names;
use crate::config::SchemaName;

/// The migrations in their order; the number of the first is 1.
static POSTGRES: [&str; 16] = [
    include_str!("../../migrations/postgres/1_tables.sql"),
    include_str!("../../migrations/postgres/2_owners.sql"),
    include_str!("../../migrations/postgres/3_labels.sql"),
    include_str!("../../migrations/postgres/4_parallel.sql"),
    include_str!("../../migrations/postgres/5_cancelling.sql"),
    include_str!("../../migrations/postgres/6_queue.sql"),
    include_str!("../../migrations/postgres/7_added_backends.sql"),
    include_str!("../../migrations/postgres/8_cancel_requests.sql"),
    include_str!("../../migrations/postgres/9_backend_loads.sql"),
    include_str!("../../migrations/postgres/10_timeline.sql"),
    include_str!("../../migrations/postgres/11_webhooks.sql"),
    include_str!("../../migrations/postgres/12_spreading.sql"),
    include_str!("../../migrations/postgres/13_input_files.sql"),
    include_str!("../../migrations/postgres/14_assets.sql"),
    include_str!("../../migrations/postgres/15_lists.sql"),
    include_str!("../../migrations/postgres/16_list_filters.sql"),
];
static SQLITE: [&str; 16] = [
    include_str!("../../migrations/sqlite/1_tables.sql"),
    include_str!("../../migrations/sqlite/2_owners.sql"),
    include_str!("../../migrations/sqlite/3_labels.sql"),
    include_str!("../../migrations/sqlite/4_parallel.sql"),
    include_str!("../../migrations/sqlite/5_cancelling.sql"),
    include_str!("../../migrations/sqlite/6_queue.sql"),
    include_str!("../../migrations/sqlite/7_added_backends.sql"),
    include_str!("../../migrations/sqlite/8_cancel_requests.sql"),
    include_str!("../../migrations/sqlite/9_backend_loads.sql"),
    include_str!("../../migrations/sqlite/10_timeline.sql"),
    include_str!("../../migrations/sqlite/11_webhooks.sql"),
    include_str!("../../migrations/sqlite/12_spreading.sql"),
    include_str!("../../migrations/sqlite/13_input_files.sql"),
    include_str!("../../migrations/sqlite/14_assets.sql"),
    include_str!("../../migrations/sqlite/15_lists.sql"),
    include_str!("../../migrations/sqlite/16_list_filters.sql"),
];

/// The key of the PostgreSQL advisory lock under which relays that start at the same time migrate one after
/// another. Any number will do that no other program uses.
const MIGRATION_LOCK: i64 = 0x636f_6d66_795f_7265;

const COUNT_APPLIED: &str = "SELECT max(version) AS version FROM comfy_relay.migrations";

const CREATE_COUNT: &str =
    "CREATE TABLE IF NOT EXISTS comfy_relay.migrations (version BIGINT PRIMARY KEY NOT NULL)";

/// SQLite has no schemas.
const SQLITE_EXISTENCE: &str = "SELECT true AS \"schema\", \
    EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'comfy_relay_migrations') AS migrations";

/// Whether the role may create the tables: in the schema, or the schema itself.
const MAY_CREATE: &str = "SELECT CASE WHEN EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) \
    THEN has_schema_privilege($1, 'CREATE') \
    ELSE has_database_privilege(current_database(), 'CREATE') END AS may_create";

#[derive(Debug, QueryableByName)]
struct Right {
    #[diesel(sql_type = Bool)]
    may_create: bool,
}

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

impl Store {
    /// The SQL of all migrations for PostgreSQL, after which `role` may use the tables.
    pub fn schema_sql(schema: &SchemaName, role: &str) -> String {
        printed(&Names::Postgres(schema.to_string()), 0, role)
    }

    /// The SQL of the migrations that the PostgreSQL database lacks; `None` if it lacks none, or is SQLite.
    pub async fn pending_sql(&self, role: &str) -> Result<Option<String>, StoreError> {
        let Pools::Postgres(pool) = &self.pools.writes else {
            return Ok(None);
        };
        let applied = applied_in_postgres(&mut *pool.get().await?, &self.names).await?;
        Ok((applied < POSTGRES.len()).then(|| printed(&self.names, applied, role)))
    }

    /// How many migrations the tables have, and how many there are. Without tables none.
    pub(super) async fn migrations(&self) -> Result<(usize, usize), StoreError> {
        match &self.pools.writes {
            Pools::Postgres(pool) => {
                let applied = applied_in_postgres(&mut *pool.get().await?, &self.names).await?;
                Ok((applied, POSTGRES.len()))
            }
            Pools::Sqlite(pool) => {
                let connection = &mut *pool.get().await?;
                let existence: Existence =
                    sql_query(SQLITE_EXISTENCE).get_result(connection).await?;
                if !existence.migrations {
                    return Ok((0, SQLITE.len()));
                }
                let query = sql_query(self.names.text(COUNT_APPLIED));
                let applied: LastMigration = query.get_result(connection).await?;
                Ok((applied.count(), SQLITE.len()))
            }
        }
    }

    /// Whether the PostgreSQL database lacks tables that its role may not create.
    pub(super) async fn lacks_rights(&self) -> Result<bool, StoreError> {
        let Pools::Postgres(pool) = &self.pools.writes else {
            return Ok(false);
        };
        let connection = &mut *pool.get().await?;
        if applied_in_postgres(connection, &self.names).await? >= POSTGRES.len() {
            return Ok(false);
        }
        let query = sql_query(MAY_CREATE).bind::<Text, _>(self.names.schema());
        let right: Right = query.get_result(connection).await?;
        Ok(!right.may_create)
    }
}

/// SQL that applies the migrations behind the first `applied` ones, in one transaction.
fn printed(names: &Names, applied: usize, role: &str) -> String {
    let schema = names.schema();
    let role = role.replace('"', "\"\"");
    let create = names.text(CREATE_COUNT);
    let mut sql = format!("BEGIN;\nCREATE SCHEMA IF NOT EXISTS \"{schema}\";\n{create};\n");
    for migration in pending(&POSTGRES, applied, names) {
        sql += &migration;
        sql += ";\n";
    }
    sql + &format!(
        "-- What the relay needs, if its role is not the owner.\n\
         GRANT USAGE ON SCHEMA \"{schema}\" TO \"{role}\";\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"{schema}\" TO \"{role}\";\n\
         COMMIT;\n"
    )
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
    connection: &mut PostgresConnection,
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
    connection: &mut PostgresConnection,
    names: &Names,
) -> Result<Existence, StoreError> {
    let schema = names.schema();
    let query = sql_query(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS schema, \
         EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                 WHERE nspname = $1 AND relname = 'migrations') AS migrations",
    );
    Ok(query.bind::<Text, _>(schema).get_result(connection).await?)
}

async fn migrate_postgres(
    connection: &mut PostgresConnection,
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
