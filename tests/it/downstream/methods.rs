//! What HTTP clients may expect of every route: methods, slashes at the end, compression, helpful answers.

use std::io::Read;

use flate2::read::GzDecoder;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::{Settings, TestRelay};

const JOBS: &str = "/api/anime/jobs";

async fn send(relay: &TestRelay, method: Method, path: &str) -> Response {
    relay.request(method, path).send().await.unwrap()
}

/// A relay with a job that has not ended.
async fn with_a_job() -> TestRelay {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let report = json!({"progress": 5, "status": "processing"});
    relay.report("render", &report).await;
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_like_get_without_a_body() {
    let relay = with_a_job().await;
    for path in [
        "/",
        "/web/relay.js",
        "/favicon.ico",
        "/websocket_test_client.html",
        "/metrics",
        "/api/anime/health",
        "/api/anime/websocket/status",
        JOBS,
        "/api/anime/jobs/render",
        "/api/anime/jobs/render/events",
        "/api/anime/jobs/render/estimate",
        "/api/anime/jobs/unknown/preview",
        "/ws/render",
    ] {
        let head = send(&relay, Method::HEAD, path).await;
        let get = send(&relay, Method::GET, path).await;
        assert_eq!(head.status(), get.status(), "{path}");
        let kind = |response: &Response| response.headers()["content-type"].clone();
        assert_eq!(kind(&head), kind(&get), "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slashes_at_the_end_make_no_difference() {
    let relay = with_a_job().await;
    for path in [
        "/api/anime/jobs/",
        "/api/anime/jobs/render/",
        "/api/anime/health//",
        "/metrics/",
    ] {
        let answer = send(&relay, Method::GET, path).await;
        assert_eq!(answer.status(), 200, "{path}");
    }
    let mut subscriber = relay.connect("/ws/render/").await;
    let state = subscriber.receive_type("progress").await;
    assert_eq!(state["job_id"], "render");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_lists_the_methods_of_a_route() {
    let relay = with_a_job().await;
    for (path, methods) in [
        (JOBS, "GET, HEAD, POST, OPTIONS"),
        ("/api/anime/jobs/render/cancel", "POST, OPTIONS"),
        ("/api/anime/health", "GET, HEAD, OPTIONS"),
        ("/ws/render", "GET, HEAD, OPTIONS"),
    ] {
        let answer = send(&relay, Method::OPTIONS, path).await;
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(answer.headers()["allow"], methods);
    }
    let answer = send(&relay, Method::OPTIONS, "/nothing").await;
    assert_eq!(answer.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_compressed_for_clients_that_accept_it() {
    let relay = with_a_job().await;
    for number in 0..20 {
        let report = json!({"progress": 5, "status": "queued"});
        relay.report(&format!("render-{number}"), &report).await;
    }
    let list = |accept: &'static str| {
        let request = relay.request(Method::GET, JOBS);
        request.header("accept-encoding", accept).send()
    };
    let plain = list("identity").await.unwrap();
    assert_eq!(plain.headers().get("content-encoding"), None);
    let plain: Value = plain.json().await.unwrap();
    let compressed = list("gzip, br").await.unwrap();
    assert_eq!(compressed.headers()["content-encoding"], "gzip");
    let vary = compressed.headers().get_all("vary").iter();
    assert!(vary.into_iter().any(|it| it == "Accept-Encoding"));
    let bytes = compressed.bytes().await.unwrap();
    let mut text = String::new();
    GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(bytes.len() < text.len() / 3);
    let unpacked: Value = serde_json::from_str(&text).unwrap();
    let ids = |page: &Value| -> Vec<Value> {
        let jobs = page["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["job_id"].clone()).collect()
    };
    assert_eq!(ids(&unpacked), ids(&plain));
    assert_eq!(ids(&plain).len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_may_ask_for_several_statuses() {
    let relay = with_a_job().await;
    for (job, status) in [("a", "completed"), ("b", "failed"), ("c", "cancelled")] {
        relay
            .report(job, &json!({"progress": 9, "status": status}))
            .await;
    }
    for (query, jobs) in [
        ("status=completed,failed", ["b", "a"].as_slice()),
        ("status=completed&status=cancelled", &["c", "a"]),
        ("status=processing", &["render"]),
        ("status=queued", &[]),
        ("status=", &["c", "b", "a", "render"]),
    ] {
        let (_, page) = relay.get(&format!("{JOBS}?{query}")).await;
        let found = page["jobs"].as_array().unwrap().iter();
        let found: Vec<&str> = found.map(|job| job["job_id"].as_str().unwrap()).collect();
        assert_eq!(found, jobs, "{query}");
    }
    let (status, answer) = relay.get(&format!("{JOBS}?status=failed,odd")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("bad_status"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_graph_is_submitted_as_one() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let graph = workflow(TXT2IMG).await;
    let (status, answer) = relay.post(JOBS, &graph).await;
    assert_eq!(status, 201, "{answer}");
    let job = answer["job_id"].as_str().unwrap();
    relay.subscribe(job).await.ends_as("completed").await;

    let editor = json!({"nodes": [], "links": [], "version": 0.4});
    let (_, answer) = relay.post(JOBS, &editor).await;
    assert_eq!(answer["error"]["code"], "editor_format");
    // The body of ComfyUI's own route is submitted, too; anything else is answered with what to send.
    let own = json!({"prompt": graph, "client_id": "x"});
    let (status, answer) = relay.post(JOBS, &own).await;
    assert_eq!(status, 201, "{answer}");
    let (status, answer) = relay.post(JOBS, &json!({"graph": {}})).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("bad_job")));
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(r#"{"workflow": GRAPH}"#), "{message}");
}
