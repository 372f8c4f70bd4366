//! The list of jobs, the newest first, a page at a time.
//!
//! Each query reads one range of one index, in the order of the list. The index has the columns of the other filters behind that
//! order: entries that do not match are passed over without a look at their rows.

use std::fmt;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::job_queries::StoredJobRow;
use super::moment::{Moment, MomentSql};
use super::names::Names;
use super::schema::jobs;
use super::tag_filters::{LabelIndex, has_labels, has_text, has_value, is_known};
use crate::job::{JobId, Selection, Status, StoredJob};

/// How many rows one page of a search covers at most: some milliseconds of work.
pub const MAX_SEARCHED: i64 = 3_000;

/// Among how many rows of its range PostgreSQL looks for labels before it takes the index of labels: a page of a label that many
/// jobs have is found there, and of one that few have the index has few.
const LABELS_TRIED: i64 = 500;

/// How many jobs have labels that are common: so many rows are not read to have them sorted.
const COMMON: i64 = 1_000;

/// PostgreSQL does not know how many jobs have labels, and would rather read the whole table. The setting ends with the
/// transaction, because a pooler gives the session to others.
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off";

/// What limits and orders a query besides its filter.
#[derive(Debug, Clone, Copy, Default)]
struct ListPart<'a> {
    /// The only status; `None` for all.
    status: Option<Status>,
    /// The last position.
    end: Option<&'a Cursor>,
    /// Whether rows are found by the index of labels, and then sorted.
    by_labels: bool,
}

