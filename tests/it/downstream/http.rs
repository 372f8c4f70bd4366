//! The HTTP routes, and the answers to bad requests.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::recordings::{TXT2IMG, recording, workflow};
use crate::support::test_relay::{Settings, TestRelay, response};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_submitted_listed_and_shown() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let (status, accepted) = relay
        .post(
            "/api/anime/jobs",
            &json!({"job_id": "shot-12", "workflow": workflow(TXT2IMG).await}),
        )
        .await;
    assert_eq!(status, 201);
    assert_eq!(accepted["job_id"], "shot-12");
    assert_eq!(
        accepted["ws_url"],
        format!("ws://{}/ws/shot-12", relay.address())
    );
    assert!(accepted["prompt_id"].is_string() && accepted["backend"].is_string());
    let mut subscriber = relay.subscribe("shot-12").await;
    assert_eq!(subscriber.close_code().await, 1000);

    let (status, job) = relay.job("shot-12").await;
    assert_eq!((status, &job["status"]), (200, &json!("completed")));
    assert_eq!(job["learned_from"], "history");
    let timeline = job["timeline"].as_array().unwrap();
    assert_eq!(timeline.len(), 7);
    assert!(
        timeline.iter().all(|run| run["state"] == "finished"),
        "{timeline:?}"
    );
    assert_eq!(timeline[0]["class_type"], "CheckpointLoaderSimple");

    // The list comes from the database, which subscribers do not wait for.
    let page = loop {
        let (_, page) = relay.get("/api/anime/jobs?status=completed").await;
        if page["jobs"] != json!([]) {
            break page;
        }
    };
    assert_eq!(page["jobs"][0]["job_id"], "shot-12");
    assert_eq!(page["next_cursor"], Value::Null);
    let (_, all) = relay.get("/api/anime/jobs?status=").await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 1);
    let (_, none) = relay.get("/api/anime/jobs?status=failed").await;
    assert_eq!(none["jobs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_paged_by_cursor() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    for number in 0..5 {
        let report = json!({"progress": 10, "status": "processing"});
        let path = format!("/api/anime/jobs/render-{number}/progress");
        assert_eq!(relay.post(&path, &report).await.0, 202);
    }
    let mut seen = Vec::new();
    let mut path = "/api/anime/jobs?limit=2".to_owned();
    loop {
        let (_, page) = relay.get(&path).await;
        for job in page["jobs"].as_array().unwrap() {
            seen.push(job["job_id"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/anime/jobs?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(
        seen,
        ["render-4", "render-3", "render-2", "render-1", "render-0"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_with_a_code_and_a_message() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let jobs = "/api/anime/jobs";
    let editor = json!({"workflow": {"nodes": [], "links": [], "version": 0.4}});
    for (body, status, code) in [
        (json!({}), 400, "bad_job"),
        (json!({"prompt_id": "p", "workflow": {}}), 400, "bad_job"),
        (json!({"prompt_id": ""}), 400, "bad_prompt_id"),
        (
            json!({"prompt_id": "unknown-prompt"}),
            404,
            "prompt_not_found",
        ),
        (
            json!({"prompt_id": "p", "backend": "gpu-9"}),
            400,
            "backend_unknown",
        ),
        (json!({"workflow": 7}), 400, "bad_workflow"),
        (json!({"workflow": {}}), 400, "not_api_format"),
        (json!({"workflow": "no-such"}), 404, "workflow_not_found"),
        (json!({"workflow": "../Cargo"}), 400, "bad_workflow_name"),
        (
            json!({"workflow": "txt2img", "params": {"x": 1}}),
            400,
            "bad_parameter",
        ),
        (
            json!({"job_id": "a/b", "prompt_id": "p"}),
            400,
            "bad_job_id",
        ),
        (
            json!({"job_id": "monitor", "prompt_id": "p"}),
            400,
            "bad_job_id",
        ),
        (json!([1]), 400, "bad_json"),
        (editor, 400, "editor_format"),
    ] {
        let (found, answer) = relay.post(jobs, &body).await;
        assert_eq!(
            (found, &answer["error"]["code"]),
            (status, &json!(code)),
            "{body}: {answer}"
        );
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    let (_, page) = relay.get(jobs).await;
    assert_eq!(page["jobs"], json!([]), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_routes_methods_and_bodies_have_codes() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let get = |path: &str| relay.request(Method::GET, path);
    let delete = |path: &str| relay.request(Method::DELETE, path);
    let jobs = "/api/anime/jobs";
    let too_large = vec![b' '; 17 << 20];
    for (request, status, code) in [
        (get("/nothing/here"), 404, "not_found"),
        (get("/ws"), 404, "not_found"),
        (get("/ws/job"), 426, "websocket_required"),
        (get("/ws/monitor"), 426, "websocket_required"),
        (get("/ws/%00"), 400, "bad_job_id"),
        (get("/api/anime/jobs/unknown"), 404, "job_not_found"),
        (get("/api/anime/jobs/unknown/preview"), 404, "no_preview"),
        (
            get("/api/anime/jobs/unknown/estimate"),
            404,
            "job_not_found",
        ),
        (get("/api/anime/jobs/%00/estimate"), 400, "bad_job_id"),
        (get("/api/anime/jobs?limit=x"), 400, "bad_query"),
        (get("/api/anime/jobs?status=odd"), 400, "bad_status"),
        (delete(jobs), 405, "method_not_allowed"),
        (delete("/"), 405, "method_not_allowed"),
        (delete("/api/anime/health"), 405, "method_not_allowed"),
        (get("/api/anime/jobs/x/cancel"), 405, "method_not_allowed"),
        (
            relay.request(Method::POST, "/api/anime/jobs/unknown/cancel"),
            404,
            "job_not_found",
        ),
        (relay.request(Method::POST, jobs).body("{"), 400, "bad_json"),
        (
            relay.request(Method::POST, jobs).body(too_large),
            413,
            "body_too_large",
        ),
    ] {
        let shown = format!("{request:?}");
        let (found, answer) = response(request).await;
        assert_eq!(
            (found, &answer["error"]["code"]),
            (status, &json!(code)),
            "{shown}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_id_is_used_once() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut job = json!({"job_id": "one", "workflow": workflow(TXT2IMG).await});
    assert_eq!(relay.post("/api/anime/jobs", &job).await.0, 201);
    job["priority"] = json!(1);
    let (status, answer) = relay.post("/api/anime/jobs", &job).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("job_exists"))
    );
    let progress = json!({"progress": 1, "status": "processing"});
    let (status, answer) = relay.post("/api/anime/jobs/one/progress", &progress).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("not_reportable"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_can_be_registered_again_and_under_another_name() {
    let relay = TestRelay::replaying("0.8.0/13b-foreign-client-id").await;
    let recording = recording("0.8.0/13b-foreign-client-id").await;
    let body = &recording.prompts().next().unwrap().request_body;
    let (_, posted) = relay.post_to_comfyui("/prompt", body).await;
    let prompt = &posted["prompt_id"];
    let job = json!({"job_id": "mine", "prompt_id": prompt});
    assert_eq!(relay.post("/api/anime/jobs", &job).await.0, 201);
    assert_eq!(
        relay.post("/api/anime/jobs", &job).await.0,
        201,
        "as the first time"
    );
    let other = json!({"job_id": "theirs", "prompt_id": prompt});
    assert_eq!(relay.post("/api/anime/jobs", &other).await.0, 201);
    for job in ["mine", "theirs"] {
        let mut subscriber = relay.subscribe(job).await;
        subscriber.ends_as("completed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_of_the_folder_is_submitted_with_parameters() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let job = json!({"job_id": "named", "workflow": "txt2img", "params": {"3.seed": 7, "6.text": "a cat"}});
    let (status, answer) = relay.post("/api/anime/jobs", &job).await;
    assert_eq!(status, 201, "{answer}");
    let mut subscriber = relay.subscribe("named").await;
    assert_eq!(subscriber.close_code().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_status_have_the_documented_shape() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let _subscriber = relay.subscribe("later").await;
    let (status, health) = relay.get("/api/anime/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("healthy")));
    assert_eq!(health["components"]["comfyui"][0]["status"], "connected");
    assert_eq!(
        health["components"]["jobs"],
        json!({"active_count": 0, "total_tracked": 0})
    );
    let (_, status) = relay.get("/api/anime/websocket/status").await;
    assert_eq!(status["connections"]["total_connections"], 1);
    assert_eq!(status["connections"]["jobs_with_connections"], 1);
    let detail = &status["connections"]["connection_details"]["later"];
    assert_eq!(detail["connection_count"], 1);
    assert_eq!(detail["connections"][0]["user_info"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_comfyui_the_relay_serves_and_is_degraded() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let (status, health) = relay.get("/api/anime/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    assert_eq!(health["components"]["comfyui"][0]["status"], "unreachable");
    let job = json!({"workflow": workflow(TXT2IMG).await});
    let (status, answer) = relay.post("/api/anime/jobs", &job).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("backend_unreachable"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_served() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/test", "text/html; charset=utf-8"),
        ("/web/page.css", "text/css; charset=utf-8"),
        ("/web/page.js", "text/javascript; charset=utf-8"),
        ("/web/elements.js", "text/javascript; charset=utf-8"),
        ("/web/explanation.css", "text/css; charset=utf-8"),
        ("/web/explanation.js", "text/javascript; charset=utf-8"),
    ] {
        let response = relay.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], kind);
        assert!(
            response.text().await.unwrap().len() > 100,
            "{path} is empty"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cannot_be_framed_by_other_origins() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    for (path, is_page) in [
        ("/", true),
        ("/websocket_test_client.html", true),
        ("/web/relay.js", false),
    ] {
        let response = relay.request(Method::GET, path).send().await.unwrap();
        let policy = response.headers().get("content-security-policy");
        let policy = policy.map(|policy| policy.to_str().unwrap());
        let is_guarded = policy.is_some_and(|policy| policy.ends_with("frame-ancestors 'self'"));
        assert_eq!(is_guarded, is_page, "{path}");
    }
}
