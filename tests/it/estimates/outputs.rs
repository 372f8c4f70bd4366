//! Only what ComfyUI executes counts: nodes that no output needs, and outputs that it refuses, do not.

use comfy_relay::config::StoreConfig;
use serde_json::{Value, json};

use super::server::{case, progress, relay_at, start, state};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

/// A sampler of 100 steps is left over in it; 7 of 8 nodes run.
const UNNEEDED: &str = include_str!("cases/unneeded-node.json");

/// ComfyUI refuses the second of its two outputs; 7 of 11 nodes run.
const IGNORED: &str = include_str!("cases/ignored-branch.json");

async fn connected() -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let relay = relay_at(&comfyui, StoreConfig::default()).await;
    (comfyui, relay)
}

/// How many nodes a job has in its first state, before the queue has shown its outputs.
async fn submitted_nodes(relay: &TestRelay, id: &str, workflow: &Value) -> Value {
    let mut subscriber = relay.subscribe(id).await;
    relay.submit_workflow(id, workflow).await;
    let first = state(&mut subscriber, "was submitted", |_| true).await;
    first["nodes"]["total"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_branch_does_not_count() {
    let (comfyui, relay) = connected().await;
    let errors = json!({"23": {"class_type": "ImageScale", "dependent_outputs": ["22"],
        "errors": [{"type": "value_not_in_list", "message": "Value not in list", "details": "upscale_method"}]}});
    let accepted = json!({"prompt_id": "prompt", "node_errors": errors});
    comfyui.answer("POST /prompt", 200, &accepted);
    comfyui.set_queue(&["prompt"], &[]);
    assert_eq!(submitted_nodes(&relay, "mine", &case(IGNORED)).await, 7);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_no_output_needs_does_not_count() {
    let comfyui = ScriptedComfy::start().await;
    let graph = case(UNNEEDED);
    let classes = graph.as_object().unwrap().values().map(|node| {
        let class = node["class_type"].as_str().unwrap();
        (
            class.to_owned(),
            json!({"output_node": class == "SaveImage"}),
        )
    });
    let classes = Value::Object(classes.collect());
    comfyui.answer("GET /object_info", 200, &classes);
    let relay = relay_at(&comfyui, StoreConfig::default()).await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    // The classes are fetched in the background.
    let attempts = std::sync::atomic::AtomicU32::new(0);
    wait_until("only 7 nodes count", async || {
        let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        submitted_nodes(&relay, &format!("job-{attempt}"), &case(UNNEEDED)).await == 7
    })
    .await;
    relay.stop().await;
}

/// The queue shows which outputs run, for prompts of our own, too, also in the middle of a job.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_replaced_in_the_middle_of_a_job_keeps_what_is_known() {
    let (comfyui, relay) = connected().await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    let workflow = case(UNNEEDED);
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", &workflow).await;
    start(&comfyui, "prompt");
    let cached = json!({"prompt_id": "prompt", "nodes": ["4", "6"]});
    comfyui.send(&json!({"type": "execution_cached", "data": cached}));
    let begun = [("5", 1, 1, true), ("7", 1, 1, true), ("3", 9, 15, false)];
    progress(&comfyui, "prompt", &begun);
    let before = state(&mut subscriber, "has done nine steps", |state| {
        state["node"]["step"] == 9
    })
    .await;
    assert_eq!(before["nodes"], json!({"done": 2, "cached": 2, "total": 8}));

    comfyui.run_prompt("prompt", &workflow, &["9"]);
    let after = state(&mut subscriber, "has 7 nodes", |state| {
        state["nodes"]["total"] == 7
    })
    .await;
    assert_eq!(after["nodes"], json!({"done": 2, "cached": 2, "total": 7}));
    assert_eq!(after["node"], before["node"]);
    assert_eq!(after["status"], "processing");
    // That progress does not fall is checked by the subscriber.
    progress(
        &comfyui,
        "prompt",
        &[("3", 15, 15, true), ("8", 0, 1, false)],
    );
    state(&mut subscriber, "goes on", |state| {
        state["nodes"]["done"] == 3
    })
    .await;
    relay.stop().await;
}
