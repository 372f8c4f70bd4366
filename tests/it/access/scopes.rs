//! What each scope allows, and for which jobs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::subscriber::{Received, Subscriber};
use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{guarded, refusal, token, upgrade};

const SCOPES: [&str; 5] = ["subscribe", "submit", "progress", "cancel", "monitor"];

/// Every route that asks for a scope: method, path, body.
fn routes() -> Vec<(Method, &'static str, Value, &'static str)> {
    let report = json!({"progress": 10, "status": "processing"});
    vec![
        (Method::GET, "/api/anime/jobs", Value::Null, "subscribe"),
        (
            Method::GET,
            "/api/anime/jobs/mine",
            Value::Null,
            "subscribe",
        ),
        (
            Method::GET,
            "/api/anime/jobs/mine/preview",
            Value::Null,
            "subscribe",
        ),
        (
            Method::GET,
            "/api/anime/jobs/mine/events",
            Value::Null,
            "subscribe",
        ),
        (
            Method::POST,
            "/api/anime/jobs",
            json!({"job_id": "mine", "prompt_id": "p"}),
            "submit",
        ),
        (
            Method::POST,
            "/api/anime/jobs/mine/progress",
            report,
            "progress",
        ),
        (
            Method::POST,
            "/api/anime/jobs/mine/cancel",
            Value::Null,
            "cancel",
        ),
        (Method::GET, "/metrics", Value::Null, "monitor"),
    ]
}

