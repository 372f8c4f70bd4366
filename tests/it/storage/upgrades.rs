//! Databases of every schema that was released are brought up to date, without the loss of a job.

use std::collections::BTreeMap;

use comfy_relay::store::Store;
use serde_json::json;

use crate::support::database::{TestDatabase, on_both};
use crate::support::test_relay::TestRelay;

on_both!(
    each_released_schema_is_brought_up_to_date,
    each_schema_of_its_own_is_brought_up_to_date,
    a_copy_that_was_interrupted_goes_on,
    an_adopted_table_becomes_the_pipelines_again,
    relays_that_start_at_once_copy_each_row_once,
);

/// The versions of the released migrations.
const VERSIONS: [&str; 4] = [
    "20261123000001",
    "20261125000001",
    "20261125000011",
    "20261128000001",
];

const POSTGRES: [&str; 4] = [
    include_str!("released/postgres_1.sql"),
    include_str!("released/postgres_2.sql"),
    include_str!("released/postgres_3.sql"),
    include_str!("released/postgres_4.sql"),
];

const SQLITE: [&str; 4] = [
    include_str!("released/sqlite_1.sql"),
    include_str!("released/sqlite_2.sql"),
    include_str!("released/sqlite_3.sql"),
    include_str!("released/sqlite_4.sql"),
];

/// What an earlier release did to a database.
async fn release(db: &TestDatabase, steps: usize) {
    db.execute("CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY, run_on TIMESTAMP)")
        .await;
    let migrations = if db.is_postgres() { POSTGRES } else { SQLITE };
    for (sql, version) in migrations.iter().zip(VERSIONS).take(steps) {
        db.execute(sql).await;
        let version =
            format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}')");
        db.execute(&version).await;
    }
}

/// Rows of an earlier release: with odd numbers and times, and metadata that another program has changed.
const JOBS: &str = r#"INSERT INTO jobs (job_key, prompt_id, backend, status, output_path, error_message, metadata,
    created_at, started_at, completed_at, relay_made) VALUES
    ('a', 'p', 'gpu:8188', 'completed', 'a.png', NULL, '{"progress": 100, "estimated_remaining": 0,
      "last_updated": "2026-01-01T00:00:00.000Z", "outputs": [{"node": "9", "kind": "images", "filename": "a.png",
      "subfolder": "", "type": "output", "url": "u"}], "relay": {"seq": 41, "learned_from": "ws"}}',
      '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:01.000Z', '2026-01-01T00:00:02.000Z', true),
    ('b', NULL, NULL, 'failed', NULL, 'KSampler: no memory', '{"progress": 1e300, "estimated_remaining": 99999999999999999999,
      "outputs": 7, "relay": {"seq": 18446744073709551615, "error_code": "execution_error", "message": "a"}}',
      '2026-01-02T00:00:00.000Z', NULL, '2026-01-02T00:00:02.000Z', true),
    ('c', NULL, NULL, 'processing', NULL, NULL, '{"progress": 30, "relay": {"seq": 5, "message": "Rendering"}}',
      '2026-01-03T00:00:00.000Z', '2026-01-03T00:00:01.000Z', NULL, true);
    INSERT INTO node_runs (job_key, backend, node, class, signature, started_at, seconds, steps, cached) VALUES
    ('a', 'gpu:8188', '3', 'KSampler', 's', '2026-01-01T00:00:01.000Z', 1.5, 20, false);
    INSERT INTO backends (name, url, client_id) VALUES ('gpu:8188', 'http://gpu:8188', 'the-client');"#;

const COPIED: &str = "SELECT job_key || ' ' || status || ' ' || progress || ' ' || seq || ' ' || \
    COALESCE(message, '-') || ' ' || COALESCE(error_code, '-') || ' ' || COALESCE(learned_from, '-') AS v \
    FROM comfy_relay.jobs ORDER BY job_key";

