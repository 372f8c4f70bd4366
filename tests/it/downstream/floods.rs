//! More states of a job than subscribers can read.

use std::time::Duration;

use comfy_relay::config::RelayConfig;
use comfy_relay::job::JobId;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay};

/// Longer than any test takes: a state that is throttled this long is published only with another one.
const FOREVER: Duration = Duration::from_secs(3_600);

/// Steps of the bar that moves in the flood.
const STEPS: usize = 4_000;

fn every(publish_interval: Duration) -> Settings {
    let settings = Settings::default();
    let relay = RelayConfig {
        publish_interval,
        heartbeat: FOREVER,
        ..settings.relay
    };
    Settings { relay, ..settings }
}

fn timestamp(state: &Value) -> Timestamp {
    state["timestamp"].as_str().unwrap().parse().unwrap()
}

fn seqs(subscriber: &Subscriber) -> Vec<u64> {
    let states = subscriber.states.iter();
    states.map(|state| state["seq"].as_u64().unwrap()).collect()
}

async fn report(relay: &TestRelay, progress: u8, status: &str) {
    let report = json!({"progress": progress, "status": status});
    let (code, answer) = relay.post("/api/anime/jobs/render/progress", &report).await;
    assert_eq!(code, 202, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_is_throttled_and_its_last_state_is_published() {
    let interval = RelayConfig::default().publish_interval;
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let relay = TestRelay::connected_to(&comfyui.url(), every(interval)).await;
    relay.register("flood", "p").await;
    let mut subscriber = relay.subscribe("flood").await;
    subscriber
        .receive_until(|message| message["status"] == "processing")
        .await;
    for step in 1..=STEPS {
        let node = json!({"value": step, "max": STEPS, "state": "running", "node_id": "3"});
        let data = json!({"prompt_id": "p", "nodes": {"3": node}});
        comfyui.send(&json!({"type": "progress_state", "data": data}));
    }
    subscriber
        .receive_until(|message| message["node"]["step"] == STEPS)
        .await;
    let received = subscriber.states.len() as u64;
    let (first, last) = (seqs(&subscriber)[0], subscriber.last()["seq"].as_u64());
    assert_eq!(
        last,
        Some(first + received - 1),
        "a subscriber missed a state"
    );
    for pair in subscriber.states.windows(2) {
        let apart = timestamp(&pair[1]).duration_since(timestamp(&pair[0]));
        // Timestamps are truncated to milliseconds.
        let least = interval - Duration::from_millis(1);
        let is_in_time = pair[0]["status"] != pair[1]["status"] || apart.unsigned_abs() >= least;
        assert!(is_in_time, "{apart} between {} and {}", pair[0], pair[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_state_changes_of_status_and_the_end_are_published_at_once() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::start(&comfyui.url(), every(FOREVER)).await;
    report(&relay, 0, "queued").await;
    let mut subscriber = relay.subscribe("render").await;
    report(&relay, 0, "queued").await;
    report(&relay, 10, "processing").await;
    subscriber
        .receive_until(|message| message["status"] == "processing")
        .await;
    report(&relay, 20, "processing").await;
    report(&relay, 30, "processing").await;
    report(&relay, 90, "completed").await;
    assert_eq!(subscriber.close_code().await, 1000);
    let received: Vec<&Value> = subscriber
        .states
        .iter()
        .map(|state| &state["progress"])
        .collect();
    assert_eq!(received, [0, 10, 100]);
    assert_eq!(seqs(&subscriber), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_state_is_written_when_the_relay_stops() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::start(&comfyui.url(), every(FOREVER)).await;
    report(&relay, 10, "processing").await;
    report(&relay, 20, "processing").await;
    relay.handle.shutdown().await;
    let id = JobId::parse("render").unwrap();
    let saved = relay.handle.recorder().store().job(&id).await.unwrap();
    assert_eq!(saved.unwrap().progress, 20);
}
