//! Links in answers, for clients that reach the relay through a proxy.

use comfy_relay::config::ServerConfig;
use reqwest::Method;
use serde_json::json;

use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::{TestRelay, response};

/// What a proxy adds that serves the relay as `https://studio.example/relay/`.
const FORWARDED: [(&str, &str); 3] = [
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "studio.example"),
    ("x-forwarded-prefix", "/relay"),
];

/// The `ws_url` of a new job that is submitted at a path.
async fn ws_url(relay: &TestRelay, path: &str, headers: &[(&str, &str)]) -> String {
    let body = json!({"workflow": workflow(TXT2IMG).await});
    let mut request = relay.request(Method::POST, path).json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (status, answer) = response(request).await;
    assert_eq!(status, 201, "{answer}");
    let job = answer["job_id"].as_str().unwrap();
    let url = answer["ws_url"].as_str().unwrap();
    url.strip_suffix(&format!("/ws/{job}")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_url_is_the_address_that_the_client_has_used() {
    let jobs = "/api/anime/jobs";
    let mut server = ServerConfig::default();
    let relay = TestRelay::replaying_with(TXT2IMG, server.clone()).await;
    let own = format!("ws://{}", relay.address());
    assert_eq!(
        ws_url(&relay, jobs, &FORWARDED).await,
        own,
        "nobody is trusted"
    );

    server.access.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let relay = TestRelay::replaying_with(TXT2IMG, server.clone()).await;
    let own = format!("ws://{}", relay.address());
    let public = "wss://studio.example/relay";
    assert_eq!(ws_url(&relay, jobs, &[]).await, own);
    assert_eq!(ws_url(&relay, jobs, &FORWARDED).await, public);
    let prefixed = "/relay/api/anime/jobs";
    let url = ws_url(&relay, prefixed, &FORWARDED).await;
    assert_eq!(url, public, "the proxy may pass the prefix on");
    let forwarded = (
        "forwarded",
        "for=192.0.2.1;proto=https;host=\"studio.example:8443\"",
    );
    let url = ws_url(&relay, jobs, &[forwarded]).await;
    assert_eq!(url, "wss://studio.example:8443");

    let public_url = "https://other.example/x/".parse().unwrap();
    server.access.public_url = Some(public_url);
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let url = ws_url(&relay, "/x/api/anime/jobs", &FORWARDED).await;
    assert_eq!(url, "wss://other.example/x");
    let page = relay.request(Method::GET, "/x").send().await.unwrap();
    assert_eq!(
        page.url().path(),
        "/x/",
        "links of the page are relative to its slash"
    );
    assert_eq!(page.status(), 200);
}
