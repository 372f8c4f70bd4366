//! What has always been right, of the inputs that other clients stumble over.

use serde_json::{Value, json};

use super::{case, scripted};

/// Plays the events of a case and ends its job, whose states the subscriber checks. Returns them.
async fn played(graph: &str, events: &str, history: &str) -> Vec<Value> {
    let (comfyui, relay) = scripted().await;
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", &case(graph)).await;
    let lines = events.lines().filter(|line| !line.is_empty());
    for line in lines.map(|line| line.replace("PROMPT", "prompt")) {
        let event: Value = serde_json::from_str(&line).unwrap();
        match event["text"].as_str() {
            Some(text) => comfyui.send_text(text),
            None => comfyui.send(&event),
        }
    }
    let history = case(&history.replace("PROMPT", "prompt"));
    comfyui.answer("GET /history/prompt", 200, &history);
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    subscriber.states
}

macro_rules! played {
    ($case:literal) => {
        played(
            include_str!(concat!("cases/holds-", $case, "/graph.json")),
            include_str!(concat!("cases/holds-", $case, "/events.jsonl")),
            include_str!(concat!("cases/holds-", $case, "/history.json")),
        )
        .await
    };
}

/// The files of the last state.
fn files(states: &[Value]) -> Value {
    let outputs = states.last().unwrap()["outputs"].as_array();
    let names = outputs.into_iter().flatten();
    names.map(|output| output["filename"].clone()).collect()
}

/// The largest step that was published of a node.
fn largest_step(states: &[Value], node: &str) -> Option<u64> {
    let of_node = states.iter().filter(|state| state["node"]["id"] == node);
    of_node
        .filter_map(|state| state["node"]["step"].as_u64())
        .max()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_loop_count_as_the_nodes_of_the_graph() {
    let states = played!("01-loop-ids");
    assert_eq!(files(&states), json!(["x_00001_.png"]));
    for state in &states {
        let total = state["nodes"]["total"].as_u64().unwrap();
        assert!(total <= 9, "{state}");
        let node = state["node"]["id"].as_str().unwrap_or_default();
        assert!(!node.contains('.'), "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bars_neither_move_progress_back_nor_beyond_the_end() {
    let states = played!("03-odd-bars");
    assert_eq!(files(&states), json!(["x_00001_.png"]));
    for state in &states {
        let (step, steps) = (&state["node"]["step"], &state["node"]["steps"]);
        assert!(step.as_u64() <= steps.as_u64(), "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_which_everything_is_cached_completes_without_files() {
    let states = played!("05-all-cached-nothing-made");
    assert_eq!(files(&states), json!([]));
    let nodes = &states.last().unwrap()["nodes"];
    assert_eq!(nodes, &json!({"done": 0, "cached": 7, "total": 7}));
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_nodes_that_run_count_as_run() {
    let states = played!("06-cached-but-run");
    let nodes = &states.last().unwrap()["nodes"];
    assert_eq!(nodes, &json!({"done": 7, "cached": 0, "total": 7}));
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_without_a_prompt_are_those_of_the_prompt_that_runs() {
    let states = played!("10-bars-without-prompt-id");
    assert_eq!(largest_step(&states, "3"), Some(10));
    assert_eq!(files(&states), json!(["x_00001_.png"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_other_prompts_change_nothing() {
    let states = played!("13-foreign-events-between");
    assert_eq!(largest_step(&states, "3"), Some(5));
    let ends = states
        .iter()
        .filter(|state| state["status"] != "processing");
    assert_eq!(ends.count(), 2, "queued and completed: {states:?}");
}

/// The ids of nodes in a subgraph, such as `57:3`, are ids as any other.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_subgraph_are_nodes_of_the_graph() {
    let graph = case(include_str!("cases/holds-16-subgraph-ids/graph.json"));
    let (comfyui, relay) = scripted().await;
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", &graph).await;
    let ids: Vec<&String> = graph.as_object().unwrap().keys().collect();
    assert!(ids.iter().any(|id| id.contains(':')));
    for id in ids {
        let data = json!({"prompt_id": "prompt", "node": id});
        comfyui.send(&json!({"type": "executing", "data": data}));
        let state = subscriber
            .receive_until(|state| state["node"]["id"] == **id)
            .await;
        assert_eq!(state["node"]["class_type"], graph[id]["class_type"]);
    }
    comfyui.complete("prompt");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
}
