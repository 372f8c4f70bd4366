//! Copies what an earlier release kept outside of the relay's own tables: its rows in the table `jobs`, which may be the
//! pipeline's, and the tables `node_runs` and `backends` beside it. They stay as they are.
//!
//! Rows are copied in batches, and the position is stored with each, so that a start that is interrupted goes on there.
//! The statements are SQL text: the columns of those tables depend on the release and on the pipeline.

use std::sync::atomic::Ordering;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Store;
use super::database::{Pools, StoreError, with_connection};
use super::rows::{JobRow, batch, timestamp};
use super::schema::imports;
use crate::job::{Output, Status};

/// How many rows one transaction copies.
const BATCH: i64 = 5_000;

/// The columns of `node_runs` in the first release, and those that later ones added.
const RUN_COLUMNS: [&str; 9] = [
    "job_key",
    "backend",
    "node",
    "class",
    "signature",
    "started_at",
    "seconds",
    "steps",
    "cached",
];
const LATER_RUN_COLUMNS: [&str; 7] = [
    "units",
    "planned_steps",
    "cold",
    "tick",
    "ticks",
    "calls",
    "models",
];

/// The released tables that the session finds, and their columns. A table `jobs` without the mark of the relay's own
/// migrations is the pipeline's, whatever its columns are called.
const POSTGRES_TABLES: &str = "SELECT relname::text AS name, format('%I.%I', nspname, relname) AS qualified, \
    string_agg(attname, ',' ORDER BY attnum) AS columns \
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
    JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped \
    WHERE pg_class.oid IN (to_regclass('jobs'), to_regclass('node_runs'), to_regclass('backends')) \
    AND to_regclass('__diesel_schema_migrations') IS NOT NULL \
    GROUP BY relname, nspname";

const SQLITE_TABLES: &str = "SELECT name, name AS qualified, \
    (SELECT group_concat(name) FROM pragma_table_info(tables.name)) AS columns \
    FROM sqlite_master AS tables WHERE type = 'table' AND name IN ('jobs', 'node_runs', 'backends') \
    AND EXISTS (SELECT 1 FROM sqlite_master WHERE name = '__diesel_schema_migrations')";

#[derive(Debug, QueryableByName)]
struct ReleasedTable {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    qualified: String,
    #[diesel(sql_type = Text)]
    columns: String,
}

#[derive(Debug, QueryableByName)]
struct ReleasedJob {
    #[diesel(sql_type = Text)]
    job_key: String,
    #[diesel(sql_type = Nullable<Text>)]
    prompt_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    backend: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    output_path: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    metadata: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    created_ms: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    started_ms: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    completed_ms: Option<i64>,
}

#[derive(Debug, QueryableByName)]
struct LastRun {
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
}

/// The keys of the relay in the metadata of a released row.
#[derive(Debug, PartialEq, Default)]
struct ReleasedMetadata {
    progress: u8,
    estimated_remaining: Option<i64>,
    last_updated: Option<Timestamp>,
    outputs: Vec<Output>,
    relay: RelayKeys,
}

#[derive(Debug, PartialEq, Default, Deserialize)]
#[serde(default)]
struct RelayKeys {
    seq: u64,
    error_code: Option<String>,
    message: Option<String>,
    learned_from: Option<String>,
}

/// Copies one table: repeats a transaction that gets the stored position and returns the next one, until there is none.
/// Other relays wait for the row of the position, and find it moved on.
macro_rules! copy_batches {
    ($store:expr, $source:literal, |$connection:ident, $position:ident| $copy:expr) => {
        loop {
            let is_complete = with_connection!($store, writes, |connection, names| {
                connection
                    .transaction(async |connection| {
                        let begin = diesel::insert_into(imports::table)
                            .values((
                                imports::source.eq($source),
                                imports::position.eq(""),
                                imports::is_complete.eq(false),
                            ))
                            .on_conflict(imports::source)
                            .do_update()
                            .set(imports::source.eq($source));
                        names.statement(&begin)?.execute(connection).await?;
                        let stored = imports::table
                            .filter(imports::source.eq($source))
                            .select((imports::position, imports::is_complete));
                        let ($position, is_complete): (String, bool) =
                            names.query(stored)?.get_result(connection).await?;
                        if is_complete {
                            return Ok::<bool, StoreError>(true);
                        }
                        let next: Option<String> = {
                            let $connection = &mut *connection;
                            $copy
                        };
                        let row = imports::table.filter(imports::source.eq($source));
                        match &next {
                            Some(position) => {
                                let advance = diesel::update(row);
                                let advance = advance.set(imports::position.eq(position));
                                names.statement(&advance)?.execute(connection).await?;
                            }
                            None => {
                                let end = diesel::update(row).set(imports::is_complete.eq(true));
                                names.statement(&end)?.execute(connection).await?;
                            }
                        }
                        Ok(next.is_none())
                    })
                    .await?
            });
            if is_complete {
                break;
            }
        }
    };
}

