//! Limits for one client and for all.

use comfy_relay::config::{LimitConfig, ServerConfig};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{guarded, refusal, token, upgrade};
use crate::support::wait::PATIENCE;

const HEALTH: &str = "/api/anime/health";

/// No limits but those that a test adds; loopback counts like any address.
fn no_limits() -> LimitConfig {
    LimitConfig {
        requests: 0,
        attempts: 0,
        connections: 0,
        connections_per_address: 0,
        loopback: true,
    }
}

fn with(limits: LimitConfig) -> ServerConfig {
    ServerConfig {
        limits,
        ..ServerConfig::default()
    }
}

/// Requests the health on a new connection; the whole answer.
async fn ask(relay: &TestRelay) -> String {
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    let request = format!("GET {HEALTH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

/// Repeats a request until the relay refuses it; how often it was served before.
async fn ask_until_refused(ask: impl AsyncFn() -> (u16, Option<u64>, Value)) -> u32 {
    for served in 0.. {
        let (status, retry_after, answer) = ask().await;
        if status != 429 {
            assert_ne!(status, 401);
            continue;
        }
        assert_eq!(answer["error"]["code"], "too_many_requests");
        assert_eq!(retry_after, Some(1), "{answer}");
        return served;
    }
    unreachable!()
}

async fn get(relay: &TestRelay, path: &str, token: Option<&str>) -> (u16, Option<u64>, Value) {
    let mut request = relay.request(Method::GET, path);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.map(|after| after.to_str().unwrap().parse().unwrap());
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (
        status,
        retry_after,
        serde_json::from_str(&text).unwrap_or_default(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_refused_with_retry_after() {
    let limits = LimitConfig {
        requests: 5,
        ..no_limits()
    };
    let relay = TestRelay::without_backend(with(limits)).await;
    let served = ask_until_refused(async || get(&relay, HEALTH, None).await).await;
    // On a slow machine the limit has grown meanwhile.
    assert!(served >= 5, "{served}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_subject_is_counted_separately() {
    let mut server = guarded();
    server.limits = LimitConfig {
        requests: 20,
        ..no_limits()
    };
    server.access.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let relay = TestRelay::without_backend(server).await;
    let path = "/api/anime/jobs/unknown/preview";
    let (ada, eve) = (token(&json!({"sub": "ada"})), token(&json!({"sub": "eve"})));
    // Each request has another address, so that only the subject is limited.
    let ask = async |number: u32, token: &str| {
        let address = std::net::Ipv4Addr::from_bits((10 << 24) + number);
        let request = relay.request_as(token, Method::GET, path);
        let request = request.header("x-forwarded-for", address.to_string());
        request.send().await.unwrap().status().as_u16()
    };
    let mut served = 0;
    while ask(served, &ada).await != 429 {
        served += 1;
        assert!(served < 100_000, "ada is not limited");
    }
    assert!(served >= 20, "{served}");
    assert_eq!(ask(served + 1, &eve).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_a_second_are_refused_with_retry_after() {
    let limits = LimitConfig {
        attempts: 3,
        ..no_limits()
    };
    let relay = TestRelay::without_backend(with(limits)).await;
    let mut served = 0;
    let refused = loop {
        let answer = ask(&relay).await;
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
        served += 1;
    };
    assert!(served >= 3, "{served}");
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    let lower = refused.to_ascii_lowercase();
    assert!(lower.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(lower.contains("\r\nconnection: close\r\n"), "{refused}");
    assert!(refused.contains("too_many_requests"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_than_there_are_places() {
    for (limits, message) in [
        (
            LimitConfig {
                connections: 2,
                ..no_limits()
            },
            "too many open connections",
        ),
        (
            LimitConfig {
                connections_per_address: 2,
                ..no_limits()
            },
            "this address",
        ),
    ] {
        let relay = TestRelay::without_backend(with(limits)).await;
        let first = relay.subscribe("one").await;
        let mut second = relay.subscribe("two").await;
        let third = upgrade(&relay.socket_url("/ws/three"), &[]);
        assert_eq!(
            refusal(third).await,
            ("too_many_connections".to_owned(), 1013)
        );
        let answer = ask(&relay).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.to_ascii_lowercase().contains("\r\nretry-after: "),
            "{answer}"
        );
        assert!(answer.contains(message), "{answer}");
        // Open connections are not affected.
        second.ping().await;
        drop(first);
        while ask(&relay).await.starts_with("HTTP/1.1 503") {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permits_are_released_however_a_socket_ends() {
    let mut server = guarded();
    server.limits = LimitConfig {
        connections: 1,
        ..no_limits()
    };
    let relay = TestRelay::without_backend(server).await;
    let url = relay.socket_url("/ws/job");
    let good = format!("{url}?token={}", token(&json!({})));
    for _ in 0..5 {
        // Refused, closed, and disconnected.
        loop {
            let (code, _) = refusal(upgrade(&url, &[])).await;
            if code != "too_many_connections" {
                assert_eq!(code, "unauthenticated");
                break;
            }
        }
        loop {
            let mut subscriber = Subscriber::connect(good.as_str()).await;
            subscriber.receive().await;
            if subscriber.try_ping().await {
                break;
            }
        }
        drop(TcpStream::connect(relay.address()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_not_limited_by_default() {
    let limits = LimitConfig {
        requests: 1,
        attempts: 1,
        connections: 0,
        connections_per_address: 1,
        loopback: false,
    };
    let relay = TestRelay::without_backend(with(limits)).await;
    let _one = relay.subscribe("one").await;
    let _two = relay.subscribe("two").await;
    for _ in 0..50 {
        let report = json!({"progress": 10, "status": "processing"});
        let request = relay.request(Method::POST, "/api/anime/jobs/job/progress");
        assert_eq!(response(request.json(&report)).await.0, 202);
    }
}
