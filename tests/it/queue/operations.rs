//! Backends and the queue are paused, drained and resumed.

use std::time::{Duration, Instant};

use comfy_relay::config::Dispatch;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::{SLOW, job, prompts_at, prompts_run, servers, settings, urls};
use crate::storage::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::TXT2IMG;
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};
use crate::support::wait::{PATIENCE, wait_until};

on_both!(
    a_paused_server_gets_nothing_new_and_others_go_on,
    a_paused_queue_hands_nothing_in_and_jobs_say_why,
    a_drained_server_gives_its_waiting_prompts_back,
    what_was_paused_stays_paused_after_a_restart,
    another_relay_on_the_database_follows_what_is_paused,
    the_queue_is_counted_and_its_oldest_job_named,
);

pub(crate) async fn operate(relay: &TestRelay, name: &str, verb: &str) -> Value {
    let name = name.replace(':', "%3A").replace('/', "%2F");
    post(relay, &format!("/api/anime/backends/{name}/{verb}")).await
}

pub(crate) async fn operate_queue(relay: &TestRelay, verb: &str) -> Value {
    post(relay, &format!("/api/anime/queue/{verb}")).await
}

/// Repeats it while the database does not answer: a busy machine may take long for the first connection.
async fn post(relay: &TestRelay, path: &str) -> Value {
    let since = Instant::now();
    loop {
        let (status, answer) = relay.post(path, &Value::Null).await;
        if status != 503 || since.elapsed() > PATIENCE {
            assert_eq!(status, 200, "{answer}");
            return answer;
        }
    }
}

async fn submit(relay: &TestRelay, id: &str) -> Value {
    let (status, answer) = relay.post("/api/anime/jobs", &job(id).await).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

fn name(server: &Replay) -> String {
    server.url().trim_start_matches("http://").to_owned()
}

pub(super) async fn complete(relay: &TestRelay, ids: &[&str]) {
    for id in ids {
        wait_until(&format!("{id} has ended"), async || {
            is_final(&relay.job(id).await.1)
        })
        .await;
        let (_, job) = relay.job(id).await;
        assert_eq!(job["status"], "completed", "{job}");
    }
}

/// The status of a server at each place that shows one.
async fn statuses(relay: &TestRelay, name: &str) -> Vec<String> {
    let (_, health) = relay.get("/api/anime/health").await;
    let (_, backends) = relay.get("/api/anime/backends").await;
    let monitor = relay.monitor().await.receive_until(|_| true).await;
    let of = |list: &Value| {
        let mut backends = list.as_array().unwrap().iter();
        let backend = backends.find(|backend| backend["name"] == name).unwrap();
        backend["status"].as_str().unwrap().to_owned()
    };
    vec![
        of(&health["components"]["comfyui"]),
        of(&backends["backends"]),
        of(&monitor["backends"]),
    ]
}

async fn a_paused_server_gets_nothing_new_and_others_go_on(db: TestDatabase) {
    let servers = servers(2).await;
    let (first, second) = (name(&servers[0]), name(&servers[1]));
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    for _ in 0..2 {
        let paused = operate(&relay, &first, "pause").await;
        assert_eq!(paused["status"], "paused", "{paused}");
        assert_eq!(paused["operation"], "paused", "{paused}");
    }
    assert_eq!(statuses(&relay, &first).await, ["paused"; 3]);
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["status"], "healthy", "it is so on purpose");
    let ids = ["a", "b", "c", "d", "e"];
    for id in ids {
        assert_eq!(submit(&relay, id).await["backend"], second);
    }
    complete(&relay, &ids).await;
    assert_eq!(prompts_run(&servers[0].url()).await.len(), 0);
    assert_eq!(prompts_run(&servers[1].url()).await.len(), ids.len());
    operate(&relay, &second, "pause").await;
    let mut body = job("f").await;
    body["backend"] = first.clone().into();
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!((status, &answer["backend"]), (201, &json!(first)));
    let (_, waiting) = relay.job("f").await;
    let message = format!("Waiting: {first} is paused");
    assert_eq!(waiting["message"], message, "{waiting}");
    assert_eq!(waiting["estimated_remaining"], Value::Null, "{waiting}");
    let (_, backends) = relay.get("/api/anime/backends").await;
    assert_eq!(backends["backends"][0]["waiting"], 1, "{backends}");
    assert_eq!(
        operate(&relay, &first, "resume").await["status"],
        "connected"
    );
    complete(&relay, &["f"]).await;
    assert_eq!(prompts_run(&servers[0].url()).await.len(), 1);
}

