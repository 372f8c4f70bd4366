//! Tables of pipelines, as they are found. A job lives on each: what the pipeline had is untouched, but for the fields
//! that are documented.

use comfy_relay::config::StoreConfig;
use serde_json::json;

use crate::support::database::TestDatabase;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

/// A table and what it shows at the end of the job.
struct Case {
    /// Creates the table and its rows.
    sql: &'static str,
    /// The job's id.
    job: &'static str,
    /// What the row shows at the end: status, progress, path, and whether the end has a time.
    shows: &'static str,
    /// What the log and the health say is refused, in states.
    is_refused: bool,
}

/// The usual row, which becomes `completed|100|out/a-long-name.png|t`.
const DONE: &str = "completed|100|out/a-long-name.png|t";

/// Every column but the documented ones, and the other keys of metadata.
const THEIRS: &str = "SELECT concat(to_jsonb(jobs) - ARRAY['status', 'output_path', 'error_message', 'metadata', \
    'completed_at'], '|', CASE WHEN left(ltrim(metadata::text), 1) = '{' \
    THEN NULLIF(metadata::jsonb - ARRAY['progress', 'estimated_remaining', 'last_updated', 'outputs'], '{}')::text \
    ELSE NULLIF(metadata::text, 'null') END) AS v FROM jobs ORDER BY 1";

/// Everything that is declared outside of the relay's schema.
const DECLARED: &str = "SELECT string_agg(line, ';' ORDER BY line) AS v FROM (\
    SELECT concat_ws(' ', n.nspname, c.relname, c.relkind, c.reltuples < 0, a.attname, a.atttypid, a.attnotnull) AS line \
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_attribute a ON attrelid = c.oid \
    WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'comfy_relay') \
    UNION ALL SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_t%' AND nspname <> 'comfy_relay' \
    UNION ALL SELECT conname FROM pg_constraint WHERE connamespace::regnamespace::text <> 'comfy_relay') AS lines";

async fn lives_on(case: Case) {
    let db = TestDatabase::postgres().await;
    db.execute(case.sql).await;
    let (theirs, declared) = (db.values(THEIRS).await, db.value(DECLARED).await);
    let relay = TestRelay::without_backend(db.config()).await;
    let report = |progress: u8, status: &str| json!({"progress": progress, "status": status, "message": "Rendering"});
    relay.report(case.job, &report(40, "processing")).await;
    wait_until("the state is mirrored", async || is_settled(&relay).await).await;
    let mut end = report(100, "completed");
    end["output_path"] = json!("out/a-long-name.png");
    relay.report(case.job, &end).await;
    let own = format!(
        "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = '{}'",
        case.job
    );
    assert_eq!(db.value(&own).await, "completed", "202 means durable");
    wait_until("the end is mirrored", async || is_settled(&relay).await).await;
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"][0]["job_id"], case.job);
    let (_, health) = relay.get("/api/anime/health").await;
    let refused = health["components"]["mirror"]["refused"].as_u64().unwrap();
    assert_eq!(refused > 0, case.is_refused, "{health}");
    relay.stop().await;
    let shows = "SELECT concat_ws('|', status, CASE WHEN left(ltrim(metadata::text), 1) = '{' \
        THEN metadata::jsonb->>'progress' ELSE metadata::text END, output_path, completed_at IS NOT NULL) AS v \
        FROM jobs WHERE id::text = ";
    let shown = db.value(&format!("{shows}'{}'", case.job)).await;
    assert_eq!(shown, case.shows);
    assert_eq!(db.values(THEIRS).await, theirs);
    assert_eq!(db.value(DECLARED).await, declared);
    let ids = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE mirror_due";
    let left = if case.is_refused { "1" } else { "0" };
    assert_eq!(db.value(ids).await, left, "refused ends are tried again");
}

/// Whether nothing waits to be mirrored.
pub(super) async fn is_settled(relay: &TestRelay) -> bool {
    let (_, health) = relay.get("/api/anime/health").await;
    let mirror = &health["components"]["mirror"];
    mirror["table"].is_string() && mirror["pending"] == 0
}

macro_rules! tables {
    ($($name:ident: $job:literal $shows:expr, $is_refused:literal, $sql:expr;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            lives_on(Case { sql: $sql, job: $job, shows: $shows, is_refused: $is_refused }).await;
        }
    )+};
}