impl Store {
    /// Copies the rows of an earlier release, unless that is done.
    pub(super) async fn copy_released(&self) -> Result<(), StoreError> {
        let tables = self.released_tables().await?;
        let find = |name: &str| tables.iter().find(|table| table.name == name);
        let (Some(jobs), Some(runs), Some(backends)) =
            (find("jobs"), find("node_runs"), find("backends"))
        else {
            return Ok(());
        };
        let is_ours = jobs.has("job_key")
            && jobs.has("relay_made")
            && RUN_COLUMNS.iter().all(|column| runs.has(column))
            && backends.has("client_id");
        if !is_ours {
            return Ok(());
        }
        self.copying.store(true, Ordering::Relaxed);
        // The client ids first, because nothing else finds the prompts in flight.
        self.copy_backends(backends).await?;
        self.copy_jobs(jobs).await?;
        self.copy_runs(runs).await?;
        self.copying.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn released_tables(&self) -> Result<Vec<ReleasedTable>, StoreError> {
        let sql = match self.pools.writes {
            Pools::Postgres(_) => POSTGRES_TABLES,
            Pools::Sqlite(_) => SQLITE_TABLES,
        };
        Ok(with_connection!(self, writes, |connection, _names| {
            sql_query(sql).load(connection).await?
        }))
    }

    async fn copy_backends(&self, table: &ReleasedTable) -> Result<(), StoreError> {
        let from = &table.qualified;
        let backends = self.names.text(&format!(
            "INSERT INTO comfy_relay.backends (name, url, client_id) SELECT name, url, client_id FROM {from} \
             WHERE true ON CONFLICT (name) DO NOTHING"
        ));
        // The third release had leases.
        let leases = table.has("holder").then(|| {
            self.names.text(&format!(
                "INSERT INTO comfy_relay.leases (backend, holder, held_until) SELECT name, holder, held_until \
                 FROM {from} WHERE holder IS NOT NULL AND held_until IS NOT NULL \
                 ON CONFLICT (backend) DO NOTHING"
            ))
        });
        copy_batches!(self, "backends", |connection, _position| {
            sql_query(&backends).execute(connection).await?;
            if let Some(leases) = &leases {
                sql_query(leases).execute(connection).await?;
            }
            None
        });
        Ok(())
    }

    async fn copy_jobs(&self, table: &ReleasedTable) -> Result<(), StoreError> {
        let from = &table.qualified;
        let (ms, text) = match self.pools.writes {
            Pools::Postgres(_) => (
                "CASE WHEN isfinite({}) THEN round(extract(epoch FROM {}) * 1000)::bigint END",
                "text",
            ),
            Pools::Sqlite(_) => (
                "CAST(round(unixepoch({}, 'subsec') * 1000) AS BIGINT)",
                "TEXT",
            ),
        };
        let ms = |column: &str| ms.replace("{}", column);
        let (created, started, completed) =
            (ms("created_at"), ms("started_at"), ms("completed_at"));
        let select = format!(
            "SELECT job_key, CAST(prompt_id AS {text}) AS prompt_id, CAST(backend AS {text}) AS backend, \
             CAST(status AS {text}) AS status, CAST(output_path AS {text}) AS output_path, \
             CAST(error_message AS {text}) AS error_message, CAST(metadata AS {text}) AS metadata, \
             {created} AS created_ms, {started} AS started_ms, {completed} AS completed_ms \
             FROM {from} WHERE job_key > $1 ORDER BY job_key LIMIT {BATCH}"
        );
        copy_batches!(self, "jobs", |connection, position| {
            let rows: Vec<ReleasedJob> = sql_query(&select)
                .bind::<Text, _>(&position)
                .load(connection)
                .await?;
            let read: Vec<ReleasedMetadata> = rows.iter().map(ReleasedJob::metadata).collect();
            let jobs = rows.iter().zip(&read);
            let jobs: Vec<JobRow<'_>> = jobs.filter_map(|(job, keys)| job.row(keys)).collect();
            sql_query(&self.statements.insert)
                .bind::<Text, _>(batch(&jobs)?)
                .execute(connection)
                .await?;
            rows.last().map(|row| row.job_key.clone())
        });
        tracing::info!("copied the jobs of an earlier release into the relay's own tables");
        Ok(())
    }

    async fn copy_runs(&self, table: &ReleasedTable) -> Result<(), StoreError> {
        let from = &table.qualified;
        let later = LATER_RUN_COLUMNS.iter().filter(|column| table.has(column));
        let columns: Vec<&str> = RUN_COLUMNS.iter().chain(later).copied().collect();
        let columns = columns.join(", ");
        let last = format!(
            "SELECT max(id) AS id FROM \
             (SELECT id FROM {from} WHERE id > $1 ORDER BY id LIMIT {BATCH}) AS next"
        );
        let insert = self.names.text(&format!(
            "INSERT INTO comfy_relay.node_runs ({columns}) SELECT {columns} FROM {from} \
             WHERE id > $1 AND id <= $2 ORDER BY id ON CONFLICT (job_key, node) DO NOTHING"
        ));
        copy_batches!(self, "node_runs", |connection, position| {
            let position: i64 = position.parse().unwrap_or(i64::MIN);
            let last: LastRun = sql_query(&last)
                .bind::<BigInt, _>(position)
                .get_result(connection)
                .await?;
            if let Some(last) = last.id {
                sql_query(&insert)
                    .bind::<BigInt, _>(position)
                    .bind::<BigInt, _>(last)
                    .execute(connection)
                    .await?;
            }
            last.id.map(|id| id.to_string())
        });
        Ok(())
    }
}

impl ReleasedTable {
    fn has(&self, column: &str) -> bool {
        self.columns.split(',').any(|name| name == column)
    }
}

impl ReleasedJob {
    /// Reads the metadata key by key: a value of an unknown shape, written by another program, makes no other key
    /// unreadable.
    fn metadata(&self) -> ReleasedMetadata {
        fn take<T: Default + DeserializeOwned>(keys: &mut Map<String, Value>, key: &str) -> T {
            let value = keys.remove(key).map(serde_json::from_value);
            value.and_then(Result::ok).unwrap_or_default()
        }
        let text = self.metadata.as_deref().unwrap_or_default();
        let mut keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        let progress: f64 = take(&mut keys, "progress");
        ReleasedMetadata {
            progress: progress.clamp(0.0, 100.0) as u8,
            estimated_remaining: take(&mut keys, "estimated_remaining"),
            last_updated: take(&mut keys, "last_updated"),
            outputs: take(&mut keys, "outputs"),
            relay: take(&mut keys, "relay"),
        }
    }

