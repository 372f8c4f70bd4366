//! Clients behind a proxy that knows nothing of the relay.

use comfy_relay::config::ServerConfig;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::scripted_at;
use crate::support::nginx::{Nginx, free_port};
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::wait::PATIENCE;

/// A configuration that says nothing of buffers, and compresses.
const NGINX: &str = include_str!("cases/events-behind-nginx.conf");

/// A submission as a TLS proxy passes it on.
const BEHIND_TLS: &str = include_str!("cases/ws-url-behind-tls.txt");

/// Reads an event stream until it has shown a progress.
async fn shows(url: &str, client: Client, progress: u64) {
    let wanted = format!("\"progress\":{progress},");
    let reading = async {
        let mut events = client.get(url).send().await.unwrap();
        let mut text = String::new();
        while !text.contains(&wanted) {
            let chunk = events.chunk().await.unwrap().unwrap();
            text += &String::from_utf8_lossy(&chunk);
        }
    };
    let read = timeout(PATIENCE / 4, reading).await;
    assert!(read.is_ok(), "{url} shows nothing");
}

/// Nothing follows the state that would push it through a buffer.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_passes_each_event_on_at_once() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    relay
        .report("mine", &json!({"progress": 7, "status": "processing"}))
        .await;
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("c.pem"), cert.pem()).unwrap();
    std::fs::write(folder.path().join("k.pem"), signing_key.serialize_pem()).unwrap();
    let (encrypted, plain) = (free_port(), free_port());
    let http = NGINX
        .replace("DIR", folder.path().to_str().unwrap())
        .replace("127.0.0.1:18443", &format!("127.0.0.1:{encrypted}"))
        .replace("127.0.0.1:18080", &format!("127.0.0.1:{plain}"))
        .replace("127.0.0.1:18328", &relay.address());
    let Some(_nginx) = Nginx::start(folder, plain, &http).await else {
        return;
    };
    let client = || {
        let certificate = Certificate::from_der(cert.der()).unwrap();
        let client = Client::builder().no_proxy();
        client.add_root_certificate(certificate).build().unwrap()
    };
    for address in [
        format!("https://localhost:{encrypted}"),
        format!("http://127.0.0.1:{plain}"),
        format!("http://127.0.0.1:{plain}/relay"),
    ] {
        let url = format!("{address}/api/anime/jobs/mine/events");
        shows(&url, client(), 7).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_that_the_page_is_encrypted() {
    let (head, body) = BEHIND_TLS.split_once("\n\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    for (trusted, scheme) in [(&["127.0.0.1/32"][..], "wss"), (&[], "ws")] {
        let mut server = ServerConfig::default();
        server.access.trusted_proxies = trusted.iter().map(|it| it.parse().unwrap()).collect();
        let (_comfyui, relay) = scripted_at(Settings::from(server)).await;
        let mut request = relay.request(Method::POST, super::JOBS).json(&body);
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            if name.starts_with("X-Forwarded") {
                request = request.header(name, value);
            }
        }
        let (status, answer) = response(request).await;
        assert_eq!(status, 201, "{answer}");
        let url = format!("{scheme}://{}/ws/x1", relay.address());
        assert_eq!(answer["ws_url"], url);
    }
}