async fn a_paused_queue_hands_nothing_in_and_jobs_say_why(db: TestDatabase) {
    let servers = servers(2).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    assert_eq!(operate_queue(&relay, "pause").await["state"], "paused");
    let mut subscriber = relay.subscribe("a").await;
    for id in ["a", "b"] {
        submit(&relay, id).await;
    }
    let waits = |message: &Value| message["message"] == "Waiting: the queue is paused";
    let waiting = subscriber.receive_until(waits).await;
    assert_eq!(waiting["waiting_for"], "server", "{waiting}");
    for server in &servers {
        assert_eq!(prompts_at(&server.url()).await, 0);
    }
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["components"]["queue"]["status"], "paused");
    let metrics = relay.request(Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("comfy_relay_queue_paused 1"), "{metrics}");
    assert_eq!(operate_queue(&relay, "resume").await["state"], "running");
    complete(&relay, &["a", "b"]).await;
}

async fn a_drained_server_gives_its_waiting_prompts_back(db: TestDatabase) {
    let slow = comfyui(&[TXT2IMG], SLOW).await;
    let fast = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let (first, second) = (name(&slow), name(&fast));
    let urls = format!("{},{}", slow.url(), fast.url());
    let relay = TestRelay::connected_to(&urls, settings(&db)).await;
    operate(&relay, &second, "pause").await;
    let mut prompts = Vec::new();
    for id in ["a", "b", "c", "d"] {
        let mut body = job(id).await;
        // One that is handed in once: it was not lost, and has not begun.
        body["retries"] = if id == "d" { 0 } else { 1 }.into();
        let (status, answer) = relay.post("/api/anime/jobs", &body).await;
        assert_eq!(
            (status, &answer["backend"]),
            (201, &json!(first)),
            "{answer}"
        );
        prompts.push(answer["prompt_id"].as_str().unwrap().to_owned());
    }
    let mut subscriber = relay.subscribe("b").await;
    wait_until("the first one runs", async || {
        relay.job("a").await.1["status"] == "processing"
    })
    .await;
    wait_until("one runs, one is ready", async || {
        prompts_at(&slow.url()).await == 2
    })
    .await;
    assert_eq!(operate(&relay, &first, "drain").await["status"], "draining");
    operate(&relay, &second, "resume").await;
    complete(&relay, &["b", "c", "d"]).await;
    subscriber.ends_as("completed").await;
    for state in &subscriber.states {
        assert!(state.get("attempt").is_none(), "it had not begun: {state}");
    }
    let (_, drained) = relay.job("b").await;
    assert_eq!(drained["backend"], second, "{drained}");
    // What ran goes on.
    let (_, running) = relay.job("a").await;
    assert_eq!(running["status"], "processing", "{running}");
    assert_eq!(running["prompt_id"], prompts[0], "{running}");
    assert_eq!(prompts_at(&slow.url()).await, 1);
    assert_eq!(prompts_run(&fast.url()).await.len(), 3, "each once");
    assert_eq!(statuses(&relay, &first).await, ["draining"; 3]);
}

async fn what_was_paused_stays_paused_after_a_restart(db: TestDatabase) {
    let servers = servers(2).await;
    let (first, second) = (name(&servers[0]), name(&servers[1]));
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    operate_queue(&relay, "pause").await;
    operate(&relay, &first, "pause").await;
    operate(&relay, &second, "drain").await;
    submit(&relay, "a").await;
    relay.stop().await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    assert_eq!(statuses(&relay, &first).await, ["paused"; 3]);
    assert_eq!(statuses(&relay, &second).await, ["draining"; 3]);
    let (_, queue) = relay.get("/api/anime/queue").await;
    assert_eq!(queue["state"], "paused", "{queue}");
    wait_until("it says why it waits", async || {
        relay.job("a").await.1["message"] == "Waiting: the queue is paused"
    })
    .await;
    operate_queue(&relay, "resume").await;
    let reason = format!("Waiting: {first} is paused, {second} is being drained");
    wait_until("it says why it waits", async || {
        relay.job("a").await.1["message"] == reason
    })
    .await;
    operate(&relay, &second, "resume").await;
    complete(&relay, &["a"]).await;
    let rows = db
        .values("SELECT subject || ' ' || state AS v FROM comfy_relay.operations")
        .await;
    assert_eq!(rows, [Some(format!("backend:{first} paused"))]);
}

async fn another_relay_on_the_database_follows_what_is_paused(db: TestDatabase) {
    let servers = servers(1).await;
    let first = name(&servers[0]);
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let other = TestRelay::start(&urls(&servers), settings(&db)).await;
    // The other one does not follow the server, and may be asked all the same.
    operate(&other, &first, "pause").await;
    operate_queue(&other, "pause").await;
    wait_until("the first relay has read it", async || {
        let (_, health) = relay.get("/api/anime/health").await;
        let components = &health["components"];
        components["comfyui"][0]["status"] == "paused" && components["queue"]["status"] == "paused"
    })
    .await;
    submit(&relay, "a").await;
    assert_eq!(prompts_at(&servers[0].url()).await, 0);
    operate_queue(&other, "resume").await;
    operate(&other, &first, "resume").await;
    complete(&relay, &["a"]).await;
}

