//! Texts that nodes show in ComfyUI's page: outputs without a file.

use comfy_relay::config::StoreConfig;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy, saved_view};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;

/// A node has shown a text of two lines beside its video.
const SHOWN: &str = "0.33.0/12c-custom-ui-outputs";

/// A node has shown a text of 126,000 characters.
const LONG: &str = "0.33.0/30-large-messages";

const LINES: &str = "erste Zeile ✓\n\nzweite Zeile äöü";

on_both!(a_text_survives_a_restart);

/// The outputs that are texts.
fn texts(state: &Value) -> Vec<Value> {
    let outputs = state["outputs"].as_array().into_iter().flatten();
    let texts = outputs.filter(|output| output["type"] == "text");
    texts.cloned().collect()
}

/// A ComfyUI that runs `prompt`, whose nodes show these texts, and a relay that has submitted it as `shot`.
async fn showing(outputs: &Value, settings: impl Into<Settings>) -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    let entry = json!({"outputs": outputs, "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": entry}));
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    (comfyui, relay)
}

fn executed(comfyui: &ScriptedComfy, node: &str, output: &Value) {
    let data = json!({"prompt_id": "prompt", "node": node, "output": output});
    comfyui.send(&json!({"type": "executed", "data": data}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_an_output_that_is_read_without_comfyui() {
    let relay = TestRelay::replaying(SHOWN).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", SHOWN).await;
    subscriber.ends_as("completed").await;
    let shown = texts(subscriber.last());
    let outputs = subscriber.last()["outputs"].as_array().unwrap();
    let number = outputs.iter().position(|output| *output == shown[0]);
    let path = format!("/api/anime/jobs/shot/outputs/{}", number.unwrap());
    let expected = json!({"node": "40", "kind": "text", "filename": "", "subfolder": "", "type": "text",
        "url": path, "text": LINES});
    assert_eq!(shown, [expected]);
    // What people made the job for is a file.
    assert_eq!(subscriber.last()["output_path"], "ComfyUI_00001_.png");
    let (_, list) = relay.get("/api/anime/jobs/shot/outputs").await;
    let listed = &list["outputs"][number.unwrap()];
    assert_eq!(listed["text"], LINES);
    assert_eq!(listed["size"], LINES.len());
    assert_eq!(listed["media_type"], "text/plain; charset=utf-8");
    let read = relay.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(read.status(), 200);
    assert_eq!(read.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        read.headers()["content-disposition"],
        "inline; filename*=UTF-8''text-40.txt"
    );
    assert_eq!(read.text().await.unwrap(), LINES);
    let part = relay
        .request(Method::GET, &path)
        .header("range", "bytes=0-4");
    assert_eq!(part.send().await.unwrap().text().await.unwrap(), LINES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_is_cut_off_and_says_so() {
    let relay = TestRelay::replaying(LONG).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", LONG).await;
    subscriber.ends_as("completed").await;
    let long = texts(subscriber.last())
        .into_iter()
        .find(|output| output["truncated"] == true)
        .unwrap();
    let text = long["text"].as_str().unwrap();
    assert_eq!(text.chars().count(), 4_096);
    assert!(text.starts_with("lorem ipsum ä lorem ipsum ä"), "{text}");
    let (_, list) = relay.get("/api/anime/jobs/shot/outputs").await;
    let listed = texts(&list)
        .into_iter()
        .find(|output| output["truncated"] == true);
    assert_eq!(listed.unwrap()["text"], text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_texts_of_a_job_are_bounded() {
    let long = json!({"text": ["ä".repeat(4_000)]});
    let outputs: serde_json::Map<String, Value> = (1..=40)
        .map(|node| (node.to_string(), long.clone()))
        .collect();
    let outputs = Value::Object(outputs);
    let (comfyui, relay) = showing(&outputs, Settings::default()).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit_workflow("shot", &one_node_workflow()).await;
    for node in 1..=40 {
        executed(&comfyui, &node.to_string(), &long);
    }
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    let shown = texts(subscriber.last());
    assert_eq!(
        shown.len(),
        40,
        "each once, from the socket and the history"
    );
    let whole = shown
        .iter()
        .filter(|output| output.get("truncated").is_none());
    assert_eq!(whole.count(), 8, "of 8,000 bytes each");
    assert_eq!(shown[39]["text"], "");
    assert!(subscriber.last().to_string().len() < 100_000);
}

/// What is sent ten times a second, and what many jobs are in, has the output without its text.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_in_the_final_state_and_in_answers_about_its_job_alone() {
    let text = json!({"text": ["a secret"]});
    let (comfyui, relay) = showing(&json!({"9": text}), Settings::default()).await;
    let mut monitor = relay.monitor().await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit_workflow("shot", &one_node_workflow()).await;
    let started = json!({"prompt_id": "prompt"});
    comfyui.send(&json!({"type": "execution_start", "data": started}));
    executed(&comfyui, "9", &text);
    let running = subscriber
        .receive_until(|state| state["outputs_total"] == 1)
        .await;
    assert_eq!(running["status"], "processing");
    assert_eq!(texts(&running).len(), 1);
    assert!(!running.to_string().contains("secret"), "{running}");
    let (_, shown) = relay.job("shot").await;
    assert_eq!(shown["outputs"][0]["text"], "a secret");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    assert_eq!(subscriber.last()["outputs"][0]["text"], "a secret");
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"][0]["outputs"][0]["type"], "text");
    assert!(!page.to_string().contains("secret"), "{page}");
    let is_of_the_end = |status: &Value| status["jobs"]["completed"] == 1;
    let status = monitor.receive_until(is_of_the_end).await;
    assert!(!status.to_string().contains("secret"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_needs_the_right_to_its_job() {
    let text = json!({"text": ["a secret"]});
    let (comfyui, relay) = showing(&json!({"9": text}), guarded()).await;
    let own = token(&json!({"jobs": "*", "scope": "subscribe submit register"}));
    let other = token(&json!({"jobs": ["other"], "scope": "subscribe"}));
    let submission = relay.request_as(&own, Method::POST, "/api/anime/jobs");
    let body = json!({"job_id": "shot", "workflow": one_node_workflow()});
    assert_eq!(submission.json(&body).send().await.unwrap().status(), 201);
    executed(&comfyui, "9", &text);
    comfyui.set_queue(&[], &[]);
    wait_until("the job has ended", async || {
        let job = relay.request_as(&own, Method::GET, "/api/anime/jobs/shot");
        let job: Value = job.send().await.unwrap().json().await.unwrap();
        job["status"] == "completed" && job["outputs"][0]["text"] == "a secret"
    })
    .await;
    for path in ["/outputs", "/outputs/0", ""] {
        let path = format!("/api/anime/jobs/shot{path}");
        let answer = relay
            .request_as(&other, Method::GET, &path)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 403, "{path}");
    }
    let list = relay.request_as(&other, Method::GET, "/api/anime/jobs");
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    assert_eq!(list["jobs"], json!([]));
}

async fn a_text_survives_a_restart(db: TestDatabase) {
    // A database cannot keep the null character.
    let output = json!({"text": ["nu\0ll", "line\nbreak"]});
    let (comfyui, relay) = showing(&json!({"9": output}), db.config()).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit_workflow("shot", &one_node_workflow()).await;
    executed(&comfyui, "9", &output);
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    let shown = texts(subscriber.last());
    assert_eq!(shown[0]["text"], "nu\u{fffd}ll\n\nline\nbreak");
    relay.stop().await;
    let relay = TestRelay::connected_to(&comfyui.url(), db.config()).await;
    let mut late = relay.subscribe("shot").await;
    late.ends_as("completed").await;
    assert_eq!(texts(late.last()), shown);
    let read = relay.request(Method::GET, "/api/anime/jobs/shot/outputs/0");
    assert_eq!(
        read.send().await.unwrap().text().await.unwrap(),
        shown[0]["text"].as_str().unwrap()
    );
}

/// A text is kept with its job, and no file is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_text_is_copied() {
    let folder = TempDir::new().unwrap();
    let file = json!([{"filename": "a.png", "subfolder": "", "type": "output"}]);
    let outputs = json!({"9": {"text": ["shown"], "images": file}});
    let mut settings = Settings::from(StoreConfig::default());
    settings.relay.keep_outputs = Some(folder.path().to_owned());
    let (comfyui, relay) = showing(&outputs, settings).await;
    comfyui.reply(&saved_view("a.png"), Reply::File(b"a picture".to_vec()));
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit_workflow("shot", &one_node_workflow()).await;
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    assert_eq!(texts(subscriber.last()).len(), 1);
    let copy = folder.path().join("shot/a.png");
    wait_until("the file is copied", async || copy.is_file()).await;
    wait_until("the job names the copy", async || {
        let (_, job) = relay.job("shot").await;
        job["output_path"] == copy.to_str().unwrap()
    })
    .await;
    assert_eq!(
        std::fs::read_dir(folder.path().join("shot"))
            .unwrap()
            .count(),
        1
    );
}
