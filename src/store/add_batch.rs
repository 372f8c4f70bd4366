//! Adds the jobs of a batch and their submissions in one transaction.

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::rows::JobRecord;
use super::schema::submissions;
use super::submissions::{MAX_KEYS, StoredSubmission, SubmissionRow};

/// A row that was written.
#[derive(Debug, QueryableByName)]
struct AddedRow {
    #[diesel(sql_type = Text)]
    #[expect(dead_code, reason = "only their number counts")]
    job_key: String,
}

impl Store {
    /// Adds jobs with their submissions, all or none. Returns whether they were: not if there is a job with one of the ids.
    pub async fn add_batch(
        &self,
        added: &[StoredSubmission],
        jobs: &[JobRecord],
    ) -> Result<bool, StoreError> {
        let rows: Vec<SubmissionRow> = added.iter().map(SubmissionRow::new).collect();
        let keys: Vec<String> = added.iter().map(|it| it.job_id.to_string()).collect();
        let records = self.job_rows(jobs)?;
        let statements = &self.statements;
        let adding = in_time(async {
            with_connection!(self, writes, |connection, names| {
                connection
                    .transaction(async |connection| {
                        // What a crash has left behind is replaced.
                        for keys in keys.chunks(MAX_KEYS) {
                            let left = submissions::table;
                            let left = left.filter(submissions::job_key.eq_any(keys));
                            let delete = diesel::delete(left);
                            names.statement(&delete)?.execute(connection).await?;
                        }
                        for row in rows {
                            let insert = diesel::insert_into(submissions::table).values(row);
                            names.statement(&insert)?.execute(connection).await?;
                        }
                        let upsert = sql_query(&statements.upsert).bind::<Text, _>(&records);
                        let written: Vec<AddedRow> = names.query(upsert)?.load(connection).await?;
                        if written.len() < jobs.len() {
                            return Err(diesel::result::Error::RollbackTransaction.into());
                        }
                        Ok::<_, StoreError>(())
                    })
                    .await?;
            });
            Ok(())
        });
        match adding.await {
            Ok(()) => Ok(true),
            Err(StoreError::Query(diesel::result::Error::RollbackTransaction)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
