//! The dashboard against real relays.

use std::time::Instant;

use comfy_relay::config::ServerConfig;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use crate::support::browser::{done, proxy_without_sockets, relay_that_needs_a_token, run};
use crate::support::nginx::{Nginx, free_port};
use crate::support::program::Program;
use crate::support::recordings::{ERROR, TXT2IMG, recording, replay, workflow};
use crate::support::test_relay::TestRelay;
use crate::support::tool::{Events, installed};
use crate::support::wait::PATIENCE;

/// With previews.
const PREVIEWS: &str = "0.8.0/02-previews-metadata";

/// The recording stands still.
const STILL: PlaybackSpeed = PlaybackSpeed::Real(1e-6);

/// Runs a scenario of the dashboard; `None` on a machine without Chromium or axe-core.
pub(super) fn open(scenario: &str, address: &str, more: &[&str]) -> Option<Events> {
    installed("node_modules/axe-core")?;
    let arguments = [&[scenario, address, "shot"], more].concat();
    run("dashboard.mjs", &arguments)
}

/// The events up to the end of a script. Nothing may be wrong with the page, by what its console says.
pub(super) async fn shown(page: Events) -> Vec<Value> {
    let events = done(page).await;
    let complaint = events
        .iter()
        .find(|event| event["event"] == "console_error");
    assert_eq!(complaint, None);
    events
}

pub(super) fn find<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no event {name}: {events:?}"))
}

/// Submits a job, and waits until it has ended as it did in the recording.
pub(super) async fn end(relay: &TestRelay, job: &str, recording: &str, status: &str) {
    relay.submit(job, recording).await;
    relay.subscribe(job).await.ends_as(status).await;
}

/// Nothing moves while nobody presses anything.
fn assert_stands_still(shown: &Value) {
    let shifts = shown["shifts"].as_array().unwrap();
    assert!(shifts.is_empty(), "{shifts:?}");
}

