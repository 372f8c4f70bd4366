//! The queries on the table `jobs`.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::Value;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::moment::Moment;
use super::schema::{jobs, node_runs};
use super::tag_filters::{has_labels, has_text};
use crate::job::{JobId, Selection, Status, StoredJob, Tags};

/// The words of the final statuses.
const FINAL: [&str; 3] = ["completed", "failed", "cancelled"];

/// How many rows one statement deletes at most, so that it never holds many locks.
const DELETE_BATCH: i64 = 1_000;

/// How many jobs one statement asks for by their ids at most.
const MAX_KEYS: usize = 500;

/// Which jobs a list contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    /// Only those that are asked for.
    pub selection: Selection,
    /// Only those registered at this time or later.
    pub since: Option<Timestamp>,
    /// Only those registered before this time.
    pub until: Option<Timestamp>,
    /// Only those that ended at this time or later.
    pub ended_since: Option<Timestamp>,
    /// Only those that follow this position in the list.
    pub after: Option<Cursor>,
}

/// A position in the list of jobs, which is sorted by the time of registration, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// When the job was registered.
    pub created_at: Timestamp,
    /// Its id.
    pub job_id: JobId,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = jobs)]
struct StoredJobRow {
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

    /// All jobs that have not ended.
    pub async fn open_jobs(&self) -> Result<Vec<StoredJob>, StoreError> {
        let open = [Status::Queued, Status::Processing].map(Status::as_str);
        let open = jobs::table.filter(jobs::status.eq_any(open));
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

    /// At most `limit` jobs, the newest first.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: usize,
    ) -> Result<Vec<StoredJob>, StoreError> {
        // Each query is one range of one index, however rare a status is.
        let selected = Status::ALL.into_iter();
        let selected = selected.filter(|status| filter.selection.has_status(*status));
        let mut statuses: Vec<Option<Status>> = selected.map(Some).collect();
        if statuses.len() == Status::ALL.len() {
            statuses = vec![None];
        }
        let mut found = Vec::new();
        for status in statuses {
            let rows = in_time(self.newest(filter, status, limit)).await?;
            found.extend(rows.into_iter().filter_map(StoredJobRow::read));
        }
        found.sort_by(|a, b| (b.created_at, b.id.as_str()).cmp(&(a.created_at, a.id.as_str())));
        found.truncate(limit);
        Ok(found)
    }

    /// At most `limit` jobs in one status, or in any.
    async fn newest(
        &self,
        filter: &JobFilter,
        status: Option<Status>,
        limit: usize,
    ) -> Result<Vec<StoredJobRow>, StoreError> {
        let selection = &filter.selection;
        let only = selection.only.as_ref();
        let only: Option<Vec<&str>> = only.map(|ids| ids.iter().map(JobId::as_str).collect());
        Ok(with_connection!(self, reads, |connection, names, Kind| {
            let mut query = jobs::table
                .select(StoredJobRow::as_select())
                .order((jobs::created_at.desc(), jobs::job_key.desc()))
                .limit(limit as i64)
                .into_boxed::<Kind>();
            query = match status {
                Some(status) => query.filter(jobs::status.eq(status.as_str())),
                // Not those that somebody has marked in a way of their own.
                None => query.filter(jobs::status.eq_any(Status::ALL.map(Status::as_str))),
            };
            if let Some(backend) = &selection.backend {
                query = query.filter(jobs::backend.eq(backend));
            }
            if let Some(group) = &selection.group {
                query = query.filter(jobs::job_group.eq(group));
            }
            if let Some(workflow) = &selection.workflow {
                query = query.filter(jobs::workflow.eq(workflow));
            }
            if let Some(has_labels) = has_labels(&self.names, &selection.labels) {
                query = query.filter(has_labels);
            }
            if let Some(text) = &selection.text {
                query = query.filter(has_text(text));
            }
            if let Some(since) = filter.since {
                query = query.filter(jobs::created_at.ge(Moment(since)));
            }
            if let Some(until) = filter.until {
                query = query.filter(jobs::created_at.lt(Moment(until)));
            }
            if let Some(since) = filter.ended_since {
                query = query.filter(jobs::completed_at.ge(Moment(since)));
            }
            if let Some(only) = &only {
                query = query.filter(jobs::job_key.eq_any(only));
            }
            if let Some(after) = &filter.after {
                // The first condition is where the range of the index begins.
                let at = Moment(after.created_at);
                query = query.filter(jobs::created_at.le(at)).filter(
                    jobs::created_at
                        .lt(at)
                        .or(jobs::job_key.lt(after.job_id.as_str())),
                );
            }
            names.query(query)?.load(connection).await?
        }))
    }

    /// How many jobs have ended, by status; with `since`, at that moment or later.
    pub async fn count_ended(
        &self,
        since: Option<Timestamp>,
    ) -> Result<Vec<(Status, usize)>, StoreError> {
        let rows: Vec<(String, i64)> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names, Kind| {
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
                Ok(with_connection!(self, reads, |connection, names| {
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
                Ok(with_connection!(self, reads, |connection, names| {
                    let keys: Vec<String> = names.query(ended)?.load(connection).await?;
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
    fn read(self) -> Option<StoredJob> {
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
