//! Adopts a table `jobs` that the pipeline has made: adds the columns that the relay needs, and changes no other.

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{QueryableByName, SqliteConnection, sql_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use super::connect::PostgresConnection;
use super::database::{Pools, StoreError, with_connection};

/// The type of the column `id` of the table `jobs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdKind {
    /// Numbers, which the database generates.
    Integer,
    /// UUIDs.
    Uuid,
    /// Texts: the id of a new row is that of its job.
    Text,
}

#[derive(Debug, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

const POSTGRES_COLUMNS: &str = "SELECT column_name::text AS name, data_type::text AS kind \
    FROM information_schema.columns \
    WHERE table_schema = current_schema() AND table_name = 'jobs'";

const SQLITE_COLUMNS: &str = "SELECT name, lower(type) AS kind FROM pragma_table_info('jobs')";

/// The columns that the relay needs: name, type in PostgreSQL, type in SQLite.
static NEEDED: [(&str, &str, &str); 12] = [
    ("job_key", "TEXT", "TEXT"),
    ("prompt_id", "TEXT", "TEXT"),
    ("backend", "TEXT", "TEXT"),
    ("job_type", "TEXT", "TEXT"),
    ("status", "TEXT", "TEXT"),
    ("output_path", "TEXT", "TEXT"),
    ("error_message", "TEXT", "TEXT"),
    ("metadata", "JSONB DEFAULT '{}'", "TEXT DEFAULT '{}'"),
    ("created_at", "TIMESTAMPTZ", "TEXT"),
    ("started_at", "TIMESTAMPTZ", "TEXT"),
    ("completed_at", "TIMESTAMPTZ", "TEXT"),
    (
        "relay_made",
        "BOOLEAN NOT NULL DEFAULT false",
        "BOOLEAN NOT NULL DEFAULT false",
    ),
];

/// Adds the columns that an existing table lacks. Changes and drops none.
pub(super) async fn adopt_in_postgres(
    connection: &mut PostgresConnection,
) -> Result<(), StoreError> {
    let columns: Vec<Column> = sql_query(POSTGRES_COLUMNS).load(connection).await?;
    for (name, kind, _) in missing(&columns) {
        let sql = format!("ALTER TABLE jobs ADD COLUMN {name} {kind}");
        connection.batch_execute(&sql).await?;
        tracing::info!(column = name, "added a column to the existing table jobs");
    }
    Ok(())
}

/// The same as SQL, for whatever columns the table lacks.
pub(super) fn postgres_sql() -> String {
    let add = |(name, kind, _): &(&str, &str, &str)| {
        format!("ALTER TABLE IF EXISTS jobs ADD COLUMN IF NOT EXISTS {name} {kind};\n")
    };
    NEEDED.iter().map(add).collect()
}

/// The same for SQLite, whose calls block.
pub(super) fn adopt_in_sqlite(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let columns: Vec<Column> = diesel::RunQueryDsl::load(sql_query(SQLITE_COLUMNS), connection)?;
    for (name, _, kind) in missing(&columns) {
        let sql = format!("ALTER TABLE jobs ADD COLUMN {name} {kind}");
        connection.batch_execute(&sql)?;
        tracing::info!(column = name, "added a column to the existing table jobs");
    }
    Ok(())
}

/// The columns that a table lacks; none if there is no table.
fn missing(
    columns: &[Column],
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    NEEDED.iter().filter(|(needed, ..)| {
        !columns.is_empty() && columns.iter().all(|column| column.name != *needed)
    })
}

/// The type of the table's ids.
pub(super) async fn id_kind(pools: &Pools) -> Result<IdKind, StoreError> {
    let columns = columns(pools).await?;
    let id = columns.iter().find(|column| column.name == "id");
    Ok(match id.map(|column| column.kind.as_str()) {
        Some("uuid") => IdKind::Uuid,
        Some(kind) if kind.contains("char") || kind.contains("text") => IdKind::Text,
        _ => IdKind::Integer,
    })
}

async fn columns(pools: &Pools) -> Result<Vec<Column>, StoreError> {
    let sql = match pools {
        Pools::Postgres(_) => POSTGRES_COLUMNS,
        Pools::Sqlite(_) => SQLITE_COLUMNS,
    };
    Ok(with_connection!(pools, connection => sql_query(sql).load(connection).await?))
}
