//! Jobs over Comfy API v2.

use comfy_relay::config::StoreConfig;
use reqwest::Method;
use serde_json::{Value, json};

use super::v2_client::{V2Client, data};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{ERROR, TXT2IMG, recording, replay, workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;

on_both!(labels_that_no_job_can_have_are_refused);

const PROMPT_ID: &str = "0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_submitted_shown_and_listed() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let body = json!({"workflow": workflow(TXT2IMG).await, "metadata": {"shot": "7"},
        "extra_data": {"api_key_comfy_org": "comfyui-key"}});
    let (status, job) = client.post("/jobs", &body).await;
    assert_eq!(status, 201, "{job}");
    let id = job["id"].as_str().unwrap();
    let own = format!("/api/v2/jobs/{id}");
    let urls =
        json!({"self": own, "events": format!("{own}/events"), "cancel": format!("{own}/cancel")});
    assert_eq!(job["urls"], urls);
    assert_eq!(job["metadata"], json!({"shot": "7"}));
    let job = client.wait_for(&job, "succeeded").await;
    assert_eq!(job["progress"]["value"], 1.0, "{job}");
    assert_eq!(
        (&job["error"], &job["queue_position"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(job["estimated_remaining"], 0, "{job}");
    for name in ["created_at", "started_at", "completed_at", "expires_at"] {
        assert!(job[name].is_string(), "{name}: {job}");
    }
    assert!(job["metrics"]["execution_ms"].is_number(), "{job}");
    let output = &job["outputs"][0];
    assert_eq!(
        (&output["type"], &output["content_type"]),
        (&json!("image"), &json!("image/png"))
    );
    assert!(output["size_bytes"].as_u64().unwrap() > 0, "{job}");
    let (_, asset) = client
        .get(&format!("/assets/{}", output["id"].as_str().unwrap()))
        .await;
    for name in ["id", "size_bytes", "content_type", "url", "job_id"] {
        assert_eq!(asset[name], output[name], "{name}");
    }
    let (_, shown) = client.get(&format!("{own}/workflow")).await;
    assert_eq!(
        (&shown["workflow"], &shown["format"]),
        (&body["workflow"], &json!("api"))
    );
    // ComfyUI's own API knows it by the same id.
    let (_, own_view) = relay.job(id).await;
    assert_eq!(own_view["labels"], json!({"via": "comfy", "shot": "7"}));
    let other = client.submit().await;
    let ids = async |query: &str| {
        let (status, page) = client.get(&format!("/jobs?{query}")).await;
        assert_eq!(status, 200, "{page}");
        let jobs = page["jobs"].as_array().unwrap();
        let ids: Vec<Value> = jobs.iter().map(|job| job["id"].clone()).collect();
        (ids, page["next_cursor"].clone())
    };
    let (found, next) = ids("metadata%5Bshot%5D=7").await;
    assert_eq!((found, next), (vec![json!(id)], Value::Null));
    let (found, next) = ids("limit=1").await;
    assert_eq!(found, [other["id"].clone()]);
    let (found, _) = ids(&format!("limit=1&cursor={}", next.as_str().unwrap())).await;
    assert_eq!(found, [json!(id)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_names_its_node() {
    let relay = TestRelay::replaying(ERROR).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let body = json!({"workflow": workflow(ERROR).await});
    let (_, job) = client.post("/jobs", &body).await;
    let job = client.wait_for(&job, "failed").await;
    let error = &job["error"];
    assert_eq!(error["code"], "node_execution_error", "{job}");
    let node = error["node_id"].as_str().unwrap();
    assert_eq!(error["class_type"], body["workflow"][node]["class_type"]);
    assert!(!error["message"].as_str().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_once() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    let job = client.submit().await;
    assert_eq!(
        (&job["status"], &job["progress"]),
        (&json!("queued"), &Value::Null)
    );
    let cancel = job["urls"]["cancel"].as_str().unwrap();
    for _ in 0..2 {
        let (status, cancelled) = client.post(cancel, &Value::Null).await;
        assert_eq!(
            (status, &cancelled["status"]),
            (200, &json!("canceled")),
            "{cancelled}"
        );
        assert!(cancelled["completed_at"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_with_its_job_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.db");
    let store = StoreConfig {
        database: format!("sqlite:{}", file.display()).parse().unwrap(),
        ..StoreConfig::default()
    };
    let comfyui = replay(vec![recording(TXT2IMG).await], Settings::default().speed).await;
    let settings = Settings::from(store);
    let relay = TestRelay::connected_to(&comfyui.url(), settings.clone()).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let mut body = json!({"workflow": workflow(TXT2IMG).await});
    let (status, job, is_replayed) = client.submit_as("key", &body).await;
    assert_eq!((status, is_replayed), (201, false), "{job}");
    // A key for partner nodes is no part of what is asked for.
    body["extra_data"] = json!({"api_key_comfy_org": "comfyui-key"});
    let (status, again, is_replayed) = client.submit_as("key", &body).await;
    assert_eq!((status, &again["id"], is_replayed), (201, &job["id"], true));
    let other = json!({"workflow": body["workflow"], "metadata": {"shot": "8"}});
    let (status, refused, _) = client.submit_as("key", &other).await;
    assert_eq!(status, 422, "{refused}");
    assert_eq!(refused["error"]["code"], "idempotency_key_reuse");
    assert_ne!(
        client.submit_as("other key", &body).await.1["id"],
        job["id"]
    );
    client.wait_for(&job, "succeeded").await;
    relay.stop().await;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let (status, again, is_replayed) = client.submit_as("key", &body).await;
    assert_eq!((status, &again["id"], is_replayed), (201, &job["id"], true));
    assert_eq!(
        relay.get("/api/anime/jobs").await.1["jobs"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // What only the database has is followed to its end, and what it has made is read.
    assert_eq!(again["status"], "succeeded");
    let events = client.follow(&job).await.rest().await;
    assert_eq!(
        data(&events, "status").last().unwrap()["status"],
        "succeeded"
    );
    let output = data(&events, "output")[0];
    let picture = client.request(Method::GET, output["url"].as_str().unwrap());
    assert_eq!(picture.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_the_published_code() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let graph = workflow(TXT2IMG).await;
    let mut without_steps = graph.clone();
    let nodes = without_steps.as_object_mut().unwrap().iter_mut();
    let (sampler, node) = nodes
        .into_iter()
        .find(|(_, node)| node["class_type"] == "KSampler")
        .unwrap();
    let sampler = sampler.clone();
    node["inputs"].as_object_mut().unwrap().remove("steps");
    for (body, code) in [
        (
            json!({"workflow": {"nodes": [], "links": [], "last_node_id": 1}}),
            "workflow_format_ui",
        ),
        (json!({"workflow": without_steps}), "invalid_workflow"),
        (
            json!({"workflow": {"1": {"class_type": "NoSuchNode", "inputs": {}}}}),
            "invalid_workflow",
        ),
        (json!({"workflow": {}}), "invalid_workflow"),
        (json!({"workflow": []}), "invalid_workflow"),
        (json!({}), "invalid_workflow"),
        (json!([]), "invalid_request"),
        (
            json!({"workflow": graph, "webhook_url": "http://a"}),
            "invalid_request",
        ),
        (json!({"workflow": graph, "inputs": {}}), "invalid_request"),
        (
            json!({"workflow": graph, "metadata": {"a": 1}}),
            "invalid_request",
        ),
        (
            json!({"workflow": graph, "metadata": {"via": "x"}}),
            "invalid_request",
        ),
        (
            json!({"workflow": graph, "extra_data": {"secret": "x"}}),
            "invalid_request",
        ),
    ] {
        let (status, answer) = client.post("/jobs", &body).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"]),
            (422, &json!(code)),
            "{body} {answer}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty());
        if body["workflow"].get(&sampler).is_some() && code == "invalid_workflow" {
            let wrong = &error["details"]["node_errors"][&sampler][0];
            assert_eq!(
                (&wrong["field"], &wrong["reason"]),
                (&json!("steps"), &json!("required_input_missing"))
            );
        }
    }
    let no_job = "7f3d2c1b-9a8e-4d6f-b012-3c4d5e6f7a8b";
    for (method, path, expected) in [
        (Method::GET, format!("/jobs/{no_job}"), (404, "not_found")),
        (
            Method::GET,
            format!("/jobs/{no_job}/events"),
            (404, "not_found"),
        ),
        (
            Method::GET,
            format!("/jobs/{no_job}/workflow"),
            (404, "not_found"),
        ),
        (
            Method::POST,
            format!("/jobs/{no_job}/cancel"),
            (404, "not_found"),
        ),
        (Method::GET, format!("/assets/{no_job}"), (404, "not_found")),
        (
            Method::GET,
            format!("/assets/{no_job}.0/content"),
            (404, "not_found"),
        ),
        (Method::GET, "/jobs/a%20b".to_owned(), (404, "not_found")),
        (Method::GET, "/jobs/group:a".to_owned(), (404, "not_found")),
        (
            Method::GET,
            format!("/jobs/{no_job}/more"),
            (404, "not_found"),
        ),
        (
            Method::DELETE,
            format!("/jobs/{no_job}"),
            (405, "method_not_allowed"),
        ),
        (
            Method::GET,
            "/jobs?limit=0".to_owned(),
            (422, "invalid_request"),
        ),
        (
            Method::GET,
            "/jobs?cursor=x".to_owned(),
            (422, "invalid_request"),
        ),
    ] {
        let (status, answer) = response(client.request(method, &path)).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (expected.0, &json!(expected.1)),
            "{path}: {answer}"
        );
    }
    assert_eq!(
        relay.get("/api/anime/jobs").await.1["jobs"],
        json!([]),
        "nothing is left behind"
    );
    // Routes of extensions are passed on.
    assert_eq!(client.get("/userdata").await, (404, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_it_is_for() {
    let relay = TestRelay::replaying_with(TXT2IMG, guarded()).await;
    let api = relay.serve_comfy().await;
    let of = |claims: Value| V2Client::with_token(&api, &token(&claims));
    let all = of(json!({}));
    let job = all.submit().await;
    let job = all.wait_for(&job, "succeeded").await;
    let (id, own) = (job["id"].clone(), job["urls"]["self"].as_str().unwrap());
    let nobody = V2Client::new(&api);
    let (status, refused) = nobody.get(own).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (401, &json!("unauthorized"))
    );
    let reader = of(json!({"jobs": [id], "scope": "subscribe"}));
    assert_eq!(reader.get(own).await.0, 200);
    let (_, page) = reader.get("/jobs").await;
    assert_eq!(page["jobs"].as_array().unwrap().len(), 1, "{page}");
    for (path, body) in [
        (format!("{own}/cancel"), Value::Null),
        ("/jobs".to_owned(), json!({})),
    ] {
        let (status, refused) = reader.post(&path, &body).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (403, &json!("forbidden")),
            "{path}"
        );
    }
    let other = of(json!({"jobs": ["another"]}));
    assert_eq!(other.get(own).await.0, 403);
    assert_eq!(other.get("/jobs").await.1["jobs"], json!([]));
    // The link to a picture stands for a token, and only for this picture.
    let output = &job["outputs"][0];
    let link = output["url"].as_str().unwrap();
    let picture = nobody.request(Method::GET, link).send().await.unwrap();
    assert_eq!(picture.status(), 200);
    assert_eq!(&picture.bytes().await.unwrap()[1..4], b"PNG");
    let other = link.replace(".0/content", ".1/content");
    assert_eq!(nobody.get(&other).await.0, 403);
    let asset = format!("/assets/{}", output["id"].as_str().unwrap());
    assert_eq!(nobody.get(&asset).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_partner_nodes_reaches_comfyui() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as(PROMPT_ID);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let body = json!({"workflow": workflow(TXT2IMG).await, "extra_data": {"api_key_comfy_org": "comfyui-key"}});
    let (status, job) = client.post("/jobs", &body).await;
    assert_eq!(status, 201, "{job}");
    wait_until("the prompt is handed in", async || {
        comfyui.posted()["extra_data"]["api_key_comfy_org"] == "comfyui-key"
    })
    .await;
    let (_, shown) = client
        .get(&format!("/jobs/{}/workflow", job["id"].as_str().unwrap()))
        .await;
    assert!(!shown.to_string().contains("comfyui-key"), "{shown}");
}

async fn labels_that_no_job_can_have_are_refused(db: TestDatabase) {
    let relay = TestRelay::replaying_with(TXT2IMG, Settings::from(db.config())).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    for label in [
        "metadata[a%22b]=1",
        "metadata[a%5Cb]=1",
        "metadata[]=1",
        "metadata[a]=%00",
        "metadata[a%00]=1",
    ] {
        let (status, answer) = client.get(&format!("/jobs?{label}")).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (422, &json!("invalid_request")),
            "{label}: {answer}"
        );
    }
    assert_eq!(client.get("/jobs?metadata[a]=%22b").await.0, 200);
}
