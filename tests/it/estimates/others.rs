//! Prompts of other clients, of which no events are received.

use std::ops::RangeInclusive;

use comfy_relay::config::StoreConfig;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::server::{case, has_run, relay_at, remaining, state};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;

const LONG: &str = include_str!("cases/long.json");

/// How long the prompt has run, in seconds, when a job is registered for it.
const SINCE: RangeInclusive<f64> = 1.5..=6.0;

/// A server that shows by a message that its queue is empty, and the relay that has received it.
async fn idle() -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    has_run(&comfyui, &case(LONG), &["9"], 10);
    let relay = relay_at(&comfyui, StoreConfig::default()).await;
    shows_length(&comfyui, &relay, 0).await;
    (comfyui, relay)
}

/// Sends how many prompts are in the queue, and waits until that was received.
async fn shows_length(comfyui: &ScriptedComfy, relay: &TestRelay, length: u64) {
    let info = json!({"status": {"exec_info": {"queue_remaining": length}}});
    comfyui.send(&json!({"type": "status", "data": info}));
    let mut monitor = relay.monitor().await;
    let is_shown = |message: &Value| message["backends"][0]["queue_remaining"] == length;
    monitor.receive_until(is_shown).await;
}

/// Lets time pass: until the heartbeats of a job show that it has run for so long.
async fn pass(relay: &TestRelay) {
    let mut subscriber = relay.subscribe("clock").await;
    let report = json!({"progress": 10, "status": "processing"});
    relay.report("clock", &report).await;
    let has_passed = |state: &Value| state["elapsed"].as_f64() >= Some(*SINCE.start());
    state(&mut subscriber, "has run for a while", has_passed).await;
}

/// Registers a job for a prompt of another client, and checks when that is taken to have begun.
async fn has_begun_before(comfyui: &ScriptedComfy, relay: &TestRelay, created: Timestamp) {
    let extra = json!({"client_id": "another", "create_time": created.as_millisecond()});
    let running = json!([0, "theirs", case(LONG), extra, ["9"]]);
    let queue = json!({"queue_running": [running], "queue_pending": []});
    comfyui.answer("GET /queue", 200, &queue);
    pass(relay).await;
    let mut subscriber = relay.subscribe("mine").await;
    relay.register("mine", "theirs").await;
    let has_estimate = |state: &Value| remaining(state) > 0;
    let state = state(&mut subscriber, "has an estimate", has_estimate).await;
    let elapsed = state["elapsed"].as_f64().unwrap();
    assert!(SINCE.contains(&elapsed), "{state}");
    let whole = remaining(&state) as f64 + elapsed;
    assert!((8.0..=12.0).contains(&whole), "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_began_a_prompt_when_it_was_submitted() {
    let (comfyui, relay) = idle().await;
    has_begun_before(&comfyui, &relay, Timestamp::now()).await;
    relay.stop().await;
}

/// By the relay's clock, as soon as a message shows it: that of the server may be wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_began_a_prompt_when_it_was_first_shown() {
    let (comfyui, relay) = idle().await;
    shows_length(&comfyui, &relay, 1).await;
    has_begun_before(&comfyui, &relay, Timestamp::UNIX_EPOCH).await;
    relay.stop().await;
}
