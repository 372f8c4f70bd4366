//! The queries on the table `jobs`.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{Pools, StoreError, in_time, with_connection};
use super::rows::{JobMetadata, timestamp};
use crate::job::{JobId, Status, StoredJob};

/// Which jobs a list contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    /// Only those in one of these statuses; empty for all.
    pub statuses: Vec<Status>,
    /// Only those of this backend.
    pub backend: Option<String>,
    /// Only those registered at this time or later.
    pub since: Option<Timestamp>,
    /// Only those registered before this time.
    pub until: Option<Timestamp>,
    /// Only those with one of these ids; `None` for all.
    pub only: Option<Vec<JobId>>,
    /// Only those that follow this position in the list.
    pub after: Option<Cursor>,
}

/// A position in the list of jobs, which is sorted by the time of registration, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// When the job was registered.
    pub created_at: Timestamp,
    /// Its id.
    pub job_id: JobId,
}

#[derive(Debug, QueryableByName)]
struct StoredJobRow {
    #[diesel(sql_type = Text)]
    job_key: String,
    #[diesel(sql_type = Nullable<Text>)]
    prompt_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    backend: Option<String>,
    #[diesel(sql_type = Text)]
    status: String,
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
struct StatusCountRow {
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// The SQL in which the two databases differ.
struct Dialect {
    /// The columns of a [`StoredJobRow`].
    columns: &'static str,
    /// The type as which timestamps are compared.
    timestamp: &'static str,
    /// The condition that a key is one of the comma-separated ids in `$4`.
    one_of: &'static str,
}

const POSTGRES: Dialect = Dialect {
    columns: "job_key, prompt_id, backend, status::text AS status, output_path::text AS output_path, \
              error_message::text AS error_message, metadata::text AS metadata, \
              round(extract(epoch FROM created_at) * 1000)::bigint AS created_ms, \
              round(extract(epoch FROM started_at) * 1000)::bigint AS started_ms, \
              round(extract(epoch FROM completed_at) * 1000)::bigint AS completed_ms",
    timestamp: "timestamptz",
    one_of: "= ANY (string_to_array(CAST($4 AS text), ','))",
};

const SQLITE: Dialect = Dialect {
    columns: "job_key, prompt_id, backend, status, output_path, error_message, metadata, \
              CAST(round(unixepoch(created_at, 'subsec') * 1000) AS BIGINT) AS created_ms, \
              CAST(round(unixepoch(started_at, 'subsec') * 1000) AS BIGINT) AS started_ms, \
              CAST(round(unixepoch(completed_at, 'subsec') * 1000) AS BIGINT) AS completed_ms",
    timestamp: "text",
    one_of: r#"IN (SELECT value FROM json_each('["' || replace($4, ',', '","') || '"]'))"#,
};

impl Store {
    fn dialect(&self) -> Dialect {
        match self.pools {
            Pools::Postgres(_) => POSTGRES,
            Pools::Sqlite(_) => SQLITE,
        }
    }

