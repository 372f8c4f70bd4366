//! The pipeline's table shows jobs, and holds none of them up.

use std::time::Duration;

use comfy_relay::config::StoreConfig;
use comfy_relay::relay::Relay;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use serde_json::json;

use super::pipeline_tables::is_settled;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};
use crate::support::wait::wait_until;

on_both!(
    a_row_shows_the_job_that_is_registered_under_its_id,
    writes_of_the_pipeline_make_no_row_miss_its_end,
    without_a_table_nothing_is_mirrored,
);

/// SQL that creates a pipeline's own table `jobs` with three rows.
fn pipeline_jobs(db: &TestDatabase) -> &'static str {
    if db.is_postgres() {
        include_str!("pipeline_jobs.sql")
    } else {
        include_str!("pipeline_jobs_sqlite.sql")
    }
}

async fn a_row_shows_the_job_that_is_registered_under_its_id(db: TestDatabase) {
    db.execute(pipeline_jobs(&db)).await;
    let relay = TestRelay::without_backend(db.config()).await;
    for job in ["1", "02", "other"] {
        let report = json!({"progress": 100, "status": "completed", "output_path": "new.png"});
        relay.report(job, &report).await;
    }
    let shown = "SELECT id || ' ' || status || ' ' || prompt || ' ' || COALESCE(output_path, '') AS v \
        FROM jobs ORDER BY id";
    wait_until("the row shows the end", async || {
        let rows: Vec<String> = db.values(shown).await.into_iter().flatten().collect();
        rows == [
            "1 completed a fox new.png",
            "2 archived a bear old/bear.mp4",
            "3 completed a crow old/crow.png",
        ]
    })
    .await;
    let keys =
        "SELECT (metadata->>'scene') || ' ' || (metadata->>'progress') AS v FROM jobs WHERE id = 1";
    assert_eq!(db.value(keys).await, "3 100");
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"].as_array().unwrap().len(), 3);
    relay.stop().await;
}

async fn writes_of_the_pipeline_make_no_row_miss_its_end(db: TestDatabase) {
    db.execute(
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT, metadata TEXT); \
         INSERT INTO jobs (id) WITH RECURSIVE ids (id) AS \
         (SELECT 0 UNION ALL SELECT id + 1 FROM ids WHERE id < 40) SELECT id FROM ids",
    )
    .await;
    let relay = TestRelay::without_backend(db.config()).await;
    let end = json!({"progress": 100, "status": "completed"});
    let report_all = async {
        for job in 1..=40 {
            relay.report(&job.to_string(), &end).await;
        }
        let shown = "SELECT count(*) AS v FROM jobs WHERE status = 'completed'";
        db.wait_for(shown, "40").await;
    };
    let write = async {
        loop {
            db.execute("UPDATE jobs SET status = 'theirs' WHERE id = 0")
                .await;
        }
    };
    tokio::select! {
        () = report_all => {}
        () = write => {}
    }
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["components"]["mirror"]["refused"], 0);
    relay.stop().await;
}

async fn without_a_table_nothing_is_mirrored(db: TestDatabase) {
    db.execute("CREATE TABLE jobs (id INTEGER, status TEXT); INSERT INTO jobs VALUES (1, 'new')")
        .await;
    let store = StoreConfig {
        pipeline_table: "off".parse().unwrap(),
        ..db.config()
    };
    let relay = TestRelay::without_backend(store).await;
    relay
        .report("1", &json!({"progress": 100, "status": "completed"}))
        .await;
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(
        health["components"]["mirror"],
        json!({"status": "no_table"})
    );
    relay.stop().await;
    assert_eq!(db.value("SELECT status AS v FROM jobs").await, "new");
}

/// A pipeline that holds a lock.
async fn holding(db: &TestDatabase, sql: &str) -> AsyncPgConnection {
    let mut pipeline = AsyncPgConnection::establish(&db.url()).await.unwrap();
    pipeline
        .batch_execute(&format!("BEGIN; {sql}"))
        .await
        .unwrap();
    pipeline
}

const TABLE: &str = "CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT, metadata JSONB DEFAULT '{}'); \
    INSERT INTO jobs (id) SELECT generate_series(1, 50)";

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_the_pipeline_hold_nothing_up() {
    for lock in [
        "UPDATE jobs SET status = 'theirs' WHERE id = 1",
        "LOCK TABLE jobs",
    ] {
        let db = TestDatabase::postgres().await;
        db.execute(TABLE).await;
        let relay = TestRelay::without_backend(db.config()).await;
        wait_until("the table is found", async || is_settled(&relay).await).await;
        let mut pipeline = holding(&db, lock).await;
        let end = json!({"progress": 100, "status": "completed"});
        for job in 1..=30 {
            relay.report(&job.to_string(), &end).await;
        }
        let own = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'completed'";
        assert_eq!(db.value(own).await, "30", "202 means durable");
        let (status, page) = relay.get("/api/anime/jobs").await;
        assert_eq!((status, page["jobs"].as_array().unwrap().len()), (200, 30));
        let (_, health) = relay.get("/api/anime/health").await;
        assert_eq!(health["components"]["database"]["status"], "connected");
        assert_eq!(health["components"]["database"]["pending"], 0);
        assert!(health["components"]["mirror"]["pending"].as_u64().unwrap() > 0);
        pipeline.batch_execute("ROLLBACK").await.unwrap();
        let shown = "SELECT count(*) AS v FROM jobs WHERE status = 'completed' AND metadata->>'progress' = '100'";
        db.wait_for(shown, "30").await;
        relay.stop().await;
    }
}

