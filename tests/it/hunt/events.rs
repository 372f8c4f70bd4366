//! Each field of an event, an error and a history entry is read on its own.

use serde_json::{Value, json};

use super::{case, scripted};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::TestRelay;

const GRAPH: &str = include_str!("cases/holds-05-all-cached-nothing-made/graph.json");

/// A job of the usual seven nodes that runs.
async fn running() -> (ScriptedComfy, TestRelay, Subscriber) {
    let (comfyui, relay) = scripted().await;
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", &case(GRAPH)).await;
    event(&comfyui, "execution_start", json!({}));
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    (comfyui, relay, subscriber)
}

fn event(comfyui: &ScriptedComfy, kind: &str, mut data: Value) {
    data["prompt_id"] = json!("prompt");
    comfyui.send(&json!({"type": kind, "data": data}));
}

/// Ends the prompt with this entry in the history.
fn end(comfyui: &ScriptedComfy, entry: Value) {
    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": entry}));
    comfyui.set_queue(&[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_the_wrong_type_hides_no_other_of_an_event() {
    let (comfyui, _relay, mut subscriber) = running().await;
    // An id that is a number, and a display node that is a list.
    event(
        &comfyui,
        "executing",
        json!({"node": 4, "display_node": {"a": 1}}),
    );
    subscriber
        .receive_until(|state| state["node"]["id"] == "4")
        .await;
    // An id that is a number, and no bar.
    event(
        &comfyui,
        "progress",
        json!({"node": 8, "value": [], "max": null}),
    );
    subscriber
        .receive_until(|state| state["node"]["id"] == "8")
        .await;
    // Numbers that are texts.
    event(
        &comfyui,
        "progress",
        json!({"node": "3", "value": "5", "max": "10"}),
    );
    let state = subscriber
        .receive_until(|state| state["node"]["id"] == "3")
        .await;
    assert_eq!(state["node"]["step"], 5, "{state}");
    // One node of many is odd.
    let nodes = json!({
        "4": {"state": 7, "value": {}, "max": "x"},
        "5": null,
        "6": {"state": "finished", "value": 1, "max": 1, "display_node_id": 6},
        "3": {"state": "running", "value": 7, "max": 10},
    });
    event(&comfyui, "progress_state", json!({"nodes": nodes}));
    let state = subscriber
        .receive_until(|state| state["node"]["step"] == 7)
        .await;
    assert_eq!(state["nodes"]["done"], json!(2), "{state}");
}

/// Nobody has reported this one: a list of cached nodes with numbers in it.
#[tokio::test(flavor = "multi_thread")]
async fn odd_ids_hide_no_cached_node() {
    let (comfyui, _relay, mut subscriber) = running().await;
    event(
        &comfyui,
        "execution_cached",
        json!({"nodes": ["4", 5, null, {"a": 1}, "6"]}),
    );
    let state = subscriber
        .receive_until(|state| state["nodes"]["cached"].as_u64() > Some(0))
        .await;
    assert_eq!(state["nodes"]["cached"], 3);
}

/// What names no prompt would change the one that runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_unreadable_prompt_changes_no_other() {
    let (comfyui, _relay, mut subscriber) = running().await;
    for kind in [
        "execution_error",
        "execution_success",
        "execution_interrupted",
        "executing",
    ] {
        comfyui.send(&json!({"type": kind, "data": {"prompt_id": {"a": 1}, "node": null}}));
    }
    // An end has no node; an odd one is no end.
    event(&comfyui, "executing", json!({"node": {"a": 1}}));
    event(&comfyui, "executing", json!({"node": "4"}));
    let state = subscriber
        .receive_until(|state| state["node"]["id"] == "4")
        .await;
    assert_eq!(
        (&state["status"], &state["message"]),
        (&json!("processing"), &json!("Loading checkpoint"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_the_wrong_type_hides_no_other_of_an_error() {
    let errors = [
        json!({"node_id": 3, "node_type": "KSampler", "exception_message": "out of memory", "exception_type": ["x"]}),
        json!({"node_id": "3", "node_type": "KSampler", "exception_message": ["out of", "memory"], "traceback": 7}),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        for by_socket in [true, false] {
            let (comfyui, _relay, mut subscriber) = running().await;
            if by_socket {
                event(&comfyui, "execution_error", error.clone());
            }
            let messages = json!([["execution_start", {}], ["execution_error", error]]);
            let status = json!({"status_str": "error", "messages": messages});
            end(&comfyui, json!({"outputs": {}, "status": status}));
            subscriber.ends_as("failed").await;
            let last = subscriber.last();
            assert_eq!(
                last["error"], "KSampler (node 3): out of memory",
                "{number}: {last}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_the_wrong_type_hides_no_other_of_a_history_entry() {
    let (comfyui, _relay, mut subscriber) = running().await;
    let outputs = json!({"8": 7, "9": {"images": [
        null, {"filename": 5}, {"filename": "a.png", "subfolder": 3, "type": null}
    ], "text": null}});
    let messages = json!([["execution_start", {"timestamp": "now"}], 7, ["execution_success", []]]);
    let status = json!({"status_str": ["x"], "completed": "yes", "messages": messages});
    end(
        &comfyui,
        json!({"prompt": {"a": 1}, "outputs": outputs, "status": status}),
    );
    subscriber.ends_as("completed").await;
    assert_eq!(subscriber.last()["output_path"], "a.png");
}

/// ComfyUI reports an output node that it has cached as finished.
#[tokio::test(flavor = "multi_thread")]
async fn a_cached_output_node_that_is_reported_as_finished_is_cached() {
    let (comfyui, _relay, mut subscriber) = running().await;
    event(
        &comfyui,
        "execution_cached",
        json!({"nodes": ["4", "5", "6", "7", "9"]}),
    );
    let finished = json!({"state": "finished", "value": 1, "max": 1});
    let sampler = json!({"state": "running", "value": 2, "max": 10});
    event(
        &comfyui,
        "progress_state",
        json!({"nodes": {"9": finished, "3": sampler}}),
    );
    let state = subscriber
        .receive_until(|state| state["node"]["step"] == 2)
        .await;
    assert_eq!(state["nodes"], json!({"done": 0, "cached": 5, "total": 7}));
}

/// Nobody has reported this one: a node that is named as cached, and runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_cached_node_that_is_reported_as_running_runs() {
    let (comfyui, _relay, mut subscriber) = running().await;
    event(&comfyui, "execution_cached", json!({"nodes": ["4", "9"]}));
    for state in ["running", "finished"] {
        let node = json!({"state": state, "value": 0, "max": 1});
        event(&comfyui, "progress_state", json!({"nodes": {"9": node}}));
    }
    let state = subscriber
        .receive_until(|state| state["nodes"]["done"] == 1)
        .await;
    assert_eq!(state["nodes"]["cached"], 1);
}