async fn each_released_schema_is_brought_up_to_date(db: TestDatabase) {
    for steps in 1..=4 {
        let db = if db.is_postgres() {
            TestDatabase::postgres().await
        } else {
            TestDatabase::sqlite().await
        };
        release(&db, steps).await;
        db.execute(JOBS).await;
        if db.is_postgres() {
            let odd = "INSERT INTO jobs (job_key, status, created_at, completed_at, relay_made) VALUES \
                ('d', 'completed', '-infinity', 'infinity', true), \
                ('e', 'completed', '250000-01-01', '250000-01-01', true)";
            db.execute(odd).await;
        }
        if steps >= 3 {
            db.execute("UPDATE backends SET holder = 'another', held_until = 5")
                .await;
        }
        let before = db.values("SELECT job_key AS v FROM jobs ORDER BY 1").await;
        let relay = TestRelay::without_backend(db.config()).await;
        let (status, a) = relay.job("a").await;
        assert_eq!((status, &a["status"]), (200, &json!("completed")));
        assert_eq!(a["outputs"][0]["filename"], "a.png");
        assert_eq!(a["created_at"], "2026-01-01T00:00:00Z");
        let (_, c) = relay.job("c").await;
        assert_eq!(
            (&c["progress"], &c["message"]),
            (&json!(30), &json!("Rendering"))
        );
        relay.stop().await;
        let copied: Vec<String> = db.values(COPIED).await.into_iter().flatten().collect();
        assert_eq!(copied[0], "a completed 100 41 - - ws");
        assert_eq!(
            copied[1],
            "b failed 100 9223372036854775807 a execution_error -"
        );
        assert_eq!(copied.len(), before.len());
        let runs = "SELECT node || ' ' || class || ' ' || seconds || ' ' || steps AS v FROM comfy_relay.node_runs";
        assert_eq!(db.value(runs).await, "3 KSampler 1.5 20");
        let client = "SELECT client_id AS v FROM comfy_relay.backends WHERE name = 'gpu:8188'";
        assert_eq!(db.value(client).await, "the-client");
        let leases = "SELECT count(*) AS v FROM comfy_relay.leases WHERE backend = 'gpu:8188'";
        assert_eq!(db.value(leases).await, if steps >= 3 { "1" } else { "0" });
        // What was released is left alone.
        let after = db.values("SELECT job_key AS v FROM jobs ORDER BY 1").await;
        assert_eq!(after, before);
    }
}

/// The migrations of the relay's own tables, in their order.
fn migrations(db: &TestDatabase) -> Vec<String> {
    let folder = if db.is_postgres() {
        "migrations/postgres"
    } else {
        "migrations/sqlite"
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let number: usize = name.split('_').next().unwrap().parse().unwrap();
        files.insert(number, std::fs::read_to_string(&path).unwrap());
    }
    files.into_values().collect()
}

/// The columns of all tables.
async fn columns(db: &TestDatabase) -> Vec<Option<String>> {
    let sql = if db.is_postgres() {
        "SELECT table_name || ' ' || column_name || ' ' || data_type AS v FROM information_schema.columns \
         WHERE table_schema = 'comfy_relay' ORDER BY 1"
    } else {
        "SELECT tables.name || ' ' || columns.name || ' ' || columns.type AS v FROM sqlite_master AS tables, \
         pragma_table_info(tables.name) AS columns WHERE tables.type = 'table' ORDER BY 1"
    };
    db.values(sql).await
}

