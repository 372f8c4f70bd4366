//! The percentage of a partner node, whose work a service does, is no step.

use comfy_relay::config::StoreConfig;
use serde_json::{Value, json};

use crate::support::database::{TestDatabase, on_both};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay};

on_both!(a_percentage_is_not_stored_as_steps);

const CLASSES: &str = "GET /object_info";

/// A service makes a video, which is saved.
fn workflow() -> Value {
    json!({
        "1": {"class_type": "KlingTextToVideoNode", "inputs": {"prompt": "a fox"}},
        "2": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0]}},
    })
}

/// The node classes of a server that knows its partner nodes.
fn classes() -> Value {
    json!({
        "KlingTextToVideoNode": {"input": {}, "output_node": false, "api_node": true},
        "SaveVideo": {"input": {}, "output_node": true},
    })
}

/// A job whose partner node runs; the server answers with its node classes what it is told to before.
async fn running(comfyui: &ScriptedComfy, store: StoreConfig) -> (TestRelay, Subscriber) {
    comfyui.accept_prompts_as("prompt");
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::from(store)).await;
    comfyui.wait_for_calls(CLASSES, 1).await;
    comfyui.run_prompt("prompt", &workflow(), &["2"]);
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", &workflow()).await;
    event(comfyui, "execution_start", json!({}));
    event(comfyui, "executing", json!({"node": "1"}));
    subscriber
        .receive_until(|state| state["node"]["id"] == "1")
        .await;
    (relay, subscriber)
}

fn event(comfyui: &ScriptedComfy, kind: &str, mut data: Value) {
    data["prompt_id"] = json!("prompt");
    comfyui.send(&json!({"type": kind, "data": data}));
}

/// Both messages that ComfyUI sends of a bar.
fn bar(comfyui: &ScriptedComfy, percent: u32) {
    event(
        comfyui,
        "progress",
        json!({"node": "1", "value": percent, "max": 100}),
    );
    let node = json!({"value": percent, "max": 100, "state": "running"});
    event(comfyui, "progress_state", json!({"nodes": {"1": node}}));
}

/// The next state that shows a percentage has no steps.
async fn shows(subscriber: &mut Subscriber, message: &str) {
    let state = subscriber
        .receive_until(|state| state["message"] == message)
        .await;
    let node = &state["node"];
    assert_eq!(node["id"], "1", "{state}");
    assert_eq!(
        (&node["step"], &node["steps"]),
        (&json!(null), &json!(null))
    );
}

/// What the explanation of the estimate says of the steps of the partner node.
async fn explained_steps(relay: &TestRelay) -> (Value, Value) {
    let (_, explanation) = relay.get("/api/anime/jobs/mine/estimate").await;
    let nodes = explanation["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["id"] == "1").unwrap();
    (node["steps"].clone(), node["steps_seen"].clone())
}

async fn a_percentage_is_not_stored_as_steps(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(CLASSES, 200, &classes());
    let (relay, mut subscriber) = running(&comfyui, db.config()).await;
    for percent in [10, 20, 40] {
        bar(&comfyui, percent);
        shows(
            &mut subscriber,
            &format!("KlingTextToVideoNode: {percent} %"),
        )
        .await;
    }
    assert_eq!(explained_steps(&relay).await, (Value::Null, Value::Null));
    event(&comfyui, "executing", json!({"node": "2"}));
    comfyui.complete("prompt");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    relay.stop().await;
    let learned = "SELECT count(*) AS v FROM comfy_relay.node_runs WHERE node = '1' AND cold IS NOT NULL AND calls = 1";
    assert_eq!(db.value(learned).await, "1");
    let counted = "SELECT count(*) AS v FROM comfy_relay.node_runs WHERE node = '1' AND \
        (steps IS NOT NULL OR planned_steps IS NOT NULL OR tick IS NOT NULL OR ticks IS NOT NULL)";
    assert_eq!(db.value(counted).await, "0");
}

/// Nobody has reported this one: the server says only in the middle of a run what its nodes are.
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_counts_no_steps_any_more_once_its_node_is_known_as_a_partner() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply(CLASSES, Reply::Hang);
    let (relay, mut subscriber) = running(&comfyui, StoreConfig::default()).await;
    for percent in [10, 40] {
        bar(&comfyui, percent);
        let state = subscriber
            .receive_until(|state| state["node"]["step"] == percent)
            .await;
        assert_eq!(state["node"]["steps"], 100);
    }
    comfyui.answer(CLASSES, 200, &classes());
    shows(&mut subscriber, "KlingTextToVideoNode: 40 %").await;
    assert_eq!(explained_steps(&relay).await, (Value::Null, Value::Null));
    bar(&comfyui, 45);
    shows(&mut subscriber, "KlingTextToVideoNode: 45 %").await;
}

/// The words of a service are shown where the server says that it is one, and what it expects counts.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_says_of_its_work_is_shown() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(CLASSES, 200, &classes());
    let (_relay, mut subscriber) = running(&comfyui, StoreConfig::default()).await;
    // What no service says.
    comfyui.send_node_text("1", "Status: a secret fox");
    comfyui.send_node_text("2", "Status: a secret fox\nTime elapsed: 1s");
    let text = "Status: In progress\nTime elapsed: 12s (~600s remaining)";
    comfyui.send_node_text("1", text);
    shows(&mut subscriber, "KlingTextToVideoNode: In progress").await;
    let left = |state: &Value| state["estimated_remaining"].as_u64();
    let expects = |state: &Value| left(state).is_some_and(|left| (400..700).contains(&left));
    subscriber.receive_until(expects).await;
    bar(&comfyui, 20);
    shows(&mut subscriber, "KlingTextToVideoNode: In progress, 20 %").await;
    comfyui.send_node_text("1", "Status: Completed\nPrice: 14 credits");
    shows(&mut subscriber, "KlingTextToVideoNode: Completed, 20 %").await;
    let texts = subscriber.states.iter().map(Value::to_string);
    assert!(
        texts
            .clone()
            .all(|text| !text.contains("secret") && !text.contains("credits"))
    );
}

/// A server that does not say what its nodes are: the text of the node shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shows_the_time_of_its_service_has_no_steps() {
    let comfyui = ScriptedComfy::start().await;
    let (relay, mut subscriber) = running(&comfyui, StoreConfig::default()).await;
    // Of another node, and of none.
    comfyui.send_node_text("2", "Time elapsed: 1s");
    comfyui.send_node_text("1", "Status: a fox");
    bar(&comfyui, 5);
    let state = subscriber
        .receive_until(|state| state["node"]["step"] == 5)
        .await;
    assert_eq!(state["node"]["steps"], 100, "{state}");
    comfyui.send_node_text(
        "1",
        "Status: In progress\nTime elapsed: 5s (~30s remaining)",
    );
    shows(&mut subscriber, "KlingTextToVideoNode: 5 %").await;
    bar(&comfyui, 20);
    shows(&mut subscriber, "KlingTextToVideoNode: 20 %").await;
    assert_eq!(explained_steps(&relay).await, (Value::Null, Value::Null));
    // The text itself can be a prompt's.
    let texts = subscriber.states.iter().map(Value::to_string);
    assert!(texts.clone().all(|text| !text.contains("In progress")));
}
