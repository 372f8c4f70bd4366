//! What keeps an event stream open, and how browsers tell its events apart.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use reqwest::{Method, Response};
use serde_json::json;
use tokio::time::timeout;

use crate::support::recordings::ERROR;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::PATIENCE;

/// Reads a stream until what has come holds a text.
async fn read_until(stream: &mut Response, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let next = timeout(PATIENCE, stream.chunk()).await;
        let bytes = next.unwrap_or_else(|_| panic!("{text:?} is not in {read:?}"));
        let bytes = bytes.unwrap().expect("the stream goes on");
        read.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    read
}

async fn open(relay: &TestRelay, path: &str) -> Response {
    let response = relay.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_carries_comments() {
    let server = ServerConfig {
        comment_interval: Duration::from_millis(10),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(Settings {
        server,
        ..Settings::without_heartbeat()
    })
    .await;
    let report = json!({"progress": 5, "status": "processing"});
    relay.report("render", &report).await;
    for path in ["/api/anime/jobs/render/events", "/api/anime/jobs/events"] {
        let mut stream = open(&relay, path).await;
        let read = read_until(&mut stream, "\n\n: still here\n\n: still here\n\n").await;
        // A browser opens it again after two seconds.
        assert!(read.starts_with("retry: 2000\ndata: {"), "{read}");
        assert!(!read.contains("event: "), "{read}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_names_of_their_messages_where_a_client_asks_for_them() {
    let relay = TestRelay::replaying(ERROR).await;
    let mut all = open(&relay, "/api/anime/jobs/events?names=1").await;
    let events = open(&relay, "/api/anime/jobs/job/events?names=1").await;
    relay.submit("job", ERROR).await;
    let text = events.text().await.unwrap();
    let mut names = Vec::new();
    for block in text.trim_end().split("\n\n") {
        if block.starts_with(':') {
            continue;
        }
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let data: serde_json::Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
        let name = field("event: ").unwrap();
        // A browser calls its own failures `error`.
        let of_type = match data["type"].as_str().unwrap() {
            "error" => "relay_error",
            name => name,
        };
        assert_eq!(name, of_type, "{block}");
        names.push(name.to_owned());
    }
    for name in ["connection", "progress", "relay_error"] {
        assert!(names.iter().any(|it| it == name), "{names:?}");
    }
    read_until(&mut all, "event: relay_error\ndata: {").await;
    let unknown = relay.get("/api/anime/jobs/job/events?names=perhaps").await;
    assert_eq!(
        (unknown.0, &unknown.1["error"]["code"]),
        (400, &json!("bad_query"))
    );
}
