//! Many subscribers, slow ones, and compressed messages.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::raw_client::{RawClient, deflate, fragment};
use crate::support::test_relay::{Settings, TestRelay};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// A relay with io_uring, if the kernel has it, and one without.
async fn relays() -> [TestRelay; 2] {
    let relay = async |io_uring| {
        let server = ServerConfig {
            io_uring,
            ..ServerConfig::default()
        };
        let settings = Settings {
            server,
            ..Settings::without_heartbeat()
        };
        TestRelay::without_backend(settings).await
    };
    [relay(true).await, relay(false).await]
}

fn state(progress: u64, message: &str) -> Value {
    json!({"progress": progress, "status": "processing", "message": message})
}

fn is_state(progress: u64) -> impl Fn(&Value) -> bool {
    move |message| message["type"] == "progress" && message["progress"] == progress
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_are_the_same_as_plain_ones() {
    for relay in relays().await {
        let long = "a long way to go, ".repeat(20);
        relay.report("job", &state(1, &long)).await;
        let address = relay.address();
        let mut small = RawClient::connect(&address, "/ws/job", DEFLATE).await;
        let mut plain = RawClient::connect(&address, "/ws/job", "").await;
        assert!(small.head.contains("server_no_context_takeover"));
        assert!(!plain.head.to_lowercase().contains("extensions"));
        for progress in 1..5 {
            if progress > 1 {
                relay.report("job", &state(progress, &long)).await;
            }
            let (compressed, message) = small.text_until(is_state(progress)).await;
            let (whole, other) = plain.text_until(is_state(progress)).await;
            assert_eq!(message, other);
            assert!(compressed.header.rsv1 && !whole.header.rsv1);
            assert!(compressed.payload.len() * 2 < whole.payload.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_of_clients_are_understood() {
    let [relay, _] = relays().await;
    let mut wire = RawClient::connect(&relay.address(), "/ws/a", DEFLATE).await;
    let text = OpCode::Data(Data::Text);
    let compressed = deflate(br#"{"type": "subscribe", "job_id": "b"}"#);
    let (begin, end) = compressed.split_at(10);
    wire.send(&fragment(text, begin, false, true)).await;
    wire.send(&fragment(OpCode::Data(Data::Continue), end, true, false))
        .await;
    wire.send(&fragment(text, br#"{"type": "ping"}"#, true, false))
        .await;
    wire.text_until(|message| message["type"] == "pong").await;
    relay.report("b", &state(7, "")).await;
    let (frame, message) = wire.text_until(is_state(7)).await;
    assert_eq!(message["job_id"], "b");
    assert!(frame.header.rsv1 || frame.payload.len() < 200);
}

/// A slow subscriber costs one frame, delays no other, and receives the newest state when it reads again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_skips_states_but_receives_the_newest_and_the_end() {
    for relay in relays().await {
        let mut slow = RawClient::with_small_buffer(&relay.address(), "/ws/job?close=end").await;
        let mut quick = relay.subscribe("job").await;
        let huge = "x".repeat(1 << 20);
        for progress in 1..=20 {
            relay
                .report(
                    "job",
                    &json!({"progress": progress, "status": "processing", "output_path": huge}),
                )
                .await;
            quick.receive_until(is_state(progress)).await;
        }
        assert_eq!(quick.states.len(), 20);
        let mut seen = Vec::new();
        loop {
            let (_, message) = slow
                .text_until(|message| message["type"] == "progress")
                .await;
            seen.push(message["progress"].as_u64().unwrap());
            if seen.last() == Some(&20) {
                break;
            }
        }
        assert!(seen.is_sorted() && seen.len() < 20, "{seen:?}");
        relay
            .report(
                "job",
                &json!({"progress": 21, "status": "completed", "output_path": huge}),
            )
            .await;
        let (_, last) = slow
            .text_until(|message| message["status"] == "completed")
            .await;
        assert_eq!(last["progress"], 100);
        assert_eq!(slow.close_code().await, 1000);
        assert_eq!(quick.close_code().await, 1000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_never_reads_is_dropped() {
    let server = ServerConfig {
        ping_interval: Duration::from_millis(50),
        connection_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(server).await;
    let mut monitor = relay.monitor().await;
    let _unread = RawClient::with_small_buffer(&relay.address(), "/ws/job").await;
    let huge = json!({"progress": 5, "status": "processing", "output_path": "x".repeat(8 << 20)});
    // On a busy machine the row is written after the answer; subscribers get the state all the same.
    relay
        .request(Method::POST, "/api/anime/jobs/job/progress")
        .json(&huge)
        .send()
        .await
        .unwrap();
    monitor
        .receive_until(|status| status["websockets"]["total_connections"] == 0)
        .await;
}

/// Jobs with many subscribers are written in turns.
#[tokio::test(flavor = "multi_thread")]
async fn many_subscribers_of_many_jobs_receive_every_state_in_order() {
    const JOBS: usize = 7;
    const EACH: usize = 100;
    for relay in relays().await {
        let mut subscribers = Vec::new();
        for number in 0..JOBS * EACH {
            let path = format!("job-{}", number % JOBS);
            subscribers.push(relay.subscribe(&path).await);
        }
        for progress in 1..=5 {
            for job in 0..JOBS {
                relay
                    .report(&format!("job-{job}"), &state(progress, ""))
                    .await;
            }
        }
        for job in 0..JOBS {
            let end = json!({"progress": 99, "status": "failed", "error": "out of memory"});
            relay.report(&format!("job-{job}"), &end).await;
        }
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.close_code().await, 1000);
            let progress: Vec<u64> = subscriber
                .states
                .iter()
                .map(|state| state["progress"].as_u64().unwrap())
                .collect();
            assert_eq!(progress, [1, 2, 3, 4, 5, 5], "a failure keeps its progress");
            // Before the first report, the relay could not know the jobs while ComfyUI is unreachable.
            let errors = &mut subscriber.errors;
            errors.retain(|error| error["code"] != "backend_unreachable");
            assert_eq!(errors.len(), 1, "{errors:?}");
        }
    }
}

/// One socket subscribes to all jobs, and no state is written into the middle of another.
#[tokio::test(flavor = "multi_thread")]
async fn one_socket_may_follow_a_hundred_jobs_that_change_at_once() {
    for relay in relays().await {
        let mut subscriber = relay.subscribe("job-0").await;
        for job in 1..100 {
            let message = json!({"type": "subscribe", "job_id": format!("job-{job}")});
            subscriber.send(&message.to_string()).await;
        }
        subscriber.ping().await;
        for progress in [10, 20] {
            for job in 0..100 {
                relay
                    .report(&format!("job-{job}"), &state(progress, ""))
                    .await;
            }
        }
        for job in 0..100 {
            let end = json!({"progress": 99, "status": "completed"});
            relay.report(&format!("job-{job}"), &end).await;
        }
        assert_eq!(subscriber.close_code().await, 1000);
        assert_eq!(subscriber.states.len(), 300);
    }
}

/// Subscribers that stay receive every state, and no trace of the others is left.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_that_connect_and_leave_at_once_disturb_no_other() {
    const MANY: usize = 500;
    for relay in relays().await {
        let mut neighbour = relay.subscribe("job").await;
        for progress in 1..=4 {
            let address = relay.address();
            let connecting = (0..MANY).map(|_| RawClient::connect(&address, "/ws/job", ""));
            let others = futures_util::future::join_all(connecting).await;
            relay.report("job", &state(progress, "")).await;
            drop(others);
        }
        relay
            .report("job", &json!({"progress": 99, "status": "completed"}))
            .await;
        assert_eq!(neighbour.close_code().await, 1000);
        assert_eq!(neighbour.states.len(), 5);
        let mut monitor = relay.monitor().await;
        monitor
            .receive_until(|status| status["websockets"]["total_connections"] == 0)
            .await;
    }
}
