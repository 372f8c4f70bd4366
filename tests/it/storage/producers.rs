//! Jobs of producers that are not ComfyUI: what is written of them, and how they end without their producer.

use std::time::Duration;

use serde_json::{Value, json};

use super::lifecycle::settings;
use crate::support::database::{TestDatabase, on_both};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};
use crate::support::wait::wait_until;

on_both!(
    a_heartbeat_is_published_and_not_written,
    a_silent_producer_loses_its_job,
    a_producers_job_is_cancelled_by_any_relay,
    a_job_of_a_server_that_is_not_configured_any_more_is_cancelled,
);

fn report(progress: u64) -> Value {
    json!({"progress": progress, "status": "processing", "estimated_remaining": 900, "message": "Frame 4"})
}

async fn cancel(relay: &TestRelay, job: &str) -> (u16, Value) {
    let path = format!("/api/anime/jobs/{job}/cancel");
    let (status, answer) = relay.post(&path, &Value::Null).await;
    (status, answer["error"]["code"].clone())
}

async fn is_refused(relay: &TestRelay, job: &str) -> bool {
    let path = format!("/api/anime/jobs/{job}/progress");
    let (status, answer) = relay.post(&path, &report(50)).await;
    (status, &answer["error"]["code"]) == (409, &json!("job_ended"))
}

async fn a_heartbeat_is_published_and_not_written(db: TestDatabase) {
    let mut settings: Settings = settings(db.config());
    settings.relay.heartbeat = Duration::from_millis(20);
    let relay = TestRelay::without_backend(settings).await;
    relay.report("render", &report(10)).await;
    let mut subscriber = relay.subscribe("render").await;
    // A second, in which the recorder would write four times.
    subscriber
        .receive_until(|state| state["seq"].as_u64() > Some(50))
        .await;
    let seq = "SELECT seq AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(seq).await, "1");
    // What has changed is written, under a number above all that were published.
    relay.report("render", &report(20)).await;
    wait_until("it is written", async || {
        db.value(seq).await.parse::<u64>().unwrap() > 50
    })
    .await;
}

async fn a_silent_producer_loses_its_job(db: TestDatabase) {
    let mut settings: Settings = settings(db.config());
    settings.relay.producer_timeout = Duration::from_secs(1);
    let relay = TestRelay::without_backend(settings).await;
    relay.report("silent", &report(10)).await;
    wait_until("it has failed", async || {
        // Another producer goes on.
        relay.report("alive", &report(20)).await;
        relay.job("silent").await.1["status"] == "failed"
    })
    .await;
    let (_, job) = relay.job("silent").await;
    assert_eq!(job["error_code"], "producer_lost");
    assert_eq!(job["learned_from"], "relay");
    assert_eq!(job["message"], "Failed");
    assert_eq!(relay.job("alive").await.1["status"], "processing");
    let code = "SELECT error_code AS v FROM comfy_relay.jobs WHERE job_key = 'silent'";
    db.wait_for(code, "producer_lost").await;
    assert!(is_refused(&relay, "silent").await);
}

async fn a_producers_job_is_cancelled_by_any_relay(db: TestDatabase) {
    let first = TestRelay::without_backend(db.config()).await;
    let second = TestRelay::without_backend(db.config()).await;
    let mut subscriber = first.subscribe("render").await;
    for job in ["render", "other"] {
        first.report(job, &report(10)).await;
    }
    assert_eq!(cancel(&first, "other").await.0, 202);
    assert_eq!(cancel(&second, "render").await.0, 202);
    let status = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'cancelled'";
    assert_eq!(
        db.value(status).await,
        "2",
        "it is written when it is answered"
    );
    subscriber.ends_as("cancelled").await;
    for relay in [&first, &second] {
        assert!(is_refused(relay, "render").await);
        let again = cancel(relay, "render").await;
        assert_eq!(again, (409, json!("not_cancellable")));
    }
}

async fn a_job_of_a_server_that_is_not_configured_any_more_is_cancelled(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let first = TestRelay::connected_to(&comfyui.url(), settings(db.config())).await;
    first.register("job", "p").await;
    let second = TestRelay::start(UNREACHABLE, settings(db.config())).await;
    first.stop().await;
    assert_eq!(cancel(&second, "job").await.0, 202);
    assert_eq!(second.job("job").await.1["status"], "cancelled");
    let row = "SELECT status AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(row).await, "cancelled");
    // The server has it still, and is not asked again.
    let third = TestRelay::connected_to(&comfyui.url(), settings(db.config())).await;
    assert_eq!(third.job("job").await.1["status"], "cancelled");
}
