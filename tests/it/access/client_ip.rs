//! Clients behind a reverse proxy.

use comfy_relay::config::{LimitConfig, ServerConfig};
use reqwest::Method;

use crate::support::subscriber::Subscriber;
use crate::support::test_relay::TestRelay;
use crate::support::tokens::{refusal, upgrade};

/// A relay that is reached through a proxy on its own machine, with these limits.
async fn behind_a_proxy(limits: LimitConfig, trusted: &[&str]) -> TestRelay {
    let mut server = ServerConfig {
        limits,
        ..ServerConfig::default()
    };
    server.access.trusted_proxies = trusted.iter().map(|net| net.parse().unwrap()).collect();
    TestRelay::without_backend(server).await
}

const ONE_REQUEST: LimitConfig = LimitConfig {
    requests: 1,
    attempts: 0,
    connections: 0,
    connections_per_address: 0,
    loopback: false,
};

async fn status(relay: &TestRelay, header: &str, value: &str) -> u16 {
    let request = relay.request(Method::GET, "/api/anime/health");
    let response = request.header(header, value).send().await.unwrap();
    response.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_behind_a_trusted_proxy_is_counted_separately() {
    let relay = behind_a_proxy(ONE_REQUEST, &["127.0.0.0/8"]).await;
    for header in ["x-forwarded-for", "forwarded"] {
        let value = |address: &str| match header {
            "forwarded" => format!("for=\"{address}\";proto=https"),
            _ => address.to_owned(),
        };
        let network = if header == "forwarded" { 1 } else { 2 };
        for client in [
            format!("192.0.2.{network}"),
            format!("[2001:db8:{network}::1]"),
        ] {
            // One request a second is allowed; a second may have passed meanwhile.
            let mut asked = 0;
            while status(&relay, header, &value(&client)).await != 429 {
                asked += 1;
                assert!(asked < 1_000, "{client} is not limited");
            }
            assert!(asked > 0, "{client}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_pretend_to_be_many() {
    let relay = behind_a_proxy(ONE_REQUEST, &["127.0.0.0/8", "10.0.0.0/8"]).await;
    let mut refused = false;
    for number in 0..200 {
        // The left part was sent by the client; the proxies added the rest.
        let value = format!("203.0.113.{number}, 192.0.2.1, 10.0.0.7");
        refused |= status(&relay, "x-forwarded-for", &value).await == 429;
    }
    assert!(refused, "each made-up address was counted by itself");
    // Other addresses of the same network are the same client.
    let mut refused = false;
    for number in 0..200 {
        let value = format!("2001:db8::{number:x}");
        refused |= status(&relay, "x-forwarded-for", &value).await == 429;
    }
    assert!(refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_untrusted_proxies_are_ignored() {
    let relay = behind_a_proxy(ONE_REQUEST, &["10.0.0.0/8"]).await;
    for _ in 0..50 {
        // Loopback is not limited, and may not speak for another address.
        assert_eq!(status(&relay, "x-forwarded-for", "192.0.2.1").await, 200);
        assert_eq!(status(&relay, "forwarded", "for=192.0.2.1").await, 200);
    }
    let url = relay.socket_url("/ws/job");
    let request = upgrade(&url, &[("x-forwarded-for", "192.0.2.1")]);
    let mut subscriber = Subscriber::connect(request).await;
    subscriber.receive().await;
    let (_, sockets) = relay.get("/api/anime/websocket/status").await;
    let detail = &sockets["connections"]["connection_details"]["job"]["connections"][0];
    assert_eq!(detail["user_info"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_a_client_are_counted_through_the_proxy() {
    let limits = LimitConfig {
        requests: 0,
        connections_per_address: 2,
        ..ONE_REQUEST
    };
    let relay = behind_a_proxy(limits, &["127.0.0.1/32"]).await;
    let url = relay.socket_url("/ws/job");
    let from = |address: &str| upgrade(&url, &[("x-forwarded-for", address)]);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut subscriber = Subscriber::connect(from("192.0.2.1")).await;
        subscriber.receive().await;
        held.push(subscriber);
    }
    assert_eq!(
        refusal(from("192.0.2.1")).await,
        ("too_many_connections".to_owned(), 1013)
    );
    let stream = relay.request(Method::GET, "/api/anime/jobs/job/events");
    let stream = stream
        .header("x-forwarded-for", "192.0.2.1")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 503);
    let mut other = Subscriber::connect(from("192.0.2.2")).await;
    other.receive().await;
    let (_, sockets) = relay.get("/api/anime/websocket/status").await;
    let details = sockets["connections"]["connection_details"]["job"].to_string();
    assert!(
        details.contains("192.0.2.1") && details.contains("192.0.2.2"),
        "{details}"
    );
    // Released permits can be acquired again.
    held.clear();
    loop {
        let mut subscriber = Subscriber::connect(from("192.0.2.1")).await;
        subscriber.receive().await;
        if subscriber.try_ping().await {
            break;
        }
    }
}
