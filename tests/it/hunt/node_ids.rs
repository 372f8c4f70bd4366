//! Ids of nodes as newer servers make them: with colons for subgraphs, with dots for expansions, and with both.

use serde_json::{Value, json};

use super::{JOBS, scripted_at};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::scripted_comfy::{ScriptedComfy, saved_view};
use crate::support::subscriber::{Received, Subscriber};
use crate::support::test_relay::{Settings, TestRelay};

on_both!(node_ids_of_subgraphs_are_stored_as_they_are);

/// A job id that looks like one of a node.
const JOB: &str = "ep:57:12.0.3";

/// Two subgraphs, of which the second is made of the node `57:12` at run time.
fn graph() -> Value {
    json!({
        "57:8": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}, "_meta": {"title": "Load"}},
        "57:12": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "model": ["57:8", 0]}, "_meta": {"title": "Refine"}},
        "57:12.5": {"class_type": "VAEDecode", "inputs": {"samples": ["57:12", 0], "tile.size": 64}, "_meta": {"title": "Decode"}},
        "58:3:9": {"class_type": "SaveImage", "inputs": {"images": ["57:12.5", 0], "filename_prefix": "%name%"}, "_meta": {"title": "Save"}}
    })
}

fn event(kind: &str, mut data: Value) -> Value {
    data["prompt_id"] = json!("prompt");
    json!({"type": kind, "data": data})
}

fn executing(node: &str, display: &str) -> Value {
    event("executing", json!({"node": node, "display_node": display}))
}

fn step(node: &str, value: u64) -> Value {
    event("progress", json!({"node": node, "value": value, "max": 20}))
}

async fn submit(relay: &TestRelay) {
    let params =
        json!({"57:12.seed": 7, "57:12.5.tile.size": 128, "58:3:9.filename_prefix": "shot"});
    let body = json!({"job_id": JOB, "workflow": graph(), "params": params});
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(status, 201, "{answer}");
}

/// Runs all nodes of the graph, those that are made at run time included.
fn run_nodes(comfyui: &ScriptedComfy) {
    comfyui.run_prompt("prompt", &graph(), &["58:3:9"]);
    comfyui.send(&event("execution_start", json!({})));
    comfyui.send(&executing("57:8", "57:8"));
    comfyui.send(&executing("57:12", "57:12"));
    comfyui.send(&executing("57:12.0.0.3", "57:12"));
    comfyui.send(&step("57:12.0.0.3", 3));
}

/// Ends the prompt when the relay has received that its last node runs: the history would overtake the events.
async fn end(comfyui: &ScriptedComfy, subscriber: &mut Subscriber) {
    comfyui.send(&executing("57:12.5", "57:12.5"));
    comfyui.send(&executing("58:3:9", "58:3:9"));
    subscriber
        .receive_until(|state| state["node"]["id"] == "58:3:9")
        .await;
    let output = json!({"images": [{"filename": "shot_1.png", "subfolder": "", "type": "output"}]});
    comfyui.send(&event(
        "executed",
        json!({"node": "58:3:9", "display_node": "58:3:9", "output": output}),
    ));
    let entry = json!({"prompt": [0, "prompt", graph(), {}, ["58:3:9"]], "outputs": {"58:3:9": output},
        "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": entry}));
    comfyui.set_queue(&[], &[]);
    comfyui.send(&event("execution_success", json!({})));
    subscriber.ends_as("completed").await;
}

