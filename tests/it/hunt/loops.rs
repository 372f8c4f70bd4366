//! Loops whose nodes are copied for each round, as servers of 2026 make them: no recording holds one.

use serde_json::{Value, json};

use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};

/// A loop over a list, whose length the graph does not show.
fn workflow() -> Value {
    json!({
        "1": {"class_type": "MakeList", "inputs": {}},
        "57:2": {"class_type": "StartLoop", "inputs": {"mode": "List", "mode.list": ["1", 0]}},
        "57:3": {"class_type": "KSampler", "inputs": {"steps": 4, "latent_image": ["57:2", 3]}},
        "57:4": {"class_type": "EndLoop", "inputs": {"output_value": ["57:3", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["57:4", 0]}},
    })
}

/// The prompt that a test runs, and the nodes of which ComfyUI has sent states.
struct Prompt<'a> {
    comfyui: &'a ScriptedComfy,
    nodes: Value,
}

impl Prompt<'_> {
    fn event(&self, kind: &str, mut data: Value) {
        data["prompt_id"] = json!("prompt");
        self.comfyui.send(&json!({"type": kind, "data": data}));
    }

    /// A node that begins, or moves on.
    fn node(&mut self, id: &str, display: &str, (value, max): (u32, u32), state: &str) {
        if state == "running" && value == 0 {
            self.event("executing", json!({"node": id, "display_node": display}));
        } else if state == "running" {
            // It names no node of the graph.
            self.event("progress", json!({"node": id, "value": value, "max": max}));
        }
        self.nodes[id] = json!({"value": value, "max": max, "state": state, "node_id": id,
            "display_node_id": display, "real_node_id": display});
        self.event("progress_state", json!({"nodes": self.nodes}));
    }

    fn run(&mut self, id: &str, display: &str) {
        self.node(id, display, (0, 1), "running");
        self.node(id, display, (1, 1), "finished");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rounds_of_a_loop_are_shown_and_its_body_is_not_waited_for() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    comfyui.run_prompt("prompt", &workflow(), &["9"]);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    relay.submit_workflow("mine", &workflow()).await;
    let mut subscriber = relay.subscribe("mine").await;
    let mut prompt = Prompt {
        comfyui: &comfyui,
        nodes: json!({}),
    };
    prompt.event("execution_start", json!({}));
    prompt.run("1", "1");
    prompt.node("57:2", "57:2", (0, 1), "running");
    // Of a node that no prompt of ours has, of one that is no loop, and what a user may write.
    comfyui.send_node_text("77", "Iteration 5 / 9");
    comfyui.send_node_text("1", "a fox, Iteration 5 / 9");
    comfyui.send_node_text("57:2", "Iteration 0 / 3");
    let says = async |subscriber: &mut crate::support::subscriber::Subscriber, message: &str| {
        subscriber
            .receive_until(|state| state["message"] == message)
            .await
    };
    says(&mut subscriber, "Loop: 0 of 3").await;
    prompt.node("57:2", "57:2", (1, 1), "finished");
    for round in 0..3 {
        prompt.run(&format!("57:2.0.0.iteration_{round}"), "57:2");
        let copy = format!("57:2.0.0.{round}_57:3");
        for step in 0..=4 {
            prompt.node(&copy, "57:3", (step, 4), "running");
        }
        let message = format!("Loop: {round} of 3, KSampler: step 4 of 4");
        let state = says(&mut subscriber, &message).await;
        assert_eq!(state["node"]["id"], "57:3", "{state}");
        assert_eq!(
            state["nodes"],
            json!({"done": 2, "cached": 0, "total": 5}),
            "{state}"
        );
        prompt.node(&copy, "57:3", (4, 4), "finished");
        prompt.node(
            &format!("57:2.0.0.progress_{round}"),
            "57:2",
            (0, 1),
            "running",
        );
        let ended = round + 1;
        comfyui.send_node_text("57:2", &format!("Iteration {ended} / 3"));
        if ended < 3 {
            says(&mut subscriber, &format!("Loop: {ended} of 3")).await;
        }
        prompt.node(
            &format!("57:2.0.0.progress_{round}"),
            "57:2",
            (1, 1),
            "finished",
        );
    }
    prompt.run("57:4", "57:4");
    prompt.node("9", "9", (0, 1), "running");
    let state = says(&mut subscriber, "Saving image").await;
    assert_eq!(
        state["nodes"],
        json!({"done": 4, "cached": 0, "total": 5}),
        "{state}"
    );
    prompt.node("9", "9", (1, 1), "finished");
    prompt.event("execution_success", json!({}));
    comfyui.set_queue(&[], &[]);
    comfyui.complete("prompt");
    subscriber.ends_as("completed").await;
    assert_eq!(subscriber.last()["nodes"]["done"], 5);
    let texts = subscriber.states.iter().map(Value::to_string);
    assert!(texts.clone().all(|text| !text.contains("of 9")));
}

/// A text names no prompt: one that comes while another client's prompt runs is not about ours, which waits.
#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_another_prompt_changes_no_job_that_waits() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["other"], &["prompt"]);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    relay.submit_workflow("mine", &workflow()).await;
    let mut subscriber = relay.subscribe("mine").await;
    let waits = |state: &Value| state["message"] == "Queued, 1 ahead";
    subscriber.receive_until(waits).await;
    comfyui.send_node_text("57:2", "Iteration 1 / 3");
    comfyui.wait_for_more_calls("GET /queue", 3).await;
    let (_, job) = relay.job("mine").await;
    assert_eq!(job["status"], "queued", "{job}");
    assert_eq!(job["message"], "Queued, 1 ahead", "{job}");
    // The text of a node in a graph without loops is not used.
    comfyui.accept_prompts_as("plain");
    comfyui.run_prompt("plain", &one_node_workflow(), &["9"]);
    relay.submit_workflow("plain", &one_node_workflow()).await;
    let mut subscriber = relay.subscribe("plain").await;
    comfyui.send(&json!({"type": "executing", "data": {"prompt_id": "plain", "node": "9"}}));
    comfyui.send_node_text("9", "Iteration 5 / 9");
    let saves = |state: &Value| state["message"] == "Saving image";
    subscriber.receive_until(saves).await;
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": "plain"}}));
    comfyui.set_queue(&[], &[]);
    comfyui.complete("plain");
    subscriber.ends_as("completed").await;
    assert!(
        subscriber
            .states
            .iter()
            .all(|state| !state.to_string().contains("Loop"))
    );
}
