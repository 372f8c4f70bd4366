//! Servers that are added while the relay runs are only where the settings allow them to be, and for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::storage::lifecycle;
use crate::support::database::TestDatabase;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;

const BACKENDS: &str = "/api/anime/backends";

async fn relay_within(networks: &[&str], mut settings: Settings) -> TestRelay {
    let networks = networks.iter().map(|text| text.parse().unwrap());
    settings.comfy.networks = networks.collect();
    TestRelay::without_backend(settings).await
}

/// A server on loopback that counts its connections, and answers each request with a redirect to an address, or not at all.
async fn counting(location: Option<String>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4_096]).await;
            if let Some(location) = &location {
                let answer = format!(
                    "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (port, count)
}

/// What the health says of the server with this name.
async fn reason(relay: &TestRelay, name: &str) -> String {
    let (_, health) = relay.get("/api/anime/health").await;
    let mut backends = health["components"]["comfyui"].as_array().unwrap().iter();
    let backend = backends.find(|it| it["name"] == name);
    let reason = backend.and_then(|it| it["reason"].as_str());
    reason.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_added_unless_the_settings_name_networks() {
    let relay = relay_within(&[], Settings::default()).await;
    let body = json!({"name": "gpu9", "url": "http://127.0.0.1:8188"});
    let (status, answer) = relay.post(BACKENDS, &body).await;
    assert_eq!(status, 403, "{answer}");
    assert_eq!(answer["error"]["code"], "adding_off", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("BACKEND_NETWORKS"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_outside_of_the_networks_is_refused_however_it_is_written() {
    let (port, count) = counting(None).await;
    for networks in [&["10.0.0.0/8"][..], &["0.0.0.0/0", "::/0"]] {
        let relay = relay_within(networks, Settings::default()).await;
        for host in [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0.0.0.0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::]",
            "169.254.169.254",
            "[::ffff:169.254.169.254]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[64:ff9b::a9fe:a9fe]",
        ] {
            let body = json!({"name": "gpu9", "url": format!("http://{host}:{port}")});
            let (status, answer) = relay.post(BACKENDS, &body).await;
            assert_eq!(status, 403, "{host}: {answer}");
            assert_eq!(
                answer["error"]["code"], "address_not_allowed",
                "{host}: {answer}"
            );
        }
        let (_, backends) = relay.get(BACKENDS).await;
        assert_eq!(backends["backends"].as_array().unwrap().len(), 1);
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "nothing was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_later_leads_nowhere() {
    let db = TestDatabase::sqlite().await;
    let (port, count) = counting(None).await;
    let (other_port, _) = counting(None).await;
    let settings = || lifecycle::settings(db.config());
    let relay = relay_within(&["127.0.0.0/8", "::1/128"], settings()).await;
    for (name, host, port) in [
        ("named", "localhost", port),
        ("literal", "127.0.0.1", other_port),
    ] {
        let body = json!({"name": name, "url": format!("http://{host}:{port}")});
        let (status, answer) = relay.post(BACKENDS, &body).await;
        assert_eq!(status, 201, "{answer}");
    }
    wait_until("it is dialled", async || count.load(Ordering::SeqCst) > 0).await;
    relay.stop().await;
    let before = count.load(Ordering::SeqCst);
    // As if the name led somewhere else now: what was right when it was added is not right any more.
    let relay = relay_within(&["10.0.0.0/8"], settings()).await;
    wait_until("it says why it is not dialled", async || {
        reason(&relay, "named")
            .await
            .contains("in none of the networks")
    })
    .await;
    // HTTP requests go no other way.
    let body = json!({"job_id": "seen", "prompt_id": "a726a52d-e53a-47f1-9d78-947d87120a3c", "backend": "named"});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(count.load(Ordering::SeqCst), before, "nothing was dialled");
    let (_, backends) = relay.get(BACKENDS).await;
    let mut backends = backends["backends"].as_array().unwrap().iter();
    assert!(
        backends.all(|it| it["name"] != "literal"),
        "it cannot be followed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_out_of_the_networks_is_not_followed() {
    let (target, reached) = counting(None).await;
    let location = format!("http://127.0.0.1:{target}/ws");
    let (port, _) = counting(Some(location)).await;
    let relay = relay_within(&["127.0.0.0/8"], Settings::default()).await;
    let body = json!({"name": "gpu9", "url": format!("http://127.0.0.1:{port}")});
    let (status, answer) = relay.post(BACKENDS, &body).await;
    assert_eq!(status, 201, "{answer}");
    wait_until("it says what came instead", async || {
        reason(&relay, "gpu9")
            .await
            .contains("redirects are not followed")
    })
    .await;
    let body = json!({"prompt_id": "a726a52d-e53a-47f1-9d78-947d87120a3c", "backend": "gpu9"});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert!(status >= 500, "{answer}");
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_added_and_removed_by_operators_alone() {
    let (port, _) = counting(None).await;
    let relay = relay_within(&["127.0.0.0/8"], guarded().into()).await;
    let body = json!({"name": "gpu9", "url": format!("http://127.0.0.1:{port}")});
    let other = token(&json!({"scope": "subscribe submit progress cancel monitor"}));
    let operator = token(&json!({"scope": "operate monitor"}));
    let send = async |token: &str, method: Method, path: &str| -> (u16, Value) {
        let request = relay.request_as(token, method, path).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    let one = format!("{BACKENDS}/gpu9");
    assert_eq!(send(&other, Method::POST, BACKENDS).await.0, 403);
    assert_eq!(send(&other, Method::DELETE, &one).await.0, 403);
    assert_eq!(relay.post(BACKENDS, &body).await.0, 401);
    let (status, answer) = send(&operator, Method::POST, BACKENDS).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(send(&other, Method::DELETE, &one).await.0, 403);
    let (status, answer) = send(&operator, Method::DELETE, &one).await;
    assert_eq!(status, 202, "{answer}");
}
