//! Slow clients that try to use up the relay (Slowloris).

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::test_relay::TestRelay;
use crate::support::wait::PATIENCE;

/// Short, because the tests wait for it.
const SHORT: Duration = Duration::from_millis(300);

/// The pause of a slow client after each byte, much shorter than [`SHORT`].
const DRIP: Duration = Duration::from_millis(10);

async fn relay_with_short_timeouts() -> TestRelay {
    TestRelay::without_backend(ServerConfig {
        head_timeout: SHORT,
        body_timeout: SHORT,
        ..ServerConfig::default()
    })
    .await
}

async fn connect(relay: &TestRelay) -> TcpStream {
    TcpStream::connect(relay.address()).await.unwrap()
}

/// Everything that is received before the relay closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    // The connection may be reset at the end.
    let _ = read.expect("the relay does not close the connection");
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_head_without_an_end_times_out() {
    let relay = relay_with_short_timeouts().await;
    let mut stream = connect(&relay).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{answer}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "head_timeout");

    // Single bytes in between do not help.
    let (mut reading, mut writing) = connect(&relay).await.into_split();
    let dripping = tokio::spawn(async move {
        for byte in b"x-slow: x\r\n".iter().cycle() {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(DRIP).await;
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, reading.read_to_end(&mut answer))
        .await
        .unwrap();
    dripping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_without_an_answer() {
    let relay = relay_with_short_timeouts().await;
    let mut stream = connect(&relay).await;
    assert_eq!(read_to_end(&mut stream).await, "");
    // The same between two requests.
    let mut stream = connect(&relay).await;
    let request = "GET /api/anime/health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_without_an_end_times_out() {
    let relay = relay_with_short_timeouts().await;
    let mut stream = connect(&relay).await;
    let head = "POST /api/anime/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    // Until the relay has answered and closes the connection.
    let receiving = async {
        let _ = timeout(PATIENCE, reading.read_to_end(&mut answer))
            .await
            .unwrap();
    };
    tokio::select! {
        () = receiving => {}
        () = async {
            while writing.write_all(b" ").await.is_ok() {
                sleep(DRIP).await;
            }
            std::future::pending().await
        } => {}
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("body_timeout"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_head_that_is_too_long_is_refused() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let mut stream = connect(&relay).await;
    let head = format!("GET / HTTP/1.1\r\nx-long: {}", "x".repeat(1 << 20));
    // The relay may close the connection before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    let mut stream = connect(&relay).await;
    let head = format!(
        "GET / HTTP/1.1\r\nx-long: {}\r\nconnection: close\r\n\r\n",
        "x".repeat(30_000)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_delay_no_other() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(&relay).await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(relay.get("/api/anime/health").await.0, 200);
    let mut subscriber = relay.subscribe("job").await;
    subscriber.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeouts_of_requests_do_not_apply_to_sockets() {
    let relay = relay_with_short_timeouts().await;
    let mut subscriber = relay.subscribe("job").await;
    // Later connections time out meanwhile.
    for _ in 0..2 {
        assert_eq!(read_to_end(&mut connect(&relay).await).await, "");
    }
    subscriber.ping().await;
}
