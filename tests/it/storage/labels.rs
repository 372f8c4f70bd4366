//! Labels and groups of jobs: kept in the database, and what lists are narrowed by.

use comfy_relay::store::MAX_SEARCHED;
use serde_json::{Value, json};

use super::lifecycle::settings;
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::TXT2IMG;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};

on_both!(
    lists_are_narrowed_by_labels_group_workflow_and_text,
    labels_outlive_a_restart,
    a_search_covers_a_part_of_the_jobs_and_says_where_it_stopped,
    a_label_of_many_jobs_is_looked_for_in_parts_of_a_group,
);

async fn reported(relay: &TestRelay, job: &str, labels: Value, group: Option<&str>) {
    let report = json!({"progress": 99, "status": "completed", "labels": labels, "group": group});
    relay.report(job, &report).await;
}

/// The jobs of a list, in the order of their ids.
async fn listed(relay: &TestRelay, query: &str) -> Vec<String> {
    let (status, page) = relay.get(&format!("/api/anime/jobs?{query}")).await;
    assert_eq!(status, 200, "{query}: {page}");
    let jobs = page["jobs"].as_array().unwrap().iter();
    let mut ids: Vec<String> = jobs
        .map(|job| job["job_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

async fn lists_are_narrowed_by_labels_group_workflow_and_text(db: TestDatabase) {
    let relay = TestRelay::without_backend(settings(db.config())).await;
    let quoted = r#"he said "3%_!" \"#;
    reported(
        &relay,
        "a",
        json!({"episode": "3", "shot": "12"}),
        Some("ep3"),
    )
    .await;
    reported(
        &relay,
        "b",
        json!({"episode": "3", "note": quoted}),
        Some("ep3"),
    )
    .await;
    reported(&relay, "c", json!({"episode": "30"}), Some("ep30")).await;
    reported(&relay, "d_1", json!({}), None).await;
    reported(&relay, "dx1", json!({"name": "Zoe"}), None).await;
    for (query, found) in [
        ("label=episode=3", &["a", "b"][..]),
        ("label=episode=3&label=shot=12", &["a"]),
        ("label=episode=3&label=shot=13", &[]),
        ("label=note=he+said+%223%25_!%22+%5C", &["b"]),
        ("label=episode=", &[]),
        ("group=ep3", &["a", "b"]),
        ("group=ep", &[]),
        ("group=ep30&label=episode=30&status=completed", &["c"]),
        ("q=EP3", &["a", "b", "c"]),
        ("q=zoe", &["dx1"]),
        ("q=d_1", &["d_1"]),
        ("q=3%25_!", &["b"]),
        ("q=nothing", &[]),
        ("workflow=txt2img", &[]),
    ] {
        assert_eq!(listed(&relay, query).await, found, "{query}");
    }
    let (_, plain) = relay.job("d_1").await;
    for field in ["labels", "group", "workflow"] {
        assert!(plain.get(field).is_none(), "{plain}");
    }
    relay.stop().await;
}

async fn labels_outlive_a_restart(db: TestDatabase) {
    let relay = TestRelay::replaying_with(TXT2IMG, settings(db.config())).await;
    let work = json!({"job_id": "named", "workflow": "txt2img.json", "params": {"3.seed": 5},
        "labels": {"episode": "3"}, "group": "ep3"});
    let (status, answer) = relay.post("/api/anime/jobs", &work).await;
    assert_eq!(status, 201, "{answer}");
    relay.subscribe("named").await.ends_as("completed").await;
    let tags = |job: &Value| json!([job["labels"], job["group"], job["workflow"]]);
    let expected = json!([{"episode": "3"}, "ep3", "txt2img"]);
    assert_eq!(tags(&relay.job("named").await.1), expected);
    relay.stop().await;
    let relay = TestRelay::without_backend(settings(db.config())).await;
    assert_eq!(tags(&relay.job("named").await.1), expected);
    assert_eq!(listed(&relay, "workflow=txt2img&q=txt2").await, ["named"]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_prompt_and_a_reported_job_have_labels() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(
        "GET /queue",
        200,
        &json!({"queue_running": [[0, "p", {}, {}, []]], "queue_pending": []}),
    );
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let body = json!({"job_id": "mine", "prompt_id": "p", "labels": {"a": "1"}, "group": "g"});
    assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    let (_, job) = relay.job("mine").await;
    assert_eq!(
        json!([job["labels"], job["group"]]),
        json!([{"a": "1"}, "g"])
    );
    let first = json!({"progress": 1, "status": "processing", "labels": {"a": "1"}});
    relay.report("render", &first).await;
    let second = json!({"progress": 2, "status": "processing", "labels": {"a": "2"}});
    relay.report("render", &second).await;
    let (_, job) = relay.job("render").await;
    assert_eq!(
        job["labels"],
        json!({"a": "1"}),
        "those of the first report"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_labels_and_groups_are_refused() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let many: serde_json::Map<String, Value> =
        (0..17).map(|n| (format!("key{n}"), json!("x"))).collect();
    for (tags, code) in [
        (json!({"labels": {"a": 3}}), "bad_labels"),
        (json!({"labels": {"a=b": "c"}}), "bad_labels"),
        (json!({"labels": many}), "bad_labels"),
        (json!({"labels": ["a"]}), "bad_json"),
        (json!({"group": "a/b"}), "bad_group"),
        (json!({"group": ""}), "bad_group"),
    ] {
        let mut report = json!({"progress": 1, "status": "processing"});
        let mut work = json!({"prompt_id": "p"});
        for body in [&mut report, &mut work] {
            let fields = tags.as_object().unwrap().clone();
            body.as_object_mut().unwrap().extend(fields);
        }
        for (path, body) in [
            ("/api/anime/jobs/render/progress", &report),
            ("/api/anime/jobs", &work),
        ] {
            let (status, answer) = relay.post(path, body).await;
            let refused = (status, answer["error"]["code"].as_str().unwrap());
            assert_eq!(refused, (400, code), "{path} {tags}: {answer}");
        }
    }
    let report = json!({"progress": 1, "status": "processing"});
    let (status, answer) = relay
        .post("/api/anime/jobs/group:ep3/progress", &report)
        .await;
    let refused = (status, answer["error"]["code"].as_str().unwrap());
    assert_eq!(refused, (400, "bad_job_id"));
}

/// How many pages a list has, and its jobs.
async fn walk(relay: &TestRelay, query: &str) -> (usize, Vec<Value>) {
    let (mut pages, mut found) = (0, Vec::new());
    let mut cursor = String::new();
    loop {
        let (_, page) = relay.get(&format!("/api/anime/jobs?{query}{cursor}")).await;
        pages += 1;
        let jobs = page["jobs"].as_array().unwrap().iter();
        found.extend(jobs.map(|job| job["job_id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (pages, found),
        }
    }
}

/// Completed jobs with this label of the year 2126, `rows` of them.
async fn completed(db: &TestDatabase, rows: i64, prefix: &str, group: &str, shot: &str) {
    db.execute(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO comfy_relay.jobs (job_key, status, progress, seq, outputs, created_at, last_updated, mirror_due, \
         job_group, labels) SELECT '{prefix}-' || i, 'completed', 100, 1, '[]', '2126-01-01T00:00:00.000Z', \
         '2126-01-01T00:00:00.000Z', false, '{group}', '{{\"shot\":\"{shot}\"}}' FROM n"
    ))
    .await;
}

async fn a_search_covers_a_part_of_the_jobs_and_says_where_it_stopped(db: TestDatabase) {
    let relay = TestRelay::without_backend(settings(db.config())).await;
    reported(&relay, "a", json!({"shot": "needle"}), None).await;
    // Two pages and a half of jobs that are newer than the one that is searched for.
    let rows = MAX_SEARCHED * 5 / 2;
    completed(&db, rows, "job", "ep1", "other").await;
    for query in [
        "q=NEEDLE",
        "label=shot=needle",
        "q=needle&status=completed,failed",
    ] {
        let (pages, found) = walk(&relay, query).await;
        assert_eq!(found, ["a"], "{query}");
        // PostgreSQL has an index of labels.
        let is_indexed = db.is_postgres() && query.starts_with("label");
        assert_eq!(pages, if is_indexed { 1 } else { 3 }, "{query}");
    }
}

async fn a_label_of_many_jobs_is_looked_for_in_parts_of_a_group(db: TestDatabase) {
    let relay = TestRelay::without_backend(settings(db.config())).await;
    reported(&relay, "a", json!({"shot": "common"}), Some("ep2")).await;
    // Of neither are there few, but of both together.
    completed(&db, 2_500, "other", "ep2", "other").await;
    completed(&db, 1_500, "common", "ep1", "common").await;
    let (pages, found) = walk(&relay, "label=shot=common&group=ep2").await;
    assert_eq!(found, ["a"]);
    // PostgreSQL does not sort all jobs of a label that many have.
    assert_eq!(pages, if db.is_postgres() { 6 } else { 1 });
    let (_, found) = walk(&relay, "label=shot=common&limit=500").await;
    assert_eq!(found.len(), 1_501);
}
