//! Prompts that had ended before they were asked for.

use serde_json::{Value, json};

use super::{case, scripted};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;

const GRAPH: &str = include_str!("cases/holds-05-all-cached-nothing-made/graph.json");

/// 2025-12-10 15:00:00 UTC, in milliseconds.
const STARTED: u64 = 1_765_378_800_000;

/// A prompt in the history that took 12.5 seconds, and whose events the relay has received.
async fn ended() -> (ScriptedComfy, TestRelay) {
    let (comfyui, relay) = scripted().await;
    let at =
        |kind: &str, timestamp: u64| json!([kind, {"prompt_id": "old", "timestamp": timestamp}]);
    let entry = json!({
        "prompt": [0, "old", case(GRAPH), {}, ["9"]],
        "outputs": {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}},
        "status": {"status_str": "success", "completed": true, "messages": [
            at("execution_start", STARTED), at("execution_success", STARTED + 12_500),
        ]},
    });
    comfyui.answer("GET /history/old", 200, &json!({"old": entry}));
    comfyui.set_queue(&[], &[]);
    for (kind, data) in [
        ("execution_start", json!({"prompt_id": "old"})),
        ("executing", json!({"prompt_id": "old", "node": "5"})),
    ] {
        comfyui.send(&json!({"type": kind, "data": data}));
    }
    // The relay has read them when it shows the message behind them.
    let status = json!({"status": {"exec_info": {"queue_remaining": 7}}});
    comfyui.send(&json!({"type": "status", "data": status}));
    let mut monitor = relay.monitor().await;
    monitor
        .receive_until(|status| status["backends"][0]["queue_remaining"] == 7)
        .await;
    (comfyui, relay)
}

fn check(view: &Value) {
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(view["elapsed"], 12.5, "{view}");
    assert_eq!(view["output_path"], "a.png", "{view}");
    assert_eq!(
        view["nodes"],
        Value::Null,
        "which of them ran is not known: {view}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_has_ended_is_published_once_with_the_moments_of_its_history() {
    let (_comfyui, relay) = ended().await;
    let mut subscriber = relay.subscribe("old").await;
    subscriber.ends_as("completed").await;
    assert_eq!(subscriber.states.len(), 1, "{:?}", subscriber.states);
    check(subscriber.last());
    let (_, view) = relay.job("old").await;
    assert_eq!(view["started_at"], "2025-12-10T15:00:00Z", "{view}");
    assert_eq!(view["completed_at"], "2025-12-10T15:00:12.5Z", "{view}");
}

/// Nobody has reported this one: it is registered under an id of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_has_ended_is_registered_as_ended() {
    let (_comfyui, relay) = ended().await;
    relay.register("mine", "old").await;
    let (_, view) = relay.job("mine").await;
    check(&view);
    assert_eq!(view["seq"], 1, "{view}");
}