    /// The job with this id; `None` if there is none.
    pub async fn job(&self, id: &JobId) -> Result<Option<StoredJob>, StoreError> {
        let sql = format!(
            "SELECT {} FROM jobs WHERE job_key = $1",
            self.dialect().columns
        );
        let query = sql_query(sql).bind::<Text, _>(id.as_str());
        let rows: Vec<StoredJobRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.load(connection).await?))
        })
        .await?;
        Ok(rows.into_iter().find_map(StoredJobRow::read))
    }

    /// All jobs that have not ended.
    pub async fn open_jobs(&self) -> Result<Vec<StoredJob>, StoreError> {
        let columns = self.dialect().columns;
        let query = sql_query(format!(
            "SELECT {columns} FROM jobs WHERE job_key IS NOT NULL AND status IN ('queued', 'processing')"
        ));
        let rows: Vec<StoredJobRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.load(connection).await?))
        })
        .await?;
        Ok(rows.into_iter().filter_map(StoredJobRow::read).collect())
    }

    /// At most `limit` jobs, the newest first.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: usize,
    ) -> Result<Vec<StoredJob>, StoreError> {
        let Dialect {
            columns,
            timestamp: ts,
            one_of,
        } = self.dialect();
        // Timestamps that the pipeline wrote may be finer than the milliseconds of a cursor: those of the row
        // itself are compared, as long as it exists.
        let position = format!(
            "COALESCE((SELECT last.created_at FROM jobs AS last WHERE last.job_key = $6), CAST($5 AS {ts}))"
        );
        let statuses = match &*filter.statuses {
            [] => &Status::ALL,
            statuses => statuses,
        };
        let statuses: Vec<String> = statuses
            .iter()
            .map(|status| format!("'{}'", status.as_str()))
            .collect();
        let statuses = statuses.join(", ");
        // SQLite numbers parameters in the order of their first use.
        let sql = format!(
            "SELECT {columns} FROM jobs WHERE job_key IS NOT NULL AND status IN ({statuses}) \
             AND (CAST($1 AS text) IS NULL OR backend = $1) \
             AND (CAST($2 AS {ts}) IS NULL OR created_at >= CAST($2 AS {ts})) \
             AND (CAST($3 AS {ts}) IS NULL OR created_at < CAST($3 AS {ts})) \
             AND (CAST($4 AS text) IS NULL OR job_key {one_of}) \
             AND (CAST($5 AS {ts}) IS NULL OR created_at < {position} \
                  OR (created_at = {position} AND job_key < $6)) \
             ORDER BY created_at DESC, job_key DESC LIMIT $7"
        )
        .replace("$2", "CAST($2 AS text)")
        .replace("$3", "CAST($3 AS text)")
        .replace("$5", "CAST($5 AS text)");
        let only = filter.only.as_ref().map(|ids| {
            let ids: Vec<&str> = ids.iter().map(JobId::as_str).collect();
            ids.join(",")
        });
        let after = filter.after.as_ref();
        let query = sql_query(sql)
            .bind::<Nullable<Text>, _>(filter.backend.as_deref())
            .bind::<Nullable<Text>, _>(filter.since.map(timestamp))
            .bind::<Nullable<Text>, _>(filter.until.map(timestamp))
            .bind::<Nullable<Text>, _>(only)
            .bind::<Nullable<Text>, _>(after.map(|cursor| timestamp(cursor.created_at)))
            .bind::<Nullable<Text>, _>(after.map(|cursor| cursor.job_id.as_str()))
            .bind::<BigInt, _>(limit as i64);
        let rows: Vec<StoredJobRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.load(connection).await?))
        })
        .await?;
        Ok(rows.into_iter().filter_map(StoredJobRow::read).collect())
    }

    /// How many jobs have ended, by status.
    pub async fn count_ended(&self) -> Result<Vec<(Status, usize)>, StoreError> {
        let query = sql_query(
            "SELECT CAST(status AS text) AS status, count(*) AS count FROM jobs WHERE job_key IS NOT NULL \
             AND status IN ('completed', 'failed', 'cancelled') GROUP BY status",
        );
        let rows: Vec<StatusCountRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.load(connection).await?))
        })
        .await?;
        let counts = rows.into_iter().filter_map(|row| {
            let count = usize::try_from(row.count).ok()?;
            Some((Status::from_word(&row.status)?, count))
        });
        Ok(counts.collect())
    }

    /// Deletes the jobs that ended and the node runs that began before a time, but never rows that the pipeline made.
    /// Returns the number of deleted jobs.
    pub async fn delete_before(&self, before: Timestamp) -> Result<usize, StoreError> {
        let ts = self.dialect().timestamp;
        let before = timestamp(before);
        let runs =
            format!("DELETE FROM node_runs WHERE started_at < CAST(CAST($1 AS text) AS {ts})");
        let jobs = format!(
            "DELETE FROM jobs WHERE relay_made AND completed_at < CAST(CAST($1 AS text) AS {ts})"
        );
        in_time(async {
            with_connection!(&self.pools, connection => {
                sql_query(runs).bind::<Text, _>(&before).execute(connection).await?;
                Ok(sql_query(jobs).bind::<Text, _>(&before).execute(connection).await?)
            })
        })
        .await
    }
}

impl StoredJobRow {
    /// `None` for a row whose key or status, written by another program, is not valid here.
    fn read(self) -> Option<StoredJob> {
        let at = |ms: Option<i64>| ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let metadata = self
            .metadata
            .as_deref()
            .map(JobMetadata::read)
            .unwrap_or_default();
        let relay = metadata.relay;
        Some(StoredJob {
            id: JobId::parse(&self.job_key).ok()?,
            prompt_id: self.prompt_id,
            backend: self.backend,
            status: Status::from_word(&self.status)?,
            progress: metadata.progress.min(100),
            seq: relay.seq,
            message: relay.message,
            outputs: metadata.outputs,
            output_path: self.output_path,
            error: self
                .error_message
                .map(|message| (relay.error_code, message)),
            end_source: relay.learned_from,
            created_at: at(self.created_ms).unwrap_or_default(),
            started_at: at(self.started_ms),
            ended_at: at(self.completed_ms),
        })
    }
}
