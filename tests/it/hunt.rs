//! Faults that were found against real ComfyUI servers, and those of public bug reports about other clients of ComfyUI.

mod answers;
mod causes;
mod ended;
mod events;
mod files;
mod holds;
mod long_texts;
mod loops;
mod node_ids;
mod outputs;
mod params;
mod partners;
mod plans;
mod proxies;
mod reach;
mod requests;
mod several;
mod terminal;

use std::path::Path;

use serde_json::Value;

use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};

/// The route of jobs.
const JOBS: &str = "/api/anime/jobs";

/// A scripted ComfyUI, and a relay that follows it.
async fn scripted() -> (ScriptedComfy, TestRelay) {
    scripted_at(Settings::default()).await
}

/// The same, with other settings.
async fn scripted_at(settings: Settings) -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    (comfyui, relay)
}

/// The same, with the workflows in a folder.
async fn scripted_with_workflows(folder: &Path) -> (ScriptedComfy, TestRelay) {
    let mut settings = Settings::default();
    settings.relay.workflows = folder.to_owned();
    scripted_at(settings).await
}

/// One of the files in `cases`.
fn case(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The status and the error code of an answer.
fn refusal((status, answer): (u16, Value)) -> (u16, String) {
    let code = answer["error"]["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}