async fn code(
    relay: &TestRelay,
    token: &str,
    method: &Method,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let mut request = relay.request_as(token, method.clone(), path);
    if !body.is_null() {
        request = request.json(body);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status == 200 {
        // A stream has no end.
        return (status, Value::Null);
    }
    let told: Value = response.json().await.unwrap();
    (status, told["error"]["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_asks_for_its_scope() {
    let relay = TestRelay::without_backend(guarded()).await;
    for (method, path, body, needed) in routes() {
        for scope in SCOPES {
            for jobs in [json!(["mine"]), json!("*")] {
                let token = token(&json!({"scope": scope, "jobs": jobs}));
                let (status, told) = code(&relay, &token, &method, path, &body).await;
                let is_refused = (status, &told) == (403, &json!("forbidden"));
                assert_eq!(
                    is_refused,
                    scope != needed,
                    "{scope}: {method} {path}: {status} {told}"
                );
                assert_ne!(status, 401, "{method} {path}");
            }
        }
        let request = relay.request(method.clone(), path).send().await.unwrap();
        assert_eq!(request.status(), 401, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_its_jobs_only() {
    let relay = TestRelay::without_backend(guarded()).await;
    for (method, path, mut body, scope) in routes() {
        if scope == "monitor" || (method == Method::GET && path == "/api/anime/jobs") {
            continue;
        }
        let path = path.replace("mine", "theirs");
        if scope == "submit" {
            body["job_id"] = json!("theirs");
        }
        for jobs in [
            json!(["mine"]),
            json!([]),
            Value::Null,
            json!(["theirs2", "their"]),
        ] {
            let token = token(&json!({"scope": SCOPES, "jobs": jobs}));
            let (status, told) = code(&relay, &token, &method, &path, &body).await;
            assert_eq!(
                (status, told),
                (403, json!("forbidden")),
                "{method} {path} for {jobs}"
            );
        }
    }
    // Without a name the job would be nobody's.
    let mine = token(&json!({"jobs": ["mine"]}));
    let unnamed = json!({"prompt_id": "p"});
    let path = "/api/anime/jobs";
    let (status, told) = code(&relay, &mine, &Method::POST, path, &unnamed).await;
    assert_eq!((status, told), (403, json!("forbidden")));
    let (status, _) = code(&relay, &token(&json!({})), &Method::POST, path, &unnamed).await;
    assert_eq!(status, 503, "no ComfyUI here, but let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_holds_the_tokens_jobs_only() {
    let relay = TestRelay::without_backend(guarded()).await;
    let all = token(&json!({}));
    for number in 0..6 {
        let path = format!("/api/anime/jobs/job-{number}/progress");
        let report = json!({"progress": 10, "status": "processing"});
        let request = relay.request_as(&all, Method::POST, &path).json(&report);
        assert_eq!(response(request).await.0, 202);
    }
    let list = async |token: &str| {
        let mut listed = Vec::new();
        let mut path = "/api/anime/jobs?limit=2".to_owned();
        loop {
            let (status, page) = response(relay.request_as(token, Method::GET, &path)).await;
            assert_eq!(status, 200, "{page}");
            let jobs = page["jobs"].as_array().unwrap();
            listed.extend(
                jobs.iter()
                    .map(|job| job["job_id"].as_str().unwrap().to_owned()),
            );
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/api/anime/jobs?limit=2&cursor={cursor}"),
                None => return listed,
            }
        }
    };
    let some = token(&json!({"jobs": ["job-4", "job-0", "nobody", "job-1", "a'b,c"]}));
    assert_eq!(list(&some).await, ["job-4", "job-1", "job-0"]);
    assert_eq!(
        list(&token(&json!({"jobs": []}))).await,
        Vec::<String>::new()
    );
    assert_eq!(list(&all).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_ask_for_scopes_and_jobs_as_well() {
    let relay = TestRelay::without_backend(guarded()).await;
    for (path, claims) in [
        (
            "/ws/mine",
            json!({"scope": "submit progress cancel monitor"}),
        ),
        ("/ws/mine", json!({"scope": []})),
        ("/ws/mine", json!({"scope": null})),
        ("/ws/theirs", json!({"jobs": ["mine"]})),
        (
            "/ws/monitor",
            json!({"scope": "subscribe submit progress cancel"}),
        ),
    ] {
        let url = format!("{}?token={}", relay.socket_url(path), token(&claims));
        assert_eq!(
            refusal(upgrade(&url, &[])).await,
            ("forbidden".to_owned(), 4403),
            "{path} {claims}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_socket_is_told_is_held_to_its_token() {
    let relay = TestRelay::without_backend(guarded()).await;
    let claims = json!({"jobs": ["mine", "also-mine"], "scope": "subscribe"});
    let url = format!("{}?token={}", relay.socket_url("/ws/mine"), token(&claims));
    let mut subscriber = Subscriber::connect(url).await;
    for message in [
        json!({"type": "subscribe", "job_id": "theirs"}),
        json!({"type": "cancel", "job_id": "theirs"}),
        json!({"type": "cancel", "job_id": "mine"}),
        json!({"type": "cancel"}),
    ] {
        subscriber.send(&message.to_string()).await;
        let refused = subscriber
            .receive_until(|heard| {
                heard["type"] == "error" && heard["code"] != "backend_unreachable"
            })
            .await;
        assert_eq!(refused["code"], "forbidden", "{message}");
    }
    subscriber
        .send(r#"{"type": "subscribe", "job_id": "also-mine"}"#)
        .await;
    let report = json!({"progress": 10, "status": "processing"});
    let all = token(&json!({}));
    for job in ["theirs", "also-mine"] {
        let path = format!("/api/anime/jobs/{job}/progress");
        let request = relay.request_as(&all, Method::POST, &path).json(&report);
        assert_eq!(response(request).await.0, 202);
    }
    let state = subscriber.receive_type("progress").await;
    assert_eq!(state["job_id"], "also-mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_scope_a_socket_may_cancel() {
    let relay = TestRelay::without_backend(guarded()).await;
    let claims = json!({"jobs": ["mine"], "scope": ["subscribe", "cancel"]});
    let url = format!("{}?token={}", relay.socket_url("/ws/mine"), token(&claims));
    let mut subscriber = Subscriber::connect(url).await;
    subscriber.send(r#"{"type": "cancel"}"#).await;
    let told = subscriber
        .receive_until(|heard| heard["type"] == "error" && heard["code"] != "backend_unreachable")
        .await;
    assert_eq!(
        told["code"], "job_not_found",
        "it is asked for, and not there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_how_the_relay_does_and_nothing_else() {
    let relay = TestRelay::without_backend(guarded()).await;
    let token = token(&json!({}));
    let url = format!("{}?token={token}", relay.socket_url("/ws/secret-job"));
    let mut subscriber = Subscriber::connect(url).await;
    assert!(matches!(subscriber.receive().await, Received::Text(_)));
    let (status, health) = relay.get("/api/anime/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    let told = health["components"].to_string();
    assert!(!told.contains("127.0.0.1"), "{told}");
    assert_eq!(
        health["components"]["comfyui"],
        json!([{"name": "comfyui-1", "status": "unreachable"}])
    );
    let (status, sockets) = relay.get("/api/anime/websocket/status").await;
    assert_eq!(
        (status, &sockets["connections"]["total_connections"]),
        (200, &json!(1))
    );
    assert_eq!(sockets["connections"]["connection_details"], json!({}));
    assert_eq!(relay.get("/").await.0, 200);

    let asked = |path: &str| response(relay.request_as(&token, Method::GET, path));
    let (_, health) = asked("/api/anime/health").await;
    assert_eq!(health["components"]["comfyui"][0]["name"], "127.0.0.1:1");
    let (_, sockets) = asked("/api/anime/websocket/status").await;
    assert!(sockets["connections"]["connection_details"]["secret-job"].is_object());
}
