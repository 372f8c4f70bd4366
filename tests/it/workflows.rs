//! Workflows that have names: their headers, their parameters and their schemas, over HTTP and on the command line.

mod commands;
mod folder;
mod imports;
mod parameters;
mod pictures;
mod schemas;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};

/// The routes of jobs, batches and workflows.
const JOBS: &str = "/api/anime/jobs";
const BATCHES: &str = "/api/anime/batches";
const WORKFLOWS: &str = "/api/anime/workflows";

/// A scripted ComfyUI, and a relay that follows it, with the workflows in a folder.
async fn relay_with(folder: &Path) -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = Settings::default();
    settings.relay.workflows = folder.to_owned();
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    (comfyui, relay)
}

/// The same, with the workflows of the repository.
async fn relay() -> (ScriptedComfy, TestRelay) {
    relay_with(Path::new("comfy_workflows")).await
}

/// A workflow of one node, and a header for it.
fn write(folder: &Path, name: &str, header: &Value) {
    let graph = json!({
        "1": {"class_type": "Draw", "inputs": {"text": "a", "steps": 20, "cfg": 7.5, "on": true, "image": "a.png"}},
    });
    std::fs::write(folder.join(format!("{name}.json")), graph.to_string()).unwrap();
    let path = folder.join(format!("{name}.header.json"));
    std::fs::write(path, header.to_string()).unwrap();
}

/// A header with one parameter.
fn header(parameter: &Value) -> Value {
    json!({"title": "Draw", "parameters": [parameter]})
}

/// A parameter for the steps of that workflow.
fn steps() -> Value {
    json!({"name": "steps", "type": "integer", "minimum": 1, "maximum": 50, "targets": [{"node": "1", "input": "steps"}]})
}
