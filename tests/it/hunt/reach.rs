//! Servers that are away and come back, and servers that hang.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{JOBS, scripted_at};
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::waits_for_comfyui;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_secs(3_600);

/// Longer than a prompt is looked for whose answer was lost.
const LONGER_THAN_A_LOOK: Duration = Duration::from_secs(8);

/// The relay dials only if it is asked to.
fn seldom() -> Settings {
    let mut settings = Settings::default();
    (settings.comfy.min_backoff, settings.comfy.max_backoff) = (FOREVER, FOREVER);
    settings
}

async fn is_unreachable(relay: &TestRelay, backend: usize) {
    wait_until("the server is away", async || {
        let (_, health) = relay.get("/api/anime/health").await;
        let backend = &health["components"]["comfyui"][backend];
        backend["status"] == "unreachable" && backend["reason"].is_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_dials_a_server_that_may_be_back_at_once() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.refuse_sockets(true);
    let relay = TestRelay::start(&comfyui.url(), seldom()).await;
    is_unreachable(&relay, 0).await;
    comfyui.refuse_sockets(false);
    comfyui.accept_prompts_as("prompt");
    let body = json!({"job_id": "mine", "workflow": one_node_workflow()});
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(status, 201, "{answer}");
}

/// Nobody has reported this one: the server is one of several.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_looked_for_on_a_server_that_may_be_back() {
    let (running, away) = (ScriptedComfy::start().await, ScriptedComfy::start().await);
    away.refuse_sockets(true);
    let urls = format!("{},{}", running.url(), away.url());
    let relay = TestRelay::start(&urls, seldom()).await;
    is_unreachable(&relay, 1).await;
    away.refuse_sockets(false);
    away.set_queue(&["p"], &[]);
    relay.register("mine", "p").await;
    // The job's events arrive, too: the server was dialled.
    wait_until("the socket is open", async || away.calls("GET /ws") > 1).await;
}

/// A server that does not answer prompts, and a job that waits for it. Returns its prompt id, too.
async fn unanswered() -> (ScriptedComfy, TestRelay, String) {
    let mut settings = Settings::default();
    settings.comfy.submit_wait = Duration::from_millis(200);
    let (comfyui, relay) = scripted_at(settings).await;
    comfyui.reply("POST /prompt", Reply::Hang);
    comfyui.reply("GET /queue", Reply::Hang);
    let body = json!({"job_id": "mine", "workflow": one_node_workflow()});
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["job_id"], "mine");
    assert_eq!(answer["message"], "Waiting for ComfyUI to answer");
    let (_, view) = relay.job("mine").await;
    assert_eq!(view["status"], "queued", "{view}");
    assert!(waits_for_comfyui(&view), "{view}");
    let prompt = comfyui.posted()["prompt_id"].as_str().unwrap().to_owned();
    assert_eq!(answer["prompt_id"], prompt);
    (comfyui, relay, prompt)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_to_a_server_that_hangs_becomes_a_job_that_is_adopted() {
    let (comfyui, relay, prompt) = unanswered().await;
    let mut subscriber = relay.subscribe("mine").await;
    comfyui.set_queue(&["other"], &[&prompt]);
    subscriber
        .receive_until(|state| state["message"] == "Queued, 1 ahead")
        .await;
    comfyui.set_queue(&[&prompt], &[]);
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    comfyui.complete(&prompt);
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    assert_eq!(comfyui.calls("POST /prompt"), 1, "handed in once");
}

/// The server was restarted before it had read the prompt.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_handed_in_again_only_when_comfyui_does_not_have_it() {
    let (comfyui, relay, prompt) = unanswered().await;
    let mut subscriber = relay.subscribe("mine").await;
    // As long as the queue cannot be read, it may have it.
    let asked = comfyui.calls("GET /queue");
    comfyui.reply("POST /prompt", Reply::Disconnect);
    comfyui.wait_for_calls("GET /queue", asked + 1).await;
    assert_eq!(comfyui.calls("POST /prompt"), 1);
    comfyui.set_queue(&[], &[]);
    comfyui.wait_for_calls("POST /prompt", 2).await;
    assert_eq!(comfyui.posted()["prompt_id"], prompt, "under the same id");
    comfyui.set_queue(&[&prompt], &[]);
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    comfyui.complete(&prompt);
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
}

/// An error says no more of the prompt than no answer does, however long it is looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_not_handed_in_again_while_the_queue_cannot_be_read() {
    let (comfyui, _relay, _) = unanswered().await;
    comfyui.reply("GET /queue", Reply::Text(500, String::new()));
    comfyui.reply("POST /prompt", Reply::Disconnect);
    let began_at = Instant::now();
    while began_at.elapsed() < LONGER_THAN_A_LOOK {
        comfyui.wait_for_more_calls("GET /queue", 1).await;
    }
    assert_eq!(comfyui.calls("POST /prompt"), 1);
}

/// Nobody has reported these: what the late answer says is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_is_read() {
    let (comfyui, relay, _) = unanswered().await;
    let mut subscriber = relay.subscribe("mine").await;
    let error = json!({"error": {"type": "x", "message": "Prompt has no outputs", "details": ""}, "node_errors": {}});
    comfyui.answer("POST /prompt", 400, &error);
    subscriber.ends_as("failed").await;
    assert_eq!(
        subscriber.last()["error"],
        "ComfyUI refuses the workflow: Prompt has no outputs"
    );

    // A server of before the middle of 2025 chooses its prompt ids itself.
    let (comfyui, relay, _) = unanswered().await;
    let mut subscriber = relay.subscribe("mine").await;
    comfyui.set_queue(&["own"], &[]);
    comfyui.accept_prompts_as("own");
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    let event: Value = json!({"type": "execution_success", "data": {"prompt_id": "own"}});
    comfyui.send(&event);
    comfyui.complete("own");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
}
