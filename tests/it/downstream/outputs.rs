//! The files of a job, read through the relay.

use comfy_relay::config::ServerConfig;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::recordings::TXT2IMG;
use crate::support::scripted_comfy::{Reply, ScriptedComfy, saved_view};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};

async fn read(relay: &TestRelay, path: &str, range: Option<&str>) -> Response {
    let mut request = relay.request(Method::GET, path);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    request.send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_job_are_listed_and_read_at_the_relay() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    let (status, list) = relay.get("/api/anime/jobs/shot/outputs").await;
    assert_eq!((status, &list["outputs_total"]), (200, &json!(1)));
    let output = &list["outputs"][0];
    assert_eq!(output["filename"], "ComfyUI_00001_.png");
    assert_eq!(output["media_type"], "image/png");
    let path = "/api/anime/jobs/shot/outputs/0";
    assert_eq!(output["url"], format!("{}{path}", relay.url()));

    let whole = read(&relay, path, None).await;
    assert_eq!(whole.status(), 200);
    assert_eq!(header(&whole, "content-type"), "image/png");
    assert_eq!(
        header(&whole, "content-disposition"),
        "inline; filename*=UTF-8''ComfyUI_00001_.png"
    );
    assert_eq!(header(&whole, "x-content-type-options"), "nosniff");
    let whole = whole.bytes().await.unwrap();
    assert!(whole.starts_with(b"\x89PNG"));
    let part = read(&relay, path, Some("bytes=1-3")).await;
    assert_eq!(part.status(), 206);
    assert_eq!(
        header(&part, "content-range"),
        format!("bytes 1-3/{}", whole.len())
    );
    assert_eq!(&part.bytes().await.unwrap()[..], b"PNG");

    for (number, status, code) in [
        ("1", 404, "output_not_found"),
        ("-1", 400, "bad_output"),
        ("0/x", 404, "not_found"),
    ] {
        let response = read(
            &relay,
            &format!("/api/anime/jobs/shot/outputs/{number}"),
            None,
        )
        .await;
        assert_eq!(response.status(), status, "{number}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["error"]["code"], code, "{number}");
    }
    let (status, answer) = relay.get("/api/anime/jobs/unknown/outputs").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("job_not_found"))
    );
}

/// A relay with a job that has saved one file, and its ComfyUI.
async fn with_output(name: &str, settings: impl Into<Settings>) -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let file = json!({"filename": name, "subfolder": "", "type": "output"});
    let entry = json!({"prompt": [0, "p", {}, {}, []], "outputs": {"9": {"images": [file]}},
        "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/p", 200, &json!({"p": entry}));
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    (comfyui, relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comfyui_has_deleted_is_gone_and_one_that_runs_is_downloaded() {
    let (comfyui, relay) = with_output("x.svg", Settings::default()).await;
    relay.subscribe("p").await.ends_as("completed").await;
    let path = "/api/anime/jobs/p/outputs/0";
    comfyui.answer(&saved_view("x.svg"), 404, &json!({}));
    let (status, answer) = relay.get(path).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (410, &json!("output_unavailable"))
    );
    comfyui.reply(
        &saved_view("x.svg"),
        Reply::Text(200, "<svg onload=alert(1)>".to_owned()),
    );
    let response = read(&relay, path, None).await;
    assert_eq!(
        header(&response, "content-type"),
        "application/octet-stream"
    );
    assert_eq!(
        header(&response, "content-disposition"),
        "attachment; filename*=UTF-8''x.svg"
    );
    assert_eq!(
        header(&response, "content-security-policy"),
        "sandbox; default-src 'none'"
    );
    comfyui.reply(&saved_view("x.svg"), Reply::Disconnect);
    let (status, answer) = relay.get(path).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("backend_unreachable"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_files_of_its_jobs_only() {
    let (_comfyui, relay) = with_output("x.png", ServerConfig { ..guarded() }).await;
    for (jobs, paths) in [
        (
            "other",
            ["/api/anime/jobs/p/outputs", "/api/anime/jobs/p/outputs/0"],
        ),
        (
            "p",
            ["/api/anime/jobs/q/outputs", "/api/anime/jobs/q/outputs/0"],
        ),
    ] {
        let token = token(&json!({"jobs": [jobs], "scope": "subscribe"}));
        for path in paths {
            let response = relay
                .request_as(&token, Method::GET, path)
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 403, "{path}");
        }
    }
    let token = token(&json!({"jobs": ["p"], "scope": "subscribe"}));
    let list = relay.request_as(&token, Method::GET, "/api/anime/jobs/p/outputs");
    assert_eq!(list.send().await.unwrap().status(), 200);
}
