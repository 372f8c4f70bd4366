//! Webhooks: what is sent, where, how often, and what becomes of it when targets and relays fail.

mod commands;
mod deliveries;
mod jobs;
mod relay_kills;
mod servers;

use std::time::Duration;

use comfy_relay::config::WebhookConfig;
use serde_json::{Value, json};

use crate::storage::lifecycle;
use crate::support::database::TestDatabase;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;
use crate::support::webhook_receiver::{WEBHOOK_SECRET, WebhookReceiver};

/// Settings that send to a target. What fails is sent again at once.
pub(crate) fn webhooks(receiver: Option<&WebhookReceiver>) -> WebhookConfig {
    WebhookConfig {
        url: receiver.map(|receiver| receiver.url().parse().unwrap()),
        secret: Some(WEBHOOK_SECRET.to_owned().into()),
        min_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(100),
        ..WebhookConfig::default()
    }
}

fn settings(db: &TestDatabase, webhook: WebhookConfig) -> Settings {
    let mut settings = lifecycle::settings(db.config());
    settings.relay.webhook = webhook;
    settings
}

/// The newest deliveries that the relay lists.
async fn deliveries(relay: &TestRelay, query: &str) -> Vec<Value> {
    let (status, answer) = relay
        .get(&format!("/api/anime/webhooks/deliveries{query}"))
        .await;
    assert_eq!(status, 200, "{answer}");
    answer["deliveries"].as_array().unwrap().clone()
}

/// Waits until no delivery is pending.
async fn all_ended(relay: &TestRelay) {
    wait_until("everything is delivered or given up", async || {
        deliveries(relay, "?state=pending").await.is_empty()
    })
    .await;
}

/// Reports the end of a job of a producer.
async fn end(relay: &TestRelay, job: &str) {
    let report = json!({"progress": 100, "status": "completed"});
    relay.report(job, &report).await;
}
