//! Many subscribers, slow ones, and those that want their messages compressed.

use std::time::Duration;

use comfy_relay::config::{RelayConfig, ServerConfig};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::raw_client::{RawClient, deflate, piece};
use crate::support::test_relay::{Settings, TestRelay};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// One with io_uring, where the kernel has it, and one without.
async fn worlds() -> [TestRelay; 2] {
    let world = async |io_uring| {
        let server = ServerConfig {
            io_uring,
            ..ServerConfig::default()
        };
        let settings = Settings::default();
        // States are counted: none may come only because nothing has changed for a while.
        let relay = RelayConfig {
            heartbeat: Duration::from_secs(3_600),
            ..settings.relay
        };
        let settings = Settings {
            server,
            relay,
            ..settings
        };
        TestRelay::without_comfyui("http://127.0.0.1:1", settings).await
    };
    [world(true).await, world(false).await]
}

async fn report(world: &TestRelay, job: &str, report: Value) {
    let path = format!("/api/anime/jobs/{job}/progress");
    let (status, answer) = world.post(&path, &report).await;
    assert_eq!(status, 202, "{answer}");
}

fn state(progress: u64, message: &str) -> Value {
    json!({"progress": progress, "status": "processing", "message": message})
}

fn is_state(progress: u64) -> impl Fn(&Value) -> bool {
    move |message| message["type"] == "progress" && message["progress"] == progress
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_it_gets_the_same_messages_compressed() {
    for world in worlds().await {
        let long = "a long way to go, ".repeat(20);
        report(&world, "job", state(1, &long)).await;
        let address = world.address();
        let mut small = RawClient::connect(&address, "/ws/job", DEFLATE).await;
        let mut plain = RawClient::connect(&address, "/ws/job", "").await;
        assert!(small.head.contains("server_no_context_takeover"));
        assert!(!plain.head.to_lowercase().contains("extensions"));
        for progress in 1..5 {
            if progress > 1 {
                report(&world, "job", state(progress, &long)).await;
            }
            let (compressed, said) = small.text_until(is_state(progress)).await;
            let (whole, same) = plain.text_until(is_state(progress)).await;
            assert_eq!(said, same);
            assert!(compressed.header.rsv1 && !whole.header.rsv1);
            assert!(compressed.payload.len() * 2 < whole.payload.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_of_clients_are_understood() {
    let [world, _] = worlds().await;
    let mut wire = RawClient::connect(&world.address(), "/ws/a", DEFLATE).await;
    let text = OpCode::Data(Data::Text);
    let compressed = deflate(br#"{"type": "subscribe", "job_id": "b"}"#);
    let (begin, end) = compressed.split_at(10);
    wire.send(&piece(text, begin, false, true)).await;
    wire.send(&piece(OpCode::Data(Data::Continue), end, true, false))
        .await;
    wire.send(&piece(text, br#"{"type": "ping"}"#, true, false))
        .await;
    wire.text_until(|message| message["type"] == "pong").await;
    report(&world, "b", state(7, "")).await;
    let (frame, message) = wire.text_until(is_state(7)).await;
    assert_eq!(message["job_id"], "b");
    assert!(frame.header.rsv1 || frame.payload.len() < 200);
}

/// The slow one costs one frame, holds up nobody, and gets the newest state when it reads again.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_skips_states_and_gets_the_newest_and_the_end() {
    for world in worlds().await {
        let mut slow = RawClient::narrow(&world.address(), "/ws/job").await;
        let mut quick = world.subscribe("/ws/job").await;
        let huge = "x".repeat(1 << 20);
        for progress in 1..=20 {
            report(
                &world,
                "job",
                json!({"progress": progress, "status": "processing", "output_path": huge}),
            )
            .await;
            quick.hear_until(is_state(progress)).await;
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
        report(
            &world,
            "job",
            json!({"progress": 21, "status": "completed", "output_path": huge}),
        )
        .await;
        let (_, last) = slow
            .text_until(|message| message["status"] == "completed")
            .await;
        assert_eq!(last["progress"], 100);
        assert_eq!(slow.closed_with().await, 1000);
        assert_eq!(quick.hear_out().await, 1000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_at_all_is_given_up_in_time() {
    let server = ServerConfig {
        ping_interval: Duration::from_millis(50),
        connection_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    };
    let settings = Settings {
        server,
        ..Settings::default()
    };
    let world = TestRelay::without_comfyui("http://127.0.0.1:1", settings).await;
    let mut monitor = world.subscribe("/ws/monitor").await;
    let _unread = RawClient::narrow(&world.address(), "/ws/job").await;
    let huge = json!({"progress": 5, "status": "processing", "output_path": "x".repeat(8 << 20)});
    report(&world, "job", huge).await;
    monitor
        .hear_until(|status| status["websockets"]["total_connections"] == 0)
        .await;
}

/// A job with many subscribers is handed out in turns with others.
#[tokio::test(flavor = "multi_thread")]
async fn many_subscribers_of_many_jobs_all_get_every_state_in_order() {
    const JOBS: usize = 7;
    const EACH: usize = 100;
    for world in worlds().await {
        let mut subscribers = Vec::new();
        for number in 0..JOBS * EACH {
            let path = format!("/ws/job-{}", number % JOBS);
            subscribers.push(world.subscribe(&path).await);
        }
        for progress in 1..=5 {
            for job in 0..JOBS {
                report(&world, &format!("job-{job}"), state(progress, "")).await;
            }
        }
        for job in 0..JOBS {
            let end = json!({"progress": 99, "status": "failed", "error": "out of paint"});
            report(&world, &format!("job-{job}"), end).await;
        }
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.hear_out().await, 1000);
            let told: Vec<u64> = subscriber
                .states
                .iter()
                .map(|state| state["progress"].as_u64().unwrap())
                .collect();
            assert_eq!(told, [1, 2, 3, 4, 5, 5], "a failure gets no further");
            // Nobody could tell whether there are such jobs, before they were reported.
            let errors = &mut subscriber.errors;
            errors.retain(|error| error["code"] != "backend_unreachable");
            assert_eq!(errors.len(), 1, "{errors:?}");
        }
    }
}

/// One socket follows all jobs, and none of their states is written into the middle of another.
#[tokio::test(flavor = "multi_thread")]
async fn one_socket_may_follow_a_hundred_jobs_that_change_at_once() {
    for world in worlds().await {
        let mut subscriber = world.subscribe("/ws/job-0").await;
        for job in 1..100 {
            let message = json!({"type": "subscribe", "job_id": format!("job-{job}")});
            subscriber.send(&message.to_string()).await;
        }
        subscriber.send(r#"{"type": "ping"}"#).await;
        subscriber
            .hear_until(|message| message["type"] == "pong")
            .await;
        for progress in [10, 20] {
            for job in 0..100 {
                report(&world, &format!("job-{job}"), state(progress, "")).await;
            }
        }
        for job in 0..100 {
            let end = json!({"progress": 99, "status": "completed"});
            report(&world, &format!("job-{job}"), end).await;
        }
        assert_eq!(subscriber.hear_out().await, 1000);
        assert_eq!(subscriber.states.len(), 300);
    }
}

/// Those who stay get every state, and nothing is left of those who have gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_and_leaves_at_once_disturbs_nobody() {
    const CROWD: usize = 500;
    for world in worlds().await {
        let mut neighbour = world.subscribe("/ws/job").await;
        for progress in 1..=4 {
            let address = world.address();
            let coming = (0..CROWD).map(|_| RawClient::connect(&address, "/ws/job", ""));
            let crowd = futures_util::future::join_all(coming).await;
            report(&world, "job", state(progress, "")).await;
            drop(crowd);
        }
        report(
            &world,
            "job",
            json!({"progress": 99, "status": "completed"}),
        )
        .await;
        assert_eq!(neighbour.hear_out().await, 1000);
        assert_eq!(neighbour.states.len(), 5);
        let mut monitor = world.subscribe("/ws/monitor").await;
        monitor
            .hear_until(|status| status["websockets"]["total_connections"] == 0)
            .await;
    }
}
