//! Requests to cancel a job that another relay has.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::schema::cancel_requests::{asked_at, job_key, table};
use crate::job::JobId;

/// How long a request is kept, in milliseconds: ten minutes.
const KEPT_MS: i64 = 600_000;

impl Store {
    /// Asks the relay that has a job to cancel it.
    pub async fn request_cancel(&self, job: &JobId) -> Result<(), StoreError> {
        let now = || sql::<BigInt>(self.names.now());
        let request = diesel::insert_into(table)
            .values((job_key.eq(job.as_str()), asked_at.eq(now())))
            .on_conflict(job_key)
            .do_update()
            .set(asked_at.eq(now()));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&request)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// The jobs that are to be cancelled.
    pub async fn cancel_requests(&self) -> Result<Vec<JobId>, StoreError> {
        let is_new = asked_at.ge(sql::<BigInt>(self.names.now()) - KEPT_MS);
        let wanted = table.select(job_key).filter(is_new);
        let keys: Vec<String> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(wanted)?.load(connection).await?
            }))
        })
        .await?;
        let ids = keys.iter().filter_map(|key| JobId::parse(key).ok());
        Ok(ids.collect())
    }

    /// Removes the request to cancel a job, which was done or is too late, and all that are too old.
    pub async fn remove_cancel_request(&self, job: &JobId) -> Result<(), StoreError> {
        let is_old = asked_at.lt(sql::<BigInt>(self.names.now()) - KEPT_MS);
        let remove = diesel::delete(table.filter(job_key.eq(job.as_str()).or(is_old)));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&remove)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }
}
