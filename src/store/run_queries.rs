//! The queries on the table `node_runs`.

use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{Pools, StoreError, in_time, with_connection};
use super::rows::{NodeCostRecord, NodeRunRecord, timestamp};
use crate::job::JobId;

/// A stored run of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    /// Its job's id.
    pub job_key: String,
    /// Whether its job completed; `false` if the job is not stored any more.
    pub is_completed: bool,
    /// The run.
    pub run: NodeRunRecord,
}

#[derive(Debug, QueryableByName)]
struct StoredRunRow {
    #[diesel(sql_type = Text)]
    job_key: String,
    #[diesel(sql_type = Bool)]
    is_completed: bool,
    #[diesel(sql_type = Text)]
    node: String,
    #[diesel(sql_type = Nullable<Text>)]
    class: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    signature: Option<String>,
    #[diesel(sql_type = BigInt)]
    started_ms: i64,
    #[diesel(sql_type = Double)]
    seconds: f64,
    #[diesel(sql_type = Nullable<BigInt>)]
    steps: Option<i64>,
    #[diesel(sql_type = Bool)]
    cached: bool,
    #[diesel(sql_type = Nullable<Double>)]
    units: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    calls: Option<f64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    models: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    planned_steps: Option<i64>,
    #[diesel(sql_type = Nullable<Bool>)]
    cold: Option<bool>,
    #[diesel(sql_type = Nullable<Double>)]
    tick: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    ticks: Option<f64>,
}

/// The SQL in which the two databases differ.
struct RunDialect {
    /// The type as which timestamps are compared.
    timestamp: &'static str,
    /// The start in milliseconds since 1970.
    started_ms: &'static str,
}

const POSTGRES: RunDialect = RunDialect {
    timestamp: "timestamptz",
    started_ms: "round(extract(epoch FROM newest.started_at) * 1000)::bigint",
};

const SQLITE: RunDialect = RunDialect {
    timestamp: "text",
    started_ms: "CAST(round(unixepoch(newest.started_at, 'subsec') * 1000) AS BIGINT)",
};

impl Store {
    /// The newest node runs of a backend that began before a time: at most `limit`, cached ones included, in the order
    /// of their start.
    pub async fn node_runs(
        &self,
        backend: &str,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<StoredRun>, StoreError> {
        let ts = self.run_dialect().timestamp;
        // The inner query reads no more than `limit` rows of the index.
        let sql = self.select_runs(&format!(
            "SELECT * FROM node_runs WHERE backend = $1 \
             AND started_at < CAST(CAST($2 AS text) AS {ts}) \
             ORDER BY started_at DESC, id DESC LIMIT $3"
        ));
        let query = sql_query(sql)
            .bind::<Text, _>(backend)
            .bind::<Text, _>(timestamp(before))
            .bind::<BigInt, _>(limit as i64);
        let rows: Vec<StoredRunRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.load(connection).await?))
        })
        .await?;
        Ok(rows.into_iter().map(StoredRunRow::read).collect())
    }

    /// The node runs of a job, cached ones included, in the order of their start: at most `limit`.
    pub async fn node_runs_of(
        &self,
        job: &JobId,
        limit: usize,
    ) -> Result<Vec<StoredRun>, StoreError> {
        let sql = self
            .select_runs("SELECT * FROM node_runs WHERE job_key = $1 ORDER BY started_at LIMIT $2");
        let query = sql_query(sql)
            .bind::<Text, _>(job.as_str())
            .bind::<BigInt, _>(limit as i64);
        let rows: Vec<StoredRunRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.load(connection).await?))
        })
        .await?;
        Ok(rows.into_iter().map(StoredRunRow::read).collect())
    }

    fn run_dialect(&self) -> RunDialect {
        match self.pools {
            Pools::Postgres(_) => POSTGRES,
            Pools::Sqlite(_) => SQLITE,
        }
    }

    /// The query for the rows of a [`StoredRunRow`]: the rows of `node_runs` that `newest` selects, in the order of
    /// their start.
    fn select_runs(&self, newest: &str) -> String {
        let started_ms = self.run_dialect().started_ms;
        format!(
            "SELECT newest.job_key, EXISTS (SELECT 1 FROM jobs WHERE jobs.job_key = newest.job_key \
             AND jobs.status = 'completed') AS is_completed, newest.node, newest.class, \
             newest.signature, {started_ms} AS started_ms, newest.seconds, newest.steps, \
             newest.cached, newest.units, newest.calls, newest.models, newest.planned_steps, newest.cold, \
             newest.tick, newest.ticks \
             FROM ({newest}) AS newest ORDER BY newest.started_at, newest.id"
        )
    }
}

impl StoredRunRow {
    fn read(self) -> StoredRun {
        let count = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok());
        let cost = self.cold.map(|cold| NodeCostRecord {
            units: self.units,
            calls: self.calls,
            models: self.models.unwrap_or_default().cast_unsigned(),
            planned_steps: count(self.planned_steps),
            cold,
            tick: self.tick,
            ticks: self.ticks,
        });
        StoredRun {
            job_key: self.job_key,
            is_completed: self.is_completed,
            run: NodeRunRecord {
                node: self.node,
                class: self.class,
                signature: self.signature,
                started_at: Timestamp::from_millisecond(self.started_ms).unwrap_or_default(),
                seconds: self.seconds,
                steps: count(self.steps),
                cached: self.cached,
                cost,
            },
        }
    }
}
