//! Classes and hooks of pages, run by node.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::recordings::{ERROR, TXT2IMG};
use crate::support::test_relay::TestRelay;
use crate::support::tool::{Events, node_with_websocket};
use crate::support::wait::wait_until;

/// A relay that pings often: a socket that is pinged after the end of its job is open.
async fn relay(recording: &str) -> TestRelay {
    let server = ServerConfig {
        ping_interval: Duration::from_millis(200),
        ..ServerConfig::default()
    };
    TestRelay::replaying_with(recording, server).await
}

/// Runs a client that follows the job `shot`; `None` on a machine without node.
fn run(client: &str, relay: &TestRelay) -> Option<Events> {
    let mut command = node_with_websocket("tests/clients/run.mjs")?;
    command.args([client, &relay.socket_url(""), "shot"]);
    Some(Events::of(command))
}

fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|event| event["event"] == name).count()
}

async fn connections(relay: &TestRelay, count: u64) {
    wait_until("the connections are counted", async || {
        let (_, status) = relay.get("/api/anime/websocket/status").await;
        status["connections"]["total_connections"] == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_that_reconnects_after_every_close_completes_once() {
    let relay = relay(TXT2IMG).await;
    let Some(mut tracker) = run("tracker", &relay) else {
        return;
    };
    let mut events = tracker.until("open").await;
    relay.submit("shot", TXT2IMG).await;
    events.extend(tracker.until("completed").await);
    // It would connect again 2 s after a close, which comes before any further ping.
    for _ in 0..15 {
        events.extend(tracker.until("ping").await);
    }
    assert_eq!(count(&events, "socket"), 1);
    assert_eq!(count(&events, "completed"), 1);
    assert_eq!(count(&events, "close"), 0, "{events:?}");
    let completed = events.iter().find(|it| it["event"] == "completed");
    assert!(completed.unwrap()["output_path"].is_string());
    connections(&relay, 1).await;
    assert!(tracker.end().await);
    connections(&relay, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_reads_the_error_of_a_job_early_and_late() {
    let relay = relay(ERROR).await;
    let Some(mut early) = run("tracker", &relay) else {
        return;
    };
    early.until("open").await;
    relay.submit("shot", ERROR).await;
    let early = early.until("error").await;
    let mut late = run("tracker", &relay).unwrap();
    let late = late.until("error").await;
    let error = |events: &[Value]| events.last().unwrap()["error"].clone();
    let (_, job) = relay.job("shot").await;
    assert!(job["error"].is_string(), "{job}");
    assert_eq!(error(&early), job["error"]);
    assert_eq!(error(&early), error(&late));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_strict_mode_mounts_twice_gets_the_final_state() {
    let relay = relay(TXT2IMG).await;
    let Some(mut hook) = run("hook", &relay) else {
        return;
    };
    let mut events = hook.until("open").await;
    relay.submit("shot", TXT2IMG).await;
    events.extend(hook.until("completed").await);
    for _ in 0..3 {
        events.extend(hook.until("ping").await);
    }
    assert_eq!(count(&events, "socket"), 2, "mounted twice");
    assert!(
        count(&events, "close") <= 1,
        "only the first is closed, by the hook: {events:?}"
    );
    let statuses = events.iter().filter(|event| event["event"] == "update");
    let last = statuses.map(|event| &event["status"]).next_back();
    assert_eq!(last, Some(&json!("completed")));
}
