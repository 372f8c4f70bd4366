//! What the relay learns from a server's history when it first connects to it.

use serde_json::{Value, json};

use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::waits_for_comfyui;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{Settings, TestRelay};

const HISTORY: &str = "GET /history";

/// More bytes than the relay reads of a history.
const TOO_LONG: usize = 33 << 20;

fn workflow() -> Value {
    json!({
        "3": {"class_type": "KSampler", "inputs": {"steps": 20}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
    })
}

/// A prompt that began at a millisecond and took so many.
fn entry(started_at: u64, took: u64) -> Value {
    let ended_at = started_at + took;
    json!({"prompt": [1, "p", workflow(), {}, ["9"]], "outputs": {}, "status": {
        "status_str": "success", "completed": true, "messages": [
            ["execution_start", {"prompt_id": "p", "timestamp": started_at}],
            ["execution_cached", {"prompt_id": "p", "nodes": [], "timestamp": started_at}],
            ["execution_success", {"prompt_id": "p", "timestamp": ended_at}]
    ]}})
}

/// A relay with the job `job`, which is the prompt `mine`.
async fn with_job(comfyui: &ScriptedComfy, url: &str) -> TestRelay {
    let relay = TestRelay::connected_to(url, Settings::default()).await;
    comfyui.accept_prompts_as("mine");
    comfyui.set_queue(&["mine"], &[]);
    let work = json!({"job_id": "job", "workflow": workflow()});
    assert_eq!(relay.post("/api/anime/jobs", &work).await.0, 201);
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_read_once_and_its_newest_prompts_count() {
    let comfyui = ScriptedComfy::start().await;
    // The relay sorts; here the newest entry is first.
    let mut history =
        json!({"new": entry(9_000_000, 60_000), "odd": null, "old": entry(1_000, 5_000)});
    for number in 0..11 {
        history[format!("new-{number}")] = entry(8_000_000 + number, 60_000);
    }
    comfyui.answer(HISTORY, 200, &history);
    let proxy = TcpProxy::start(comfyui.address()).await;
    let relay = with_job(&comfyui, &proxy.url()).await;
    let mut subscriber = relay.subscribe("job").await;
    let state = subscriber
        .receive_until(|state| state["estimated_remaining"].is_u64())
        .await;
    let remaining = state["estimated_remaining"].as_u64().unwrap();
    assert!((50..=60).contains(&remaining), "{state}");
    // After a reconnect, the version is requested again, but not the history.
    proxy.cut();
    subscriber.receive_until(waits_for_comfyui).await;
    proxy.restore();
    comfyui.wait_for_calls("GET /system_stats", 2).await;
    comfyui.set_queue(&[], &[]);
    comfyui.complete("mine");
    assert_eq!(subscriber.close_code().await, 1000);
    assert_eq!(comfyui.calls(HISTORY), 1);
}

/// Jobs go on with any answer, and without one.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_history_delays_no_job() {
    let endless = format!("{{\"p\": \"{}\"}}", "x".repeat(TOO_LONG));
    let garbled = "{\"p\": {\"status\": [[[".to_owned();
    let replies = [
        Reply::Hang,
        Reply::Disconnect,
        Reply::Text(500, String::new()),
        Reply::Text(200, garbled),
        Reply::Text(200, "[".repeat(100_000)),
        Reply::Text(200, endless),
    ];
    for reply in replies {
        let comfyui = ScriptedComfy::start().await;
        comfyui.reply(HISTORY, reply);
        let relay = with_job(&comfyui, &comfyui.url()).await;
        comfyui.wait_for_calls(HISTORY, 1).await;
        let mut subscriber = relay.subscribe("job").await;
        subscriber
            .receive_until(|state| state["status"] == "processing")
            .await;
        comfyui.set_queue(&[], &[]);
        comfyui.complete("mine");
        subscriber.ends_as("completed").await;
        relay.stop().await;
        assert_eq!(comfyui.calls(HISTORY), 1);
    }
}
