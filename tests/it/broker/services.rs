//! Services that are not relays, as they subscribe today.

use std::process::Command;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::relay;
use crate::storage::lifecycle::comfyui;
use crate::support::database::TestDatabase;
use crate::support::recordings::TXT2IMG;
use crate::support::redis_server::RedisServer;
use crate::support::tool::{Events, installed};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_python_hears_what_subscribers_hear() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let Some(python) = installed("python/bin/python") else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(20.0)).await;
    let relay = relay(&comfyui.url(), &db, redis.config()).await;
    relay.connected().await;
    let mut command = Command::new(python);
    command.args(["tests/clients/listen.py", &redis.port().to_string(), "shot"]);
    let mut service = Events::of(command);
    assert_eq!(service.next().await["event"], "listening");
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    let mut heard = Vec::new();
    while heard
        .last()
        .is_none_or(|it: &Value| it["status"] != "completed")
    {
        heard.push(service.next().await);
    }
    assert!(service.end().await);
    // Redis gets the newest state where they come faster than it takes them.
    assert!(heard.len() > 5, "{heard:?}");
    for state in &heard {
        assert!(subscriber.states.contains(state), "{state}");
    }
    let seqs: Vec<u64> = heard.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    assert_eq!(heard.last(), Some(subscriber.last()));
    assert_eq!(heard[0]["type"], json!("progress"));
}
