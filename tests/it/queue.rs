//! Jobs that wait in the relay's own queue, and what becomes of them when relays and servers end.

mod added;
mod batches;
mod keys;
mod labels;
mod losses;
mod memory;
mod once;
mod operations;
mod relay_kills;
mod retry;
mod waiting;

use comfy_relay::config::RelayConfig;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use serde_json::{Value, json};

use crate::storage::lifecycle::{self, comfyui};
use crate::support::database::TestDatabase;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::Settings;

/// Slow enough that jobs wait, and that a server can be killed while one runs: a prompt takes some tenths of a second.
const SPEED: PlaybackSpeed = PlaybackSpeed::Real(20.0);

/// The settings of a relay on a database, which keeps each server busy with as many prompts as by default.
fn settings(db: &TestDatabase) -> Settings {
    let mut settings = lifecycle::settings(db.config());
    settings.relay.dispatch_depth = RelayConfig::default().dispatch_depth;
    settings
}

/// Servers that play one prompt after another.
async fn servers(count: usize) -> Vec<Replay> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(comfyui(&[TXT2IMG], SPEED).await);
    }
    servers
}

fn urls(servers: &[Replay]) -> String {
    let urls: Vec<String> = servers.iter().map(Replay::url).collect();
    urls.join(",")
}

/// The prompts that a server has run, in their order.
async fn prompts_run(server: &str) -> Vec<String> {
    let url = format!("{server}/history?max_items=100000");
    let history: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    history.as_object().unwrap().keys().cloned().collect()
}

/// How many prompts a server has, running or waiting.
async fn prompts_at(server: &str) -> usize {
    let queue: Value = reqwest::get(format!("{server}/queue"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let count = |kind: &str| queue[kind].as_array().unwrap().len();
    count("queue_running") + count("queue_pending")
}

/// The body of a submission.
async fn job(id: &str) -> Value {
    json!({"job_id": id, "workflow": workflow(TXT2IMG).await})
}
