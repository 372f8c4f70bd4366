//! Every operation is requested of a real relay, and every answer is one that the OpenAPI document describes.

use std::collections::BTreeSet;

use comfy_relay::replay::PlaybackSpeed;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::api_description::{ApiDescription, GivenAnswer};
use crate::support::recordings::{one_node_workflow, workflow};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};

/// Makes previews, and one picture.
const PREVIEWS: &str = "0.8.0/02-previews-metadata";

/// Sends requests, and checks the answers.
struct Asker {
    relay: TestRelay,
    description: &'static ApiDescription,
    /// The operations that have succeeded.
    succeeded: BTreeSet<String>,
}

impl Asker {
    fn new(relay: TestRelay) -> Self {
        Self {
            relay,
            description: ApiDescription::kept(),
            succeeded: BTreeSet::new(),
        }
    }

    /// Sends a request. Returns the status and the JSON of the answer, which has to be documented.
    async fn send(&mut self, request: RequestBuilder) -> (u16, Value) {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, url) = (request.method().clone(), request.url().clone());
        let response = client.execute(request).await.unwrap();
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type");
        let content_type = content_type
            .map_or("", |it| it.to_str().unwrap())
            .to_owned();
        let waits = [429, 503].contains(&status);
        assert_eq!(
            response.headers().contains_key("retry-after"),
            waits,
            "{url}"
        );
        // A stream need not end.
        let body = if content_type == "text/event-stream" {
            Vec::new()
        } else {
            response.bytes().await.unwrap().to_vec()
        };
        let answer = GivenAnswer {
            method: &method,
            path: url.path(),
            status,
            content_type: &content_type,
            body: &body,
        };
        let checked = self.description.check(&answer);
        let operation = checked.unwrap_or_else(|why| panic!("{method} {url}: {why}"));
        let operation = operation.unwrap_or_else(|| panic!("{method} {url} is not documented"));
        if status < 300 {
            self.succeeded.insert(operation);
        }
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&mut self, path: &str) -> (u16, Value) {
        let request = self.relay.request(Method::GET, path);
        self.send(request).await
    }

    async fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.relay.request(Method::POST, path).json(body);
        self.send(request).await
    }

    /// Requests something that succeeds.
    async fn reads(&mut self, path: &str) -> Value {
        let (status, answer) = self.get(path).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Requests something that is done.
    async fn does(&mut self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Requests something that fails with a code.
    async fn fails(&mut self, request: RequestBuilder, code: &str) {
        let (status, answer) = self.send(request).await;
        assert_eq!(answer["error"]["code"], code, "{status} {answer}");
    }

    async fn deletes(&mut self, path: &str) {
        let request = self.relay.request(Method::DELETE, path);
        let (status, answer) = self.send(request).await;
        assert_eq!(status, 202, "{path}: {answer}");
    }
}

fn job(id: &str, workflow: &Value) -> Value {
    json!({
        "job_id": id, "workflow": workflow, "labels": {"shot": "12"}, "group": "scene", "priority": 3, "retries": 2,
        "extra_data": {"mine": 1}, "preview_method": "auto",
    })
}

/// A job runs to its end; everything that can be read of it is read.
async fn follow_a_job(asker: &mut Asker, workflow: &Value) {
    let mut curious = asker.relay.subscribe("shot?previews=1").await;
    asker.does("/api/anime/jobs", &job("shot", workflow)).await;
    assert_eq!(curious.close_code().await, 1000);
    for path in [
        "/api/anime/jobs/shot/preview",
        "/api/anime/jobs/shot",
        "/api/anime/jobs/group:scene",
        "/api/anime/jobs/shot/estimate",
        "/api/anime/jobs/shot/workflow",
        "/api/anime/jobs/shot/outputs",
        "/api/anime/jobs/shot/outputs/0",
        "/api/anime/jobs/shot/outputs/0?w=32",
        "/api/anime/jobs/shot/events",
        "/api/anime/jobs/events?status=queued,failed&label=shot=12&names=1",
        "/api/anime/jobs?status=completed&limit=1&q=s&group=scene&since=2025-12-10T15:30:45Z",
    ] {
        asker.reads(path).await;
    }
    let part = asker
        .relay
        .request(Method::GET, "/api/anime/jobs/shot/outputs/0");
    let (status, _) = asker.send(part.header("range", "bytes=1-3")).await;
    assert_eq!(status, 206);
    asker
        .does("/api/anime/jobs/shot/retry", &json!({"job_id": "again"}))
        .await;
    // The same request once more.
    let (status, _) = asker
        .post("/api/anime/jobs/shot/retry", &json!({"job_id": "again"}))
        .await;
    assert_eq!(status, 200);
}

/// Servers and the queue are operated.
async fn operate(asker: &mut Asker, workflow: &Value) {
    asker.does("/api/anime/queue/pause", &Value::Null).await;
    let batch = json!({"workflow": workflow, "count": 2, "seed": 7, "job_ids": ["one", "two"]});
    asker.does("/api/anime/batches", &batch).await;
    asker.does("/api/anime/jobs/one/cancel", &Value::Null).await;
    asker.does("/api/anime/queue/resume", &Value::Null).await;
    asker.reads("/api/anime/queue").await;
    let backends = asker.reads("/api/anime/backends").await;
    let name = backends["backends"][0]["name"]
        .as_str()
        .unwrap()
        .replace(':', "%3A");
    for verb in ["pause", "drain", "resume"] {
        asker
            .does(&format!("/api/anime/backends/{name}/{verb}"), &Value::Null)
            .await;
    }
    let added = json!({"name": "added", "url": "http://127.0.0.1:1", "labels": {"gpu": "h100"}});
    for status in [201, 200] {
        assert_eq!(asker.post("/api/anime/backends", &added).await.0, status);
    }
    asker.deletes("/api/anime/backends/added?force=true").await;
    let check = json!({"workflow": workflow, "params": {}});
    let checked = asker.does("/api/anime/workflows/check", &check).await;
    assert_eq!(checked["can_run"], true);
    let listed = asker.reads("/api/anime/workflows").await;
    assert_eq!(listed["broken"], json!([]));
    asker.reads("/api/anime/workflows/txt2img").await;
    let picture = b"GIF89a\x01\0\x01\0\0\0\0".as_slice();
    let sent = asker.relay.request(Method::POST, "/api/anime/inputs");
    let (status, answer) = asker.send(sent.body(picture)).await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_answered_as_documented() {
    // The relay follows the prompt before its preview comes.
    let mut settings = Settings::from(PlaybackSpeed::Real(20.0));
    settings.comfy.networks = vec!["127.0.0.0/8".parse().unwrap()];
    let mut asker = Asker::new(TestRelay::replaying_with(PREVIEWS, settings).await);
    let workflow = workflow(PREVIEWS).await;
    follow_a_job(&mut asker, &workflow).await;
    let report = json!({"progress": 40, "status": "processing", "estimated_remaining": 3.5, "labels": {"a": "b"}});
    asker.does("/api/anime/jobs/render/progress", &report).await;
    operate(&mut asker, &workflow).await;
    for path in [
        "/api/anime/health",
        "/api/anime/websocket/status",
        "/api/anime/totals",
        "/api/anime/totals?since=2025-12-10T15:30:45Z",
        "/api/anime/webhooks/deliveries?state=pending&limit=3",
        "/metrics",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/asyncapi.json",
    ] {
        asker.reads(path).await;
    }
    let missed: Vec<String> = asker
        .description
        .operations()
        .difference(&asker.succeeded)
        .cloned()
        .collect();
    assert!(missed.is_empty(), "no answer of {missed:?} was checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_documented() {
    let mut asker = Asker::new(TestRelay::without_backend(Settings::default()).await);
    let jobs = "/api/anime/jobs";
    let graph = one_node_workflow();
    for (path, body, code) in [
        (jobs, json!({}), "bad_job"),
        (jobs, json!([]), "bad_json"),
        (jobs, json!({"prompt_id": ""}), "bad_prompt_id"),
        (jobs, json!({"workflow": 7}), "bad_workflow"),
        (jobs, json!({"workflow": "../x"}), "bad_workflow_name"),
        (jobs, json!({"workflow": "nowhere"}), "workflow_not_found"),
        (
            jobs,
            json!({"workflow": {"nodes": [], "links": []}}),
            "editor_format",
        ),
        (jobs, json!({"workflow": {"1": 7}}), "not_api_format"),
        (
            jobs,
            json!({"workflow": graph, "workflows": 1}),
            "unknown_field",
        ),
        (
            jobs,
            json!({"workflow": graph, "job_id": "a/b"}),
            "bad_job_id",
        ),
        (
            jobs,
            json!({"workflow": graph, "labels": {"a": 7}}),
            "bad_labels",
        ),
        (
            jobs,
            json!({"workflow": graph, "group": "a/b"}),
            "bad_group",
        ),
        (
            jobs,
            json!({"workflow": graph, "backend": 7}),
            "bad_backend",
        ),
        (
            jobs,
            json!({"workflow": graph, "backend": "nobody"}),
            "backend_unknown",
        ),
        (
            jobs,
            json!({"workflow": graph, "backend": "gpu=a100"}),
            "label_unknown",
        ),
        (
            jobs,
            json!({"workflow": graph, "priority": 0.5}),
            "bad_priority",
        ),
        (
            jobs,
            json!({"workflow": graph, "retries": 11}),
            "bad_retries",
        ),
        (
            jobs,
            json!({"workflow": graph, "params": {"9.x": 7}}),
            "bad_parameter",
        ),
        (
            jobs,
            json!({"workflow": graph, "extra_data": 7}),
            "bad_extra_data",
        ),
        (
            jobs,
            json!({"workflow": graph, "preview_method": "fast"}),
            "bad_preview_method",
        ),
        (
            jobs,
            json!({"workflow": graph, "partial_execution_targets": []}),
            "bad_target",
        ),
        (jobs, json!({"workflow": graph, "front": 1}), "bad_front"),
        (
            jobs,
            json!({"workflow": graph, "number": "1"}),
            "bad_number",
        ),
        (
            jobs,
            json!({"workflow": graph, "webhook": 7}),
            "bad_webhook",
        ),
        (
            jobs,
            json!({"workflow": graph, "webhook": "https://app.example"}),
            "webhooks_off",
        ),
        (
            "/api/anime/batches",
            json!({"workflow": graph}),
            "bad_batch",
        ),
        (
            "/api/anime/batches",
            json!({"workflow": graph, "params": [7]}),
            "bad_batch",
        ),
        ("/api/anime/workflows/check", json!({}), "bad_workflow"),
        (
            "/api/anime/backends",
            json!({"name": "a b", "url": "http://127.0.0.1"}),
            "bad_name",
        ),
        (
            "/api/anime/backends",
            json!({"name": "a", "url": "ftp://x"}),
            "bad_url",
        ),
        (
            "/api/anime/backends",
            json!({"name": "a", "url": "http://127.0.0.1"}),
            "adding_off",
        ),
        (
            "/api/anime/backends/nobody/pause",
            Value::Null,
            "backend_unknown",
        ),
        (
            "/api/anime/jobs/j/progress",
            json!({"progress": 101, "status": "queued"}),
            "bad_progress",
        ),
        (
            "/api/anime/jobs/j/progress",
            json!({"progress": 1, "status": "stuck"}),
            "bad_status",
        ),
        (
            "/api/anime/jobs/unknown/retry",
            json!({}),
            "backend_unreachable",
        ),
        (
            "/api/anime/jobs/unknown/cancel",
            Value::Null,
            "backend_unreachable",
        ),
        ("/api/anime/jobs/monitor/cancel", Value::Null, "bad_job_id"),
    ] {
        let request = asker.relay.request(Method::POST, path).json(&body);
        asker.fails(request, code).await;
    }
    for (path, code) in [
        ("/api/anime/jobs/unknown", "backend_unreachable"),
        ("/api/anime/jobs/unknown/preview", "no_preview"),
        ("/api/anime/jobs/unknown/outputs/x", "bad_output"),
        ("/api/anime/jobs?limit=0", "bad_query"),
        ("/api/anime/jobs?q=a%00b", "bad_query"),
        ("/api/anime/jobs?status=stuck", "bad_status"),
        ("/api/anime/jobs?stauts=failed", "unknown_parameter"),
        ("/api/anime/jobs/events?status=stuck", "bad_status"),
        ("/api/anime/totals?since=yesterday", "bad_query"),
        ("/api/anime/webhooks/deliveries?cursor=x", "bad_query"),
    ] {
        let request = asker.relay.request(Method::GET, path);
        asker.fails(request, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_does_not_allow_is_documented() {
    let mut asker = Asker::new(TestRelay::without_backend(guarded()).await);
    let weak = token(&json!({"scope": "progress", "jobs": ["mine"]}));
    for path in [
        "/api/anime/jobs",
        "/api/anime/jobs/mine",
        "/api/anime/queue",
        "/metrics",
    ] {
        let request = asker.relay.request(Method::GET, path);
        asker.fails(request, "unauthenticated").await;
        let request = asker.relay.request_as(&weak, Method::GET, path);
        asker.fails(request, "forbidden").await;
    }
    let link = "/api/anime/jobs/mine/outputs/0?exp=1&sig=x";
    let request = asker.relay.request(Method::GET, link);
    asker.fails(request, "bad_link").await;
}

#[test]
fn an_answer_that_is_not_as_documented_is_found() {
    let description = ApiDescription::kept();
    let check = |path: &str, status: u16, body: &Value| {
        description.check(&GivenAnswer {
            method: &Method::GET,
            path,
            status,
            content_type: "application/json",
            body: body.to_string().as_bytes(),
        })
    };
    let queue = "/api/anime/queue";
    let right = json!({"state": "running", "waiting": 1, "oldest": null, "next_start": "2026-11-28T18:54:20Z"});
    assert_eq!(check(queue, 200, &right), Ok(Some("queue".to_owned())));
    for (field, value) in [
        ("state", json!("asleep")),
        ("waiting", json!(-1)),
        ("waiting", json!("1")),
        ("oldest", json!("yesterday")),
        ("oldset", json!(null)),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        assert!(check(queue, 200, &wrong).is_err(), "{wrong}");
    }
    assert!(check(queue, 201, &right).is_err(), "another status");
    let refusal = json!({"error": {"code": "database_unreachable", "message": "try again"}});
    assert!(check(queue, 503, &refusal).is_ok());
    let other = json!({"error": {"code": "no_such_code", "message": "try again"}});
    assert!(check(queue, 503, &other).is_err(), "an unknown code");
    assert_eq!(check("/history", 200, &right), Ok(None), "a page");
}
