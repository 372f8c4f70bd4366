//! The queries on the table `node_runs`.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::moment::Moment;
use super::rows::{NodeCostRecord, NodeRunRecord};
use super::schema::{jobs, node_runs};
use crate::job::{JobId, NodeState, Status};

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

#[derive(Debug, Queryable)]
struct StoredRunRow {
    job_key: String,
    status: Option<String>,
    node: String,
    class: Option<String>,
    signature: Option<String>,
    started_at: Moment,
    seconds: f64,
    steps: Option<i64>,
    cached: bool,
    units: Option<f64>,
    calls: Option<f64>,
    models: Option<i64>,
    planned_steps: Option<i64>,
    cold: Option<bool>,
    tick: Option<f64>,
    ticks: Option<f64>,
    parallel: Option<bool>,
    display: Option<String>,
    title: Option<String>,
    state: Option<String>,
}

/// The runs, with the columns of a [`StoredRunRow`].
macro_rules! stored_runs {
    () => {
        node_runs::table
            .left_join(jobs::table.on(jobs::job_key.eq(node_runs::job_key)))
            .select((
                node_runs::job_key,
                jobs::status.nullable(),
                node_runs::node,
                node_runs::class,
                node_runs::signature,
                node_runs::started_at,
                node_runs::seconds,
                node_runs::steps,
                node_runs::cached,
                node_runs::units,
                node_runs::calls,
                node_runs::models,
                node_runs::planned_steps,
                node_runs::cold,
                node_runs::tick,
                node_runs::ticks,
                node_runs::parallel,
                node_runs::display,
                node_runs::title,
                node_runs::state,
            ))
    };
}

impl Store {
    /// The newest node runs of a backend that began before a time: at most `limit`, cached ones included, in the order
    /// of their start.
    pub async fn node_runs(
        &self,
        backend: &str,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<StoredRun>, StoreError> {
        let newest = stored_runs!()
            .filter(node_runs::backend.eq(backend))
            .filter(node_runs::started_at.lt(Moment(before)))
            .order((node_runs::started_at.desc(), node_runs::id.desc()))
            .limit(limit as i64);
        let rows: Vec<StoredRunRow> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(newest)?.load(connection).await?
            }))
        })
        .await?;
        Ok(rows.into_iter().rev().map(StoredRunRow::read).collect())
    }

    /// The node runs of a job, cached ones included, in the order of their start: at most `limit`.
    pub async fn node_runs_of(
        &self,
        job: &JobId,
        limit: usize,
    ) -> Result<Vec<StoredRun>, StoreError> {
        let runs = stored_runs!()
            .filter(node_runs::job_key.eq(job.as_str()))
            .order((node_runs::started_at, node_runs::id))
            .limit(limit as i64);
        let rows: Vec<StoredRunRow> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(runs)?.load(connection).await?
            }))
        })
        .await?;
        Ok(rows.into_iter().map(StoredRunRow::read).collect())
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
            is_parallel: self.parallel.unwrap_or_default(),
        });
        StoredRun {
            job_key: self.job_key,
            is_completed: self.status.as_deref() == Some(Status::Completed.as_str()),
            run: NodeRunRecord {
                node: self.node,
                class: self.class,
                signature: self.signature,
                started_at: self.started_at.0,
                seconds: self.seconds,
                steps: count(self.steps),
                cached: self.cached,
                display: self.display,
                title: self.title,
                state: self.state.as_deref().and_then(NodeState::from_word),
                cost,
            },
        }
    }
}
