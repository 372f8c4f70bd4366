//! How sockets and event streams end.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::test_relay::{Settings, TestRelay};

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_close_is_answered() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    for path in ["/ws/job", "/ws/monitor"] {
        let mut subscriber = relay.connect(path).await;
        let close = CloseFrame {
            code: 1000.into(),
            reason: "done".into(),
        };
        subscriber.send_frame(Message::Close(Some(close))).await;
        assert_eq!(subscriber.close_code().await, 1000, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_far_too_long_closes_with_its_own_code() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    for path in ["/ws/job", "/ws/monitor"] {
        let mut subscriber = relay.connect(path).await;
        subscriber.send(&"x".repeat(4 << 20)).await;
        assert_eq!(subscriber.close_code().await, 1009, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_subscriptions_do_not_close_the_socket() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut subscriber = relay.subscribe("job-0").await;
    for number in 1..110 {
        let message = json!({"type": "subscribe", "job_id": format!("job-{number}")});
        subscriber.send(&message.to_string()).await;
    }
    for _ in 100..110 {
        subscriber
            .receive_until(|message| message["code"] == "too_many_subscriptions")
            .await;
    }
    subscriber.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_id_from_before_a_restart_hides_no_state() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let path = "/api/anime/jobs/render/progress";
    let report = |status: &str| json!({"progress": 50, "status": status});
    relay.post(path, &report("processing")).await;
    let events = |id: &str| {
        let request = relay.request(Method::GET, "/api/anime/jobs/render/events");
        request.header("last-event-id", id).send()
    };
    let open = events("900").await.unwrap();
    relay.post(path, &report("completed")).await;
    for events in [open, events("900").await.unwrap()] {
        let text = events.text().await.unwrap();
        assert!(text.contains(r#""status":"completed""#), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_that_is_not_read_is_closed() {
    let server = ServerConfig {
        ping_interval: Duration::from_millis(1),
        connection_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(server).await;
    let path = "/api/anime/jobs/render/progress";
    let mut unread = relay
        .request(Method::GET, "/api/anime/jobs/render/events")
        .send()
        .await
        .unwrap();
    unread.chunk().await.unwrap();
    let message = "x".repeat(1 << 20);
    loop {
        let report = json!({"progress": 5, "status": "processing", "output_path": message});
        relay.post(path, &report).await;
        let (_, status) = relay.get("/api/anime/websocket/status").await;
        if status["connections"]["total_connections"] == 0 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_leaves_is_no_longer_counted() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut monitor = relay.monitor().await;
    let subscriber = relay.subscribe("job").await;
    let counted = |count: u64| {
        move |status: &serde_json::Value| status["websockets"]["total_connections"] == count
    };
    monitor.receive_until(counted(1)).await;
    drop(subscriber);
    monitor.receive_until(counted(0)).await;
}
