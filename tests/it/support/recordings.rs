//! Recordings, and ComfyUI servers that replay them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use comfy_relay::recording::Recording;
use comfy_relay::replay::{PlaybackSpeed, Replay, ReplayOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One image from a text, 20 steps: completes.
pub(crate) const TXT2IMG: &str = "0.8.0/01-txt2img-basic";
/// Fails in the middle of the run.
pub(crate) const ERROR: &str = "0.8.0/07-error-mid-run";

/// The folder with all recordings.
pub(crate) const FIXTURES: &str = "fixtures";

/// Reads a recording by its folder below [`FIXTURES`].
pub(crate) async fn recording(name: &str) -> Arc<Recording> {
    let folder = Path::new(FIXTURES).join(name);
    let reading = tokio::task::spawn_blocking(move || Recording::read(&folder));
    Arc::new(reading.await.unwrap().unwrap())
}

/// The workflow of a recording's first prompt.
pub(crate) async fn workflow(name: &str) -> Value {
    let recording = recording(name).await;
    recording.prompts().next().unwrap().request_body["prompt"].clone()
}

/// The smallest workflow that the relay accepts.
pub(crate) fn one_node_workflow() -> Value {
    json!({"9": {"class_type": "SaveImage", "inputs": {}}})
}

/// All recordings, by their folders below [`FIXTURES`].
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = folders(Path::new(FIXTURES))
        .iter()
        .flat_map(|version| folders(version))
        .map(|folder| {
            let name = folder.strip_prefix(FIXTURES).unwrap();
            name.to_str().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).collect()
}

/// Starts a ComfyUI that replays these recordings again and again.
pub(crate) async fn replay(recordings: Vec<Arc<Recording>>, speed: PlaybackSpeed) -> Replay {
    let options = ReplayOptions {
        speed,
        repeat: true,
        ..ReplayOptions::default()
    };
    replay_with(recordings, options).await
}

/// Starts a ComfyUI that replays these recordings.
pub(crate) async fn replay_with(recordings: Vec<Arc<Recording>>, options: ReplayOptions) -> Replay {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Replay::start(listener, recordings, options)
}