fn ids(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|node| node["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ids_of_subgraphs_are_named_wherever_a_node_is() {
    let (comfyui, relay) = scripted_at(Settings::default()).await;
    let mut subscriber = relay
        .connect(&format!("/ws/{JOB}?previews=1&close=end"))
        .await;
    submit(&relay).await;
    // Parameters find nodes and inputs with colons and dots.
    let posted = &comfyui.posted()["prompt"];
    assert_eq!(posted["57:12"]["inputs"]["seed"], 7);
    assert_eq!(posted["57:12.5"]["inputs"]["tile.size"], 128);
    assert_eq!(posted["58:3:9"]["inputs"]["filename_prefix"], "shot");

    run_nodes(&comfyui);
    let state = subscriber
        .receive_until(|state| state["node"]["step"] == 3)
        .await;
    let node =
        json!({"id": "57:12", "class_type": "KSampler", "title": "Refine", "step": 3, "steps": 20});
    assert_eq!(state["node"], node, "{state}");
    assert_eq!(state["message"], "Refine: step 3 of 20");
    assert_eq!(state["nodes"]["total"], 4, "{state}");
    comfyui.send_preview("prompt", "57:12.0.0.3", "57:12");
    let preview = loop {
        if let Received::Preview(bytes) = subscriber.receive().await {
            break bytes;
        }
    };
    let (length, rest) = preview.split_first_chunk::<4>().unwrap();
    let header = &rest[..u32::from_be_bytes(*length) as usize];
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header["node"], "57:12", "{header}");

    let (status, shown) = relay.job(JOB).await;
    assert_eq!(status, 200, "{shown}");
    let timeline = &shown["timeline"];
    assert_eq!(ids(timeline), ["57:8", "57:12", "57:12.0.0.3"], "{shown}");
    assert_eq!(timeline[2]["display_node"], "57:12");
    assert_eq!(timeline[2]["title"], "Refine");
    end(&comfyui, &mut subscriber).await;

    let path = format!("{JOBS}/{JOB}");
    let (_, explained) = relay.get(&format!("{path}/estimate")).await;
    for id in ["57:8", "57:12", "57:12.0.0.3", "57:12.5", "58:3:9"] {
        assert!(ids(&explained["nodes"]).contains(&id), "{explained}");
    }
    let (_, outputs) = relay.get(&format!("{path}/outputs")).await;
    assert_eq!(outputs["outputs"][0]["node"], "58:3:9", "{outputs}");
    comfyui.set_saved_image("shot_1.png", 8, 8);
    let file = relay.request(reqwest::Method::GET, &format!("{path}/outputs/0"));
    assert_eq!(file.send().await.unwrap().status(), 200);
    assert!(comfyui.calls(&saved_view("shot_1.png")) > 0);
    let (status, workflow) = relay.get(&format!("{path}/workflow")).await;
    let posted = &comfyui.posted()["prompt"];
    assert_eq!(
        (status, &workflow["workflow"]),
        (200, posted),
        "as submitted"
    );
    // The same with the colons escaped, as JavaScript's encodeURIComponent does.
    let escaped = JOB.replace(':', "%3A");
    let (status, same) = relay.get(&format!("{JOBS}/{escaped}")).await;
    assert_eq!((status, &same["job_id"]), (200, &json!(JOB)));

    let url = relay.url();
    for arguments in [&["job", JOB][..], &["watch", JOB]] {
        let output = Program::run(arguments, &[("RELAY_URL", &url)]).await;
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains(JOB), "{text}");
    }
    let output = Program::run(&["job", JOB], &[("RELAY_URL", &url)]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    for title in ["Load", "Refine", "Decode", "Save"] {
        assert!(text.contains(title), "{title} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_subgraph_names_its_node() {
    let (comfyui, relay) = scripted_at(Settings::default()).await;
    let mut subscriber = relay.subscribe(JOB).await;
    submit(&relay).await;
    run_nodes(&comfyui);
    let error = event(
        "execution_error",
        json!({"node_id": "57:12.0.0.3", "node_type": "KSampler", "executed": [],
            "exception_message": "57:12.0.0.3 of 57:12 has no model", "exception_type": "ValueError",
            "traceback": [], "current_inputs": {}, "current_outputs": []}),
    );
    comfyui.set_queue(&[], &[]);
    comfyui.send(&error);
    assert_eq!(subscriber.close_code().await, 1000);
    assert_eq!(
        subscriber.last()["error"],
        "KSampler (node 57:12.0.0.3): 57:12.0.0.3 of 57:12 has no model"
    );
}

/// What the explanation of a job holds after a restart is what the database has of its nodes.
async fn node_ids_of_subgraphs_are_stored_as_they_are(db: TestDatabase) {
    let (comfyui, relay) = scripted_at(db.config().into()).await;
    let mut subscriber = relay.subscribe(JOB).await;
    submit(&relay).await;
    run_nodes(&comfyui);
    end(&comfyui, &mut subscriber).await;
    relay.stop().await;
    let relay = TestRelay::start(&comfyui.url(), Settings::from(db.config())).await;
    let (status, explained) = relay.get(&format!("{JOBS}/{JOB}/estimate")).await;
    assert_eq!(status, 200, "{explained}");
    for (id, class) in [
        ("57:8", "CheckpointLoaderSimple"),
        ("57:12", "KSampler"),
        ("57:12.0.0.3", "KSampler"),
        ("57:12.5", "VAEDecode"),
        ("58:3:9", "SaveImage"),
    ] {
        let nodes = explained["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["id"] == id);
        let node = node.unwrap_or_else(|| panic!("no {id} in {explained}"));
        assert_eq!(node["class_type"], class, "{explained}");
    }
}
