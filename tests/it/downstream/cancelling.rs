//! Jobs that were asked to stop: they say so until they have ended, and a request that stops nothing says why.

use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay};

/// As ComfyUI since 0.25 has it.
const CANCEL: &str = "POST /api/jobs/prompt/cancel";

/// One prompt of a scripted ComfyUI, and what ComfyUI says of it.
const PROMPT: &str = "GET /api/jobs/prompt";

/// A job whose prompt runs.
async fn running() -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = Settings::default();
    // Longer than a busy machine delays a request: a prompt that is gone is still looked for when it comes.
    settings.comfy.history_grace = Duration::from_secs(3);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    relay.submit_workflow("mine", &one_node_workflow()).await;
    (comfyui, relay)
}

fn event(kind: &str, mut data: Value) -> Value {
    data["prompt_id"] = json!("prompt");
    json!({"type": kind, "data": data})
}

fn step(value: u64) -> Value {
    event("progress", json!({"node": "1", "value": value, "max": 20}))
}

async fn cancel(relay: &TestRelay, job: &str) -> (u16, Value) {
    let path = format!("/api/anime/jobs/{job}/cancel");
    relay.post(&path, &Value::Null).await
}

/// A status, the code and the sentence of a refusal.
fn refusal((status, answer): (u16, Value)) -> (u16, String, String) {
    let text = |key: &str| answer["error"][key].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_asked_to_stop_says_so_until_it_has_ended() {
    let (comfyui, relay) = running().await;
    comfyui.answer(CANCEL, 200, &json!({"cancelled": true}));
    let mut subscriber = relay.subscribe("mine").await;
    comfyui.send(&event("execution_start", json!({})));
    comfyui.send(&step(2));
    let step_is = |wanted: u64| move |state: &Value| state["node"]["step"] == wanted;
    let before = subscriber.receive_until(step_is(2)).await;
    assert_eq!(before["cancelling"], Value::Null, "{before}");

    let (status, answer) = cancel(&relay, "mine").await;
    assert_eq!(status, 202, "{answer}");
    let asked = subscriber
        .receive_until(|state| state["cancelling"] == true)
        .await;
    assert_eq!(asked["message"], "Cancelling");
    // A node notices an interrupt only at its next check: steps may come until then.
    comfyui.send(&step(9));
    let later = subscriber.receive_until(step_is(9)).await;
    assert_eq!(
        (&later["cancelling"], &later["message"]),
        (&json!(true), &json!("Cancelling"))
    );
    assert_eq!(relay.job("mine").await.1["cancelling"], true);
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"][0]["cancelling"], true, "{page}");

    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": {"prompt": [0, "prompt", {}, {}, []],
        "outputs": {}, "status": {"status_str": "error", "messages": [["execution_interrupted", {}]]}}}));
    comfyui.set_queue(&[], &[]);
    comfyui.send(&event("execution_interrupted", json!({"node_id": "1"})));
    subscriber.ends_as("cancelled").await;
    let last = subscriber.last();
    assert_eq!(
        (&last["cancelling"], &last["message"]),
        (&Value::Null, &json!("Cancelled"))
    );
    assert_eq!(relay.job("mine").await.1["cancelling"], Value::Null);
}

/// ComfyUI can end a prompt before it notices the interrupt.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_completes_all_the_same_is_not_cancelling() {
    let (comfyui, relay) = running().await;
    comfyui.answer(CANCEL, 200, &json!({"cancelled": true}));
    let mut subscriber = relay.subscribe("mine").await;
    assert_eq!(cancel(&relay, "mine").await.0, 202);
    subscriber
        .receive_until(|state| state["cancelling"] == true)
        .await;
    comfyui.complete("prompt");
    comfyui.set_queue(&[], &[]);
    comfyui.send(&event("execution_success", json!({})));
    let last = subscriber.receive_until(is_final).await;
    assert_eq!(
        (&last["cancelling"], &last["message"]),
        (&Value::Null, &json!("Completed"))
    );
}

/// Servers since 0.25 answer 200 for what they have not cancelled, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_has_ended_is_said_to_have_ended() {
    let (comfyui, relay) = running().await;
    comfyui.answer(CANCEL, 200, &json!({"cancelled": false}));
    for status in ["completed", "failed", "cancelled"] {
        let prompt = json!({"id": "prompt", "status": status});
        comfyui.answer(PROMPT, 200, &prompt);
        let (code, word, sentence) = refusal(cancel(&relay, "mine").await);
        assert_eq!((code, word.as_str()), (409, "not_cancellable"));
        assert!(sentence.ends_with("it has ended"), "{sentence}");
    }
    assert_eq!(comfyui.calls("POST /interrupt"), 0);
    assert_eq!(relay.job("mine").await.1["cancelling"], Value::Null);
}

