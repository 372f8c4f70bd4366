//! What is asked of servers, and what is not taken for a prompt of another client.

use serde_json::{Value, json};

use super::{ids, job_that};
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{JOB_LIST, Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

/// A relay that discovers the prompts of a server at once.
async fn relay_at(comfyui: &ScriptedComfy) -> TestRelay {
    let mut settings = Settings::default();
    settings.comfy.discovery = true;
    TestRelay::connected_to(&comfyui.url(), settings).await
}

/// Sends how many prompts are in the queue.
fn send_length(comfyui: &ScriptedComfy, length: usize) {
    let info = json!({"status": {"exec_info": {"queue_remaining": length}}});
    comfyui.send(&json!({"type": "status", "data": info}));
}

/// A prompt as a server shows it alone.
fn shown(id: &str, status: &str) -> Value {
    json!({"id": id, "status": status, "priority": 0,
        "workflow": {"prompt": one_node_workflow(), "extra_data": {"client_id": "another"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_is_not_asked_for_its_queue() {
    let comfyui = ScriptedComfy::start().await;
    let relay = relay_at(&comfyui).await;
    send_length(&comfyui, 0);
    let mut monitor = relay.monitor().await;
    let is_shown = |message: &Value| message["backends"][0]["queue_remaining"] == 0;
    monitor.receive_until(is_shown).await;
    assert_eq!(
        (comfyui.calls("GET /queue"), comfyui.calls(JOB_LIST)),
        (0, 0)
    );
    relay.stop().await;
}

/// A server that has not answered yet to a submission may show its prompt already.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_on_its_way_is_not_another_clients() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply("POST /prompt", Reply::Hang);
    let relay = relay_at(&comfyui).await;
    let submitting = async {
        let body = json!({"job_id": "mine", "workflow": one_node_workflow()});
        relay.post("/api/anime/jobs", &body).await
    };
    let showing = async {
        comfyui.wait_for_calls("POST /prompt", 1).await;
        let posted = comfyui.posted();
        let extra = json!({"client_id": posted["client_id"]});
        let item = json!([0, posted["prompt_id"], posted["prompt"], extra, ["9"]]);
        comfyui.answer(
            "GET /queue",
            200,
            &json!({"queue_running": [item], "queue_pending": []}),
        );
        // The second time, what the first look has shown is settled.
        for _ in 0..2 {
            send_length(&comfyui, 1);
            comfyui.wait_for_more_calls("GET /queue", 1).await;
        }
        let id = posted["prompt_id"].as_str().unwrap();
        comfyui.answer("POST /prompt", 200, &json!({"prompt_id": id}));
    };
    let ((status, answer), ()) = tokio::join!(submitting, showing);
    assert_eq!(status, 201, "{answer}");
    assert_eq!(ids(&relay).await, ["mine"]);
    relay.stop().await;
}

/// Of ten thousand prompts that wait, only the next ones become jobs, each asked for alone; the whole queue is never read.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_costs_what_its_list_costs() {
    let comfyui = ScriptedComfy::start().await;
    let names: Vec<String> = (0..10_000).map(|number| format!("p{number:05}")).collect();
    let waiting: Vec<&str> = names.iter().map(String::as_str).collect();
    comfyui.list_jobs(&["running"], &waiting);
    comfyui.answer(
        "GET /api/jobs/running",
        200,
        &shown("running", "in_progress"),
    );
    for id in &waiting {
        comfyui.answer(&format!("GET /api/jobs/{id}"), 200, &shown(id, "pending"));
    }
    let relay = relay_at(&comfyui).await;
    send_length(&comfyui, 10_001);
    job_that(&relay, "running", |job| job["status"] == "processing").await;
    wait_until("the next prompts are jobs", async || {
        ids(&relay).await.len() == 4
    })
    .await;
    comfyui.wait_for_more_calls(JOB_LIST, 3).await;
    assert_eq!(ids(&relay).await, ["p00000", "p00001", "p00002", "running"]);
    assert_eq!(comfyui.calls("GET /queue"), 0);
    for id in ["running", "p00000", "p00001", "p00002"] {
        assert_eq!(comfyui.calls(&format!("GET /api/jobs/{id}")), 1, "{id}");
    }
    assert_eq!(comfyui.calls("GET /api/jobs/p00003"), 0);
    relay.stop().await;
}

/// One that somebody follows becomes a job wherever it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_awaited_becomes_a_job_at_once() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.list_jobs(&[], &[]);
    let mut settings = Settings::default();
    settings.comfy.discovery = true;
    settings.comfy.discovery_grace = std::time::Duration::from_secs(3_600);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let mut subscriber = relay.subscribe("theirs").await;
    // Its first look has not found it.
    comfyui.wait_for_calls("GET /history/theirs", 1).await;
    let names: Vec<String> = (0..200).map(|number| format!("p{number:03}")).collect();
    let mut waiting: Vec<&str> = names.iter().map(String::as_str).collect();
    waiting.push("theirs");
    comfyui.list_jobs(&["running"], &waiting);
    comfyui.answer("GET /api/jobs/theirs", 200, &shown("theirs", "pending"));
    send_length(&comfyui, 202);
    let is_placed = |state: &Value| state["queue_position"] == 201;
    subscriber.receive_until(is_placed).await;
    // The list shows what is on the disk.
    job_that(&relay, "theirs", |job| job["status"] == "queued").await;
    relay.stop().await;
}
