//! The queries that read the table `jobs`, which may be the pipeline's own.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{Pools, StoreError, in_time, with_connection};
use super::rows::{JobMetadata, moment};
use crate::job::{JobId, Status, StoredJob};

/// Which jobs a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    /// Only those in this status.
    pub status: Option<Status>,
    /// Only those of this server.
    pub backend: Option<String>,
    /// Only those registered at this moment or later.
    pub since: Option<Timestamp>,
    /// Only those registered before this moment.
    pub until: Option<Timestamp>,
    /// Only those with one of these ids; `None` for all.
    pub only: Option<Vec<JobId>>,
    /// Only those that come after this one in the list.
    pub after: Option<Cursor>,
}

/// A place in the list of jobs, which is ordered by registration, the newest first.
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

/// Where the two databases differ: how a row is read, as what a moment is compared, and what follows a key
/// that is to be one of the ids in `$5`, which have commas between them.
struct Dialect {
    columns: &'static str,
    moment: &'static str,
    one_of: &'static str,
}

const POSTGRES: Dialect = Dialect {
    columns: "job_key, prompt_id, backend, status::text AS status, output_path::text AS output_path, \
              error_message::text AS error_message, metadata::text AS metadata, \
              round(extract(epoch FROM created_at) * 1000)::bigint AS created_ms, \
              round(extract(epoch FROM started_at) * 1000)::bigint AS started_ms, \
              round(extract(epoch FROM completed_at) * 1000)::bigint AS completed_ms",
    moment: "timestamptz",
    one_of: "= ANY (string_to_array(CAST($5 AS text), ','))",
};

const SQLITE: Dialect = Dialect {
    columns: "job_key, prompt_id, backend, status, output_path, error_message, metadata, \
              CAST(round(unixepoch(created_at, 'subsec') * 1000) AS BIGINT) AS created_ms, \
              CAST(round(unixepoch(started_at, 'subsec') * 1000) AS BIGINT) AS started_ms, \
              CAST(round(unixepoch(completed_at, 'subsec') * 1000) AS BIGINT) AS completed_ms",
    moment: "text",
    one_of: r#"IN (SELECT value FROM json_each('["' || replace($5, ',', '","') || '"]'))"#,
};

impl Store {
    fn dialect(&self) -> Dialect {
        match self.pools {
            Pools::Postgres(_) => POSTGRES,
            Pools::Sqlite(_) => SQLITE,
        }
    }

    /// The job with this id.
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

    /// Every job of the relay that has not ended.
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
            moment: ts,
            one_of,
        } = self.dialect();
        // Somebody else's moments may be finer than a cursor: the row itself knows, while it is there.
        let place = format!(
            "COALESCE((SELECT last.created_at FROM jobs AS last WHERE last.job_key = $7), CAST($6 AS {ts}))"
        );
        let words = Status::ALL.map(|status| format!("'{}'", status.as_str()));
        let words = words.join(", ");
        // Parameters are numbered in the order of their first use, as SQLite wants them.
        let sql = format!(
            "SELECT {columns} FROM jobs WHERE job_key IS NOT NULL AND status IN ({words}) \
             AND (CAST($1 AS text) IS NULL OR status = $1) \
             AND (CAST($2 AS text) IS NULL OR backend = $2) \
             AND (CAST($3 AS {ts}) IS NULL OR created_at >= CAST($3 AS {ts})) \
             AND (CAST($4 AS {ts}) IS NULL OR created_at < CAST($4 AS {ts})) \
             AND (CAST($5 AS text) IS NULL OR job_key {one_of}) \
             AND (CAST($6 AS {ts}) IS NULL OR created_at < {place} \
                  OR (created_at = {place} AND job_key < $7)) \
             ORDER BY created_at DESC, job_key DESC LIMIT $8"
        )
        .replace("$3", "CAST($3 AS text)")
        .replace("$4", "CAST($4 AS text)")
        .replace("$6", "CAST($6 AS text)");
        let only = filter.only.as_ref().map(|ids| {
            let ids: Vec<&str> = ids.iter().map(JobId::as_str).collect();
            ids.join(",")
        });
        let after = filter.after.as_ref();
        let query = sql_query(sql)
            .bind::<Nullable<Text>, _>(filter.status.map(Status::as_str))
            .bind::<Nullable<Text>, _>(filter.backend.as_deref())
            .bind::<Nullable<Text>, _>(filter.since.map(moment))
            .bind::<Nullable<Text>, _>(filter.until.map(moment))
            .bind::<Nullable<Text>, _>(only)
            .bind::<Nullable<Text>, _>(after.map(|cursor| moment(cursor.created_at)))
            .bind::<Nullable<Text>, _>(after.map(|cursor| cursor.job_id.as_str()))
            .bind::<BigInt, _>(limit as i64);
        let rows: Vec<StoredJobRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.load(connection).await?))
        })
        .await?;
        Ok(rows.into_iter().filter_map(StoredJobRow::read).collect())
    }

    /// Deletes what ended, or ran, before a moment: jobs that the relay made, never adopted rows, and
    /// node runs. Says how many jobs that were.
    pub async fn delete_before(&self, before: Timestamp) -> Result<usize, StoreError> {
        let ts = self.dialect().moment;
        let before = moment(before);
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
    /// `None` for a row that somebody else has given a key or a status that are none of ours.
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
