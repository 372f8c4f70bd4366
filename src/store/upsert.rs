//! Writes a batch in one transaction: one statement for all jobs, one for all node runs.

use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::mirror::MirroredState;
use super::rows::{JobRecord, batch};

impl Store {
    /// Writes the states of jobs, and the node runs of those that have ended: all or nothing.
    pub async fn upsert(&self, records: &[JobRecord]) -> Result<(), StoreError> {
        let row =
            |record| JobRecord::row(record, self.mirror.covers(record.progress.job_id.as_str()));
        let rows: Vec<_> = records.iter().map(row).collect();
        let jobs = batch(&rows)?;
        let rows: Vec<_> = records.iter().flat_map(JobRecord::node_run_rows).collect();
        let node_runs = (!rows.is_empty()).then(|| batch(&rows)).transpose()?;
        let statements = &self.statements;
        in_time(async {
            with_connection!(self, writes, |connection, _names| {
                connection
                    .transaction(async |connection| {
                        let upsert = sql_query(&statements.upsert).bind::<Text, _>(&jobs);
                        upsert.execute(connection).await?;
                        if let Some(node_runs) = &node_runs {
                            let insert =
                                sql_query(&statements.node_runs).bind::<Text, _>(node_runs);
                            insert.execute(connection).await?;
                        }
                        Ok::<(), StoreError>(())
                    })
                    .await
            })
        })
        .await?;
        for record in records {
            self.mirror.submit(MirroredState::of(record));
        }
        Ok(())
    }
}
