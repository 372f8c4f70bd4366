//! Which relay posts a job that waits: a claim takes it for one backend, and no other relay can take it then.

use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::lease_owner::LeaseOwner;
use super::submissions::{StoredSubmission, SubmissionRow};
use crate::job::JobId;

/// What a relay takes a job for that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenFor<'a> {
    /// To hand it in to this backend, of which it holds the lease.
    Backend(&'a str),
    /// To cancel it.
    Cancelling,
}

impl Store {
    /// Claims a submission of `owner`'s that waits for a backend of which it holds the lease: nobody else hands it in then.
    /// Returns it; `None` if it does not wait any more, another relay has the job, or the lease is gone.
    pub async fn claim(
        &self,
        job: &JobId,
        backend: &str,
        owner: &LeaseOwner,
    ) -> Result<Option<StoredSubmission>, StoreError> {
        self.run_claim(&self.claims.own, job, Some(backend), owner)
            .await
    }

    /// Takes a job that waits, whichever relay has it: `owner` has it then, and nobody else hands it in. Returns its
    /// submission; `None` if it does not wait any more, or the lease is gone.
    pub async fn take_waiting(
        &self,
        job: &JobId,
        owner: &LeaseOwner,
        taken_for: TakenFor<'_>,
    ) -> Result<Option<StoredSubmission>, StoreError> {
        let (texts, backend) = match taken_for {
            TakenFor::Backend(backend) => (&self.claims.any, Some(backend)),
            TakenFor::Cancelling => (&self.claims.withdraw, None),
        };
        self.run_claim(texts, job, backend, owner).await
    }

    /// Runs the statements of a claim, all or none. The last one returns the submission.
    async fn run_claim(
        &self,
        texts: &[String],
        job: &JobId,
        backend: Option<&str>,
        owner: &LeaseOwner,
    ) -> Result<Option<StoredSubmission>, StoreError> {
        let Some((last, before)) = texts.split_last() else {
            return Ok(None);
        };
        let bound = |text: &str| {
            sql_query(text)
                .bind::<Nullable<Text>, _>(backend)
                .bind::<Text, _>(job.as_str())
                .bind::<Text, _>(owner.as_str())
        };
        let _turn = self.queue_turn().await;
        let claiming = in_time(async {
            Ok(with_connection!(self, reads, |connection, _names| {
                if before.is_empty() {
                    bound(last).get_result::<SubmissionRow>(connection).await?
                } else {
                    connection
                        .transaction(async |connection| {
                            for text in before {
                                if bound(text).execute(connection).await? == 0 {
                                    return Err(diesel::result::Error::NotFound.into());
                                }
                            }
                            let row = bound(last).get_result(connection).await?;
                            Ok::<SubmissionRow, StoreError>(row)
                        })
                        .await?
                }
            }))
        });
        match claiming.await {
            Ok(row) => Ok(row.read()),
            Err(StoreError::Query(diesel::result::Error::NotFound)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
