//! What each scope of a token permits, and for which jobs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::{Received, Subscriber};
use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{guarded, refusal, token, upgrade};

const SCOPES: [&str; 7] = [
    "subscribe",
    "submit",
    "register",
    "progress",
    "cancel",
    "monitor",
    "operate",
];

/// Every route that requires a scope: method, path, body and scope.
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
            "/api/anime/jobs/mine/estimate",
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
            json!({"job_id": "mine", "workflow": {"1": {"class_type": "A", "inputs": {}}}}),
            "submit",
        ),
        (
            Method::POST,
            "/api/anime/jobs",
            json!({"job_id": "mine", "prompt_id": "p"}),
            "register",
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
        (
            Method::POST,
            "/api/anime/workflows/check",
            json!({"workflow": {"1": {"class_type": "A", "inputs": {}}}}),
            "submit",
        ),
        (Method::GET, "/api/anime/workflows", Value::Null, "submit"),
        (
            Method::GET,
            "/api/anime/workflows/txt2img",
            Value::Null,
            "submit",
        ),
        (Method::POST, "/api/anime/inputs", Value::Null, "submit"),
        (Method::GET, "/metrics", Value::Null, "monitor"),
        (Method::GET, "/api/anime/backends", Value::Null, "monitor"),
        (Method::GET, "/api/anime/queue", Value::Null, "monitor"),
        (
            Method::POST,
            "/api/anime/backends/127.0.0.1%3A1/drain",
            Value::Null,
            "operate",
        ),
        (
            Method::POST,
            "/api/anime/queue/pause",
            Value::Null,
            "operate",
        ),
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
        // An event stream has no end.
        return (status, Value::Null);
    }
    let answer: Value = response.json().await.unwrap();
    (status, answer["error"]["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_requires_its_scope() {
    let relay = TestRelay::without_backend(guarded()).await;
    for (method, path, body, needed) in routes() {
        for scope in SCOPES {
            for jobs in [json!(["mine"]), json!("*")] {
                let token = token(&json!({"scope": scope, "jobs": jobs}));
                let (status, answer) = code(&relay, &token, &method, path, &body).await;
                let is_refused = (status, &answer) == (403, &json!("forbidden"));
                // Whoever may submit all jobs may follow all prompts.
                let is_enough =
                    scope == needed || (needed == "register" && scope == "submit" && jobs == "*");
                assert_eq!(
                    is_refused, !is_enough,
                    "{scope}: {method} {path}: {status} {answer}"
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
        // These are not about one job.
        let is_of_no_job = ["/api/anime/workflows", "/api/anime/inputs"]
            .iter()
            .any(|of_none| path.starts_with(of_none));
        let is_of_job = path.contains("mine") || !body["job_id"].is_null();
        let is_for_all = is_of_no_job || path == "/api/anime/jobs";
        if ["monitor", "operate"].contains(&scope) || (is_for_all && !is_of_job) {
            continue;
        }
        let path = path.replace("mine", "theirs");
        if path == "/api/anime/jobs" {
            body["job_id"] = json!("theirs");
        }
        for jobs in [
            json!(["mine"]),
            json!([]),
            Value::Null,
            json!(["theirs2", "their"]),
        ] {
            let token = token(&json!({"scope": SCOPES, "jobs": jobs}));
            let (status, answer) = code(&relay, &token, &method, &path, &body).await;
            assert_eq!(
                (status, answer),
                (403, json!("forbidden")),
                "{method} {path} for {jobs}"
            );
        }
    }
    // A job without an id is not one of the token's jobs.
    let mine = token(&json!({"jobs": ["mine"]}));
    let unnamed = json!({"prompt_id": "p"});
    let path = "/api/anime/jobs";
    let (status, answer) = code(&relay, &mine, &Method::POST, path, &unnamed).await;
    assert_eq!((status, answer), (403, json!("forbidden")));
    let (status, _) = code(&relay, &token(&json!({})), &Method::POST, path, &unnamed).await;
    assert_eq!(status, 503, "authorized, but without ComfyUI");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_only_the_jobs_of_the_token() {
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
    let some = token(&json!({"jobs": ["job-4", "job-0", "unknown", "job-1", "a'b,c"]}));
    assert_eq!(list(&some).await, ["job-4", "job-1", "job-0"]);
    assert_eq!(
        list(&token(&json!({"jobs": []}))).await,
        Vec::<String>::new()
    );
    assert_eq!(list(&all).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_require_scopes_and_jobs_too() {
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
async fn messages_on_a_socket_are_checked_against_its_token() {
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
            .receive_until(|answer| {
                answer["type"] == "error" && answer["code"] != "backend_unreachable"
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
async fn a_socket_with_the_cancel_scope_may_cancel() {
    let relay = TestRelay::without_backend(guarded()).await;
    let claims = json!({"jobs": ["mine"], "scope": ["subscribe", "cancel"]});
    let url = format!("{}?token={}", relay.socket_url("/ws/mine"), token(&claims));
    let mut subscriber = Subscriber::connect(url).await;
    subscriber.send(r#"{"type": "cancel"}"#).await;
    let answer = subscriber
        .receive_until(|message| {
            message["type"] == "error" && message["code"] != "backend_unreachable"
        })
        .await;
    assert_eq!(
        answer["code"], "job_not_found",
        "permitted, but there is no such job"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_token_see_the_health_and_no_details() {
    let relay = TestRelay::without_backend(guarded()).await;
    let token = token(&json!({}));
    let url = format!("{}?token={token}", relay.socket_url("/ws/secret-job"));
    let mut subscriber = Subscriber::connect(url).await;
    assert!(matches!(subscriber.receive().await, Received::Text(_)));
    let (status, health) = relay.get("/api/anime/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    let answer = health["components"].to_string();
    assert!(!answer.contains("127.0.0.1"), "{answer}");
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

/// A prompt that another client has submitted, and one that a job of somebody else follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_no_prompt_of_others() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["prompt", "followed"], &[]);
    let relay = TestRelay::connected_to(&comfyui.url(), guarded()).await;
    let register = async |claims: Value, job: &str, prompt: &str| {
        let body = json!({"job_id": job, "prompt_id": prompt});
        let path = "/api/anime/jobs";
        let token = token(&claims);
        let (status, code) = code(&relay, &token, &Method::POST, path, &body).await;
        (status, code.as_str().unwrap_or_default().to_owned())
    };
    let all = json!({"jobs": "*", "scope": "submit"});
    assert_eq!(register(all.clone(), "theirs", "followed").await.0, 201);
    let forbidden = (403, "forbidden".to_owned());
    let submits = json!({"jobs": ["mine"], "scope": SCOPES.join(" ").replace("register", "")});
    assert_eq!(register(submits, "mine", "prompt").await, forbidden);
    let registers = json!({"jobs": ["mine"], "scope": "register"});
    let unknown = register(registers.clone(), "mine", "nothing").await;
    assert_eq!(unknown, (404, "prompt_not_found".to_owned()));
    assert_eq!(
        register(registers.clone(), "mine", "followed").await,
        unknown
    );
    assert_eq!(register(registers, "mine", "prompt").await.0, 201);
    assert_eq!(register(all, "also-mine", "prompt").await.0, 201);
}
