//! Clients that take their time, so that others get none.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::test_relay::TestRelay;
use crate::support::wait::PATIENCE;

/// Short, because what it guards against is made to happen.
const SHORT: Duration = Duration::from_millis(300);

/// The pause of a slow client after each byte, of which many go into [`SHORT`].
const DRIP: Duration = Duration::from_millis(10);

async fn impatient() -> TestRelay {
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

/// All that comes before the relay ends the connection.
async fn heard(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let heard = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    // A connection may be reset when all was heard.
    let _ = heard.expect("the relay holds on to the connection");
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_is_cut_off() {
    let relay = impatient().await;
    let mut stream = connect(&relay).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    let told = heard(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{told}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "head_timeout");

    // Signs of life between do not help.
    let (mut reading, mut writing) = connect(&relay).await.into_split();
    let dripping = tokio::spawn(async move {
        for byte in b"x-slow: x\r\n".iter().cycle() {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(DRIP).await;
        }
    });
    let mut told = Vec::new();
    let _ = timeout(PATIENCE, reading.read_to_end(&mut told))
        .await
        .unwrap();
    dripping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let relay = impatient().await;
    let mut stream = connect(&relay).await;
    assert_eq!(heard(&mut stream).await, "");
    // The same between two requests.
    let mut stream = connect(&relay).await;
    let request = "GET /api/anime/health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let told = heard(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert_eq!(told.matches("HTTP/1.1").count(), 1, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_end_is_cut_off() {
    let relay = impatient().await;
    let mut stream = connect(&relay).await;
    let head = "POST /api/anime/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut told = Vec::new();
    // Until the relay has answered, and ends the connection.
    let hearing = async {
        let _ = timeout(PATIENCE, reading.read_to_end(&mut told))
            .await
            .unwrap();
    };
    tokio::select! {
        () = hearing => {}
        () = async {
            while writing.write_all(b" ").await.is_ok() {
                sleep(DRIP).await;
            }
            std::future::pending().await
        } => {}
    }
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    assert!(told.contains("body_timeout"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_long_is_refused() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let mut stream = connect(&relay).await;
    let head = format!("GET / HTTP/1.1\r\nx-long: {}", "x".repeat(1 << 20));
    // The relay may end the connection before it was given all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let told = heard(&mut stream).await;
    assert!(
        told.is_empty() || told.starts_with("HTTP/1.1 431"),
        "{told}"
    );
    let mut stream = connect(&relay).await;
    let head = format!(
        "GET / HTTP/1.1\r\nx-long: {}\r\nconnection: close\r\n\r\n",
        "x".repeat(30_000)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(heard(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_in_nobodys_way() {
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
async fn a_socket_is_not_held_to_the_times_of_requests() {
    let relay = impatient().await;
    let mut subscriber = relay.subscribe("job").await;
    // Others that come later are cut off meanwhile.
    for _ in 0..2 {
        assert_eq!(heard(&mut connect(&relay).await).await, "");
    }
    subscriber.ping().await;
}