/// The relay was frozen, and another one has ended the job meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_from_before_the_end_does_not_undo_it() {
    let db = TestDatabase::postgres().await;
    db.execute(TABLE).await;
    let relay = TestRelay::without_backend(db.config()).await;
    wait_until("the table is found", async || is_settled(&relay).await).await;
    let mut pipeline = holding(&db, "UPDATE jobs SET status = 'completed' WHERE id = 1").await;
    let running = json!({"progress": 40, "status": "processing"});
    relay.report("1", &running).await;
    db.wait_for("SELECT status AS v FROM comfy_relay.jobs", "processing")
        .await;
    db.execute(
        "UPDATE comfy_relay.jobs SET status = 'completed', completed_at = last_updated, epoch = epoch + 1",
    )
    .await;
    pipeline.batch_execute("COMMIT").await.unwrap();
    wait_until("the state is written or dropped", async || {
        let (_, health) = relay.get("/api/anime/health").await;
        health["components"]["mirror"]["pending"] == 0
    })
    .await;
    let shown = "SELECT status AS v FROM jobs WHERE id = 1";
    assert_eq!(db.value(shown).await, "completed");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_end_that_waits_for_a_lock() {
    let db = TestDatabase::postgres().await;
    db.execute(TABLE).await;
    let relay = Program::with_database(&db.url(), UNREACHABLE).await;
    relay.logs("mirroring jobs").await;
    let mut pipeline = holding(&db, "UPDATE jobs SET status = 'theirs'").await;
    let end = json!({"progress": 100, "status": "completed"});
    for job in 1..=10 {
        let path = format!("/api/anime/jobs/{job}/progress");
        let (status, answer) = relay.post(&path, &end).await.unwrap();
        assert_eq!(status, 202, "{answer}");
    }
    relay.kill().await;
    pipeline.batch_execute("COMMIT").await.unwrap();
    let relay = TestRelay::without_backend(db.config()).await;
    let shown = "SELECT count(*) AS v FROM jobs WHERE status = 'completed'";
    db.wait_for(shown, "10").await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_without_a_row_are_inserted_on_request() {
    let db = TestDatabase::postgres().await;
    db.execute(
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, job_type VARCHAR(50) NOT NULL, status VARCHAR(50), \
         output_path TEXT, metadata JSONB, created_at TIMESTAMP, completed_at TIMESTAMP); \
         INSERT INTO jobs (job_type, status) VALUES ('image', 'new')",
    )
    .await;
    let store = StoreConfig {
        pipeline_insert: true,
        ..db.config()
    };
    let relay = TestRelay::without_backend(store.clone()).await;
    for (progress, status) in [(10, "processing"), (100, "completed")] {
        for job in ["1", "7000", "shot-12"] {
            let report = json!({"progress": progress, "status": status});
            relay.report(job, &report).await;
        }
        wait_until("the rows are written", async || is_settled(&relay).await).await;
    }
    relay.stop().await;
    let rows = db
        .values("SELECT concat_ws(' ', id, job_type, status, metadata->>'progress') AS v FROM jobs ORDER BY id")
        .await;
    let rows: Vec<String> = rows.into_iter().flatten().collect();
    assert_eq!(
        rows,
        [
            "1 image completed 100",
            "2 comfyui completed 100",
            "7000 comfyui completed 100",
        ]
    );
    let ids = "SELECT pipeline_id AS v FROM comfy_relay.jobs WHERE job_key = 'shot-12'";
    assert_eq!(db.value(ids).await, "2");
}

/// What the table refuses is logged at the start, before a job needs it, and nothing of the trial stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_at_the_start_names_what_is_refused() {
    let db = TestDatabase::postgres().await;
    db.execute(
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status TEXT CONSTRAINT known CHECK (status IN ('new', 'completed')), \
         metadata JSONB); INSERT INTO jobs (status, metadata) VALUES ('new', '{\"a\": 1}')",
    )
    .await;
    let before = db.value("SELECT jobs::text || xmin AS v FROM jobs").await;
    let relay = Program::with_database(&db.url(), UNREACHABLE).await;
    relay.logs("violates check constraint").await;
    assert_eq!(
        db.value("SELECT jobs::text || xmin AS v FROM jobs").await,
        before
    );
    relay.kill().await;
}

/// A table that is locked, many lists and a lease that is renewed often: no lease is lost.
#[tokio::test(flavor = "multi_thread")]
async fn lists_take_no_lease() {
    let db = TestDatabase::postgres().await;
    db.execute(TABLE).await;
    let mut settings = Settings::from(db.config());
    settings.comfy.lease = Duration::from_millis(900);
    settings.comfy.urls = vec![UNREACHABLE.parse().unwrap()];
    let relay = TestRelay::start(UNREACHABLE, settings).await;
    let held = "SELECT count(*) AS v FROM comfy_relay.leases";
    db.wait_for(held, "1").await;
    let mut reader = holding(&db, "LOCK TABLE comfy_relay.jobs").await;
    let handle: Relay = relay.handle.clone();
    let lists: Vec<_> = (0..12)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.list(&Default::default(), 10).await.is_ok() })
        })
        .collect();
    // The lease is renewed while every connection for reads waits for the lock.
    let renewed = "SELECT max(held_until) AS v FROM comfy_relay.leases";
    for _ in 0..3 {
        let before = db.value(renewed).await;
        wait_until("the lease is renewed", async || {
            db.value(renewed).await > before
        })
        .await;
    }
    reader.batch_execute("ROLLBACK").await.unwrap();
    for list in lists {
        list.await.unwrap();
    }
    relay.stop().await;
}
