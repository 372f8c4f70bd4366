//! Servers that were added, and that the settings of a relay do not allow any more.

use serde_json::{Value, json};

use super::added::{BACKENDS, add, is_gone, names, open_settings, remove};
use super::servers;
use crate::support::database::{TestDatabase, on_both};
use crate::support::test_relay::{Settings, TestRelay};

on_both!(
    a_server_that_no_relay_may_follow_is_removed_by_name,
    a_server_that_another_relay_follows_is_removed_by_that,
);

/// No server listens there.
const ADDED: &str = "http://127.0.0.2:9";

/// The settings of a relay that may not follow what was added.
fn strict_settings(db: &TestDatabase) -> Settings {
    let mut settings = open_settings(db);
    settings.comfy.networks = vec!["127.0.0.1/32".parse().unwrap()];
    settings
}

fn added() -> Value {
    json!({"name": "gpu9", "url": ADDED})
}

async fn a_server_that_no_relay_may_follow_is_removed_by_name(db: TestDatabase) {
    let servers = servers(2).await;
    let relay = TestRelay::connected_to(&servers[0].url(), open_settings(&db)).await;
    add(&relay, &added()).await;
    relay.stop().await;

    let relay = TestRelay::connected_to(&servers[0].url(), strict_settings(&db)).await;
    assert_eq!(names(&relay).await[0].len(), 1);
    // Its name is taken, and the answer says by which.
    let other = json!({"name": "gpu9", "url": servers[1].url()});
    let (status, answer) = relay.post(BACKENDS, &other).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(answer["error"]["code"], "backend_exists", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(ADDED), "{message}");

    let (status, removed) = remove(&relay, "gpu9", "").await;
    assert_eq!(status, 202, "{removed}");
    assert_eq!(removed["status"], "unreachable", "{removed}");
    assert_eq!(removed["operation"], "removing", "{removed}");
    add(&relay, &other).await;
    let (status, answer) = remove(&relay, "gpu8", "").await;
    assert_eq!(status, 404, "{answer}");
}

async fn a_server_that_another_relay_follows_is_removed_by_that(db: TestDatabase) {
    let servers = servers(1).await;
    let open = TestRelay::connected_to(&servers[0].url(), open_settings(&db)).await;
    add(&open, &added()).await;
    let strict = TestRelay::start(&servers[0].url(), strict_settings(&db)).await;
    let (status, removed) = remove(&strict, "gpu9", "").await;
    assert_eq!(status, 202, "{removed}");
    assert_eq!(removed["status"], "held_elsewhere", "{removed}");
    is_gone(&open, "gpu9").await;
}
