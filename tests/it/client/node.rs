//! The tracker and the hub in node.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use crate::support::browser::proxy_without_sockets;
use crate::support::nginx::{Nginx, free_port};
use crate::support::program::Program;
use crate::support::recordings::{ERROR, TXT2IMG};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, in_seconds, token};
use crate::support::tool::{Events, node, node_with_websocket};
use crate::support::wait::wait_until;

const SCRIPT: &str = "tests/modules/run.mjs";

/// Runs a scenario; `None` on a machine without node.
fn run(scenario: &str, url: &str, arguments: &[&str]) -> Option<Events> {
    let mut command = node_with_websocket(SCRIPT)?;
    command.args([scenario, url]).args(arguments);
    Some(Events::of(command))
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|it| it["event"] == name).collect()
}

/// The progress of a job's states, in their order. A state that comes every second repeats it.
fn percents(events: &[Value], job: &str) -> Vec<u64> {
    let states = events
        .iter()
        .filter(|it| it["event"] == "progress" && it["job"] == job);
    let mut percents: Vec<u64> = states.map(|it| it["progress"].as_u64().unwrap()).collect();
    percents.dedup();
    percents
}

/// Waits for the state of this progress.
async fn until_progress(events: &mut Events, percent: u64) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        all.extend(events.until("progress").await);
        if all.last().unwrap()["progress"] == percent {
            return all;
        }
    }
}

async fn done(mut events: Events) -> Vec<Value> {
    let all = events.until("done").await;
    assert!(events.end().await, "{all:?}");
    all
}

fn running(progress: u8) -> Value {
    json!({"progress": progress, "status": "processing"})
}

