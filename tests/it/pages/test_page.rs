//! The test page, by itself in one file and with what it says of a job.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::browser::{done, proxy_without_sockets, relay_that_needs_a_token, run};
use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};

/// Follows a job with the test page from a place, with no setting of the relay.
async fn follow_with_the_test_page(place: &str) -> Vec<Value> {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let Some(mut page) = run("test_client.mjs", &[place, &relay.url(), "shot"]) else {
        return Vec::new();
    };
    let mut events = page.until("connected").await;
    relay.submit("shot", TXT2IMG).await;
    events.extend(done(page).await);
    let find = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(find("completed")["percent"], "100");
    assert!(
        find("completed")["path"]
            .as_str()
            .unwrap()
            .ends_with(".png")
    );
    let monitor = find("monitor")["text"].as_str().unwrap();
    assert!(monitor.contains("shot"), "{monitor}");
    let proposed = if place == "own" {
        relay.socket_url("")
    } else {
        "ws://127.0.0.1:8328".to_owned()
    };
    assert_eq!(find("server")["text"], proposed);
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_page_of_the_relay_follows_a_job_and_the_monitor() {
    follow_with_the_test_page("own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_page_of_another_loopback_port_needs_no_setting() {
    follow_with_the_test_page("elsewhere").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_leaves_by_itself_at_the_end() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let Some(mut page) = run(
        "test_page.mjs",
        &["follow", &format!("{}/test", relay.url()), "shot"],
    ) else {
        return;
    };
    page.until("connected").await;
    relay.submit("shot", TXT2IMG).await;
    let events = done(page).await;
    assert_eq!(events[0]["connection"], "The job has ended");
    // The picture is shown, and leads to its file at the relay.
    let file = format!("{}/api/anime/jobs/shot/outputs/0", relay.url());
    let outputs = events.iter().find(|event| event["event"] == "outputs");
    assert_eq!(outputs.unwrap()["links"], json!([file]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_behind_a_proxy_without_sockets_follows_by_events() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let Some((_nginx, address)) = proxy_without_sockets(&relay).await else {
        return;
    };
    let Some(mut page) = run(
        "test_page.mjs",
        &["follow", &format!("{address}test"), "shot"],
    ) else {
        return;
    };
    let events = page.until("connected").await;
    let connection = events.last().unwrap()["connection"].as_str().unwrap();
    assert!(
        connection.contains("passes no WebSockets on") && connection.contains("Server-Sent Events"),
        "{connection}"
    );
    relay.submit("shot", TXT2IMG).await;
    done(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_follows_by_events_stops_where_there_is_no_job() {
    let server = ServerConfig {
        job_wait: Duration::from_secs(1),
        ..ServerConfig::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let Some((_nginx, address)) = proxy_without_sockets(&relay).await else {
        return;
    };
    let Some(page) = run(
        "test_page.mjs",
        &["missing", &format!("{address}test"), "shot"],
    ) else {
        return;
    };
    let events = done(page).await;
    let closed = events
        .iter()
        .find(|event| event["event"] == "closed")
        .unwrap();
    assert_eq!(closed["connection"], "There is no such job");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_that_nobody_has_registered_a_job_and_how_long_it_waits() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let address = format!("{}/test", relay.url());
    let Some(mut page) = run("test_page.mjs", &["unregistered", &address, "shot"]) else {
        return;
    };
    let events = page.until("unregistered").await;
    let waiting = events.last().unwrap();
    let seconds = |key: &str| -> u32 {
        let text = waiting[key].as_str().unwrap();
        let text = text.strip_prefix("Nobody has registered this job yet; waiting ");
        let text = text.and_then(|text| text.strip_suffix(" s more"));
        text.unwrap_or_else(|| panic!("{waiting}")).parse().unwrap()
    };
    assert!(seconds("first") <= 30 && seconds("next") < seconds("first"));
    relay.submit("shot", TXT2IMG).await;
    done(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_asks_for_a_token_and_shows_whose_it_is() {
    let (relay, token) = relay_that_needs_a_token().await;
    let address = format!("{}/test", relay.url());
    let Some(page) = run("test_page.mjs", &["token", &address, "shot", &token]) else {
        return;
    };
    let events = done(page).await;
    let find = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(find("asked")["why"], "A token is needed.");
    let shown = find("shown");
    let owner = shown["owner"].as_str().unwrap();
    assert!(owner.starts_with("Token of mika, until "), "{owner}");
    assert_eq!(shown["is_asked"], false);
    assert!(!shown["url"].as_str().unwrap().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_keeps_a_token_in_a_browser_that_denies_the_storage() {
    let (relay, token) = relay_that_needs_a_token().await;
    let address = format!("{}/test", relay.url());
    let Some(page) = run("test_page.mjs", &["denied", &address, "shot", &token]) else {
        return;
    };
    let events = done(page).await;
    let shown = events
        .iter()
        .find(|event| event["event"] == "shown")
        .unwrap();
    assert!(!shown["url"].as_str().unwrap().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_gives_up_a_socket_that_is_never_opened() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let address = format!("{}/test", relay.url());
    let Some(mut page) = run("test_page.mjs", &["unopened", &address, "shot"]) else {
        return;
    };
    page.until("connected").await;
    relay.submit("shot", TXT2IMG).await;
    done(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_health_say_since_when_comfyui_is_away() {
    let relay = TestRelay::start(UNREACHABLE, Settings::default()).await;
    let (_, health) = relay.get("/api/anime/health").await;
    let backend = &health["components"]["comfyui"][0];
    assert!(backend["unreachable_since"].is_string(), "{backend}");
    let Some(page) = run("test_page.mjs", &["away", &format!("{}/test", relay.url())]) else {
        return;
    };
    let events = done(page).await;
    let text = events[0]["text"].as_str().unwrap();
    assert!(text.contains("not connected since "), "{text}");
}