/// A proxy before the server may answer for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_answer_to_a_cancellation_cancels_nothing() {
    let (comfyui, relay) = running().await;
    let page = "<html>Please log in</html>".to_owned();
    comfyui.reply(CANCEL, Reply::Text(200, page));
    let (status, _) = cancel(&relay, "mine").await;
    assert_eq!(status, 202);
    assert_eq!(comfyui.calls("POST /interrupt"), 1);
}

/// On an older server, the history has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_in_the_history_of_an_older_server_has_ended() {
    let (comfyui, relay) = running().await;
    comfyui.answer(CANCEL, 405, &json!({}));
    comfyui.answer(PROMPT, 404, &json!({}));
    // Its events are still to come, so the job is open.
    comfyui.complete("prompt");
    comfyui.set_queue(&[], &[]);
    let (code, word, sentence) = refusal(cancel(&relay, "mine").await);
    assert_eq!((code, word.as_str()), (409, "not_cancellable"));
    assert!(sentence.ends_with("it has ended"), "{sentence}");
}

/// It was lost with its server, or somebody has cleared the history. Its job would run again, where it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_prompt_comfyui_has_forgotten_is_cancelled() {
    let (comfyui, relay) = running().await;
    comfyui.answer(CANCEL, 200, &json!({"cancelled": false}));
    comfyui.answer(PROMPT, 404, &json!({"error": "Job not found"}));
    let sockets = comfyui.calls("GET /ws");
    comfyui.close_sockets();
    comfyui.wait_for_calls("GET /ws", sockets + 1).await;
    let mut subscriber = relay.subscribe("mine").await;
    let (status, answer) = cancel(&relay, "mine").await;
    assert_eq!(status, 202, "{answer}");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("cancelled").await;
    assert_eq!(comfyui.calls("POST /prompt"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_an_older_server_has_forgotten_is_to_be_cancelled() {
    let (comfyui, relay) = running().await;
    comfyui.answer(CANCEL, 405, &json!({}));
    comfyui.answer(PROMPT, 404, &json!({}));
    let mut subscriber = relay.subscribe("mine").await;
    comfyui.set_queue(&[], &[]);
    assert_eq!(cancel(&relay, "mine").await.0, 202);
    subscriber.ends_as("cancelled").await;
}

/// It began to run, or was put back, between the two calls: both old ways work on newer servers, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_there_after_all_is_cancelled_the_old_way() {
    let (comfyui, relay) = running().await;
    comfyui.answer(CANCEL, 200, &json!({"cancelled": false}));
    for (status, call) in [
        ("in_progress", "POST /interrupt"),
        ("pending", "POST /queue"),
    ] {
        comfyui.answer(PROMPT, 200, &json!({"id": "prompt", "status": status}));
        assert_eq!(cancel(&relay, "mine").await.0, 202);
        assert_eq!(comfyui.calls(call), 1);
    }
    // The queue shows that it runs: it has begun before it was to be removed.
    assert_eq!(comfyui.calls("POST /interrupt"), 2);
}

/// A recorded server of today, which cancels by id: one prompt that runs, one that waits, one that has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_today_cancels_what_runs_and_what_waits() {
    const RECORDING: &str = "0.33.0/31-jobs-api";
    let relay = TestRelay::replaying_with(RECORDING, PlaybackSpeed::Real(1.0)).await;
    let mut running = relay.subscribe("running").await;
    let mut waiting = relay.subscribe("waiting").await;
    relay.submit("running", RECORDING).await;
    relay.submit("waiting", RECORDING).await;
    running
        .receive_until(|state| state["status"] == "processing")
        .await;
    for (job, subscriber) in [("waiting", &mut waiting), ("running", &mut running)] {
        assert_eq!(cancel(&relay, job).await.0, 202);
        subscriber.ends_as("cancelled").await;
        assert_eq!(subscriber.last()["cancelling"], Value::Null);
        let (code, word, sentence) = refusal(cancel(&relay, job).await);
        assert_eq!((code, word.as_str()), (409, "not_cancellable"));
        assert!(sentence.ends_with("it has ended"), "{sentence}");
    }
}
