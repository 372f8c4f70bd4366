//! Writes a batch in one transaction: one statement for all jobs, one for all node runs, one for what is to be sent to webhooks.

use std::collections::HashSet;

use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

use super::Store;
use super::database::{Pools, StoreError, in_time, with_connection};
use super::mirror::MirroredState;
use super::rows::{JobRecord, batch};
use crate::job::JobId;

/// A batch waits no longer for a row that somebody locks: it is split, and the other rows are written. The setting ends
/// with the transaction, because a pooler gives the session to others.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// A row that was written.
#[derive(Debug, QueryableByName)]
struct WrittenRow {
    #[diesel(sql_type = Text)]
    job_key: String,
}

impl Store {
    /// Writes the states of jobs, and the node runs of those that have ended: all or nothing, except those whose rows
    /// are newer. Returns the ids of these: another relay has taken the jobs over, or ended them.
    pub async fn upsert(&self, records: &[JobRecord]) -> Result<Vec<JobId>, StoreError> {
        let jobs = self.job_rows(records)?;
        let statements = &self.statements;
        let written: HashSet<String> = in_time(async {
            let written = with_connection!(self, writes, |connection, names| {
                connection
                    .transaction(async |connection| {
                        if let Pools::Postgres(_) = self.pools.writes {
                            connection.batch_execute(LOCK_TIMEOUT).await?;
                        }
                        let upsert = sql_query(&statements.upsert).bind::<Text, _>(&jobs);
                        let written: Vec<WrittenRow> =
                            names.query(upsert)?.load(connection).await?;
                        let written: HashSet<String> =
                            written.into_iter().map(|row| row.job_key).collect();
                        if let Some(node_runs) = node_runs(records, &written)? {
                            let insert =
                                sql_query(&statements.node_runs).bind::<Text, _>(node_runs);
                            names.statement(&insert)?.execute(connection).await?;
                        }
                        if let Some(deliveries) = deliveries(records, &written)? {
                            let insert =
                                sql_query(&self.webhooks.insert).bind::<Text, _>(deliveries);
                            names.statement(&insert)?.execute(connection).await?;
                        }
                        Ok::<_, StoreError>(written)
                    })
                    .await?
            });
            Ok(written)
        })
        .await?;
        if records.iter().any(|record| !record.deliveries.is_empty()) {
            self.deliveries_added.notify_one();
        }
        let mut moved = Vec::new();
        for record in records {
            if written.contains(record.progress.job_id.as_str()) {
                if self.is_mirrored(record) {
                    self.mirror.submit(MirroredState::of(record));
                }
            } else {
                moved.push(record.progress.job_id.clone());
            }
        }
        Ok(moved)
    }

    /// Writes the row of a job, and what is to be sent because of it, unless it has a row.
    pub async fn add_job(&self, record: &JobRecord) -> Result<(), StoreError> {
        let records = std::slice::from_ref(record);
        let job = self.job_rows(records)?;
        let added = HashSet::from([record.progress.job_id.to_string()]);
        let deliveries = deliveries(records, &added)?;
        in_time(async {
            with_connection!(self, writes, |connection, names| {
                connection
                    .transaction(async |connection| {
                        let insert = sql_query(&self.statements.insert).bind::<Text, _>(job);
                        let has_row = insert.execute(connection).await? == 0;
                        if let Some(deliveries) = deliveries.filter(|_| !has_row) {
                            let insert =
                                sql_query(&self.webhooks.insert).bind::<Text, _>(deliveries);
                            names.statement(&insert)?.execute(connection).await?;
                        }
                        Ok::<_, StoreError>(())
                    })
                    .await?;
            });
            Ok(())
        })
        .await?;
        if !record.deliveries.is_empty() {
            self.deliveries_added.notify_one();
        }
        Ok(())
    }

    /// The rows of jobs, as the statements take them.
    pub(super) fn job_rows(&self, records: &[JobRecord]) -> Result<String, StoreError> {
        let row = |record| JobRecord::row(record, self.is_mirrored(record));
        let mut rows: Vec<_> = records.iter().map(row).collect();
        // Neighbours in the index are written together, and two relays lock the rows that both write in the same order.
        rows.sort_unstable_by_key(|row| row.job_key);
        Ok(batch(&rows)?)
    }

    /// Whether the pipeline's table shows a job. Of a prompt that nobody has registered it knows nothing.
    fn is_mirrored(&self, record: &JobRecord) -> bool {
        let progress = &record.progress;
        !progress.tags.are_discovered() && self.mirror.covers(progress.job_id.as_str())
    }
}

/// The node runs of the jobs that were written, as a batch; `None` if there are none.
fn node_runs(
    records: &[JobRecord],
    written: &HashSet<String>,
) -> Result<Option<String>, StoreError> {
    let written = |record: &&JobRecord| written.contains(record.progress.job_id.as_str());
    let rows: Vec<_> = records
        .iter()
        .filter(written)
        .flat_map(JobRecord::node_run_rows)
        .collect();
    Ok((!rows.is_empty()).then(|| batch(&rows)).transpose()?)
}

/// What is to be sent to webhooks because of the jobs that were written, as a batch; `None` if there is nothing.
fn deliveries(
    records: &[JobRecord],
    written: &HashSet<String>,
) -> Result<Option<String>, StoreError> {
    let written = |record: &&JobRecord| written.contains(record.progress.job_id.as_str());
    let rows: Vec<_> = (records.iter().filter(written))
        .flat_map(|record| &record.deliveries)
        .collect();
    Ok((!rows.is_empty()).then(|| batch(&rows)).transpose()?)
}
