//! What jobs have made, as files that other graphs load over Comfy API v2.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::v2_assets::{IMG2IMG, loaded_file, loading, reference, stage};
use super::v2_client::{UploadForm, V2Client, data};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy, saved_view, view};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::PATIENCE;

on_both!(the_output_of_an_earlier_job_of_the_same_name_is_not_loaded);

/// How many files the job has made whose server does not say how large they are.
const FILES: usize = 32;

/// A relay with a job `p` that has made these files, its ComfyUI and a client.
async fn with_outputs(
    names: &[String],
    settings: Settings,
) -> (ScriptedComfy, TestRelay, V2Client) {
    let comfyui = ScriptedComfy::start().await;
    let files = names
        .iter()
        .map(|name| json!({"filename": name, "subfolder": "", "type": "output"}));
    let files: Vec<Value> = files.collect();
    let entry = json!({"prompt": [0, "p", {}, {}, []], "outputs": {"9": {"images": files}},
        "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/p", 200, &json!({"p": entry}));
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    relay.subscribe("p").await.ends_as("completed").await;
    let client = V2Client::new(&relay.serve_comfy().await);
    (comfyui, relay, client)
}

async fn the_output_of_an_earlier_job_of_the_same_name_is_not_loaded(db: TestDatabase) {
    let settings = Settings::from(db.config());
    let (servers, relay, client) = stage(settings.clone()).await;
    let output = reference(&json!({"id": "shot.0"}));
    let copy_of_shot = async |relay: &TestRelay, client: &V2Client| {
        relay.submit("shot", IMG2IMG).await;
        relay.subscribe("shot").await.ends_as("completed").await;
        let (status, job) = client.post("/jobs", &loading(&output).await).await;
        assert_eq!(status, 201, "{job}");
        client.wait_for(&job, "succeeded").await;
        loaded_file(client, &job).await
    };
    let first = copy_of_shot(&relay, &client).await;
    relay.stop().await;
    db.execute("DELETE FROM comfy_relay.jobs").await;
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, settings).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let (status, refused) = client.post("/jobs", &loading(&output).await).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("missing_asset")),
        "{refused}"
    );
    assert_ne!(copy_of_shot(&relay, &client).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_its_server_does_not_send_to_the_end_fails_the_submission() {
    let mut settings = Settings::default();
    settings.server.body_timeout = Duration::from_millis(500);
    let (comfyui, _relay, client) = with_outputs(&["a.png".to_owned()], settings).await;
    comfyui.reply(&saved_view("a.png"), Reply::Stall("a part".to_owned()));
    let mut graph = one_node_workflow();
    graph["9"]["inputs"]["image"] = reference(&json!({"id": "p.0"}));
    let body = json!({"workflow": graph});
    let submitted = timeout(PATIENCE, client.post("/jobs", &body)).await;
    let (status, refused) = submitted.expect("the submission waits for the server");
    assert_eq!(
        (status, &refused["error"]["code"]),
        (500, &json!("upstream_error")),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_a_server_does_not_say_hold_up_no_answer() {
    let names: Vec<String> = (0..FILES).map(|number| format!("{number}.png")).collect();
    let (comfyui, _relay, client) = with_outputs(&names, Settings::default()).await;
    for name in &names {
        comfyui.reply(&saved_view(name).replace("GET", "HEAD"), Reply::Hang);
    }
    let job = json!({"urls": {"events": "/api/v2/jobs/p/events"}});
    let began = Instant::now();
    let events = client.follow(&job).await.rest().await;
    let outputs = data(&events, "output");
    assert_eq!(outputs.len(), FILES);
    assert!(outputs.iter().all(|output| output["size_bytes"] == 0));
    // Two seconds for all of them, not for each.
    assert!(began.elapsed() < Duration::from_secs(30), "{events:?}");
    let (_, shown) = client.get("/jobs/p").await;
    assert_eq!(shown["outputs"].as_array().unwrap().len(), FILES);
    assert!(began.elapsed() < Duration::from_secs(45));
}

/// As after a server was replaced by one with empty folders.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_a_server_has_lost_is_made_again() {
    const UPLOAD: &str = "POST /upload/image";
    let (comfyui, _relay, client) = with_outputs(&["a.png".to_owned()], Settings::default()).await;
    comfyui.accept_prompts_as("id");
    comfyui.answer(UPLOAD, 200, &json!({"name": "a.png"}));
    // As long as what the server answers for files of which no test says anything.
    comfyui.reply(&saved_view("a.png"), Reply::File("{}".into()));
    let mut graph = one_node_workflow();
    graph["9"]["inputs"]["image"] = reference(&json!({"id": "p.0"}));
    let submit = async || {
        let (status, job) = client.post("/jobs", &json!({"workflow": graph})).await;
        assert_eq!(status, 201, "{job}");
        let path = format!("{}/workflow", job["urls"]["self"].as_str().unwrap());
        let (_, shown) = client.get(&path).await;
        let name = shown["workflow"]["9"]["inputs"]["image"].as_str();
        name.unwrap().to_owned()
    };
    let first = submit().await;
    assert_eq!((submit().await, comfyui.calls(UPLOAD)), (first.clone(), 1));
    comfyui.answer(&view(&first).replace("GET", "HEAD"), 404, &Value::Null);
    comfyui.answer(UPLOAD, 200, &json!({"name": "b.png"}));
    let second = submit().await;
    assert_ne!(second, first);
    assert_eq!((submit().await, comfyui.calls(UPLOAD)), (second, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_server_has_lost_is_sent_again_under_its_key() {
    const UPLOAD: &str = "POST /upload/image";
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(UPLOAD, 200, &json!({"name": "a.png"}));
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let upload = async |content: &[u8]| {
        let form = UploadForm::new("a.png", content);
        client.upload(&form, Some("key")).await
    };
    let (status, first) = upload(b"{}").await;
    assert_eq!(status, 201, "{first}");
    let (status, again) = upload(b"{}").await;
    assert_eq!(
        (status, &again["id"], comfyui.calls(UPLOAD)),
        (200, &first["id"], 1)
    );
    comfyui.answer(&view("a.png").replace("GET", "HEAD"), 404, &Value::Null);
    comfyui.answer(UPLOAD, 200, &json!({"name": "b.png"}));
    let (status, refused) = upload(b"other").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("idempotency_key_reuse")),
        "{refused}"
    );
    let sent = comfyui.calls(UPLOAD);
    let (status, again) = upload(b"{}").await;
    assert_eq!(
        (status, &again["id"], comfyui.calls(UPLOAD)),
        (200, &first["id"], sent + 1),
        "{again}"
    );
}
