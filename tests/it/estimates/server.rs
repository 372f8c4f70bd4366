//! A scripted ComfyUI on which workflows have run before, and the states of jobs that run on it now.

use std::time::Duration;

use comfy_relay::config::{RelayConfig, StoreConfig};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::PATIENCE;

/// One of the workflows in `cases`.
pub(crate) fn case(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A relay that follows a server and publishes the estimate of the moment several times a second.
pub(crate) async fn relay_at(comfyui: &ScriptedComfy, store: StoreConfig) -> TestRelay {
    let mut settings = Settings::from(store);
    settings.relay = RelayConfig {
        heartbeat: Duration::from_millis(200),
        ..settings.relay
    };
    TestRelay::connected_to(&comfyui.url(), settings).await
}

/// Has a workflow in the history that took so many seconds, from which a relay learns when it starts.
pub(crate) fn has_run(comfyui: &ScriptedComfy, workflow: &Value, outputs: &[&str], seconds: u64) {
    let at =
        |kind: &str, timestamp: u64| json!([kind, {"prompt_id": "old", "timestamp": timestamp}]);
    let entry = json!({
        "prompt": [0, "old", workflow, {}, outputs],
        "outputs": {},
        "status": {"status_str": "success", "completed": true, "messages": [
            at("execution_start", 1_000), at("execution_success", 1_000 + 1_000 * seconds),
        ]},
    });
    comfyui.answer("GET /history", 200, &json!({"old": entry}));
}

/// Sends that a prompt has started.
pub(crate) fn start(comfyui: &ScriptedComfy, prompt: &str) {
    comfyui.send(&json!({"type": "execution_start", "data": {"prompt_id": prompt}}));
}

/// Sends the states of the nodes of a prompt that have begun: their bars, and whether they have ended.
pub(crate) fn progress(comfyui: &ScriptedComfy, prompt: &str, nodes: &[(&str, u32, u32, bool)]) {
    let state = |(id, value, max, has_ended): &(&str, u32, u32, bool)| {
        let state = if *has_ended { "finished" } else { "running" };
        let report = json!({"node_id": id, "display_node_id": id, "prompt_id": prompt,
            "value": value, "max": max, "state": state});
        ((*id).to_owned(), report)
    };
    let nodes: serde_json::Map<String, Value> = nodes.iter().map(state).collect();
    comfyui.send(&json!({"type": "progress_state", "data": {"prompt_id": prompt, "nodes": nodes}}));
}

/// The next state of a job that satisfies a condition.
pub(crate) async fn state(
    subscriber: &mut Subscriber,
    what: &str,
    is_wanted: impl Fn(&Value) -> bool,
) -> Value {
    let states = subscriber.receive_until(|state| state["type"] == "progress" && is_wanted(state));
    let state = timeout(PATIENCE / 4, states).await;
    state.unwrap_or_else(|_| panic!("no state of a job that {what}"))
}

/// The remaining seconds in a state; 0 if it has none.
pub(crate) fn remaining(state: &Value) -> u64 {
    state["estimated_remaining"].as_u64().unwrap_or(0)
}
