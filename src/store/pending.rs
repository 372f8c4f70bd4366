//! Migrations that a PostgreSQL database lacks: whether there are any, whether the role may apply them, and their SQL
//! for one that may.

use std::fmt::Write as _;

use diesel::sql_types::{Bool, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;

use super::adoption;
use super::connect::PostgresConnection;
use super::database::StoreError;

/// The migrations: version and SQL.
static MIGRATIONS: [(&str, &str); 4] = [
    (
        "20261123000001",
        include_str!("../../migrations/postgres/2026-11-23-000001_jobs/up.sql"),
    ),
    (
        "20261125000001",
        include_str!("../../migrations/postgres/2026-11-25-000001_node_costs/up.sql"),
    ),
    (
        "20261125000011",
        include_str!("../../migrations/postgres/2026-11-25-000011_leases/up.sql"),
    ),
    (
        "20261128000001",
        include_str!("../../migrations/postgres/2026-11-28-000001_node_calls/up.sql"),
    ),
];

/// Whether the role may create tables where the relay's tables go.
const MAY_CREATE: &str =
    "SELECT COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false) AS flag";

const IS_COUNTED: &str = "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS flag";

const COUNTED: &str = "SELECT version::text AS version FROM __diesel_schema_migrations";

const CREATE_COUNT: &str = "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations \
    (version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);\n";

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    flag: bool,
}

#[derive(QueryableByName)]
struct AppliedVersion {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Migrations that are not applied, in their order.
pub(super) struct PendingMigrations(Vec<&'static (&'static str, &'static str)>);

impl PendingMigrations {
    /// All migrations.
    pub(super) fn all() -> Self {
        Self(MIGRATIONS.iter().collect())
    }

    /// Those that a database lacks. Changes nothing in it.
    pub(super) async fn of(connection: &mut PostgresConnection) -> Result<Self, StoreError> {
        if !flag(connection, IS_COUNTED).await? {
            return Ok(Self::all());
        }
        let applied: Vec<AppliedVersion> = sql_query(COUNTED).load(connection).await?;
        let is_applied = |version: &str| applied.iter().any(|row| row.version == version);
        let pending = MIGRATIONS
            .iter()
            .filter(|(version, _)| !is_applied(version));
        Ok(Self(pending.collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The SQL that applies them, in one transaction. Then `role` may use the tables.
    pub(super) fn sql(&self, role: &str) -> String {
        let mut sql = "BEGIN;\n".to_owned();
        sql += &adoption::postgres_sql();
        sql += CREATE_COUNT;
        for (version, migration) in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(
                sql,
                "{}\nINSERT INTO __diesel_schema_migrations (version) VALUES ('{version}');",
                migration.trim_end()
            );
        }
        let role = role.replace('"', "\"\"");
        let _ = writeln!(
            sql,
            "-- What the relay needs, if its role is not the owner.\n\
             GRANT SELECT, INSERT, UPDATE, DELETE ON jobs, node_runs, backends TO \"{role}\";\n\
             GRANT SELECT ON __diesel_schema_migrations TO \"{role}\";\n\
             DO $$ BEGIN EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO %I', current_schema(), \
             '{}'); END $$;\nCOMMIT;",
            role.replace('\'', "''")
        );
        sql
    }
}

/// Whether the role may apply migrations.
pub(super) async fn may_create(connection: &mut PostgresConnection) -> Result<bool, StoreError> {
    flag(connection, MAY_CREATE).await
}

async fn flag(connection: &mut PostgresConnection, sql: &str) -> Result<bool, StoreError> {
    let row: Flag = sql_query(sql).get_result(connection).await?;
    Ok(row.flag)
}
