//! Deletes what is older than the retention, and jobs that are forgotten.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::moment::Moment;
use super::schema::{job_webhooks, jobs, node_runs, submissions};
use crate::job::JobId;

/// How many rows one statement deletes at most, so that it never holds many locks.
const DELETE_BATCH: i64 = 1_000;

impl Store {
    /// Deletes the rows of these jobs, which have not ended: they have no node runs.
    pub(super) async fn delete_jobs(&self, ids: &[JobId]) -> Result<(), StoreError> {
        let keys: Vec<&str> = ids.iter().map(JobId::as_str).collect();
        in_time(async {
            with_connection!(self, lists, |connection, names| {
                let old = jobs::table.filter(jobs::job_key.eq_any(keys));
                let delete = diesel::delete(old);
                names.statement(&delete)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Deletes the jobs that ended and the node runs that began before a time, a few at a time. Returns the number of
    /// deleted jobs.
    pub async fn delete_before(&self, before: Timestamp) -> Result<usize, StoreError> {
        let runs = node_runs::table
            .filter(node_runs::started_at.lt(Moment(before)))
            .order(node_runs::started_at)
            .select(node_runs::id)
            .limit(DELETE_BATCH);
        loop {
            let deleted = in_time(async {
                Ok(with_connection!(self, lists, |connection, names| {
                    let ids: Vec<i64> = names.query(runs)?.load(connection).await?;
                    let old = node_runs::table.filter(node_runs::id.eq_any(ids));
                    let delete = diesel::delete(old);
                    names.statement(&delete)?.execute(connection).await?
                }))
            });
            if deleted.await? == 0 {
                break;
            }
        }
        let ended = jobs::table
            .filter(jobs::completed_at.lt(Moment(before)))
            .order(jobs::completed_at)
            .select(jobs::job_key)
            .limit(DELETE_BATCH);
        let mut total = 0;
        loop {
            let deleted = in_time(async {
                Ok(with_connection!(self, lists, |connection, names| {
                    let keys: Vec<String> = names.query(ended)?.load(connection).await?;
                    let handed = submissions::table;
                    let handed = handed.filter(submissions::job_key.eq_any(keys.clone()));
                    let delete = diesel::delete(handed);
                    names.statement(&delete)?.execute(connection).await?;
                    let hooks = job_webhooks::table;
                    let hooks = hooks.filter(job_webhooks::job_key.eq_any(keys.clone()));
                    let delete = diesel::delete(hooks);
                    names.statement(&delete)?.execute(connection).await?;
                    let old = jobs::table.filter(jobs::job_key.eq_any(keys));
                    let delete = diesel::delete(old);
                    names.statement(&delete)?.execute(connection).await?
                }))
            });
            match deleted.await? {
                0 => return Ok(total),
                deleted => total += deleted,
            }
        }
    }
}
