//! Writes a batch in one transaction: one statement for all jobs, one for all node runs.

use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::adoption::IdKind;
use super::database::{Pools, StoreError, in_time, with_connection};
use super::rows::{JobRecord, batch};

/// The statements for one database and one type of ids. Each takes one parameter: the rows, as JSON.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    /// Turns rows that the pipeline made into the rows of the jobs that are registered under their ids.
    take_over: String,
    upsert: String,
    node_runs: &'static str,
}

const POSTGRES_ROWS: &str = "jsonb_to_recordset(CAST($1 AS jsonb)) AS r(job_key text, row_id text, \
    prompt_id text, backend text, status text, output_path text, error_message text, metadata jsonb, \
    created_at timestamptz, started_at timestamptz, completed_at timestamptz)";

const SQLITE_ROWS: &str = "(SELECT value->>'job_key' AS job_key, value->>'row_id' AS row_id, \
    value->>'prompt_id' AS prompt_id, value->>'backend' AS backend, value->>'status' AS status, \
    value->>'output_path' AS output_path, value->>'error_message' AS error_message, \
    value->'metadata' AS metadata, value->>'created_at' AS created_at, \
    value->>'started_at' AS started_at, value->>'completed_at' AS completed_at \
    FROM json_each($1)) AS r";

/// Merges `metadata` with `||`, which replaces the given keys and keeps the others.
const POSTGRES_MERGE: &str = "COALESCE(NULLIF(jobs.metadata, 'null'), '{}') || EXCLUDED.metadata";

/// The same key by key: SQLite's `json_patch` would remove a key whose new value is `null`.
const SQLITE_MERGE: &str = "json_set(CASE WHEN json_valid(jobs.metadata) \
        AND json_type(jobs.metadata) = 'object' THEN jobs.metadata ELSE '{}' END, \
    '$.progress', json(EXCLUDED.metadata->'progress'), \
    '$.estimated_remaining', json(EXCLUDED.metadata->'estimated_remaining'), \
    '$.last_updated', EXCLUDED.metadata->>'last_updated', \
    '$.outputs', json(EXCLUDED.metadata->'outputs'), \
    '$.relay', json(EXCLUDED.metadata->'relay'))";

const POSTGRES_NODE_RUNS: &str = "INSERT INTO node_runs \
    (job_key, backend, node, class, signature, started_at, seconds, steps, cached, \
    units, calls, models, planned_steps, cold, tick, ticks) \
    SELECT * FROM jsonb_to_recordset(CAST($1 AS jsonb)) AS r(job_key text, backend text, node text, \
    class text, signature text, started_at timestamptz, seconds double precision, steps bigint, \
    cached boolean, units double precision, calls double precision, models bigint, \
    planned_steps bigint, cold boolean, \
    tick double precision, ticks double precision) ON CONFLICT (job_key, node) DO NOTHING";

const SQLITE_NODE_RUNS: &str = "INSERT INTO node_runs \
    (job_key, backend, node, class, signature, started_at, seconds, steps, cached, \
    units, calls, models, planned_steps, cold, tick, ticks) \
    SELECT value->>'job_key', value->>'backend', value->>'node', value->>'class', value->>'signature', \
    value->>'started_at', value->>'seconds', value->>'steps', value->>'cached', value->>'units', \
    value->>'calls', value->>'models', \
    value->>'planned_steps', value->>'cold', value->>'tick', value->>'ticks' FROM json_each($1) \
    WHERE true ON CONFLICT (job_key, node) DO NOTHING";

