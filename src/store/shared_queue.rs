//! The queue as all relays on the database share it: what waits with others, how busy the backends of others are, and who
//! takes a job that waits.

use diesel::dsl::{case_when, exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::job_queries::OPEN;
use super::lease_owner::LeaseOwner;
use super::moment::Moment;
use super::schema::{jobs, leases, submissions};
use super::submissions::{HANDED_IN, StoredSubmission, WAITING, WITHDRAWN};
use crate::job::JobId;

/// A job that no backend has yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedWait {
    /// The job.
    pub job_id: JobId,
    /// The relay that publishes it.
    pub owner: Option<String>,
    /// The backend for which it is claimed; `None` while it waits.
    pub claimed_for: Option<String>,
}

/// An open job of a backend, as its row shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPrompt {
    /// The name of the backend.
    pub backend: String,
    /// When it will end, if the relay that follows it knows.
    pub ends_at: Option<Timestamp>,
}

/// What a relay takes a job for that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenFor<'a> {
    /// To hand it in to this backend, of which it holds the lease.
    Backend(&'a str),
    /// To cancel it.
    Cancelling,
}

/// The condition that `owner` follows a backend now.
macro_rules! follows {
    ($store:expr, $backend:expr, $owner:expr) => {
        exists(
            leases::table.filter(
                leases::backend
                    .eq($backend)
                    .and(leases::holder.eq($owner.as_str()))
                    .and(leases::held_until.ge(sql::<BigInt>($store.now()))),
            ),
        )
    };
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
        let of_another = jobs::table.filter(
            jobs::job_key
                .eq(job.as_str())
                .and(jobs::owner.ne(owner.as_str())),
        );
        let waiting = submissions::job_key
            .eq(job.as_str())
            .and(submissions::state.eq(WAITING))
            .and(follows!(self, backend, owner))
            .and(not(exists(of_another)));
        let claim = diesel::update(submissions::table.filter(waiting)).set((
            submissions::state.eq(HANDED_IN),
            submissions::backend.eq(backend),
        ));
        let claimed = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.statement(&claim)?.execute(connection).await?
            }))
        });
        let turn = self.queue_turn().await;
        let count = claimed.await?;
        drop(turn);
        if count == 0 {
            return Ok(None);
        }
        self.submission(job).await
    }

    /// Takes a job that waits, whichever relay has it: `owner` has it then, and nobody else hands it in. Returns its
    /// submission; `None` if it does not wait any more, or the lease is gone.
    pub async fn take_waiting(
        &self,
        job: &JobId,
        owner: &LeaseOwner,
        taken_for: TakenFor<'_>,
    ) -> Result<Option<StoredSubmission>, StoreError> {
        let waits = submissions::table.filter(
            submissions::job_key
                .eq(job.as_str())
                .and(submissions::state.eq(WAITING)),
        );
        // The row of the job can be older than that of its submission: then its owner has yet to write it.
        let shows_it = submissions::table.filter(
            submissions::job_key
                .eq(job.as_str())
                .and(submissions::prompt_id.nullable().eq(jobs::prompt_id)),
        );
        let of_job = jobs::table.filter(
            jobs::job_key
                .eq(job.as_str())
                .and(jobs::backend.is_null())
                .and(jobs::status.eq_any(OPEN))
                .and(exists(shows_it)),
        );
        let taking = in_time(async {
            with_connection!(self, reads, |connection, names| {
                connection
                    .transaction(async |connection| {
                        let taken = match taken_for {
                            TakenFor::Backend(backend) => {
                                let claimed = waits.filter(follows!(self, backend, owner));
                                let claim = diesel::update(claimed).set((
                                    submissions::state.eq(HANDED_IN),
                                    submissions::backend.eq(backend),
                                ));
                                names.statement(&claim)?.execute(connection).await?
                            }
                            TakenFor::Cancelling => {
                                let withdraw =
                                    diesel::update(waits).set(submissions::state.eq(WITHDRAWN));
                                names.statement(&withdraw)?.execute(connection).await?
                            }
                        };
                        // A change of the owner is a new epoch.
                        let is_own = jobs::owner.eq(owner.as_str()).assume_not_null();
                        let change = case_when(is_own, 0_i64.into_sql::<BigInt>())
                            .otherwise(1_i64.into_sql::<BigInt>());
                        let own = diesel::update(of_job).set((
                            jobs::epoch.eq(jobs::epoch + change),
                            jobs::owner.eq(owner.as_str()),
                        ));
                        if taken == 0 || names.statement(&own)?.execute(connection).await? == 0 {
                            return Err(diesel::result::Error::RollbackTransaction.into());
                        }
                        Ok::<_, StoreError>(())
                    })
                    .await?;
            });
            Ok(())
        });
        let turn = self.queue_turn().await;
        let taken = taking.await;
        drop(turn);
        match taken {
            Ok(()) => self.submission(job).await,
            Err(StoreError::Query(diesel::result::Error::RollbackTransaction)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All jobs that no backend has yet, of all relays.
    pub async fn shared_waits(&self) -> Result<Vec<SharedWait>, StoreError> {
        let waiting = jobs::table
            .inner_join(submissions::table.on(submissions::job_key.eq(jobs::job_key)))
            .filter(
                jobs::status
                    .eq_any(OPEN)
                    .and(submissions::state.ne(WITHDRAWN)),
            )
            .select((
                jobs::job_key,
                jobs::backend,
                jobs::owner,
                submissions::backend,
            ));
        let _turn = self.queue_turn().await;
        type Row = (String, Option<String>, Option<String>, Option<String>);
        let rows: Vec<Row> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(waiting)?.load(connection).await?
            }))
        })
        .await?;
        // Not in the statement: the index on the status is the one to use.
        let without_backend = rows
            .into_iter()
            .filter(|(_, backend, ..)| backend.is_none());
        let waits = without_backend.filter_map(|(key, _, owner, claimed_for)| {
            Some(SharedWait {
                // A key that another program has written may not be valid here.
                job_id: JobId::parse(&key).ok()?,
                owner,
                claimed_for,
            })
        });
        Ok(waits.collect())
    }

    /// The open jobs of all backends, as the relays that follow them have written them last.
    pub async fn peer_prompts(&self) -> Result<Vec<PeerPrompt>, StoreError> {
        let open = jobs::table.filter(jobs::status.eq_any(OPEN)).select((
            jobs::backend,
            jobs::last_updated,
            jobs::estimated_remaining,
        ));
        let _turn = self.queue_turn().await;
        let rows: Vec<(Option<String>, Moment, Option<i64>)> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(open)?.load(connection).await?
            }))
        })
        .await?;
        let prompts = rows.into_iter().filter_map(|(backend, written_at, left)| {
            let left = left.map(jiff::SignedDuration::from_secs);
            Some(PeerPrompt {
                backend: backend?,
                ends_at: left.and_then(|left| written_at.0.checked_add(left).ok()),
            })
        });
        Ok(prompts.collect())
    }
}