fn completed() -> Value {
    json!({"progress": 100, "status": "completed", "output_path": "shot.png"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_is_iterated_from_before_the_job_to_its_end() {
    // Not as fast as can be: on a busy machine all steps would come at once.
    let relay = TestRelay::replaying_with(TXT2IMG, PlaybackSpeed::Real(4.0)).await;
    let Some(mut tracker) = run("follow", &relay.url(), &["shot"]) else {
        return;
    };
    let mut events = tracker.until("open").await;
    relay.submit("shot", TXT2IMG).await;
    events.extend(done(tracker).await);
    let percents = percents(&events, "shot");
    assert!(percents.len() > 5, "{percents:?}");
    assert!(percents.is_sorted() && percents.ends_with(&[100]));
    assert_eq!(named(&events, "socket").len(), 1);
    assert_eq!(named(&events, "ended").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_closes_the_socket() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    relay.report("shot", &running(40)).await;
    let Some(tracker) = run("leave", &relay.url(), &["shot", "40"]) else {
        return;
    };
    let events = done(tracker).await;
    assert_eq!(named(&events, "closed").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subclass_for_the_tracker_of_the_system_before_works_unchanged() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let Some(mut tracker) = run("subclass", &relay.url(), &["shot"]) else {
        return;
    };
    let mut events = tracker.until("open").await;
    relay.submit("shot", TXT2IMG).await;
    events.extend(done(tracker).await);
    let url = relay.socket_url("/ws/shot");
    let connect = json!({"event": "connect", "attempts": 0, "url": url, "job": "shot"});
    assert_eq!(named(&events, "connect"), [&connect]);
    let [completed] = named(&events, "completed")[..] else {
        panic!("{events:?}");
    };
    assert!(completed["output_path"].as_str().unwrap().ends_with(".png"));
    let updates = named(&events, "update");
    assert_eq!(updates.last().unwrap()["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subclass_reads_why_a_job_has_failed() {
    let relay = TestRelay::replaying(ERROR).await;
    relay.submit("shot", ERROR).await;
    let Some(tracker) = run("subclass", &relay.url(), &["shot"]) else {
        return;
    };
    let events = done(tracker).await;
    let (_, job) = relay.job("shot").await;
    let error = json!({"event": "error", "error": job["error"]});
    assert_eq!(named(&events, "error"), [&error]);
}

/// A relay in a process of its own, which can be started again with the same address and database.
async fn serve(address: &str, database: &str) -> Program {
    let variables = [("LISTEN", address), ("DATABASE_URL", database)];
    let program = Program::start(&[], &variables);
    program.ready().await;
    program
}

async fn report(relay: &Program, state: &Value) {
    let path = "/api/anime/jobs/shot/progress";
    let (status, answer) = relay.post(path, state).await.unwrap();
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trackers_survive_a_restart_of_the_relay() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("relay.db").display());
    let address = format!("127.0.0.1:{}", free_port());
    let relay = serve(&address, &database).await;
    report(&relay, &running(40)).await;
    let url = format!("http://{address}");
    let (Some(mut tracker), Some(mut subclass), Some(mut hub)) = (
        run("follow", &url, &["shot"]),
        run("subclass", &url, &["shot"]),
        run("hub", &url, &["shot"]),
    ) else {
        return;
    };
    let mut events = until_progress(&mut tracker, 40).await;
    let mut in_hub = until_progress(&mut hub, 40).await;
    let mut of_subclass = subclass.until("update").await;
    relay.kill().await;
    events.extend(tracker.until("waiting").await);
    in_hub.extend(hub.until("waiting").await);
    of_subclass.extend(subclass.until("lost").await);
    let relay = serve(&address, &database).await;
    events.extend(tracker.until("open").await);
    in_hub.extend(hub.until("open").await);
    of_subclass.extend(subclass.until("open").await);
    report(&relay, &running(60)).await;
    events.extend(until_progress(&mut tracker, 60).await);
    report(&relay, &completed()).await;
    events.extend(done(tracker).await);
    in_hub.extend(done(hub).await);
    of_subclass.extend(done(subclass).await);
    assert_eq!(percents(&events, "shot").last(), Some(&100));
    assert_eq!(percents(&in_hub, "shot").last(), Some(&100));
    assert_eq!(named(&of_subclass, "completed").len(), 1, "{of_subclass:?}");
    let open = named(&of_subclass, "open");
    assert_eq!(open.last().unwrap()["attempts"], 0, "{of_subclass:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_with_a_limit_gives_up_and_says_why() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let Some(tracker) = run("impatient", &url, &["shot"]) else {
        return;
    };
    let events = done(tracker).await;
    assert_eq!(named(&events, "socket").len(), 2, "{events:?}");
    let refused = named(&events, "refused");
    assert_eq!(refused[0]["error"], "The connection was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_renews_the_token_on_the_open_socket() {
    let relay = TestRelay::without_backend(guarded()).await;
    let of = |seconds| token(&json!({"exp": in_seconds(seconds)}));
    // Valid when the program has started, however long that takes. It is renewed when most of its time has passed.
    let (first, later) = (of(20), of(3_600));
    let report = async |state: Value| {
        let path = "/api/anime/jobs/shot/progress";
        let request = relay.request_as(&later, reqwest::Method::POST, path);
        let response = request.json(&state).send().await.unwrap();
        assert_eq!(response.status(), 202);
    };
    report(running(40)).await;
    let Some(mut tracker) = run("tokens", &relay.url(), &["shot", &first, &later]) else {
        return;
    };
    let mut events = tracker.until("renewed").await;
    report(completed()).await;
    events.extend(done(tracker).await);
    assert_eq!(named(&events, "asked").len(), 2, "{events:?}");
    assert_eq!(named(&events, "socket").len(), 1, "{events:?}");
    assert_eq!(percents(&events, "shot"), [40, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_expired_is_asked_for_again_and_a_wrong_one_ends_the_connection() {
    let relay = TestRelay::without_backend(guarded()).await;
    let expired = token(&json!({"exp": in_seconds(-3_600)}));
    let valid = token(&json!({}));
    let path = "/api/anime/jobs/shot/progress";
    let request = relay.request_as(&valid, reqwest::Method::POST, path);
    request.json(&completed()).send().await.unwrap();
    let Some(tracker) = run("tokens", &relay.url(), &["shot", &expired, &valid]) else {
        return;
    };
    let events = done(tracker).await;
    assert_eq!(percents(&events, "shot"), [100]);
    let tracker = run("tokens", &relay.url(), &["shot", &expired]).unwrap();
    let events = done(tracker).await;
    assert_eq!(named(&events, "socket").len(), 2, "{events:?}");
    let error = named(&events, "refused")[0]["error"].as_str().unwrap();
    assert!(error.contains("token"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sockets_are_blocked_events_are_followed_and_resumed() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let Some((_nginx, address)) = proxy_without_sockets(&relay).await else {
        return;
    };
    for job in ["a", "b"] {
        relay.report(job, &running(40)).await;
    }
    let (Some(mut tracker), Some(mut hub)) = (
        run("follow", &address, &["a"]),
        run("hub", &address, &["a", "b"]),
    ) else {
        return;
    };
    let mut events = until_progress(&mut tracker, 40).await;
    let mut in_hub = Vec::new();
    while percents(&in_hub, "a").is_empty() || percents(&in_hub, "b").is_empty() {
        in_hub.extend(hub.until("progress").await);
    }
    let open = named(&events, "open");
    let note = open[0]["note"].as_str().unwrap();
    assert!(
        note.contains("Server-Sent Events are used instead"),
        "{note}"
    );
    for job in ["a", "b"] {
        relay.report(job, &completed()).await;
    }
    events.extend(done(tracker).await);
    in_hub.extend(done(hub).await);
    assert_eq!(percents(&events, "a"), [40, 100]);
    assert_eq!(percents(&in_hub, "a"), [40, 100]);
    assert_eq!(percents(&in_hub, "b"), [40, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_whose_relay_is_away_ends_no_event_stream() {
    let (port, address) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let proxy = format!(
        "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{address}; proxy_buffering off; }} }}"
    );
    let Some(_nginx) = Nginx::start(tempfile::tempdir().unwrap(), port, &proxy).await else {
        return;
    };
    let Some(mut command) = node(SCRIPT) else {
        return;
    };
    let url = format!("http://127.0.0.1:{port}/");
    // Without a WebSocket, which Node 22 and newer have.
    command.env("NODE_OPTIONS", "").args(["hub", &url, "shot"]);
    let mut hub = Events::of(command);
    let mut events = hub.until("waiting").await;
    events.extend(hub.until("waiting").await);
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("relay.db").display());
    let relay = serve(&address, &database).await;
    report(&relay, &running(40)).await;
    events.extend(until_progress(&mut hub, 40).await);
    report(&relay, &completed()).await;
    events.extend(done(hub).await);
    assert_eq!(percents(&events, "shot"), [40, 100]);
    assert!(named(&events, "refused").is_empty(), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_callback_that_throws_is_asked_again() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    relay.report("shot", &completed()).await;
    let Some(tracker) = run("throws", &relay.url(), &["shot"]) else {
        return;
    };
    let events = done(tracker).await;
    assert_eq!(percents(&events, "shot"), [100], "{events:?}");
    assert_eq!(named(&events, "waiting").len(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_sockets_follows_by_events() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    for job in ["a", "b"] {
        relay.report(job, &completed()).await;
    }
    let Some(mut command) = node(SCRIPT) else {
        return;
    };
    let url = relay.url();
    // Node 22 and newer have one.
    command
        .env("NODE_OPTIONS", "")
        .args(["hub", &url, "a", "b"]);
    let events = done(Events::of(command)).await;
    assert_eq!(named(&events, "ended").len(), 2, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_follows_three_jobs_over_one_socket() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let jobs = ["a", "b", "c"];
    let Some(mut hub) = run("hub", &relay.url(), &jobs) else {
        return;
    };
    let mut events = hub.until("open").await;
    for (at, job) in jobs.into_iter().enumerate() {
        relay.report(job, &running(10 * (at as u8 + 1))).await;
    }
    let status = "/api/anime/websocket/status";
    wait_until("all jobs are followed", async || {
        let (_, status) = relay.get(status).await;
        status["connections"]["jobs_with_connections"] == 3
    })
    .await;
    let (_, counts) = relay.get(status).await;
    assert_eq!(counts["connections"]["total_connections"], 3, "one a job");
    for job in jobs {
        relay.report(job, &completed()).await;
    }
    events.extend(done(hub).await);
    for (at, job) in jobs.into_iter().enumerate() {
        let percents = percents(&events, job);
        assert!(percents.ends_with(&[100]), "{job}: {percents:?}");
        assert!(percents.contains(&(10 * (at as u64 + 1))), "{percents:?}");
    }
    assert_eq!(named(&events, "socket").len(), 1);
    assert_eq!(named(&events, "ended").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_goes_on_with_other_jobs_on_the_same_socket() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    for job in ["first", "second"] {
        relay.report(job, &running(40)).await;
    }
    let Some(mut hub) = run("change", &relay.url(), &["first", "second"]) else {
        return;
    };
    let mut events = hub.until("changed").await;
    relay.report("second", &completed()).await;
    events.extend(done(hub).await);
    assert_eq!(named(&events, "socket").len(), 1);
    assert_eq!(named(&events, "ended").len(), 2, "it is followed twice");
    assert_eq!(percents(&events, "first"), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_missing_ends_alone() {
    let server = ServerConfig {
        job_wait: Duration::from_secs(1),
        ..ServerConfig::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    relay.report("there", &running(40)).await;
    for jobs in [["missing", "there"], ["there", "missing"]] {
        let Some(mut hub) = run("hub", &relay.url(), &jobs) else {
            return;
        };
        let events = hub.until("refused").await;
        let refused = events.last().unwrap();
        assert_eq!(refused["job"], "missing");
        assert!(refused["error"].as_str().unwrap().contains("missing"));
        assert!(named(&events, "ended").is_empty());
    }
    let tracker = run("follow", &relay.url(), &["missing"]).unwrap();
    let events = done(tracker).await;
    assert_eq!(named(&events, "socket").len(), 1, "there is no such job");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_could_not_be_looked_for_is_followed_when_it_comes() {
    let server = ServerConfig {
        job_wait: Duration::from_secs(1),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(server).await;
    relay.report("there", &running(40)).await;
    let Some(mut hub) = run("hub", &relay.url(), &["there", "late"]) else {
        return;
    };
    let mut events = hub.until("problem").await;
    let problem = events.last().unwrap();
    assert_eq!(
        (&problem["job"], &problem["code"]),
        (&json!("late"), &json!("backend_unreachable"))
    );
    // The other job has kept the socket open.
    relay.report("late", &running(20)).await;
    while percents(&events, "late").is_empty() {
        events.extend(hub.until("progress").await);
    }
    for job in ["late", "there"] {
        relay.report(job, &completed()).await;
    }
    events.extend(done(hub).await);
    assert_eq!(percents(&events, "late"), [20, 100]);
    assert_eq!(named(&events, "socket").len(), 1, "{events:?}");
    assert!(named(&events, "refused").is_empty(), "{events:?}");
}
