//! The queries on the table `jobs`.

use std::fmt;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::Value;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::moment::Moment;
use super::names::Names;
use super::schema::jobs;
use super::tag_filters::{has_labels, has_text};
use crate::job::{JobId, Selection, Status, StoredJob, Tags};

/// The words of the final statuses.
const FINAL: [&str; 3] = ["completed", "failed", "cancelled"];

/// The words of the others.
pub(super) const OPEN: [&str; 2] = ["queued", "processing"];

/// How many jobs one statement asks for by their ids at most.
const MAX_KEYS: usize = 500;

/// How many rows one page of a search covers at most: some milliseconds of work.
pub const MAX_SEARCHED: i64 = 3_000;

/// Limits a query to what indexes have.
macro_rules! in_ranges {
    ($query:ident, $filter:expr) => {
        let JobFilter {
            selection,
            since,
            until,
            after,
            // No index has it.
            ended_since: _,
        } = $filter;
        if let Some(backend) = &selection.backend {
            $query = $query.filter(jobs::backend.eq(backend));
        }
        if let Some(group) = &selection.group {
            $query = $query.filter(jobs::job_group.eq(group));
        }
        if let Some(workflow) = &selection.workflow {
            $query = $query.filter(jobs::workflow.eq(workflow));
        }
        if let Some(since) = *since {
            $query = $query.filter(jobs::created_at.ge(Moment(since)));
        }
        if let Some(until) = *until {
            $query = $query.filter(jobs::created_at.lt(Moment(until)));
        }
        if let Some(after) = after {
            // The first condition is where the range of the index begins.
            let at = Moment(after.created_at);
            $query = $query.filter(jobs::created_at.le(at)).filter(
                jobs::created_at
                    .lt(at)
                    .or(jobs::job_key.lt(after.job_id.as_str())),
            );
        }
    };
}

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

/// A part of the list of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPage {
    /// The jobs, the newest first.
    pub jobs: Vec<StoredJob>,
    /// The position after which the list goes on; `None` at its end.
    pub next: Option<Cursor>,
}

/// A position in the list of jobs, which is sorted by the time of registration, the newest first. Of two positions the
/// greater one comes first in the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the job was registered.
    pub created_at: Timestamp,
    /// Its id.
    pub job_id: JobId,
}

impl fmt::Display for Cursor {
    /// As clients send it back: `MILLISECONDS.JOB_ID`, in milliseconds since 1970.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at.as_millisecond(), self.job_id)
    }
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

    /// At most `limit` jobs, the newest first, and where the list goes on.
    ///
    /// Where no index has what is searched for, one page covers [`MAX_SEARCHED`] rows at most: it may hold fewer jobs than
    /// there are, even none, and yet the list goes on.
    pub async fn jobs(&self, filter: &JobFilter, limit: usize) -> Result<StoredPage, StoreError> {
        // Each query is one range of one index, however rare a status is.
        let selected = Status::ALL.into_iter();
        let selected = selected.filter(|status| filter.selection.has_status(*status));
        let mut statuses: Vec<Option<Status>> = selected.map(Some).collect();
        if statuses.len() == Status::ALL.len() {
            statuses = vec![None];
        }
        let mut end: Option<Cursor> = None;
        if self.is_search(filter) {
            for status in &statuses {
                let searched = in_time(self.search_end(filter, *status)).await?;
                end = end.max(searched);
            }
        }
        let mut jobs = Vec::new();
        for status in statuses {
            let rows = in_time(self.newest(filter, status, end.as_ref(), limit + 1)).await?;
            jobs.extend(rows.into_iter().filter_map(StoredJobRow::read));
        }
        jobs.sort_by(|a, b| (b.created_at, b.id.as_str()).cmp(&(a.created_at, a.id.as_str())));
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        let last = jobs.last().filter(|_| has_more);
        let next = last.map(|job| Cursor {
            created_at: job.created_at,
            job_id: job.id.clone(),
        });
        Ok(StoredPage {
            jobs,
            next: next.or(end),
        })
    }

    /// Whether rows have to be read to know whether they are wanted.
    fn is_search(&self, filter: &JobFilter) -> bool {
        let Selection { text, labels, .. } = &filter.selection;
        let has_label_index = matches!(self.names, Names::Postgres(_));
        text.is_some() || (!labels.is_empty() && !has_label_index)
    }

    /// The position of the last row that a page of a search covers; `None` if it covers all.
    async fn search_end(
        &self,
        filter: &JobFilter,
        status: Option<Status>,
    ) -> Result<Option<Cursor>, StoreError> {
        let rows: Vec<(Moment, String)> =
            with_connection!(self, lists, |connection, names, Kind| {
                let mut query = jobs::table
                    .select((jobs::created_at, jobs::job_key))
                    .order((jobs::created_at.desc(), jobs::job_key.desc()))
                    .offset(MAX_SEARCHED - 1)
                    .limit(1)
                    .into_boxed::<Kind>();
                if let Some(status) = status {
                    query = query.filter(jobs::status.eq(status.as_str()));
                }
                in_ranges!(query, filter);
                names.query(query)?.load(connection).await?
            });
        let position = rows.into_iter().find_map(|(created_at, job_key)| {
            Some(Cursor {
                created_at: created_at.0,
                job_id: JobId::parse(&job_key).ok()?,
            })
        });
        Ok(position)
    }

    /// At most `limit` jobs in one status, or in any, down to the position `end`.
    async fn newest(
        &self,
        filter: &JobFilter,
        status: Option<Status>,
        end: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<StoredJobRow>, StoreError> {
        let selection = &filter.selection;
        let only = selection.only.as_ref();
        let only: Option<Vec<&str>> = only.map(|ids| ids.iter().map(JobId::as_str).collect());
        Ok(with_connection!(self, lists, |connection, names, Kind| {
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
            in_ranges!(query, filter);
            if let Some(has_labels) = has_labels(&self.names, &selection.labels) {
                query = query.filter(has_labels);
            }
            if let Some(text) = &selection.text {
                query = query.filter(has_text(text));
            }
            if let Some(since) = filter.ended_since {
                query = query.filter(jobs::completed_at.ge(Moment(since)));
            }
            if let Some(only) = &only {
                query = query.filter(jobs::job_key.eq_any(only));
            }
            if let Some(end) = end {
                let at = Moment(end.created_at);
                query = query.filter(jobs::created_at.ge(at)).filter(
                    jobs::created_at
                        .gt(at)
                        .or(jobs::job_key.ge(end.job_id.as_str())),
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
