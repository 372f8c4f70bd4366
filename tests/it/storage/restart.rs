//! What the relay says of jobs after a restart.

use std::time::Duration;

use comfy_relay::config::RelayConfig;
use serde_json::{Value, json};

use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(
    totals_agree_after_a_restart,
    a_producers_message_survives_a_restart,
    a_job_that_was_asked_to_stop_says_so_after_a_restart,
    a_prompt_that_leaves_the_queue_during_a_restart_was_cancelled,
    an_output_path_survives_a_restart,
);

async fn end(relay: &TestRelay, job: &str, status: &str) {
    relay
        .report(job, &json!({"progress": 50, "status": status}))
        .await;
}

async fn totals_agree_after_a_restart(db: TestDatabase) {
    let relay = TestRelay::without_backend(db.config()).await;
    for (job, status) in [
        ("a", "completed"),
        ("b", "completed"),
        ("c", "failed"),
        ("d", "cancelled"),
        ("e", "processing"),
    ] {
        end(&relay, job, status).await;
    }
    relay.stop().await;

    let settings = Settings {
        relay: RelayConfig {
            // Jobs are forgotten as soon as they are written.
            remember: Duration::ZERO,
            cleanup_interval: Duration::from_millis(50),
            ..Settings::default().relay
        },
        ..db.config().into()
    };
    let relay = TestRelay::without_backend(settings).await;
    let mut monitor = relay.monitor().await;
    let status = monitor.receive_type("system_status").await;
    let counts = |completed: u64, active: u64| json!({"total": 5, "active": active, "queued": 0, "completed": completed, "failed": 1, "cancelled": 1});
    assert_eq!(status["jobs"], counts(2, 1));
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["components"]["jobs"]["total_tracked"], 5);
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"].as_array().unwrap().len(), 5);

    // A job that ends, one that is read from the database, and those that are forgotten count once.
    end(&relay, "e", "completed").await;
    relay.job("c").await;
    let is_right = async || {
        let (_, health) = relay.get("/api/anime/health").await;
        health["components"]["jobs"] == json!({"active_count": 0, "total_tracked": 5})
    };
    wait_until("the job has ended", is_right).await;
    for _ in 0..20 {
        relay.job("a").await;
        assert!(is_right().await);
    }
}

async fn a_producers_message_survives_a_restart(db: TestDatabase) {
    let relay = TestRelay::without_backend(db.config()).await;
    let report = json!({"progress": 40, "status": "processing", "message": "Frame 40 of 100"});
    relay.report("render", &report).await;
    relay.stop().await;
    let relay = TestRelay::without_backend(db.config()).await;
    let mut subscriber = relay.connect("/ws/render").await;
    let state = subscriber.receive_type("progress").await;
    assert_eq!(state["message"], "Frame 40 of 100");
}

/// A job that ComfyUI was asked to stop, and its relay is stopped before ComfyUI does. Returns ComfyUI.
async fn cancelled_before_a_restart(
    db: &TestDatabase,
    running: &[&str],
    pending: &[&str],
) -> ScriptedComfy {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    comfyui.answer(
        "POST /api/jobs/prompt/cancel",
        200,
        &json!({"cancelled": true}),
    );
    comfyui.set_queue(running, pending);
    let relay = TestRelay::connected_to(&comfyui.url(), db.config()).await;
    relay.submit_workflow("shot", &one_node_workflow()).await;
    let (status, answer) = relay.post("/api/anime/jobs/shot/cancel", &json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let is_cancelling = async || relay.job("shot").await.1["cancelling"] == true;
    wait_until("it says so", is_cancelling).await;
    relay.stop().await;
    comfyui
}

async fn a_job_that_was_asked_to_stop_says_so_after_a_restart(db: TestDatabase) {
    let comfyui = cancelled_before_a_restart(&db, &["prompt"], &[]).await;
    let relay = TestRelay::connected_to(&comfyui.url(), db.config()).await;
    let mut subscriber = relay.subscribe("shot").await;
    let is_cancelling =
        |state: &Value| state["cancelling"] == true && state["message"] == "Cancelling";
    subscriber.receive_until(is_cancelling).await;
    let entry = json!({"prompt": [0, "prompt", {}, {}, []], "outputs": {},
        "status": {"status_str": "error", "messages": [["execution_interrupted", {}]]}});
    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": entry}));
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("cancelled").await;
    assert_eq!(subscriber.last()["cancelling"], Value::Null);
    relay.stop().await;
    let relay = TestRelay::connected_to(&comfyui.url(), db.config()).await;
    assert_eq!(relay.job("shot").await.1["cancelling"], Value::Null);
}

async fn a_prompt_that_leaves_the_queue_during_a_restart_was_cancelled(db: TestDatabase) {
    let comfyui = cancelled_before_a_restart(&db, &["other"], &["prompt"]).await;
    comfyui.set_queue(&["other"], &[]);
    let relay = TestRelay::connected_to(&comfyui.url(), db.config()).await;
    let mut subscriber = relay.subscribe("shot").await;
    subscriber.ends_as("cancelled").await;
}

/// It has made a video and a picture, the node of which comes first in its graph.
const TWO_FILES: &str = "0.33.0/12c-custom-ui-outputs";

async fn an_output_path_survives_a_restart(db: TestDatabase) {
    let settings = |root: Option<&str>| Settings {
        relay: RelayConfig {
            output_root: root.map(Into::into),
            ..Settings::default().relay
        },
        ..db.config().into()
    };
    for (job, root) in [("below", None), ("placed", Some("/mnt/output"))] {
        let relay = TestRelay::replaying_with(TWO_FILES, settings(root)).await;
        let mut subscriber = relay.subscribe(job).await;
        relay.submit(job, TWO_FILES).await;
        subscriber.ends_as("completed").await;
        let path = subscriber.last()["output_path"].clone();
        assert!(
            path.as_str().unwrap().ends_with("ComfyUI_00001_.png"),
            "{path}"
        );
        relay.stop().await;
        let relay = TestRelay::without_backend(settings(root)).await;
        let mut late = relay.subscribe(job).await;
        late.ends_as("completed").await;
        assert_eq!(late.last()["output_path"], path);
        let (_, page) = relay.get("/api/anime/jobs?limit=1").await;
        assert_eq!(page["jobs"][0]["output_path"], path);
        relay.stop().await;
    }
}
