//! What the relay has guessed of a graph is held against what the server says that it runs.

use serde_json::{Value, json};

use super::{case, scripted};

const STRAY: &str = include_str!("cases/stray-branch.json");
const STRAY_QUEUE: &str = include_str!("cases/stray-branch-queue.json");

/// A second sampler, which nothing reads: of nine nodes, seven run.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_the_server_does_not_run_leaves_the_plan() {
    let (comfyui, relay) = scripted().await;
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", &case(STRAY)).await;
    let first = subscriber.receive_type("progress").await;
    assert_eq!(first["nodes"]["total"], 9, "nothing says more yet: {first}");
    let running = case(&STRAY_QUEUE.replace("PROMPT", "prompt"));
    let queue = json!({"queue_running": [running], "queue_pending": []});
    comfyui.answer("GET /queue", 200, &queue);
    subscriber
        .receive_until(|state| state["nodes"]["total"] == 7)
        .await;
    let (_, explanation) = relay.get("/api/anime/jobs/mine/estimate").await;
    let nodes = explanation["nodes"].as_array().unwrap().iter();
    let mut ids: Vec<&str> = nodes.filter_map(|node| node["id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["3", "4", "5", "6", "7", "8", "9"]);
    comfyui.complete("prompt");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    // Nothing was received of it: which of them ran is not known.
    assert_eq!(subscriber.last()["nodes"], Value::Null);
}