async fn the_queue_is_counted_and_its_oldest_job_named(db: TestDatabase) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let (_, empty) = relay.get("/api/anime/queue").await;
    let nothing = json!({"state": "running", "waiting": 0, "oldest": null, "next_start": null});
    assert_eq!(empty, nothing);
    operate_queue(&relay, "pause").await;
    let before = Timestamp::now();
    submit(&relay, "a").await;
    let after = Timestamp::now();
    for id in ["b", "c"] {
        submit(&relay, id).await;
    }
    let (status, _) = relay.post("/api/anime/jobs/b/cancel", &Value::Null).await;
    assert_eq!(status, 202);
    let (_, queue) = relay.get("/api/anime/queue").await;
    assert_eq!(queue["waiting"], 2, "one was cancelled: {queue}");
    assert_eq!(queue["next_start"], Value::Null, "{queue}");
    let oldest: Timestamp = queue["oldest"].as_str().unwrap().parse().unwrap();
    // It is in whole seconds.
    let second = SignedDuration::from_secs(1);
    assert!((before - second..=after).contains(&oldest), "{queue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_configured_cannot_be_operated() {
    let url = format!("{UNREACHABLE}/comfy/one");
    let relay = TestRelay::start(&url, Settings::default()).await;
    let known = "127.0.0.1:1/comfy/one";
    for verb in ["pause", "resume", "drain"] {
        let path = format!("/api/anime/backends/gpu%2F9/{verb}");
        let (status, answer) = relay.post(&path, &Value::Null).await;
        assert_eq!(status, 404, "{answer}");
        assert_eq!(answer["error"]["code"], "backend_unknown");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("\"gpu/9\"") && message.contains(known),
            "{message}"
        );
    }
    // A proxy may have decoded the slashes.
    for name in ["127.0.0.1%3A1%2Fcomfy%2Fone", "127.0.0.1:1/comfy/one"] {
        let path = format!("/api/anime/backends/{name}/pause");
        let (status, answer) = relay.post(&path, &Value::Null).await;
        assert_eq!((status, &answer["name"]), (200, &json!(known)));
        // Whether it answers matters more than that it is paused.
        assert_eq!(answer["status"], "unreachable", "{answer}");
        assert_eq!(answer["operation"], "paused", "{answer}");
        assert_eq!(answer["free_at"], Value::Null, "{answer}");
    }
    let (status, answer) = relay.get("/api/anime/backends/x/pause").await;
    assert_eq!(status, 405, "{answer}");
    let (status, answer) = relay.post("/api/anime/backends/x/stop", &Value::Null).await;
    assert_eq!(status, 404, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_a_submission_to_what_is_paused_is_refused() {
    let mut settings = Settings::default();
    settings.relay.dispatch = Dispatch::Direct;
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let server = relay.comfyui_url().trim_start_matches("http://").to_owned();
    for (pause, resume, reason) in [
        (
            format!("/api/anime/backends/{server}/pause"),
            format!("/api/anime/backends/{server}/resume"),
            format!("{server} is paused"),
        ),
        (
            "/api/anime/queue/pause".to_owned(),
            "/api/anime/queue/resume".to_owned(),
            "the queue is paused".to_owned(),
        ),
    ] {
        relay.post(&pause, &Value::Null).await;
        let (status, answer) = relay.post("/api/anime/jobs", &job("a").await).await;
        assert_eq!(status, 503, "{answer}");
        assert_eq!(answer["error"]["code"], "paused", "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(&reason), "{message}");
        relay.post(&resume, &Value::Null).await;
    }
    assert_eq!(prompts_at(&relay.comfyui_url()).await, 0);
    submit(&relay, "a").await;
    complete(&relay, &["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_changes_nothing() {
    let mut settings = Settings::default();
    // Nothing listens there.
    settings.store.database = "postgres://relay@127.0.0.1:1/relay".parse().unwrap();
    settings.relay.lost_after = Duration::ZERO;
    let relay = TestRelay::without_backend(settings).await;
    for path in [
        "/api/anime/queue/pause",
        "/api/anime/backends/127.0.0.1:1/pause",
    ] {
        let (status, answer) = relay.post(path, &Value::Null).await;
        assert_eq!(status, 503, "{answer}");
        assert_eq!(answer["error"]["code"], "database_unreachable");
    }
    let (_, backends) = relay.get("/api/anime/backends").await;
    assert_eq!(backends["backends"][0]["operation"], "running");
}
