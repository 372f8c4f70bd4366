//! What is to be handed in to ComfyUI for jobs: it waits here, and stays until its job is deleted, so that it can be handed
//! in again.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::schema::{jobs, submissions};
use super::submission_state::{HANDED_IN, WAITING, WITHDRAWN};
use crate::job::JobId;

/// The most keys that one statement names.
pub(super) const MAX_KEYS: usize = 500;

/// What is to be handed in to ComfyUI for a job, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSubmission {
    /// The job.
    pub job_id: JobId,
    /// The order of arrival.
    pub place: i64,
    /// Higher ones come first.
    pub priority: i64,
    /// For whom it is, where waiting jobs are shared out fairly.
    pub share: Option<String>,
    /// The backend that has it, or is claimed for it; `None` while it waits.
    pub backend: Option<String>,
    /// Its job is cancelled: it waits no more.
    pub is_withdrawn: bool,
    /// Under which prompt id it is handed in.
    pub prompt_id: String,
    /// How often it was handed in or waits to be, from 1.
    pub attempt: u32,
    /// How often it may be handed in again after it is lost.
    pub retries: u32,
    /// The attempts that were lost: a JSON list.
    pub lost: String,
    /// Of the body of the request: one that is repeated has the same.
    pub digest: Option<String>,
    /// The job that it repeats.
    pub retry_of: Option<String>,
    /// The graph and everything that is passed on with it, compressed.
    pub request: Vec<u8>,
    /// Keys of partner nodes, sealed.
    pub secrets: Option<Vec<u8>>,
}

/// What the submission of a job shows of others.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = submissions)]
pub struct SubmissionLink {
    /// The job.
    pub job_key: String,
    /// The job that it repeats.
    pub retry_of: Option<String>,
    /// The attempts that were lost: a JSON list.
    pub lost: String,
}

#[derive(Debug, Clone, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = submissions)]
pub(super) struct SubmissionRow {
    job_key: String,
    state: String,
    place: i64,
    priority: i64,
    share: Option<String>,
    backend: Option<String>,
    prompt_id: String,
    attempt: i64,
    retries: i64,
    lost: String,
    digest: Option<String>,
    retry_of: Option<String>,
    request: Vec<u8>,
    secrets: Option<Vec<u8>>,
}