tables! {
    serial_ids_and_jsonb: "1" DONE, false, include_str!("pipeline_jobs.sql");
    small_ids: "7" DONE, false,
        "CREATE TABLE jobs (id SMALLINT PRIMARY KEY, status VARCHAR(50), output_path TEXT, error_message TEXT, \
         metadata JSONB, completed_at TIMESTAMPTZ, note TEXT); INSERT INTO jobs VALUES (7, 'new', NULL, NULL, \
         '{\"scene\": 3}', NULL, 'a'), (8, 'new', NULL, NULL, '{}', NULL, 'b')";
    ids_of_19_digits: "9007199254740993123" DONE, false,
        "CREATE TABLE jobs (id BIGINT PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, \
         metadata JSONB DEFAULT '{}', completed_at TIMESTAMPTZ); INSERT INTO jobs (id) VALUES \
         (9007199254740993123), (9007199254740993124)";
    uuid_ids: "6f9619ff-8b86-4d01-b42d-00cf4fc964f1" DONE, false,
        "CREATE TABLE jobs (id UUID PRIMARY KEY, prompt_id UUID, status TEXT, output_path TEXT, error_message TEXT, \
         metadata JSONB, completed_at TIMESTAMPTZ); INSERT INTO jobs (id, prompt_id) VALUES \
         ('6f9619ff-8b86-4d01-b42d-00cf4fc964f1', '6f9619ff-8b86-4d01-b42d-00cf4fc964f2')";
    text_ids: "scene-1" DONE, false,
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata JSONB, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs VALUES ('scene-1', 'new', NULL, NULL, '{\"a\": 1.50}')";
    short_varchars: "scene-1" "completed|100|out/a-long|t", false,
        "CREATE TABLE jobs (id VARCHAR(8) PRIMARY KEY, status VARCHAR(10), output_path VARCHAR(10), \
         error_message VARCHAR(5), metadata JSONB, completed_at TIMESTAMPTZ); INSERT INTO jobs (id) VALUES ('scene-1')";
    a_status_that_is_too_long_is_not_cut: "1" "new|100|out/a-long-name.png|t", true,
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, status VARCHAR(5), output_path TEXT, error_message TEXT, \
         metadata JSONB, completed_at TIMESTAMPTZ); INSERT INTO jobs (id, status) VALUES (1, 'new')";
    citext: "Scene-1" DONE, false,
        "CREATE EXTENSION citext; CREATE TABLE jobs (id CITEXT PRIMARY KEY, status CITEXT, output_path CITEXT, \
         error_message CITEXT, metadata JSONB, completed_at TIMESTAMPTZ); INSERT INTO jobs (id) VALUES ('Scene-1')";
    metadata_as_json: "1" DONE, false,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata JSON, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (metadata) VALUES ('{\"b\": 1.50, \"a\": [1,  2]}')";
    metadata_as_text: "1" DONE, false,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata TEXT, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (metadata) VALUES ('{\"b\": 1.50, \"a\": [1,  2]}')";
    metadata_that_is_a_note: "1" "completed|ask mika|out/a-long-name.png|t", true,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata TEXT, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (metadata) VALUES ('ask mika')";
    metadata_that_is_an_array: "1" "completed|[1, 2]|out/a-long-name.png|t", true,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata JSONB, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (metadata) VALUES ('[1, 2]')";
    metadata_that_is_null: "1" DONE, false,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata JSONB, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (metadata) VALUES (NULL), ('null')";
    an_enum: "1" DONE, false,
        "CREATE TYPE state AS ENUM ('queued', 'processing', 'completed', 'failed', 'cancelled'); \
         CREATE TABLE jobs (id SERIAL PRIMARY KEY, status state, output_path TEXT, error_message TEXT, metadata JSONB, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (status) VALUES ('queued')";
    an_enum_that_lacks_a_status: "1" "processing|100|out/a-long-name.png|t", true,
        "CREATE TYPE state AS ENUM ('queued', 'processing', 'done'); \
         CREATE TABLE jobs (id SERIAL PRIMARY KEY, status state, output_path TEXT, error_message TEXT, metadata JSONB, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (status) VALUES ('queued')";
    a_check: "1" "processing|100|out/a-long-name.png|t", true,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT CHECK (status IN ('queued', 'processing')), \
         output_path TEXT, error_message TEXT, metadata JSONB, completed_at TIMESTAMPTZ); \
         INSERT INTO jobs (status) VALUES ('queued')";
    required_columns: "1" DONE, false,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, project INTEGER NOT NULL, status TEXT NOT NULL, \
         output_path TEXT NOT NULL, error_message TEXT NOT NULL, metadata JSONB NOT NULL, \
         completed_at TIMESTAMPTZ NOT NULL); INSERT INTO jobs VALUES (1, 5, 'new', '', '', '{}', '2020-01-01')";
    domains: "1" DONE, false,
        "CREATE DOMAIN state AS TEXT CHECK (VALUE IN ('queued', 'processing', 'completed', 'failed', 'cancelled')); \
         CREATE DOMAIN key AS INTEGER; CREATE DOMAIN file_path AS VARCHAR(500); CREATE DOMAIN bag AS JSONB; \
         CREATE TABLE jobs (id key PRIMARY KEY, status state, output_path file_path, error_message file_path, metadata bag, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (id, metadata) VALUES (1, '{\"a\": 1}')";
    partitions: "1" DONE, false,
        "CREATE TABLE jobs (id BIGINT, status TEXT, output_path TEXT, error_message TEXT, metadata JSONB, \
         created_at DATE, completed_at TIMESTAMP, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at); \
         CREATE TABLE jobs_25 PARTITION OF jobs FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); \
         CREATE TABLE jobs_26 PARTITION OF jobs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
         INSERT INTO jobs (id, created_at) VALUES (1, '2026-02-03'), (2, '2025-02-03')";
    a_view: "1" DONE, false,
        "CREATE SCHEMA anime; CREATE TABLE anime.work (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, \
         error_message TEXT, metadata JSONB, completed_at TIMESTAMPTZ, hidden TEXT); \
         INSERT INTO anime.work (hidden) VALUES ('a'), ('b'); \
         CREATE VIEW jobs AS SELECT id, status, output_path, error_message, metadata, completed_at FROM anime.work";
    a_view_without_a_rule: "1" "new|0|f", true,
        "CREATE VIEW jobs AS SELECT 1 AS id, 'new' AS status, NULL AS output_path, NULL AS error_message, \
         '{\"progress\": 0}'::jsonb AS metadata, NULL::date AS completed_at, count(*) FROM pg_class \
         HAVING false OR true";
    row_level_security: "1" "new|f", false,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata JSONB, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (status) VALUES ('new'); \
         ALTER TABLE jobs ENABLE ROW LEVEL SECURITY; ALTER TABLE jobs FORCE ROW LEVEL SECURITY; \
         CREATE POLICY reading ON jobs FOR SELECT USING (true); CREATE POLICY writing ON jobs FOR UPDATE USING (false)";
    a_foreign_key: "1" DONE, false,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, error_message TEXT, metadata JSONB, \
         completed_at TIMESTAMPTZ); INSERT INTO jobs (status) VALUES ('new'); \
         CREATE TABLE frames (job INTEGER REFERENCES jobs, n INTEGER); INSERT INTO frames VALUES (1, 1)";
    a_schema_of_the_users_name: "1" DONE, false,
        "CREATE SCHEMA relay; CREATE TABLE public.jobs (id SERIAL PRIMARY KEY, status TEXT, output_path TEXT, \
         error_message TEXT, metadata JSONB, completed_at TIMESTAMPTZ); INSERT INTO public.jobs (status) VALUES ('new')";
    names_of_the_relay: "1" DONE, false,
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, job_key TEXT UNIQUE, backend INTEGER, status TEXT, output_path TEXT, \
         error_message TEXT, metadata JSONB, completed_at TIMESTAMPTZ); INSERT INTO jobs (job_key) VALUES ('2'), ('x'); \
         CREATE TABLE backends (id INTEGER); CREATE TABLE node_runs (id TEXT); CREATE TABLE leases (id TEXT)";
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_missing_are_left_out() {
    let db = TestDatabase::postgres().await;
    db.execute(
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT); INSERT INTO jobs DEFAULT VALUES",
    )
    .await;
    let relay = TestRelay::without_backend(db.config()).await;
    let end = json!({"progress": 100, "status": "completed", "output_path": "a.png"});
    relay.report("1", &end).await;
    db.wait_for("SELECT status AS v FROM jobs", "completed")
        .await;
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["components"]["mirror"]["refused"], 0);
    relay.stop().await;
}