/// Limits a query to what indexes have.
macro_rules! in_ranges {
    ($query:ident, $names:expr, $filter:expr, $part:expr) => {
        let JobFilter {
            selection,
            since,
            until,
            after,
            // No index has it.
            ended_since: _,
        } = $filter;
        let lead = lead(selection, $part.status);
        let values = [
            ("status", $part.status.map(Status::as_str)),
            ("backend", selection.backend.as_deref()),
            ("job_group", selection.group.as_deref()),
            ("workflow", selection.workflow.as_deref()),
        ];
        for (column, value) in values {
            if let Some(value) = value {
                let leads = lead == Some(column);
                $query = $query.filter(has_value($names, column, value, leads));
            }
        }
        // SQLite begins a range at one of two bounds, not at the nearer one.
        let after = after
            .as_ref()
            .filter(|after| until.is_none_or(|until| until > after.created_at));
        if let Some(after) = after {
            // The first condition is where the range of the index begins.
            let at = Moment(after.created_at);
            $query = $query.filter(jobs::created_at.le(at)).filter(
                jobs::created_at
                    .lt(at)
                    .or(jobs::job_key.lt(after.job_id.as_str())),
            );
        } else if let Some(until) = *until {
            $query = $query.filter(jobs::created_at.lt(Moment(until)));
        }
        if let Some(end) = $part.end {
            let at = Moment(end.created_at);
            $query = $query.filter(jobs::created_at.ge(at)).filter(
                jobs::created_at
                    .gt(at)
                    .or(jobs::job_key.ge(end.job_id.as_str())),
            );
        } else if let Some(since) = *since {
            $query = $query.filter(jobs::created_at.ge(Moment(since)));
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

impl Store {
    /// At most `limit` jobs, the newest first, and where the list goes on.
    ///
    /// Where no index has what is searched for, or too many jobs have it, one page covers [`MAX_SEARCHED`] rows at most: it may
    /// hold fewer jobs than there are, even none, and yet the list goes on.
    pub async fn jobs(&self, filter: &JobFilter, limit: usize) -> Result<StoredPage, StoreError> {
        // Each query is one range of one index, however rare a status is.
        let selected = Status::ALL.into_iter();
        let selected = selected.filter(|status| filter.selection.has_status(*status));
        let mut statuses: Vec<Option<Status>> = selected.map(Some).collect();
        if statuses.len() == Status::ALL.len() {
            statuses = vec![None];
        }
        let has_label_index = self.has_label_index(filter);
        let mut end: Option<Cursor> = None;
        if let Some(rows) = searched(filter, has_label_index) {
            for status in &statuses {
                let searched = in_time(self.search_end(filter, *status, rows)).await?;
                end = end.max(searched);
            }
        }
        let down_to = ListPart {
            end: end.as_ref(),
            ..ListPart::default()
        };
        let page = self.page(filter, &statuses, down_to, limit).await?;
        let is_short = end.is_some() && page.jobs.len() < limit;
        if has_label_index && is_short && !in_time(self.has_common_labels(filter)).await? {
            let whole = ListPart {
                by_labels: true,
                ..ListPart::default()
            };
            return self.page(filter, &statuses, whole, limit).await;
        }
        Ok(page)
    }

    /// Whether the labels that are searched for have an index that is to be used. A search for a text reads few rows anyway.
    fn has_label_index(&self, filter: &JobFilter) -> bool {
        let Selection { text, labels, .. } = &filter.selection;
        matches!(self.names, Names::Postgres(_)) && text.is_none() && !labels.is_empty()
    }

    /// Whether many jobs have the labels that are searched for, whatever else is.
    async fn has_common_labels(&self, filter: &JobFilter) -> Result<bool, StoreError> {
        let labels = &filter.selection.labels;
        let last: Vec<String> = with_connection!(self, lists, |connection, names, Kind| {
            connection
                .transaction(async |connection| {
                    connection.batch_execute(BY_INDEX).await?;
                    let mut query = jobs::table
                        .select(jobs::job_key)
                        .offset(COMMON - 1)
                        .limit(1)
                        .into_boxed::<Kind>();
                    if let Some(labels) = has_labels(&self.names, labels, LabelIndex::Used) {
                        query = query.filter(labels);
                    }
                    let query = names.query_by_values(query)?;
                    Ok::<_, StoreError>(query.load(connection).await?)
                })
                .await?
        });
        Ok(!last.is_empty())
    }

    /// A page of these parts of the list, each like `part` but for its status.
    async fn page(
        &self,
        filter: &JobFilter,
        statuses: &[Option<Status>],
        part: ListPart<'_>,
        limit: usize,
    ) -> Result<StoredPage, StoreError> {
        let mut rows = Vec::new();
        for &status in statuses {
            let part = ListPart { status, ..part };
            rows.extend(in_time(self.newest(filter, part, limit + 1)).await?);
        }
        Ok(StoredPage::of(rows, part.end, limit))
    }

    /// The position of the last of so many `rows`; `None` if there are fewer.
    async fn search_end(
        &self,
        filter: &JobFilter,
        status: Option<Status>,
        rows: i64,
    ) -> Result<Option<Cursor>, StoreError> {
        let part = ListPart {
            status,
            ..ListPart::default()
        };
        let found: Vec<(Moment, String)> =
            with_connection!(self, lists, |connection, names, Kind| {
                let mut query = jobs::table
                    .select((jobs::created_at, jobs::job_key))
                    .order((jobs::created_at.desc(), jobs::job_key.desc()))
                    .offset(rows - 1)
                    .limit(1)
                    .into_boxed::<Kind>();
                in_ranges!(query, &self.names, filter, part);
                names.query_by_values(query)?.load(connection).await?
            });
        let position = found.into_iter().find_map(|(created_at, job_key)| {
            Some(Cursor {
                created_at: created_at.0,
                job_id: JobId::parse(&job_key).ok()?,
            })
        });
        Ok(position)
    }

    /// At most `limit` jobs of a part of the list.
    async fn newest(
        &self,
        filter: &JobFilter,
        part: ListPart<'_>,
        limit: usize,
    ) -> Result<Vec<StoredJobRow>, StoreError> {
        let selection = &filter.selection;
        let only = selection.only.as_ref();
        let only: Option<Vec<&str>> = only.map(|ids| ids.iter().map(JobId::as_str).collect());
        let label_index = if part.by_labels {
            LabelIndex::Used
        } else {
            LabelIndex::Unused
        };
        Ok(with_connection!(self, lists, |connection, names, Kind| {
            let mut query = jobs::table
                .select(StoredJobRow::as_select())
                .order((jobs::created_at.desc(), jobs::job_key.desc()))
                .limit(limit as i64)
                .into_boxed::<Kind>();
            if part.by_labels {
                // An order that no index has: PostgreSQL does not read the whole list to have it in order.
                let order = sql::<MomentSql>("created_at + interval '0'");
                query = query.order((order.desc(), jobs::job_key.desc()));
            }
            if part.status.is_none() {
                // Not those that somebody has marked in a way of their own.
                query = query.filter(is_known(&self.names));
            }
            in_ranges!(query, &self.names, filter, part);
            if let Some(has_labels) = has_labels(&self.names, &selection.labels, label_index) {
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
            names.query_by_values(query)?.load(connection).await?
        }))
    }
}

impl StoredPage {
    /// The newest of the rows, of which there is one more than a page holds if the list goes on. It goes on at `end`, too.
    fn of(rows: Vec<StoredJobRow>, end: Option<&Cursor>, limit: usize) -> Self {
        let mut jobs: Vec<StoredJob> = rows.into_iter().filter_map(StoredJobRow::read).collect();
        jobs.sort_by(|a, b| (b.created_at, b.id.as_str()).cmp(&(a.created_at, a.id.as_str())));
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        let last = jobs.last().filter(|_| has_more);
        let next = last.map(|job| Cursor {
            created_at: job.created_at,
            job_id: job.id.clone(),
        });
        Self {
            jobs,
            next: next.or_else(|| end.cloned()),
        }
    }
}

/// How many rows a page reads to know whether they are wanted; `None` if it need not.
fn searched(filter: &JobFilter, has_label_index: bool) -> Option<i64> {
    let Selection { text, labels, .. } = &filter.selection;
    if has_label_index {
        return Some(LABELS_TRIED);
    }
    (text.is_some() || !labels.is_empty()).then_some(MAX_SEARCHED)
}

/// The column whose index SQLite is to use: it does not know how many jobs have a value. A group has few jobs, and most jobs
/// have completed.
fn lead(selection: &Selection, status: Option<Status>) -> Option<&'static str> {
    let is_rare = status.is_some_and(|status| status != Status::Completed);
    let leads = [
        (selection.group.is_some(), "job_group"),
        (is_rare, "status"),
        (selection.workflow.is_some(), "workflow"),
        (selection.backend.is_some(), "backend"),
        (status.is_some(), "status"),
    ];
    leads
        .into_iter()
        .find_map(|(is_given, column)| is_given.then_some(column))
}
