//! What a subscriber receives on its socket.

use std::time::Duration;

use comfy_relay::config::{RelayConfig, ServerConfig};
use comfy_relay::replay::PlaybackSpeed;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::recordings::{ERROR, TXT2IMG, recording};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::{Received, Subscriber};
use crate::support::test_relay::{Settings, TestRelay};

const PREVIEWS: &str = "0.8.0/02-previews-metadata";

#[tokio::test(flavor = "multi_thread")]
async fn a_late_subscriber_receives_the_newest_state_at_once() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    relay
        .report(
            "render",
            &json!({"progress": 40, "status": "processing", "message": "Frame 4"}),
        )
        .await;
    relay
        .report(
            "render",
            &json!({"progress": 41, "status": "processing", "estimated_remaining": 9}),
        )
        .await;
    let mut subscriber = relay.subscribe("render").await;
    let Received::Text(state) = subscriber.receive().await else {
        panic!("no state")
    };
    assert_eq!((&state["progress"], &state["seq"]), (&json!(41), &json!(2)));
    assert!(state["estimated_remaining"].as_u64().unwrap() <= 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_after_the_end_receives_the_final_state_and_the_close() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    relay
        .report(
            "render",
            &json!({"progress": 70, "status": "failed", "error": "out of paint"}),
        )
        .await;
    let mut subscriber = relay.subscribe("render").await;
    assert_eq!(subscriber.close_code().await, 1000);
    assert_eq!(subscriber.states.len(), 1);
    assert_eq!(subscriber.last()["error"], "out of paint");
    assert_eq!(subscriber.errors.len(), 1);
    assert_eq!(subscriber.errors[0]["error"], "out of paint");
    let events = relay.request(Method::GET, "/api/anime/jobs/render/events");
    let events = events.send().await.unwrap().text().await.unwrap();
    assert!(events.contains(r#""code":"reported""#), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_sent_as_error_and_then_as_final_state() {
    let relay = TestRelay::replaying(ERROR).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", ERROR).await;
    assert_eq!(subscriber.close_code().await, 1000);
    assert_eq!(subscriber.errors.len(), 1);
    assert_eq!(subscriber.errors[0]["code"], "execution_error");
    assert_eq!(subscriber.errors[0]["error"], subscriber.last()["error"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_never_registered_is_not_found() {
    let server = ServerConfig {
        job_wait: Duration::from_millis(50),
        ..ServerConfig::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let mut subscriber = relay.subscribe("unknown").await;
    assert_eq!(subscriber.close_code().await, 4404);
    assert_eq!(subscriber.errors[0]["code"], "job_not_found");
    let events = relay
        .request(Method::GET, "/api/anime/jobs/unknown/events")
        .send()
        .await
        .unwrap();
    assert!(events.text().await.unwrap().contains("job_not_found"));
    let (_, status) = relay.get("/api/anime/websocket/status").await;
    assert_eq!(
        status["connections"]["total_connections"], 0,
        "no connection remains"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_id_may_be_a_bare_prompt_id() {
    let relay = TestRelay::replaying("0.8.0/13b-foreign-client-id").await;
    let recording = recording("0.8.0/13b-foreign-client-id").await;
    let (_, posted) = relay
        .post_to_comfyui("/prompt", &recording.prompts().next().unwrap().request_body)
        .await;
    let prompt = posted["prompt_id"].as_str().unwrap();
    let mut subscriber = relay.subscribe(prompt).await;
    subscriber.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_follows_several_jobs() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    for job in ["a", "b"] {
        relay
            .report(job, &json!({"progress": 5, "status": "processing"}))
            .await;
    }
    let mut subscriber = relay.subscribe("a").await;
    subscriber.receive_type("progress").await;
    subscriber
        .send(r#"{"type": "subscribe", "job_id": "b"}"#)
        .await;
    subscriber
        .receive_until(|message| message["job_id"] == "b")
        .await;
    relay
        .report("a", &json!({"progress": 99, "status": "completed"}))
        .await;
    subscriber
        .receive_until(|message| message["status"] == "completed")
        .await;
    subscriber.send(r#"{"type": "ping"}"#).await;
    subscriber.receive_type("pong").await;
    relay
        .report("b", &json!({"progress": 99, "status": "cancelled"}))
        .await;
    assert_eq!(subscriber.close_code().await, 1000);
    assert_eq!(subscriber.last()["job_id"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_are_refused_until_the_relay_closes() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut subscriber = relay.subscribe("job").await;
    for text in [
        "not json",
        r#"{"type": "odd"}"#,
        r#"{"type": "subscribe", "job_id": "a/b"}"#,
    ] {
        subscriber.send(text).await;
        let error = subscriber.receive_type("error").await;
        assert_eq!(error["code"], "bad_message");
    }
    subscriber.send_frame(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(subscriber.close_code().await, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_closes_with_its_own_code() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber.send(&"x".repeat(100 << 10)).await;
    assert_eq!(subscriber.close_code().await, 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_are_sent_to_subscribers_that_ask_for_them() {
    // Not as fast as can be: the prompt must not have ended before its job is registered.
    let settings = Settings::from(PlaybackSpeed::Real(4.0));
    let relay = TestRelay::replaying_with(PREVIEWS, settings).await;
    let mut curious = relay.subscribe("job?previews=1").await;
    let mut plain = relay.subscribe("job").await;
    relay.submit("job", PREVIEWS).await;
    assert_eq!(curious.close_code().await, 1000);
    assert_eq!(plain.close_code().await, 1000);
    assert!(plain.previews.is_empty());
    let newest = curious.previews.last().expect("no preview came");
    let length = u32::from_be_bytes(newest[..4].try_into().unwrap()) as usize;
    let head: Value = serde_json::from_slice(&newest[4..4 + length]).unwrap();
    assert_eq!(
        (&head["type"], &head["job_id"]),
        (&json!("preview"), &json!("job"))
    );
    assert_eq!(head["node"], "3");
    assert_eq!(head["mime"], "image/jpeg");
    assert_eq!(
        &newest[4 + length..4 + length + 2],
        [0xff, 0xd8],
        "a JPEG as ComfyUI made it"
    );
    let preview = relay
        .request(Method::GET, "/api/anime/jobs/job/preview")
        .send()
        .await
        .unwrap();
    assert_eq!(preview.headers()["content-type"], "image/jpeg");
    assert_eq!(&preview.bytes().await.unwrap()[..2], [0xff, 0xd8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_carry_the_same_messages_and_resume() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let path = "/api/anime/jobs/job/events";
    let events = relay.request(Method::GET, path).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    // Without it, nginx collects events until it has 16 KiB.
    assert_eq!(events.headers()["x-accel-buffering"], "no");
    assert_eq!(events.headers()["cache-control"], "no-store, no-transform");
    relay.submit("job", TXT2IMG).await;
    let text = events.text().await.unwrap();
    let blocks: Vec<&str> = text.trim_end().split("\n\n").collect();
    assert!(blocks[0].contains(r#""type":"connection""#));
    let last = blocks.last().unwrap();
    let (id, data) = last.split_once('\n').unwrap();
    let id = id.strip_prefix("id: ").unwrap();
    let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["status"], "completed");
    assert_eq!(data["seq"].to_string(), id);
    let again = relay
        .request(Method::GET, path)
        .header("last-event-id", id)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 204, "the final state has been received");
    let late = relay
        .request(Method::GET, path)
        .header("last-event-id", "1")
        .send()
        .await
        .unwrap();
    assert!(
        late.text()
            .await
            .unwrap()
            .contains(r#""status":"completed""#)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_does_not_ask_for_a_missing_job_for_ever() {
    let comfyui = ScriptedComfy::start().await;
    let server = ServerConfig {
        job_wait: Duration::ZERO,
        ..ServerConfig::default()
    };
    let relay = TestRelay::connected_to(&comfyui.url(), server).await;
    let events = async |id: Option<&str>| {
        let mut request = relay.request(Method::GET, "/api/anime/jobs/job/events");
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        request.send().await.unwrap()
    };
    let text = events(None).await.text().await.unwrap();
    let last = text.trim_end().split("\n\n").last().unwrap();
    assert!(last.contains(r#""code":"job_not_found""#), "{text}");
    let id = last
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap();
    assert_eq!(events(Some(id)).await.status(), 204);
    relay
        .report("job", &json!({"progress": 100, "status": "completed"}))
        .await;
    let text = events(Some(id)).await.text().await.unwrap();
    assert!(text.contains(r#""status":"completed""#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_after_the_end_is_refused_unless_it_repeats_the_end() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let report = async |status: &str| {
        let body = json!({"progress": 50, "status": status});
        let (code, answer) = relay.post("/api/anime/jobs/job/progress", &body).await;
        (
            code,
            answer["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    assert_eq!(report("processing").await.0, 202);
    assert_eq!(report("failed").await.0, 202);
    assert_eq!(report("failed").await.0, 202);
    for status in ["completed", "processing", "queued", "cancelled"] {
        assert_eq!(
            report(status).await,
            (409, "job_ended".to_owned()),
            "{status}"
        );
    }
    assert_eq!(relay.job("job").await.1["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_changes_is_published_at_each_heartbeat() {
    let relay = RelayConfig {
        heartbeat: Duration::from_millis(40),
        ..Settings::default().relay
    };
    let settings = Settings {
        relay,
        ..Settings::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let mut subscriber = relay.subscribe("render").await;
    let first = json!({"progress": 30, "status": "processing", "estimated_remaining": 100});
    relay.report("render", &first).await;
    subscriber
        .receive_until(|message| message["seq"].as_u64() >= Some(4))
        .await;
    assert!(
        subscriber
            .states
            .iter()
            .all(|state| state["progress"] == 30)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_where_it_runs_and_where_it_waits() {
    let name = "0.8.0/10-queue-delete-pending";
    let relay = TestRelay::replaying_with(name, PlaybackSpeed::Real(1.0)).await;
    let mut running = relay.subscribe("running").await;
    let mut waiting = relay.subscribe("waiting").await;
    relay.submit("running", name).await;
    relay.submit("waiting", name).await;
    for job in ["c", "d", "e"] {
        relay.submit(job, name).await;
    }
    running
        .receive_until(|message| message["status"] == "processing")
        .await;
    waiting
        .receive_until(|message| message["queue_position"] == 1)
        .await;
    let (status, _) = relay
        .post("/api/anime/jobs/waiting/cancel", &json!({}))
        .await;
    assert_eq!(status, 202);
    running.send(r#"{"type": "cancel"}"#).await;
    for mut subscriber in [running, waiting] {
        subscriber.ends_as("cancelled").await;
    }
    let (status, answer) = relay
        .post("/api/anime/jobs/waiting/cancel", &json!({}))
        .await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("not_cancellable"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_shows_jobs_and_backends() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut monitor = relay.monitor().await;
    let status = monitor.receive_type("system_status").await;
    assert_eq!(status["jobs"]["total"], 0);
    assert!(status["timestamp"].is_f64());
    relay.submit("job", TXT2IMG).await;
    let done = monitor
        .receive_until(|message| message["jobs"]["completed"] == 1)
        .await;
    assert_eq!(done["recent_jobs"][0]["id"], "job");
    assert_eq!(done["recent_jobs"][0]["progress"], 100);
    assert!(done["recent_jobs"][0]["created_at"].is_f64());
    assert_eq!(done["backends"][0]["connected"], true);
    assert_eq!(done["backends"][0]["version"], "0.8.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_closes_every_socket() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut subscribers: Vec<Subscriber> = Vec::new();
    for path in ["/ws/a", "/ws/b", "/ws/monitor"] {
        subscribers.push(relay.connect(path).await);
    }
    relay.start_shutdown();
    for mut subscriber in subscribers {
        assert_eq!(subscriber.close_code().await, 1001);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_pinged() {
    let server = ServerConfig {
        ping_interval: Duration::from_millis(20),
        ..ServerConfig::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber.receive_type("ping").await;
    let mut monitor = relay.monitor().await;
    monitor.receive_type("ping").await;
}
