//! Jobs that wait in the relay's own queue, and what becomes of them when relays and servers end.

mod added;
mod batches;
mod keys;
mod labels;
mod losses;
mod memory;
mod not_allowed;
mod once;
pub(crate) mod operations;
mod relay_kills;
mod retry;
mod shared;
mod shared_load;
mod waiting;

use comfy_relay::config::RelayConfig;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use reqwest::Method;
use serde_json::{Value, json};

use crate::storage::lifecycle::{self, comfyui};
use crate::support::database::TestDatabase;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

/// A prompt takes some tenths of a second: jobs wait.
const SPEED: PlaybackSpeed = PlaybackSpeed::Real(20.0);

/// A prompt does not begin before anybody's patience ends.
const STILL: PlaybackSpeed = PlaybackSpeed::Real(1e-6);

/// A prompt begins, and does not end before anybody's patience does: a server can be killed while it runs.
const SLOW: PlaybackSpeed = PlaybackSpeed::Real(0.02);

/// The settings of a relay on a database, which keeps each server busy with as many prompts as by default.
fn settings(db: &TestDatabase) -> Settings {
    let mut settings = lifecycle::settings(db.config());
    settings.relay.dispatch_depth = RelayConfig::default().dispatch_depth;
    settings
}

/// Servers that play one prompt after another.
async fn servers(count: usize) -> Vec<Replay> {
    servers_at(SPEED, count).await
}

/// Servers that run no prompt before [`release`]: what waits, waits as long as a test needs it.
async fn still_servers(count: usize) -> Vec<Replay> {
    servers_at(STILL, count).await
}

async fn servers_at(speed: PlaybackSpeed, count: usize) -> Vec<Replay> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(comfyui(&[TXT2IMG], speed).await);
    }
    servers
}

/// Lets servers play one prompt after another.
fn release(servers: &[Replay]) {
    for server in servers {
        server.set_speed(SPEED);
    }
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

/// Waits until a relay knows that so many jobs wait, at whichever relay.
async fn knows_waiting(relay: &TestRelay, count: usize) {
    let line = format!("comfy_relay_queue_length {count}\n");
    wait_until("the relay knows what waits", async || {
        let metrics = relay.request(Method::GET, "/metrics").send().await.unwrap();
        metrics.text().await.unwrap().contains(&line)
    })
    .await;
}
