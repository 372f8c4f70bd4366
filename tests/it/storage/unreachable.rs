//! What the relay answers while it cannot read or write a row.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::faults::proxy_to;
use super::lifecycle::settings;
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::wait::wait_until;

on_both!(
    a_row_that_is_refused_for_ever_is_not_acknowledged,
    a_state_is_acknowledged_although_newer_ones_follow,
);

async fn code(answer: (u16, serde_json::Value)) -> (u16, serde_json::Value) {
    (answer.0, answer.1["error"]["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_be_in_the_database_is_not_called_unknown() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let comfyui = ScriptedComfy::start().await;
    let mut settings: Settings = settings(store);
    settings.server.job_wait = Duration::from_millis(200);
    // It follows ComfyUI all the time.
    settings.comfy.lease = Duration::from_secs(300);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    relay
        .report("old", &json!({"progress": 100, "status": "completed"}))
        .await;
    proxy.cut();
    // One that is in memory is known all the same.
    assert_eq!(relay.job("old").await.0, 200);
    let unreachable = (503, json!("database_unreachable"));
    assert_eq!(code(relay.job("other").await).await, unreachable);
    let mut subscriber = relay.subscribe("other").await;
    assert_eq!(subscriber.close_code().await, 1013);
    // A new id cannot be checked.
    let submission = json!({"job_id": "new", "workflow": one_node_workflow()});
    let answer = relay.post("/api/anime/jobs", &submission).await;
    assert_eq!(code(answer).await, unreachable);
    assert_eq!(comfyui.calls("POST /prompt"), 0);
    let report = json!({"progress": 1, "status": "processing"});
    let answer = relay.post("/api/anime/jobs/new/progress", &report).await;
    assert_eq!(code(answer).await, unreachable);
    // One of the relay's own making is taken, and followed; it is not on the disk yet.
    comfyui.accept_prompts_as("p");
    comfyui.set_queue(&["p"], &[]);
    let submission = json!({"workflow": one_node_workflow()});
    let (status, answer) = relay.post("/api/anime/jobs", &submission).await;
    assert_eq!(status, 202);
    let job = answer["job_id"].as_str().unwrap().to_owned();
    assert_eq!(relay.job(&job).await.0, 200);
    proxy.restore();
    let row = format!("SELECT count(*) AS v FROM comfy_relay.jobs WHERE job_key = '{job}'");
    db.wait_for(&row, "1").await;
    wait_until("unknown jobs are unknown again", async || {
        relay.job("other").await.0 == 404
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_written_may_be_repeated() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let relay = TestRelay::without_backend(settings(store)).await;
    let path = "/api/anime/jobs/render/progress";
    relay
        .report("render", &json!({"progress": 1, "status": "processing"}))
        .await;
    proxy.cut();
    let end = json!({"progress": 100, "status": "completed"});
    let refused = (503, json!("database_unreachable"));
    assert_eq!(code(relay.post(path, &end).await).await, refused);
    assert_eq!(code(relay.post(path, &end).await).await, refused);
    proxy.restore();
    wait_until("it is accepted", async || {
        response(relay.request(Method::POST, path).json(&end))
            .await
            .0
            == 202
    })
    .await;
    let row = "SELECT status AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(row).await, "completed");
}

async fn a_row_that_is_refused_for_ever_is_not_acknowledged(db: TestDatabase) {
    let relay = TestRelay::without_backend(settings(db.config())).await;
    // In the schema of the table, where there are schemas.
    let name = if db.is_postgres() {
        "theirs"
    } else {
        "comfy_relay_theirs"
    };
    db.execute(&format!(
        "CREATE UNIQUE INDEX {name} ON comfy_relay.jobs (message) WHERE message = 'the one'"
    ))
    .await;
    let report = json!({"progress": 5, "status": "processing", "message": "the one"});
    relay.report("first", &report).await;
    let answer = relay.post("/api/anime/jobs/second/progress", &report).await;
    let message = answer.1["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(code(answer).await, (422, json!("row_refused")));
    assert!(message.to_lowercase().contains("unique"), "{message}");
    // Others are written as ever.
    let other = json!({"progress": 5, "status": "processing"});
    relay.report("third", &other).await;
    let rows = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE job_key IN ('first', 'third')";
    assert_eq!(db.value(rows).await, "2");
    db.execute("DROP INDEX comfy_relay.theirs").await;
    relay.stop().await;
    let all = "SELECT count(*) AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(all).await, "3", "it is retried until the end");
}

/// A job has a newer state before the batch with the one that is waited for is written.
async fn a_state_is_acknowledged_although_newer_ones_follow(db: TestDatabase) {
    let mut settings = settings(db.config());
    settings.relay.heartbeat = Duration::from_millis(4);
    let relay = TestRelay::without_backend(settings).await;
    for job in ["render-1", "render-2", "render-3"] {
        let report = json!({"progress": 1, "status": "processing"});
        relay.report(job, &report).await;
    }
    let row = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'processing'";
    assert_eq!(db.value(row).await, "3");
    relay.stop().await;
}