impl Store {
    /// Adds submissions, all or none. Those that a crash has left behind under the same job ids are replaced.
    pub async fn add_submissions(&self, added: &[StoredSubmission]) -> Result<(), StoreError> {
        let rows: Vec<SubmissionRow> = added.iter().map(SubmissionRow::new).collect();
        let _turn = self.queue_turn().await;
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                connection
                    .transaction(async |connection| {
                        for row in rows {
                            let left = submissions::table;
                            let left = left.filter(submissions::job_key.eq(row.job_key.clone()));
                            let delete = diesel::delete(left);
                            names.statement(&delete)?.execute(connection).await?;
                            let insert = diesel::insert_into(submissions::table).values(row);
                            names.statement(&insert)?.execute(connection).await?;
                        }
                        Ok::<_, StoreError>(())
                    })
                    .await?;
            });
            Ok(())
        })
        .await
    }

    /// Lets a submission wait again that was claimed, and that no backend has got.
    pub async fn release_claim(&self, job: &JobId, backend: &str) -> Result<(), StoreError> {
        let claimed = submissions::job_key
            .eq(job.as_str())
            .and(submissions::state.eq(HANDED_IN))
            .and(submissions::backend.eq(backend));
        let release = diesel::update(submissions::table.filter(claimed)).set((
            submissions::state.eq(WAITING),
            submissions::backend.eq(None::<String>),
        ));
        let _turn = self.queue_turn().await;
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&release)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Lets a submission wait again that was claimed, as another prompt: the backend may have got it.
    pub async fn release_claim_as(
        &self,
        prompt_id: &str,
        job: &JobId,
        backend: &str,
    ) -> Result<bool, StoreError> {
        let claimed = submissions::job_key
            .eq(job.as_str())
            .and(submissions::state.eq(HANDED_IN))
            .and(submissions::backend.eq(backend));
        let release = diesel::update(submissions::table.filter(claimed)).set((
            submissions::state.eq(WAITING),
            submissions::backend.eq(None::<String>),
            submissions::prompt_id.eq(prompt_id),
        ));
        let _turn = self.queue_turn().await;
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.statement(&release)?.execute(connection).await? > 0
            }))
        })
        .await
    }

    /// Lets a submission wait again that was lost, as the next attempt that `after` describes. Returns whether it was in the
    /// attempt and under the prompt id that were lost.
    pub async fn take_back(
        &self,
        after: &StoredSubmission,
        lost_prompt: &str,
    ) -> Result<bool, StoreError> {
        let lost = submissions::job_key
            .eq(after.job_id.as_str())
            .and(submissions::state.eq(HANDED_IN))
            .and(submissions::prompt_id.eq(lost_prompt));
        let take = diesel::update(submissions::table.filter(lost)).set((
            submissions::state.eq(WAITING),
            submissions::backend.eq(None::<String>),
            submissions::prompt_id.eq(&after.prompt_id),
            submissions::attempt.eq(i64::from(after.attempt)),
            submissions::lost.eq(&after.lost),
        ));
        let _turn = self.queue_turn().await;
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.statement(&take)?.execute(connection).await? > 0
            }))
        })
        .await
    }

    /// Forgets the keys of a submission that was handed in.
    pub async fn forget_secrets(&self, job: &JobId) -> Result<(), StoreError> {
        let handed = submissions::table.filter(submissions::job_key.eq(job.as_str()));
        let forget = diesel::update(handed).set(submissions::secrets.eq(None::<Vec<u8>>));
        let _turn = self.queue_turn().await;
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&forget)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Forgets the sealed keys of all jobs that have ended.
    pub async fn forget_ended_secrets(&self) -> Result<(), StoreError> {
        let ended = jobs::table.select(jobs::job_key);
        let ended = ended.filter(jobs::completed_at.is_not_null());
        let handed = submissions::table
            .filter(submissions::secrets.is_not_null())
            .filter(submissions::job_key.eq_any(ended));
        let forget = diesel::update(handed).set(submissions::secrets.eq(None::<Vec<u8>>));
        in_time(async {
            with_connection!(self, lists, |connection, names| {
                names.statement(&forget)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Removes the submission of a job that was refused.
    pub async fn remove_submission(&self, job: &JobId) -> Result<(), StoreError> {
        let refused = submissions::table.filter(submissions::job_key.eq(job.as_str()));
        let remove = diesel::delete(refused);
        let _turn = self.queue_turn().await;
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&remove)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// The submission of a job; `None` if it has none.
    pub async fn submission(&self, job: &JobId) -> Result<Option<StoredSubmission>, StoreError> {
        let found = self.submissions(std::slice::from_ref(job)).await?;
        Ok(found.into_iter().next())
    }

    /// The digest of the request that has made a job; `None` if the job has no submission.
    pub async fn submission_digest(&self, job: &JobId) -> Result<Option<String>, StoreError> {
        let named = submissions::table.filter(submissions::job_key.eq(job.as_str()));
        let digest = named.select(submissions::digest);
        let found: Option<Option<String>> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names
                    .query(digest)?
                    .get_result(connection)
                    .await
                    .optional()?
            }))
        })
        .await?;
        Ok(found.flatten())
    }

    /// The submission of a job, and of at most so many that repeat it, in the order in which they came: what they show of
    /// each other.
    pub async fn submission_links(
        &self,
        job: &JobId,
        repeats: usize,
    ) -> Result<Vec<SubmissionLink>, StoreError> {
        let own = submissions::job_key.eq(job.as_str());
        let linked = own.or(submissions::retry_of.eq(job.as_str()));
        let find = submissions::table
            .filter(linked)
            .order(submissions::place)
            .limit(i64::try_from(repeats).unwrap_or(i64::MAX).saturating_add(1));
        let _turn = self.queue_turn().await;
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                let find = names.query(find.select(SubmissionLink::as_select()))?;
                find.load(connection).await?
            }))
        })
        .await
    }

    /// The submissions of these jobs.
    pub async fn submissions(&self, jobs: &[JobId]) -> Result<Vec<StoredSubmission>, StoreError> {
        let keys: Vec<&str> = jobs.iter().map(JobId::as_str).collect();
        let mut found = Vec::new();
        for keys in keys.chunks(MAX_KEYS) {
            let named = submissions::table.filter(submissions::job_key.eq_any(keys));
            let rows: Vec<SubmissionRow> = in_time(async {
                Ok(with_connection!(self, reads, |connection, names| {
                    names
                        .query(named.select(SubmissionRow::as_select()))?
                        .load(connection)
                        .await?
                }))
            })
            .await?;
            found.extend(rows.into_iter().filter_map(SubmissionRow::read));
        }
        Ok(found)
    }
}

impl SubmissionRow {
    pub(super) fn new(submission: &StoredSubmission) -> Self {
        let state = match submission.backend {
            None => WAITING,
            Some(_) => HANDED_IN,
        };
        Self {
            job_key: submission.job_id.to_string(),
            state: state.to_owned(),
            place: submission.place,
            priority: submission.priority,
            share: submission.share.clone(),
            backend: submission.backend.clone(),
            prompt_id: submission.prompt_id.clone(),
            attempt: submission.attempt.into(),
            retries: submission.retries.into(),
            lost: submission.lost.clone(),
            digest: submission.digest.clone(),
            retry_of: submission.retry_of.clone(),
            request: submission.request.clone(),
            secrets: submission.secrets.clone(),
        }
    }

    /// `None` for a row whose key, written by another program, is not valid here.
    pub(super) fn read(self) -> Option<StoredSubmission> {
        Some(StoredSubmission {
            job_id: JobId::parse(&self.job_key).ok()?,
            place: self.place,
            priority: self.priority,
            share: self.share,
            backend: self.backend.filter(|_| self.state == HANDED_IN),
            is_withdrawn: self.state == WITHDRAWN,
            prompt_id: self.prompt_id,
            attempt: self.attempt.try_into().unwrap_or(1),
            retries: self.retries.try_into().unwrap_or_default(),
            lost: self.lost,
            digest: self.digest,
            retry_of: self.retry_of,
            request: self.request,
            secrets: self.secrets,
        })
    }
}