/// With a job that has ended and one that runs, as the relay of that schema has written them.
async fn each_schema_of_its_own_is_brought_up_to_date(fresh: TestDatabase) {
    let rows = r#"INSERT INTO comfy_relay.jobs (job_key, prompt_id, backend, status, progress, message, output_path, seq, outputs,
        created_at, started_at, completed_at, last_updated, mirror_due) VALUES
        ('ended', 'p', 'gpu:8188', 'completed', 100, NULL, 'a.png', 41, '[{"node": "9", "kind": "images", "filename": "a.png", "subfolder": "", "type": "output", "url": "u"}]', '2026-01-01T00:00:00.000Z',
         '2026-01-01T00:00:01.000Z', '2026-01-01T00:00:02.000Z', '2026-01-01T00:00:02.000Z', false),
        ('open', NULL, NULL, 'processing', 30, 'Rendering', NULL, 5, '[]', '2026-01-02T00:00:00.000Z',
         '2026-01-02T00:00:01.000Z', NULL, '2026-01-02T00:00:01.000Z', false);
        INSERT INTO comfy_relay.node_runs (job_key, backend, node, class, signature, started_at, seconds, steps, cached) VALUES
        ('ended', 'gpu:8188', '3', 'KSampler', 's', '2026-01-01T00:00:01.000Z', 1.5, 20, false)"#;
    Store::open(&fresh.config()).migrate().await.unwrap();
    let wanted = columns(&fresh).await;
    let migrations = migrations(&fresh);
    assert!(migrations.len() >= 12);
    for applied in 1..=migrations.len() {
        let db = if fresh.is_postgres() {
            TestDatabase::postgres().await
        } else {
            TestDatabase::sqlite().await
        };
        if db.is_postgres() {
            db.execute("CREATE SCHEMA comfy_relay").await;
        }
        db.execute("CREATE TABLE comfy_relay.migrations (version BIGINT PRIMARY KEY NOT NULL)")
            .await;
        for (sql, number) in migrations.iter().take(applied).zip(1..) {
            db.execute(sql).await;
            db.execute(&format!(
                "INSERT INTO comfy_relay.migrations VALUES ({number})"
            ))
            .await;
        }
        db.execute(rows).await;
        let relay = TestRelay::without_backend(db.config()).await;
        let (status, ended) = relay.job("ended").await;
        assert_eq!(
            (status, &ended["status"]),
            (200, &json!("completed")),
            "{applied}"
        );
        assert_eq!(ended["outputs"][0]["filename"], "a.png", "{applied}");
        let (_, open) = relay.job("open").await;
        assert_eq!(
            (&open["status"], &open["progress"]),
            (&json!("processing"), &json!(30))
        );
        relay
            .report("open", &json!({"progress": 100, "status": "completed"}))
            .await;
        relay.stop().await;
        let states = "SELECT job_key || ' ' || status AS v FROM comfy_relay.jobs ORDER BY 1";
        let states = db.values(states).await;
        let all = ["ended completed", "open completed"].map(|state| Some(state.to_owned()));
        assert_eq!(states, all, "{applied}");
        let runs = "SELECT node || ' ' || seconds AS v FROM comfy_relay.node_runs";
        assert_eq!(db.value(runs).await, "3 1.5");
        assert_eq!(columns(&db).await, wanted, "{applied}");
    }
}

async fn a_copy_that_was_interrupted_goes_on(db: TestDatabase) {
    release(&db, 4).await;
    db.execute(JOBS).await;
    let store = Store::open(&db.config());
    store.migrate().await.unwrap();
    db.execute(
        "DELETE FROM comfy_relay.jobs; \
         UPDATE comfy_relay.imports SET position = 'a', is_complete = false WHERE source = 'jobs'",
    )
    .await;
    store.migrate().await.unwrap();
    let keys = "SELECT job_key AS v FROM comfy_relay.jobs ORDER BY 1";
    let rest = ["b", "c"].map(|key| Some(key.to_owned()));
    assert_eq!(db.values(keys).await, rest);
    // It is done once and for all.
    db.execute("DELETE FROM comfy_relay.jobs").await;
    store.migrate().await.unwrap();
    assert_eq!(db.values(keys).await, []);
}

/// A pipeline's table to which an earlier release has added its columns.
async fn an_adopted_table_becomes_the_pipelines_again(db: TestDatabase) {
    let pipeline = if db.is_postgres() {
        include_str!("pipeline_jobs.sql")
    } else {
        include_str!("pipeline_jobs_sqlite.sql")
    };
    db.execute(pipeline).await;
    for column in [
        "job_key TEXT",
        "prompt_id TEXT",
        "backend TEXT",
        "started_at TIMESTAMP",
        "relay_made BOOLEAN NOT NULL DEFAULT false",
    ] {
        db.execute(&format!("ALTER TABLE jobs ADD COLUMN {column}"))
            .await;
    }
    release(&db, 4).await;
    db.execute("UPDATE jobs SET job_key = '1', status = 'processing' WHERE id = 1")
        .await;
    let relay = TestRelay::without_backend(db.config()).await;
    relay
        .report("1", &json!({"progress": 100, "status": "completed"}))
        .await;
    let shown =
        "SELECT id || ' ' || status AS v FROM jobs WHERE status = 'completed' AND prompt = 'a fox'";
    db.wait_for(shown, "1 completed").await;
    let own = "SELECT job_key || ' ' || status AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(own).await, "1 completed");
    relay.stop().await;
}

async fn relays_that_start_at_once_copy_each_row_once(db: TestDatabase) {
    release(&db, 4).await;
    db.execute(JOBS).await;
    let starting: Vec<_> = (0..6)
        .map(|_| {
            let store = Store::open(&db.config());
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for started in starting {
        started.await.unwrap().unwrap();
    }
    let count = "SELECT count(*) AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(count).await, "3");
}
