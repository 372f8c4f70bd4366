//! The queries on the table `jobs`, but for its list.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::Value;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::moment::Moment;
use super::schema::jobs;
use crate::job::{JobId, Status, StoredJob, Tags};

/// The words of the final statuses.
const FINAL: [&str; 3] = ["completed", "failed", "cancelled"];

/// The words of the others.
pub(super) const OPEN: [&str; 2] = ["queued", "processing"];

/// How many jobs one statement asks for by their ids at most.
const MAX_KEYS: usize = 500;

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = jobs)]
pub(super) struct StoredJobRow {
    job_key: String,
    prompt_id: Option<String>,
    backend: Option<String>,
    status: String,
    progress: i64,
    seq: i64,
    message: Option<String>,
    outputs: Value,
    output_path: Option<String>,
    error_message: Option<String>,
    error_code: Option<String>,
    learned_from: Option<String>,
    created_at: Moment,
    started_at: Option<Moment>,
    completed_at: Option<Moment>,
    estimated_remaining: Option<i64>,
    last_updated: Moment,
    owner: Option<String>,
    epoch: i64,
    labels: Option<String>,
    job_group: Option<String>,
    workflow: Option<String>,
    cancelling: Option<bool>,
}

impl Store {
    /// The job with this id; `None` if there is none.
    pub async fn job(&self, id: &JobId) -> Result<Option<StoredJob>, StoreError> {
        let job = jobs::table.filter(jobs::job_key.eq(id.as_str()));
        let rows: Vec<StoredJobRow> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names
                    .query(job.select(StoredJobRow::as_select()))?
                    .load(connection)
                    .await?
            }))
        })
        .await?;
        Ok(rows.into_iter().find_map(StoredJobRow::read))
    }

    /// The jobs with these ids.
    pub async fn jobs_with_ids(&self, ids: &[JobId]) -> Result<Vec<StoredJob>, StoreError> {
        let keys: Vec<&str> = ids.iter().map(JobId::as_str).collect();
        let mut found = Vec::new();
        for keys in keys.chunks(MAX_KEYS) {
            let jobs = jobs::table.filter(jobs::job_key.eq_any(keys));
            let rows: Vec<StoredJobRow> = in_time(async {
                Ok(with_connection!(self, reads, |connection, names| {
                    names
                        .query(jobs.select(StoredJobRow::as_select()))?
                        .load(connection)
                        .await?
                }))
            })
            .await?;
            found.extend(rows.into_iter().filter_map(StoredJobRow::read));
        }
        Ok(found)
    }

    /// At most `limit` jobs that were registered at this moment or later, the newest first.
    pub async fn jobs_since(
        &self,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<StoredJob>, StoreError> {
        let new = jobs::table
            .filter(jobs::created_at.ge(Moment(since)))
            .order((jobs::created_at.desc(), jobs::job_key.desc()))
            .limit(limit);
        let rows: Vec<StoredJobRow> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names
                    .query(new.select(StoredJobRow::as_select()))?
                    .load(connection)
                    .await?
            }))
        })
        .await?;
        Ok(rows.into_iter().filter_map(StoredJobRow::read).collect())
    }

    /// All jobs that have not ended.
    pub async fn open_jobs(&self) -> Result<Vec<StoredJob>, StoreError> {
        let open = jobs::table.filter(jobs::status.eq_any(OPEN));
        let rows: Vec<StoredJobRow> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names
                    .query(open.select(StoredJobRow::as_select()))?
                    .load(connection)
                    .await?
            }))
        })
        .await?;
        Ok(rows.into_iter().filter_map(StoredJobRow::read).collect())
    }

    /// How many jobs have ended, by status; with `since`, at that moment or later.
    pub async fn count_ended(
        &self,
        since: Option<Timestamp>,
    ) -> Result<Vec<(Status, usize)>, StoreError> {
        let rows: Vec<(String, i64)> = in_time(async {
            Ok(with_connection!(self, lists, |connection, names, Kind| {
                let mut counted = jobs::table
                    .filter(jobs::status.eq_any(FINAL))
                    .group_by(jobs::status)
                    .select((jobs::status, diesel::dsl::count_star()))
                    .into_boxed::<Kind>();
                if let Some(since) = since {
                    counted = counted.filter(jobs::completed_at.ge(Moment(since)));
                }
                names.query(counted)?.load(connection).await?
            }))
        })
        .await?;
        Ok(read_counts(rows))
    }
}

/// Without statuses that other programs have written.
fn read_counts(rows: Vec<(String, i64)>) -> Vec<(Status, usize)> {
    let counts = rows.into_iter().filter_map(|(status, count)| {
        let count = usize::try_from(count).ok()?;
        Some((Status::from_word(&status)?, count))
    });
    counts.collect()
}

impl StoredJobRow {
    /// `None` for a row whose key or status, written by another program, is not valid here.
    pub(super) fn read(self) -> Option<StoredJob> {
        Some(StoredJob {
            id: JobId::parse(&self.job_key).ok()?,
            prompt_id: self.prompt_id,
            backend: self.backend,
            status: Status::from_word(&self.status)?,
            progress: self.progress.clamp(0, 100) as u8,
            seq: self.seq.try_into().unwrap_or_default(),
            message: self.message,
            outputs: serde_json::from_value(self.outputs).unwrap_or_default(),
            output_path: self.output_path,
            error: self.error_message.map(|message| (self.error_code, message)),
            end_source: self.learned_from,
            created_at: self.created_at.0,
            started_at: self.started_at.map(|at| at.0),
            ended_at: self.completed_at.map(|at| at.0),
            estimated_remaining: self
                .estimated_remaining
                .and_then(|seconds| seconds.try_into().ok()),
            updated_at: self.last_updated.0,
            owner: self.owner,
            epoch: self.epoch.try_into().unwrap_or_default(),
            is_cancelling: self.cancelling.unwrap_or_default(),
            tags: Tags {
                labels: self
                    .labels
                    .and_then(|text| serde_json::from_str(&text).ok())
                    .unwrap_or_default(),
                group: self.job_group,
                workflow: self.workflow,
            },
        })
    }
}