pub(super) fn root(relay: &TestRelay) -> String {
    format!("{}/", relay.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_a_job_from_its_card_to_its_row_in_the_history() {
    let relay = TestRelay::replaying_with(PREVIEWS, PlaybackSpeed::Real(1.0)).await;
    let Some(mut page) = open("home", &root(&relay), &[]) else {
        return;
    };
    let opened = page.until("open").await;
    let headline = find(&opened, "open")["headline"].as_str().unwrap();
    assert_eq!(headline, "The farm is free");
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", PREVIEWS).await;
    let mut looks = Vec::new();
    // After each of these steps, time stands still until the page shows it. The preview of the first one comes before the second.
    for step in [2, 4, 6, 8] {
        relay.set_speed(PlaybackSpeed::Real(1.0));
        let has_step = |state: &Value| state["node"]["step"].as_u64() >= Some(step);
        let state = subscriber.receive_until(has_step).await;
        relay.set_speed(STILL);
        looks.extend(until_shown(&mut page, &state["progress"]).await);
    }
    relay.set_speed(PlaybackSpeed::Fastest);
    let events = shown(page).await;
    looks.extend(events.iter().filter(|it| it["event"] == "look").cloned());
    let percents = looks.iter().map(|look| look["percent"].as_i64().unwrap());
    assert!(percents.is_sorted(), "{looks:?}");
    for look in &looks {
        assert_eq!(look["percent"], look["bar"], "{look}");
    }
    assert_stands_still(find(&events, "ended"));
}

/// What the page shows of the only job, until it is all of what is to be seen of one that runs and is that far.
async fn until_shown(page: &mut Events, progress: &Value) -> Vec<Value> {
    let (since, mut looks) = (Instant::now(), Vec::new());
    loop {
        let mut events = page.until("look").await;
        assert_eq!(events.len(), 1, "the page complains: {events:?}");
        looks.append(&mut events);
        let look = looks.last().unwrap();
        let has = |key: &str, text: &str| look[key].as_str().unwrap().contains(text);
        if look["percent"].as_u64() >= progress.as_u64()
            && look["preview"] == true
            && has("lane", "shot, running, ")
            && has("title", "1 job runs")
        {
            return looks;
        }
        assert!(since.elapsed() < PATIENCE, "not at {progress}: {looks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_goes_on_after_a_restart_of_the_relay() {
    // The job runs until the page is back.
    let comfyui = replay(vec![recording(TXT2IMG).await], PlaybackSpeed::Real(0.02)).await;
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("relay.db").display());
    let listen = format!("127.0.0.1:{}", free_port());
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("COMFYUI_URL", &comfyui.url()),
        ("LISTEN", &listen),
    ];
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    let address = format!("http://{listen}/");
    let Some(mut page) = open("restart", &address, &[]) else {
        return;
    };
    let graph = workflow(TXT2IMG).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let job = json!({"job_id": "shot", "workflow": graph});
    let jobs = format!("{address}api/anime/jobs");
    let submitted = client.post(jobs).json(&job).send().await.unwrap();
    assert_eq!(submitted.status(), 201);
    page.until("running").await;
    drop(relay);
    let lost = page.until("lost").await;
    let lost = find(&lost, "lost");
    let headline = lost["headline"].as_str().unwrap();
    assert!(
        headline.starts_with("The relay has not answered since "),
        "{headline}"
    );
    assert_eq!(lost["left"], "not known now");
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    page.until("back").await;
    comfyui.set_speed(PlaybackSpeed::Fastest);
    // The console complains of the sockets that were not opened.
    done(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_job_shows_its_picture_from_the_relay_and_runs_it_again() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    // A program with 53 bits would round it.
    let seed = json!(12_345_678_901_234_567_890_u64);
    let mut graph = workflow(TXT2IMG).await;
    graph["3"]["inputs"]["seed"] = seed.clone();
    let labels = json!({"take": "7"});
    let job = json!({"job_id": "shot", "workflow": graph, "labels": labels});
    let (status, answer) = relay.post("/api/anime/jobs", &job).await;
    assert!([201, 202].contains(&status), "{answer}");
    relay.subscribe("shot").await.ends_as("completed").await;
    let Some(page) = open("job", &root(&relay), &[&relay.comfyui_url()]) else {
        return;
    };
    let events = shown(page).await;
    let job = find(&events, "shown");
    let image = job["image"].as_str().unwrap();
    assert!(image.starts_with(&relay.url()), "{image}");
    assert_eq!(job["asked"], json!([]));
    assert_eq!(job["nodes"], 7);
    assert_eq!(job["title"], "Completed · shot · comfy-relay");
    let makes = job["makes"].as_str().unwrap();
    assert!(
        makes.contains("12345678901234567890") && makes.contains("20 steps"),
        "{makes}"
    );
    assert_stands_still(job);
    let again = find(&events, "again")["url"].as_str().unwrap();
    let again = again.rsplit('/').next().unwrap();
    let (_, repeated) = relay.job(again).await;
    assert_eq!(
        (&repeated["retry_of"], &repeated["labels"]),
        (&json!("shot"), &labels)
    );
    let path = format!("/api/anime/jobs/{again}/workflow");
    let (_, answer) = relay.get(&path).await;
    assert_eq!(answer["workflow"]["3"]["inputs"]["seed"], seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_job_shows_the_whole_error_and_the_node_that_failed() {
    let relay = TestRelay::replaying(ERROR).await;
    end(&relay, "shot", ERROR, "failed").await;
    let Some(page) = open("failed", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let (_, job) = relay.job("shot").await;
    assert_eq!(find(&events, "shown")["error"], job["error"]);
    let states = find(&events, "shown")["states"].as_array().unwrap();
    assert!(states.contains(&json!("failed")), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_fit_every_screen_and_are_accessible_in_light_and_dark() {
    let relay = TestRelay::replaying_with(PREVIEWS, PlaybackSpeed::Fastest).await;
    end(&relay, "shot", PREVIEWS, "completed").await;
    let running = json!({"progress": 40, "status": "processing", "message": "Frame 40", "estimated_remaining": 600});
    relay.report("render", &running).await;
    let Some(page) = open("sizes", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let pages: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "page")
        .collect();
    assert_eq!(pages.len(), 60);
    for page in pages {
        assert!(page["sideways"].as_i64().unwrap() <= 0, "{page}");
        assert_eq!(page["violations"], json!([]), "{page}");
        let paper = if page["colorScheme"] == "dark" {
            "rgb(13, 15, 21)"
        } else {
            "rgb(245, 244, 241)"
        };
        assert_eq!(page["background"], paper);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_needs_no_pointer() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    end(&relay, "shot", TXT2IMG, "completed").await;
    let Some(page) = open("keyboard", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let used = find(&events, "used");
    assert_eq!(used["first"], "skip");
    assert_eq!(used["skipped"], "main");
    assert_eq!(used["search"], "q");
    assert_eq!((&used["hasKeys"], &used["isWall"]), (&json!(1), &json!(1)));
    let block = used["block"].as_str().unwrap();
    assert!(block.starts_with("shot, Completed, took "), "{block}");
    assert_eq!(used["url"], format!("{}/jobs/shot", relay.url()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_a_token_where_one_is_needed() {
    let (relay, token) = relay_that_needs_a_token().await;
    let Some(page) = open("token", &root(&relay), &[&token]) else {
        return;
    };
    // The console complains of the refusals.
    let events = done(page).await;
    let shown = find(&events, "shown");
    let owner = shown["owner"].as_str().unwrap();
    assert!(owner.starts_with("Token of mika, until "), "{owner}");
    assert!(!shown["url"].as_str().unwrap().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_works_below_the_prefix_of_a_proxy() {
    let mut server = ServerConfig::default();
    server.access.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    end(&relay, "shot", TXT2IMG, "completed").await;
    let port = free_port();
    let server = format!(
        "server {{ listen 127.0.0.1:{port}; location /farm/ {{ proxy_pass {}/; proxy_http_version 1.1; \
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; \
         proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; \
         proxy_set_header X-Forwarded-Proto http; proxy_set_header X-Forwarded-Prefix /farm; }} }}",
        relay.url()
    );
    let Some(_nginx) = Nginx::start(tempfile::tempdir().unwrap(), port, &server).await else {
        return;
    };
    let address = format!("http://127.0.0.1:{port}/farm/");
    let Some(page) = open("opens", &address, &[]) else {
        return;
    };
    let events = shown(page).await;
    let opened = find(&events, "opened");
    assert_eq!(opened["url"], format!("{address}jobs/shot"));
    assert_eq!(opened["blocked"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_follows_by_events_where_sockets_are_blocked_and_says_why() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    end(&relay, "shot", TXT2IMG, "completed").await;
    let Some((_nginx, address)) = proxy_without_sockets(&relay).await else {
        return;
    };
    let Some(page) = open("opens", &address, &[]) else {
        return;
    };
    // The console complains of the sockets that were not opened.
    let events = done(page).await;
    let blocked = find(&events, "opened")["blocked"].as_str().unwrap();
    assert!(
        blocked.contains("passes no WebSockets on") && blocked.contains("Server-Sent Events"),
        "{blocked}"
    );
}
