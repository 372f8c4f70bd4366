//! Services that are not relays, as they subscribe today.

use std::process::Command;

use comfy_relay::config::RedisConfig;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::relay;
use crate::storage::lifecycle::comfyui;
use crate::support::database::TestDatabase;
use crate::support::recordings::TXT2IMG;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::tool::{Events, installed};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_python_hears_what_subscribers_hear() {
    if let Some(redis) = RedisServer::start().await {
        hears_what_subscribers_hear("listen.py", redis.port(), redis.config()).await;
    }
}

/// At a node that may be any.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_at_one_node_of_a_cluster_hears_what_subscribers_hear() {
    if let Some(cluster) = RedisCluster::start().await {
        let replica = cluster.nodes.last().unwrap().port();
        hears_what_subscribers_hear("listen.py", replica, cluster.config()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_a_sharded_channel_hears_what_subscribers_hear() {
    if let Some(cluster) = RedisCluster::start().await {
        let port = cluster.nodes[1].port();
        hears_what_subscribers_hear("listen_sharded.py", port, cluster.sharded()).await;
    }
}

async fn hears_what_subscribers_hear(script: &str, port: u16, redis: RedisConfig) {
    let Some(python) = installed("python/bin/python") else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(20.0)).await;
    let relay = relay(&comfyui.url(), &db, redis).await;
    relay.connected().await;
    let mut command = Command::new(python);
    let script = format!("tests/clients/{script}");
    command.args([&script, &port.to_string(), "shot"]);
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
