//! States over Redis: between relays, and to services that are not relays.

mod balancers;
mod cluster;
mod contract;
mod kills;
mod lists;
mod outages;
mod previews;
mod producers;
mod relays;
mod services;
mod wake_ups;

use std::time::Duration;

use comfy_relay::config::RedisConfig;

use crate::storage::lifecycle::settings;
use crate::support::database::TestDatabase;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};
use crate::support::wait::wait_until;

/// A relay on a database that publishes to Redis, connected to it. It follows the ComfyUI at an address.
async fn relay(url: &str, db: &TestDatabase, redis: RedisConfig) -> TestRelay {
    relay_with(url, with_redis(db, redis)).await
}

async fn relay_with(url: &str, settings: Settings) -> TestRelay {
    let relay = TestRelay::start(url, settings).await;
    has_redis(&relay, "connected").await;
    relay
}

fn with_redis(db: &TestDatabase, redis: RedisConfig) -> Settings {
    let mut settings: Settings = settings(db.config());
    settings.comfy.lease = Duration::from_millis(900);
    settings.relay.redis = Some(redis);
    settings
}

/// A relay without a ComfyUI, to which producers report.
async fn without_backend(db: &TestDatabase, redis: RedisConfig) -> TestRelay {
    relay(UNREACHABLE, db, redis).await
}

/// Waits until the health of a relay shows Redis in a state.
async fn has_redis(relay: &TestRelay, status: &str) {
    wait_until(status, async || {
        let (_, health) = relay.get("/api/anime/health").await;
        health["components"]["redis"]["status"] == status
    })
    .await;
}

/// A counter or gauge of a relay.
async fn metric(relay: &TestRelay, name: &str) -> f64 {
    let request = relay.request(reqwest::Method::GET, "/metrics");
    let text = request.send().await.unwrap().text().await.unwrap();
    let mut values = text.lines().filter_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == format!("comfy_relay_{name}")).then(|| value.parse().unwrap())
    });
    values.next().unwrap_or_else(|| panic!("no {name}"))
}
