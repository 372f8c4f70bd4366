//! A table `jobs` of a pipeline exists already.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::lifecycle::{comfyui, relay_at};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{TXT2IMG, workflow};

on_both!(a_row_becomes_the_job_that_is_registered_under_its_id);

/// Columns of the pipeline, which the relay must not change.
const THEIRS: &str = "SELECT CAST(project_id AS text) || ' ' || job_type || ' ' || prompt || ' ' || priority AS v \
    FROM jobs WHERE prompt IS NOT NULL ORDER BY prompt";
const EXPECTED_THEIRS: [&str; 3] = ["7 video a bear 1", "8 image a crow 1", "7 image a fox 5"];

/// SQL that creates a pipeline's own table `jobs` with three rows.
pub(super) fn pipeline_jobs(db: &TestDatabase) -> &'static str {
    if db.is_postgres() {
        include_str!("pipeline_jobs.sql")
    } else {
        include_str!("pipeline_jobs_sqlite.sql")
    }
}

async fn assert_theirs_unchanged(db: &TestDatabase) {
    let theirs: Vec<String> = db.values(THEIRS).await.into_iter().flatten().collect();
    assert_eq!(theirs, EXPECTED_THEIRS);
}

async fn a_row_becomes_the_job_that_is_registered_under_its_id(db: TestDatabase) {
    db.execute(pipeline_jobs(&db)).await;
    whole_life(&db, "1").await;
    // That is not the number 2, and not the row.
    let sql = "SELECT job_key AS v FROM jobs WHERE id = 2";
    assert_eq!(db.value(sql).await, "");
    let sql = "SELECT count(*) AS v FROM jobs WHERE job_key = '02' AND id > 3";
    assert_eq!(db.value(sql).await, "1");
    if db.is_postgres() {
        let sql = "SELECT created_at AS v FROM jobs WHERE id = 1";
        assert_eq!(db.value(sql).await, "2025-12-10 15:30:45.123456");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_rows_may_be_uuids() {
    let db = TestDatabase::postgres().await;
    db.execute(include_str!("pipeline_jobs_uuid.sql")).await;
    whole_life(&db, "6f9619ff-8b86-4d01-b42d-00cf4fc964f1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_rows_may_be_texts() {
    let db = TestDatabase::postgres().await;
    db.execute(include_str!("pipeline_jobs_text.sql")).await;
    whole_life(&db, "scene-1").await;
    assert_eq!(
        db.value("SELECT id AS v FROM jobs WHERE job_key = 'other'")
            .await,
        "other"
    );
}

/// Runs a job that adopts the first row, other jobs beside it, and restarts the relay.
async fn whole_life(db: &TestDatabase, job: &str) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    assert_theirs_unchanged(db).await;
    assert_eq!(db.value("SELECT count(*) AS v FROM jobs").await, "3");
    let (_, empty) = relay.get("/api/anime/jobs").await;
    assert_eq!(
        empty["jobs"],
        json!([]),
        "rows that are no jobs of ours are not listed"
    );
    for job in [job, "other"] {
        let mut subscriber = relay.subscribe(job).await;
        relay.submit(job, TXT2IMG).await;
        assert_eq!(subscriber.close_code().await, 1000);
    }
    relay
        .report("02", &json!({"progress": 100, "status": "completed"}))
        .await;
    let long = "x".repeat(700);
    let done = json!({"progress": 100, "status": "completed", "output_path": long});
    relay.report("long", &done).await;
    let (_, page) = relay.get("/api/anime/jobs?limit=3").await;
    let (_, rest) = {
        let cursor = page["next_cursor"].as_str().unwrap();
        relay.get(&format!("/api/anime/jobs?cursor={cursor}")).await
    };
    let listed: Vec<&str> = [&page, &rest]
        .iter()
        .flat_map(|page| page["jobs"].as_array().unwrap())
        .map(|job| job["job_id"].as_str().unwrap())
        .collect();
    assert_eq!(
        listed,
        ["long", "02", "other", job],
        "the adopted row is the oldest"
    );
    relay.stop().await;

    assert_eq!(db.value("SELECT count(*) AS v FROM jobs").await, "6");
    assert_theirs_unchanged(db).await;
    let of_ours = |column: &str| format!("SELECT {column} AS v FROM jobs WHERE job_key = '{job}'");
    assert_eq!(db.value(&of_ours("CAST(id AS text)")).await, job);
    assert_eq!(db.value(&of_ours("status")).await, "completed");
    assert_eq!(db.value(&of_ours("job_type")).await, "image");
    assert!(
        db.value(&of_ours("output_path"))
            .await
            .ends_with("ComfyUI_00001_.png")
    );
    let made = db.value(&of_ours("relay_made")).await;
    assert!(["false", "0"].contains(&&*made), "{made}");
    let metadata: Value = serde_json::from_str(&db.value(&of_ours("metadata")).await).unwrap();
    assert_eq!(
        (&metadata["scene"], &metadata["tags"]),
        (&json!(3), &json!(["a", "b"]))
    );
    assert_eq!(metadata["progress"], 100);
    let others = "SELECT count(*) AS v FROM jobs WHERE job_key IS NULL AND output_path LIKE 'old/%' \
        AND status IN ('archived', 'completed')";
    assert_eq!(db.value(others).await, "2");
    let sql = "SELECT length(output_path) AS v FROM jobs WHERE job_key = 'long'";
    assert_eq!(db.value(sql).await, "500");

    // A second start finds the schema in place; a row without metadata and timestamps becomes a job too.
    let relay = relay_at(&comfyui.url(), db.config()).await;
    let crow = db
        .value("SELECT id AS v FROM jobs WHERE prompt = 'a crow'")
        .await;
    let work = json!({"job_id": crow, "workflow": workflow(TXT2IMG).await});
    assert_eq!(relay.post("/api/anime/jobs", &work).await.0, 201);
    let sql = format!(
        "SELECT metadata->>'progress' AS v FROM jobs WHERE job_key = '{crow}' AND status = 'completed'"
    );
    db.wait_for(&sql, "100").await;
    let (_, page) = relay.get("/api/anime/jobs?limit=1").await;
    assert_eq!(
        page["jobs"][0]["job_id"], crow,
        "its age counts from its registration"
    );
    relay.stop().await;
    assert_theirs_unchanged(db).await;
}