impl Statements {
    pub(super) fn new(pools: &Pools, ids: IdKind) -> Self {
        let is_postgres = matches!(pools, Pools::Postgres(_));
        let (rows, merge, node_runs) = if is_postgres {
            (POSTGRES_ROWS, POSTGRES_MERGE, POSTGRES_NODE_RUNS)
        } else {
            (SQLITE_ROWS, SQLITE_MERGE, SQLITE_NODE_RUNS)
        };
        let (id, row_id) = match ids {
            IdKind::Integer => ("", ""),
            IdKind::Uuid => ("id, ", "CAST(r.row_id AS uuid), "),
            IdKind::Text => ("id, ", "r.job_key, "),
        };
        // A final state is never overwritten by another status, whichever relay writes it.
        let upsert = format!(
            "INSERT INTO jobs ({id}job_key, prompt_id, backend, job_type, status, output_path, \
             error_message, metadata, created_at, started_at, completed_at, relay_made) \
             SELECT {row_id}r.job_key, r.prompt_id, r.backend, 'comfyui', r.status, r.output_path, \
             r.error_message, r.metadata, r.created_at, r.started_at, r.completed_at, true \
             FROM {rows} WHERE true \
             ON CONFLICT (job_key) DO UPDATE SET prompt_id = EXCLUDED.prompt_id, \
             backend = EXCLUDED.backend, status = EXCLUDED.status, \
             output_path = COALESCE(EXCLUDED.output_path, jobs.output_path), \
             error_message = EXCLUDED.error_message, metadata = {merge}, \
             started_at = EXCLUDED.started_at, completed_at = EXCLUDED.completed_at \
             WHERE jobs.status NOT IN ('completed', 'failed', 'cancelled') \
             OR jobs.status = EXCLUDED.status"
        );
        Self {
            take_over: take_over(rows, ids, is_postgres),
            upsert,
            node_runs,
        }
    }
}

/// A row that is taken over starts afresh with the status of the job. If it has no `created_at`, it gets the job's,
/// because lists are sorted by it.
fn take_over(rows: &str, ids: IdKind, is_postgres: bool) -> String {
    let (id, fits) = match (ids, is_postgres) {
        (IdKind::Integer, true) => (
            "CAST(r.job_key AS bigint)",
            "r.job_key ~ '^(0|[1-9][0-9]{0,17})$'",
        ),
        (IdKind::Integer, false) => (
            "CAST(r.job_key AS integer)",
            "CAST(CAST(r.job_key AS integer) AS text) = r.job_key",
        ),
        (IdKind::Uuid, _) => (
            "CAST(r.job_key AS uuid)",
            "r.job_key ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'",
        ),
        (IdKind::Text, _) => ("r.job_key", "true"),
    };
    format!(
        "UPDATE jobs SET job_key = r.job_key, status = r.status, \
         created_at = COALESCE(jobs.created_at, r.created_at), started_at = NULL, completed_at = NULL \
         FROM (SELECT CASE WHEN {fits} THEN {id} END AS id, r.job_key, r.status, r.created_at \
         FROM {rows}) AS r \
         WHERE jobs.job_key IS NULL AND jobs.id = r.id"
    )
}

impl Statements {
    /// Writes the states of jobs, and the node runs of those that have ended: all or nothing.
    pub(super) async fn execute(
        &self,
        pools: &Pools,
        records: &[JobRecord],
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = records.iter().map(JobRecord::row).collect();
        let jobs = batch(&rows)?;
        let rows: Vec<_> = records.iter().flat_map(JobRecord::node_run_rows).collect();
        let node_runs = (!rows.is_empty()).then(|| batch(&rows)).transpose()?;
        in_time(async {
            with_connection!(pools, connection => {
                connection.transaction(async |connection| {
                    let take_over = sql_query(&self.take_over).bind::<Text, _>(&jobs);
                    take_over.execute(connection).await?;
                    let upsert = sql_query(&self.upsert).bind::<Text, _>(&jobs);
                    upsert.execute(connection).await?;
                    if let Some(node_runs) = &node_runs {
                        let insert = sql_query(self.node_runs).bind::<Text, _>(node_runs);
                        insert.execute(connection).await?;
                    }
                    Ok::<(), StoreError>(())
                })
                .await
            })
        })
        .await
    }
}