    /// `None` for a status that no relay writes: no release listed such a row.
    fn row<'a>(&'a self, keys: &'a ReleasedMetadata) -> Option<JobRow<'a>> {
        let at = |ms: Option<i64>| ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let status = Status::from_word(self.status.as_deref()?)?;
        let created_at = at(self.created_ms).unwrap_or_default();
        let completed_at = at(self.completed_ms);
        Some(JobRow {
            job_key: &self.job_key,
            prompt_id: self.prompt_id.as_deref(),
            backend: self.backend.as_deref(),
            status,
            progress: keys.progress,
            estimated_remaining: keys.estimated_remaining,
            message: keys.relay.message.as_deref(),
            output_path: self.output_path.as_deref(),
            error_message: self.error_message.as_deref(),
            error_code: keys.relay.error_code.as_deref(),
            learned_from: keys.relay.learned_from.as_deref(),
            seq: keys.relay.seq.try_into().unwrap_or(i64::MAX),
            outputs: &keys.outputs,
            created_at: timestamp(created_at),
            started_at: at(self.started_ms).map(timestamp),
            completed_at: completed_at.map(timestamp),
            last_updated: timestamp(keys.last_updated.or(completed_at).unwrap_or(created_at)),
            // Its end lies in the pipeline's table already.
            mirror_due: false,
            owner: None,
            epoch: 0,
            labels: None,
            job_group: None,
            workflow: None,
            cancelling: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_program_hides_no_other() {
        let job = |metadata: &str| ReleasedJob {
            job_key: "1".into(),
            prompt_id: None,
            backend: None,
            status: None,
            output_path: None,
            error_message: None,
            metadata: Some(metadata.into()),
            created_ms: None,
            started_ms: None,
            completed_ms: None,
        };
        let text = r#"{"progress": 45.5, "outputs": "x.png", "relay": {"seq": 7}, "scene": 3}"#;
        let metadata = job(text).metadata();
        assert_eq!((metadata.progress, metadata.relay.seq), (45, 7));
        assert_eq!(metadata.outputs, []);
        assert_eq!(job("[1]").metadata(), ReleasedMetadata::default());
    }
}
