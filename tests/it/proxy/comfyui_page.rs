//! ComfyUI's own web page, unchanged, before two servers.

use std::path::Path;

use comfy_relay::replay::{PlaybackSpeed, Replay};
use serde_json::{Value, json};

use crate::support::browser;
use crate::support::recordings::{recording, replay, workflow};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tool::{Events, installed, node};
use crate::support::wait::wait_until;

/// Previews come while it runs.
const PREVIEWS: &str = "0.33.0/02-previews-metadata";

/// The page, as `tests/run` unpacks it.
const PAGE: &str = "comfyui-frontend/comfyui_frontend_package/static";

/// Slow enough that a page sees each step that takes a while.
const PACE: PlaybackSpeed = PlaybackSpeed::Real(0.5);

/// A prompt begins, and does not end before anybody's patience does.
const SLOW: PlaybackSpeed = PlaybackSpeed::Real(0.01);

/// A relay before two servers that have the page.
struct Stage {
    replays: [Replay; 2],
    _servers: [Events; 2],
    relay: TestRelay,
    api: String,
    folder: tempfile::TempDir,
}

impl Stage {
    /// `None` on a machine without the page, or without node.
    async fn new(speed: PlaybackSpeed) -> Option<Self> {
        let page = installed(PAGE)?;
        let playing = async || replay(vec![recording(PREVIEWS).await], speed).await;
        let replays = [playing().await, playing().await];
        let (first, one) = with_page(&page, &replays[0]).await?;
        let (second, other) = with_page(&page, &replays[1]).await?;
        let urls = format!("{one},{other}");
        let relay = TestRelay::connected_to(&urls, Settings::default()).await;
        let api = relay.serve_comfy().await;
        let folder = tempfile::tempdir().unwrap();
        let graph = workflow(PREVIEWS).await.to_string();
        std::fs::write(folder.path().join("workflow.json"), graph).unwrap();
        Some(Self {
            replays,
            _servers: [first, second],
            relay,
            api,
            folder,
        })
    }

    /// Chromium, in one of the scenarios of the script.
    fn browser(&self, scenario: &str) -> Option<Events> {
        let workflow = self.folder.path().join("workflow.json");
        let arguments = [scenario, &self.api, workflow.to_str().unwrap()];
        browser::run("comfyui_page.mjs", &arguments)
    }

    fn set_speed(&self, speed: PlaybackSpeed) {
        self.replays.iter().for_each(|it| it.set_speed(speed));
    }

    async fn is(&self, id: &Value, status: &str) -> bool {
        self.relay.job(id.as_str().unwrap()).await.1["status"] == status
    }
}

/// A server that has the page, before a replayed one: it, and its URL.
async fn with_page(page: &Path, replay: &Replay) -> Option<(Events, String)> {
    let mut command = node("tests/browser/comfyui_server.mjs")?;
    command.arg(page).arg(replay.url());
    let mut server = Events::of(command);
    let url = server.next().await["url"].as_str().unwrap().to_owned();
    Some((server, url))
}

/// The only event of this name.
fn only<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let mut named = events.iter().filter(|event| event["event"] == name);
    let only = named.next().unwrap_or_else(|| panic!("{events:?}"));
    assert!(named.next().is_none(), "{events:?}");
    only
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_runs_a_workflow_and_shows_its_picture() {
    let Some(stage) = Stage::new(PACE).await else {
        return;
    };
    let Some(events) = stage.browser("run") else {
        return;
    };
    let events = browser::done(events).await;
    assert_eq!(only(&events, "open")["nodes"], 7);
    let queued = only(&events, "queued");
    assert_eq!(queued["status"], 200);
    assert!(stage.is(&queued["prompt_id"], "completed").await);
    let picture = only(&events, "picture");
    assert!(picture["width"].as_u64().unwrap() > 0, "{picture}");
    // The others take a few milliseconds.
    let lit = picture["lit"].as_array().unwrap().iter();
    let mut slow = lit.filter(|node| ["4", "3"].iter().any(|it| *node == it));
    assert_eq!(slow.next(), Some(&json!("4")), "{picture}");
    assert_eq!(slow.next(), Some(&json!("3")), "{picture}");
    assert!(
        picture["previews"].as_array().unwrap().len() > 1,
        "{picture}"
    );
    assert_eq!(only(&events, "history")["rows"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_loaded_again_in_the_middle_and_cancels() {
    let Some(stage) = Stage::new(SLOW).await else {
        return;
    };
    let Some(mut events) = stage.browser("queue") else {
        return;
    };
    let queued = events.until("reloaded").await;
    let queued = queued.iter().filter(|event| event["event"] == "queued");
    let ids: Vec<Value> = queued.map(|event| event["prompt_id"].clone()).collect();
    let [interrupted, first, second, third] = &ids[..] else {
        panic!("{ids:?}");
    };
    stage.set_speed(PlaybackSpeed::Real(0.25));
    events.until("preview").await;
    stage.set_speed(SLOW);
    events.until("cancelled").await;
    stage.set_speed(PACE);
    let ended = browser::done(events).await;
    assert!(only(&ended, "picture")["width"].as_u64().unwrap() > 0);
    for (id, status) in [
        (interrupted, "cancelled"),
        (first, "cancelled"),
        (second, "completed"),
        (third, "cancelled"),
    ] {
        wait_until("each has ended as it should", async || {
            stage.is(id, status).await
        })
        .await;
    }
}
