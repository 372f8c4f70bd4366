//! The statements that write batches.
//!
//! They are SQL text, because diesel cannot say them: their only parameter is the whole batch as JSON, so that a thousand
//! rows cost no more than one to plan.

use super::names::Names;

/// The statements for one database. Each takes one parameter: the rows, as JSON.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) upsert: String,
    /// As `upsert`, but rows that exist stay as they are.
    pub(super) insert: String,
    pub(super) node_runs: String,
}

const JOB_COLUMNS: &str = "job_key, prompt_id, backend, status, progress, estimated_remaining, message, \
    output_path, error_message, error_code, learned_from, seq, outputs, created_at, started_at, completed_at, \
    last_updated, mirror_due, owner, epoch, labels, job_group, workflow, cancelling";

const POSTGRES_JOBS: &str = "jsonb_to_recordset(CAST($1 AS jsonb)) AS r(job_key text, prompt_id text, backend text, \
    status text, progress bigint, estimated_remaining bigint, message text, output_path text, error_message text, \
    error_code text, learned_from text, seq bigint, outputs json, created_at timestamptz, started_at timestamptz, \
    completed_at timestamptz, last_updated timestamptz, mirror_due boolean, \
    owner text, epoch bigint, labels text, job_group text, workflow text, cancelling boolean)";

/// The values of `jsonb_each` are parsed already; those of `json_each` are texts, which each `->>` would parse again.
const SQLITE_JOBS: &str = "(SELECT value->>'job_key' AS job_key, value->>'prompt_id' AS prompt_id, \
    value->>'backend' AS backend, value->>'status' AS status, value->>'progress' AS progress, \
    value->>'estimated_remaining' AS estimated_remaining, value->>'message' AS message, \
    value->>'output_path' AS output_path, value->>'error_message' AS error_message, \
    value->>'error_code' AS error_code, value->>'learned_from' AS learned_from, value->>'seq' AS seq, \
    value->'outputs' AS outputs, value->>'created_at' AS created_at, value->>'started_at' AS started_at, \
    value->>'completed_at' AS completed_at, value->>'last_updated' AS last_updated, \
    value->>'mirror_due' AS mirror_due, value->>'owner' AS owner, value->>'epoch' AS epoch, \
    value->>'labels' AS labels, value->>'job_group' AS job_group, value->>'workflow' AS workflow, \
    value->>'cancelling' AS cancelling FROM jsonb_each($1)) AS r";

/// A state is written only over an older one: the relay that took a job over has a higher epoch, and the numbers of one
/// relay grow. The same state may come twice, because its writer may not have learned that it was written. A final state
/// is never overwritten by another status. A path that was stored once stays, but not that of another attempt: its file is
/// lost.
const UPDATE: &str = "UPDATE SET prompt_id = EXCLUDED.prompt_id, backend = EXCLUDED.backend, \
    status = EXCLUDED.status, progress = EXCLUDED.progress, estimated_remaining = EXCLUDED.estimated_remaining, \
    message = EXCLUDED.message, \
    output_path = CASE WHEN EXCLUDED.prompt_id <> target.prompt_id THEN EXCLUDED.output_path \
        ELSE COALESCE(EXCLUDED.output_path, target.output_path) END, \
    error_message = EXCLUDED.error_message, error_code = EXCLUDED.error_code, \
    learned_from = EXCLUDED.learned_from, seq = EXCLUDED.seq, outputs = EXCLUDED.outputs, \
    started_at = EXCLUDED.started_at, completed_at = EXCLUDED.completed_at, \
    last_updated = EXCLUDED.last_updated, mirror_due = EXCLUDED.mirror_due, \
    owner = EXCLUDED.owner, epoch = EXCLUDED.epoch, labels = EXCLUDED.labels, job_group = EXCLUDED.job_group, \
    workflow = EXCLUDED.workflow, cancelling = EXCLUDED.cancelling \
    WHERE (target.status NOT IN ('completed', 'failed', 'cancelled') OR target.status = EXCLUDED.status) \
    AND (EXCLUDED.epoch > target.epoch OR EXCLUDED.epoch = target.epoch \
         AND (target.owner IS NULL OR target.owner = EXCLUDED.owner) AND EXCLUDED.seq >= target.seq) \
    RETURNING job_key";

const RUN_COLUMNS: &str = "job_key, backend, node, class, signature, started_at, seconds, steps, cached, units, \
    calls, models, planned_steps, cold, tick, ticks, parallel, display, title, state";

const POSTGRES_RUNS: &str = "jsonb_to_recordset(CAST($1 AS jsonb)) AS r(job_key text, backend text, node text, \
    class text, signature text, started_at timestamptz, seconds double precision, steps bigint, cached boolean, \
    units double precision, calls double precision, models bigint, planned_steps bigint, cold boolean, \
    tick double precision, ticks double precision, parallel boolean, \
    display text, title text, state text)";

const SQLITE_RUNS: &str = "(SELECT value->>'job_key' AS job_key, value->>'backend' AS backend, \
    value->>'node' AS node, value->>'class' AS class, value->>'signature' AS signature, \
    value->>'started_at' AS started_at, value->>'seconds' AS seconds, value->>'steps' AS steps, \
    value->>'cached' AS cached, value->>'units' AS units, value->>'calls' AS calls, value->>'models' AS models, \
    value->>'planned_steps' AS planned_steps, value->>'cold' AS cold, value->>'tick' AS tick, \
    value->>'ticks' AS ticks, value->>'parallel' AS parallel, \
    value->>'display' AS display, value->>'title' AS title, value->>'state' AS state FROM jsonb_each($1)) AS r";

impl Statements {
    pub(super) fn new(names: &Names) -> Self {
        let (jobs, runs) = match names {
            Names::Postgres(_) => (POSTGRES_JOBS, POSTGRES_RUNS),
            Names::Sqlite => (SQLITE_JOBS, SQLITE_RUNS),
        };
        let insert = format!(
            "INSERT INTO comfy_relay.jobs AS target ({JOB_COLUMNS}) SELECT {JOB_COLUMNS} FROM {jobs} \
             WHERE true ON CONFLICT (job_key) DO"
        );
        let node_runs = format!(
            "INSERT INTO comfy_relay.node_runs ({RUN_COLUMNS}) SELECT {RUN_COLUMNS} FROM {runs} \
             WHERE true ON CONFLICT (job_key, node) DO NOTHING"
        );
        Self {
            upsert: names.text(&format!("{insert} {UPDATE}")),
            insert: names.text(&format!("{insert} NOTHING")),
            node_runs: names.text(&node_runs),
        }
    }
}