/// Text keeps every byte of the pipeline's values; naive timestamps are in UTC.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_in_text_keeps_its_bytes() {
    let db = TestDatabase::postgres().await;
    db.execute(
        "CREATE TABLE jobs (id INTEGER, metadata TEXT, completed_at TIMESTAMP); \
         INSERT INTO jobs VALUES (1, '{\"z\": 1.50, \"a\": [1,  2], \"progress\": 3}')",
    )
    .await;
    let relay = TestRelay::without_backend(db.config()).await;
    relay
        .report("1", &json!({"progress": 100, "status": "completed"}))
        .await;
    let metadata = "SELECT left(metadata, 40) AS v FROM jobs";
    db.wait_for(metadata, r#"{"z":1.50,"a":[1,  2],"progress":100,"es"#)
        .await;
    let age = "SELECT abs(extract(epoch FROM now() AT TIME ZONE 'UTC' - completed_at)) < 60 AS v FROM jobs";
    assert_eq!(db.value(age).await, "true");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_and_another_schema_can_be_named() {
    let db = TestDatabase::postgres().await;
    db.execute(
        "CREATE SCHEMA anime; CREATE TABLE anime.\"Work\" (id INTEGER, status TEXT); \
         CREATE TABLE jobs (id INTEGER, status TEXT); \
         INSERT INTO anime.\"Work\" VALUES (1, 'new'); INSERT INTO jobs VALUES (1, 'new')",
    )
    .await;
    let store = StoreConfig {
        schema: "own_schema".parse().unwrap(),
        pipeline_table: "anime.Work".parse().unwrap(),
        ..db.config()
    };
    let relay = TestRelay::without_backend(store).await;
    relay
        .report("1", &json!({"progress": 100, "status": "completed"}))
        .await;
    db.wait_for("SELECT status AS v FROM anime.\"Work\"", "completed")
        .await;
    assert_eq!(db.value("SELECT status AS v FROM jobs").await, "new");
    let own = "SELECT status AS v FROM own_schema.jobs";
    assert_eq!(db.value(own).await, "completed");
    relay.stop().await;
}
