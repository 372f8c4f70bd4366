//! The query for the ends of jobs that the pipeline's table does not show yet.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::mirror::{MirroredKeys, MirroredState};
use super::moment::Moment;
use super::rows::timestamp;
use super::schema::jobs;
use crate::job::Status;

/// The end of a job that is still to be mirrored.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = jobs)]
struct DueRow {
    job_key: String,
    status: String,
    progress: i64,
    estimated_remaining: Option<i64>,
    outputs: Value,
    output_path: Option<String>,
    error_message: Option<String>,
    created_at: Moment,
    completed_at: Option<Moment>,
    last_updated: Moment,
}

impl Store {
    /// At most `limit` ends that are still to be mirrored, in the order of their jobs' ids, after one.
    pub(super) async fn due_states(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<MirroredState>, StoreError> {
        let due = jobs::table
            .filter(jobs::mirror_due)
            .filter(jobs::completed_at.is_not_null())
            .filter(jobs::job_key.gt(after))
            .order(jobs::job_key)
            .limit(limit);
        let rows: Vec<DueRow> = in_time(async {
            Ok(with_connection!(self, mirror, |connection, names| {
                let due = due.select(DueRow::as_select());
                names.query(due)?.load(connection).await?
            }))
        })
        .await?;
        Ok(rows.into_iter().filter_map(DueRow::read).collect())
    }
}

impl DueRow {
    /// `None` for a status that another program has written.
    fn read(self) -> Option<MirroredState> {
        Some(MirroredState {
            job_key: self.job_key,
            status: Status::from_word(&self.status)?,
            output_path: self.output_path,
            error_message: self.error_message,
            created_at: self.created_at.0,
            completed_at: self.completed_at.map(|at| at.0),
            metadata: MirroredKeys {
                progress: self.progress,
                estimated_remaining: self.estimated_remaining,
                last_updated: timestamp(self.last_updated.0),
                outputs: serde_json::from_value(self.outputs).unwrap_or_default(),
            },
        })
    }
}
