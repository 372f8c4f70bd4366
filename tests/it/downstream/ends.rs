//! What becomes of a socket whose job has ended, and of one whose job nobody has registered.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::subscriber::{Received, Subscriber, is_final};
use crate::support::test_relay::{Settings, TestRelay};

/// Pings often.
fn pinging() -> ServerConfig {
    ServerConfig {
        ping_interval: Duration::from_millis(20),
        ..ServerConfig::default()
    }
}

async fn end(relay: &TestRelay, job: &str) {
    let report = json!({"progress": 100, "status": "completed"});
    relay.report(job, &report).await;
}

/// How many pings come before the relay closes the socket, and the close code.
async fn pings_until_close(subscriber: &mut Subscriber) -> (usize, u16) {
    let mut pings = 0;
    loop {
        match subscriber.receive().await {
            Received::Text(message) if message["type"] == "ping" => pings += 1,
            Received::Closed(code) => return (pings, code),
            _ => {}
        }
    }
}

async fn connections(relay: &TestRelay) -> Value {
    let (_, status) = relay.get("/api/anime/websocket/status").await;
    status["connections"]["total_connections"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_an_ended_job_stays_open_with_pings() {
    let relay = TestRelay::without_backend(pinging()).await;
    let mut early = relay.connect("/ws/render").await;
    end(&relay, "render").await;
    let mut late = relay.connect("/ws/render").await;
    for subscriber in [&mut early, &mut late] {
        subscriber.receive_until(is_final).await;
        for _ in 0..3 {
            subscriber.receive_type("ping").await;
        }
        subscriber.ping().await;
        assert_eq!(subscriber.states.len(), 1);
    }
    assert_eq!(connections(&relay).await, 2, "the status shows them");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_an_ended_job_is_closed_after_the_connection_timeout() {
    let server = ServerConfig {
        connection_timeout: Duration::from_millis(500),
        ..pinging()
    };
    let relay = TestRelay::without_backend(server).await;
    let mut subscriber = relay.connect("/ws/render").await;
    end(&relay, "render").await;
    subscriber.receive_until(is_final).await;
    let (pings, code) = pings_until_close(&mut subscriber).await;
    assert_eq!(code, 1000);
    assert!(pings > 0, "it was closed at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_asks_for_it_is_closed_at_the_end() {
    let relay = TestRelay::without_backend(pinging()).await;
    let mut subscriber = relay.connect("/ws/render?close=end").await;
    end(&relay, "render").await;
    assert_eq!(subscriber.close_code().await, 1000);
    assert_eq!(subscriber.last()["status"], "completed");
    assert_eq!(connections(&relay).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_follows_one_job_after_the_other() {
    let server = ServerConfig {
        // Longer than a busy machine takes for one of the jobs.
        connection_timeout: Duration::from_secs(4),
        ..pinging()
    };
    let relay = TestRelay::without_backend(server).await;
    end(&relay, "job-0").await;
    let mut subscriber = relay.connect("/ws/job-0").await;
    subscriber.receive_until(is_final).await;
    // More than a socket may follow at a time: those that have ended do not count.
    for number in 1..150 {
        let job = format!("job-{number}");
        end(&relay, &job).await;
        let message = json!({"type": "subscribe", "job_id": job});
        subscriber.send(&message.to_string()).await;
        let ended = |message: &Value| message["job_id"] == job && is_final(message);
        subscriber.receive_until(ended).await;
    }
    assert_eq!(connections(&relay).await, 1);
    assert!(subscriber.errors.is_empty(), "{:?}", subscriber.errors);
    let (_, code) = pings_until_close(&mut subscriber).await;
    assert_eq!(code, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_ask_for_the_end_again() {
    let relay = TestRelay::without_backend(pinging()).await;
    end(&relay, "render").await;
    let mut subscriber = relay.connect("/ws/render").await;
    subscriber.receive_until(is_final).await;
    subscriber.states.clear();
    subscriber
        .send(r#"{"type": "subscribe", "job_id": "render"}"#)
        .await;
    subscriber.receive_until(is_final).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_learns_that_nobody_has_registered_its_job() {
    let comfyui = crate::support::scripted_comfy::ScriptedComfy::start().await;
    comfyui.answer("GET /history/render", 200, &json!({}));
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let mut subscriber = relay.connect("/ws/render").await;
    let waiting = subscriber.receive_type("connection").await;
    assert_eq!(waiting["job_wait"], 30, "{waiting}");
    let message = "Nobody has registered this job yet; waiting 30 s more";
    assert_eq!(waiting["message"], message);
    end(&relay, "render").await;
    subscriber.receive_until(is_final).await;
    let mut late = Subscriber::connect(relay.socket_url("/ws/render")).await;
    let greeting = late.receive_greeting().await;
    assert_eq!(greeting.get("job_wait"), None, "the job is known");
    late.receive_until(is_final).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_parameters_are_refused_by_name() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    for (path, code) in [
        ("/api/anime/jobs?stat=failed", "unknown_parameter"),
        ("/api/anime/health?verbose=1", "unknown_parameter"),
        ("/api/anime/jobs?limit=0", "bad_query"),
    ] {
        let (status, answer) = relay.get(path).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)));
    }
    let (_, answer) = relay.get("/api/anime/jobs?stat=failed").await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(r#""stat""#) && message.contains("status"),
        "{message}"
    );
    let page = relay.request(Method::GET, "/?utm_source=chat").send().await;
    assert_eq!(page.unwrap().status(), 200, "pages take any");
    // A browser shows its pages nothing of a refused upgrade.
    for (path, code) in [
        ("/ws/render?preview=1", "unknown_parameter"),
        ("/ws/render?close=now", "bad_query"),
        ("/ws/monitor?close=end", "unknown_parameter"),
    ] {
        let mut subscriber = relay.connect(path).await;
        assert_eq!(subscriber.close_code().await, 1008, "{path}");
        assert_eq!(subscriber.errors[0]["code"], code);
    }
}
