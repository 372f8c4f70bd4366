//! The hook, the element and the tracker in Chromium.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use crate::support::browser::{done, run};
use crate::support::nginx::Nginx;
use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tool::installed;

/// Makes previews.
const PREVIEWS: &str = "0.8.0/02-previews-metadata";

/// The event of this name; the console of the page has said nothing.
fn find<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let complaint = events.iter().find(|it| it["event"] == "console_error");
    assert_eq!(complaint, None);
    let found = events.iter().find(|it| it["event"] == name);
    found.unwrap_or_else(|| panic!("{name}: {events:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_follows_a_changing_id_under_strict_mode() {
    if installed("node_modules/react-dom").is_none() {
        return;
    }
    // Not as fast as can be: on a busy machine the prompt would end before its job is registered.
    let relay = TestRelay::replaying_with(PREVIEWS, PlaybackSpeed::Real(4.0)).await;
    let address = format!("{}/", relay.url());
    let first = json!({"progress": 40, "status": "processing", "message": "Frame 40"});
    relay.report("first", &first).await;
    let arguments = ["hook", &address, "first", "second"];
    let Some(mut page) = run("client.mjs", &arguments) else {
        return;
    };
    let mut events = page.until("changed").await;
    relay.submit("second", PREVIEWS).await;
    events.extend(done(page).await);
    let first = find(&events, "first");
    assert_eq!(first["view"]["progress"], 40);
    assert_eq!(first["view"]["message"], "Frame 40");
    assert_eq!(first["view"]["isConnected"], true);
    assert_eq!(first["sockets"], json!({"opened": 1, "open": 1}));
    let changed = &find(&events, "changed")["view"];
    assert_eq!(
        (&changed["progress"], &changed["status"]),
        (&json!(0), &json!("pending"))
    );
    let second = find(&events, "second");
    assert_eq!(second["view"]["progress"], 100);
    assert_eq!(second["view"]["error"], Value::Null);
    assert_eq!(second["view"]["outputs"].as_array().unwrap().len(), 1);
    assert!(second["previews"].as_u64().unwrap() > 0, "{second}");
    assert_eq!(second["sockets"]["opened"], 2);
    let unmounted = find(&events, "unmounted");
    assert_eq!(unmounted["renders"], 0);
    assert_eq!(unmounted["sockets"], json!({"opened": 3, "open": 0}));
}

/// Follows a job with the element in a page at `address`.
async fn follow_with_the_element(relay: &TestRelay, address: &str) {
    relay
        .report(
            "shot",
            &json!({"progress": 40, "status": "processing", "message": "Frame 40"}),
        )
        .await;
    let Some(mut page) = run("client.mjs", &["element", address, "shot"]) else {
        return;
    };
    let mut events = page.until("running").await;
    relay
        .report("shot", &json!({"progress": 100, "status": "completed"}))
        .await;
    events.extend(done(page).await);
    let running = json!({"event": "running", "percent": "40 %", "message": "Frame 40"});
    assert_eq!(find(&events, "running"), &running);
    let completed =
        json!({"event": "completed", "percent": "100 %", "value": 100, "is_error_shown": false});
    assert_eq!(find(&events, "completed"), &completed);
    let error = find(&events, "refused")["error"].as_str().unwrap();
    assert!(error.starts_with("A job id has 1 to 128"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_element_shows_a_job_under_a_strict_policy() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    follow_with_the_element(&relay, &format!("{}/", relay.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_element_finds_a_relay_under_a_path() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let Some((_nginx, address)) = Nginx::under_a_path("/relay/", &relay.url()).await else {
        return;
    };
    follow_with_the_element(&relay, &address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subclass_in_a_page_fills_the_elements_of_the_documented_page() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let address = format!("{}/", relay.url());
    relay
        .report(
            "shot",
            &json!({"progress": 40, "status": "processing", "message": "Frame 40"}),
        )
        .await;
    let Some(mut page) = run("client.mjs", &["tracker", &address, "shot"]) else {
        return;
    };
    let mut events = page.until("running").await;
    let end = json!({"progress": 100, "status": "completed", "message": "Done", "output_path": "shot.png"});
    relay.report("shot", &end).await;
    events.extend(done(page).await);
    assert_eq!(find(&events, "running")["status"], "processing - Frame 40");
    let completed = find(&events, "completed");
    assert_eq!(
        (&completed["status"], &completed["title"]),
        (&json!("completed - Done"), &json!("shot.png"))
    );
}
