//! The pipeline's own table `jobs`, where there is one: it is adopted, not replaced.

use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use super::database::{Connections, StoreError, with_connection};

/// What the ids of the table `jobs` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdKind {
    /// Numbers, which the database makes.
    Integer,
    /// UUIDs.
    Uuid,
    /// Texts: a new row's id is the job's.
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
const NEEDED: [(&str, &str, &str); 12] = [
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

/// Adds the columns that an existing table lacks. Changes none, and drops none.
pub(super) async fn adopt(connections: &Connections) -> Result<(), StoreError> {
    let columns = columns(connections).await?;
    if columns.is_empty() {
        return Ok(());
    }
    let is_postgres = matches!(connections, Connections::Postgres(_));
    for (name, in_postgres, in_sqlite) in NEEDED {
        if columns.iter().any(|column| column.name == name) {
            continue;
        }
        let kind = if is_postgres { in_postgres } else { in_sqlite };
        let sql = format!("ALTER TABLE jobs ADD COLUMN {name} {kind}");
        with_connection!(connections, connection => connection.batch_execute(&sql).await?);
        tracing::info!(column = name, "the existing table jobs has got a column");
    }
    Ok(())
}

/// What the ids of the table are.
pub(super) async fn id_kind(connections: &Connections) -> Result<IdKind, StoreError> {
    let columns = columns(connections).await?;
    let id = columns.iter().find(|column| column.name == "id");
    Ok(match id.map(|column| column.kind.as_str()) {
        Some("uuid") => IdKind::Uuid,
        Some(kind) if kind.contains("char") || kind.contains("text") => IdKind::Text,
        _ => IdKind::Integer,
    })
}

async fn columns(connections: &Connections) -> Result<Vec<Column>, StoreError> {
    let sql = match connections {
        Connections::Postgres(_) => POSTGRES_COLUMNS,
        Connections::Sqlite(_) => SQLITE_COLUMNS,
    };
    Ok(with_connection!(connections, connection => sql_query(sql).load(connection).await?))
}
