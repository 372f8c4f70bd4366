//! Pictures that workflows load: sent to the relay, and by it to the server that runs the job.

use std::io::Cursor;
use std::path::PathBuf;

use image::{GrayImage, ImageFormat, Luma};
use reqwest::Method;
use serde_json::{Value, json};

use super::{BATCHES, JOBS, relay};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::wait::wait_until;

const INPUTS: &str = "/api/anime/inputs";
const UPLOAD: &str = "POST /upload/image";
const PROMPT: &str = "POST /prompt";

/// A picture of two pixels in this shade.
fn picture(shade: u8) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let pixels = GrayImage::from_pixel(2, 1, Luma([shade]));
    pixels.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// Sends bytes as a picture.
async fn send(relay: &TestRelay, bytes: Vec<u8>) -> (u16, Value) {
    response(relay.request(Method::POST, INPUTS).body(bytes)).await
}

/// Sends a picture. Returns its name.
async fn sent(relay: &TestRelay, shade: u8) -> String {
    let (status, answer) = send(relay, picture(shade)).await;
    assert_eq!(status, 201, "{answer}");
    answer["name"].as_str().unwrap().to_owned()
}

/// Has a server take a picture.
fn take(comfyui: &ScriptedComfy, name: &str) {
    comfyui.answer(
        UPLOAD,
        200,
        &json!({"name": name, "subfolder": "", "type": "input"}),
    );
}

fn job(name: &str) -> Value {
    json!({"job_id": "shot", "workflow": "img2img", "parameters": {"start": name}})
}

/// Whether a part of the last upload is this.
fn has(upload: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(upload, part).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_sent_to_the_server_before_the_job_that_loads_it() {
    let (comfyui, relay) = relay().await;
    let (status, answer) = send(&relay, picture(7)).await;
    assert_eq!(
        (status, &answer["width"], &answer["height"]),
        (201, &json!(2), &json!(1))
    );
    let name = answer["name"].as_str().unwrap();
    assert_eq!(sent(&relay, 7).await, name, "the same picture");
    assert_ne!(sent(&relay, 8).await, name);
    take(&comfyui, name);
    // Nobody has asked for it yet.
    assert_eq!(comfyui.calls(UPLOAD), 0);
    let (status, answer) = relay.post(JOBS, &job(name)).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(comfyui.posted()["prompt"]["10"]["inputs"]["image"], name);
    let upload = comfyui.bytes_of(UPLOAD);
    assert!(has(&upload, &picture(7)));
    let fields = [
        format!("name=\"image\"; filename=\"{name}\""),
        "name=\"overwrite\"\r\n\r\ntrue".to_owned(),
        "name=\"type\"\r\n\r\ninput".to_owned(),
    ];
    for field in fields {
        assert!(has(&upload, field.as_bytes()), "{field}");
    }
    assert_eq!(comfyui.calls(UPLOAD), 1, "the other picture is for nobody");
    // A batch, and a graph with the name in an input of a node.
    let batch = json!({"workflow": "img2img", "parameters": {"start": name}, "count": 2});
    let (status, answer) = relay.post(BATCHES, &batch).await;
    assert_eq!(status, 201, "{answer}");
    comfyui.wait_for_calls(UPLOAD, 3).await;
    let graph = json!({"1": {"class_type": "LoadImage", "inputs": {"image": name}}});
    let (status, answer) = relay.post(JOBS, &json!({"workflow": graph})).await;
    assert_eq!(status, 201, "{answer}");
    comfyui.wait_for_calls(UPLOAD, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_picture_is_refused() {
    let (comfyui, relay) = relay().await;
    let cut = picture(1)[..20].to_vec();
    for bytes in [Vec::new(), b"GIF".to_vec(), b"<svg></svg>".to_vec(), cut] {
        let (status, answer) = send(&relay, bytes).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (415, &json!("not_a_picture"))
        );
    }
    let mut large = picture(1);
    large.resize((32 << 20) + 1, 0);
    let (status, answer) = send(&relay, large).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (413, &json!("body_too_large"))
    );
    // Nobody has sent this one.
    let name = format!("relay-{}.png", "0".repeat(32));
    let (status, answer) = relay.post(JOBS, &job(&name)).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("input_not_found"))
    );
    // It is the name of a file that the server may have.
    let (status, answer) = relay.post(JOBS, &job("photo.png")).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!((comfyui.calls(PROMPT), comfyui.calls(UPLOAD)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_take_a_picture_does_not_get_the_job() {
    let (comfyui, relay) = relay().await;
    let name = sent(&relay, 1).await;
    comfyui.answer(UPLOAD, 413, &json!({}));
    let (status, answer) = relay.post(JOBS, &job(&name)).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (502, &json!("backend_error")),
        "{answer}"
    );
    // Another name would be another picture to the graph.
    take(&comfyui, "other.png");
    let (status, answer) = relay.post(JOBS, &job(&name)).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (502, &json!("backend_error")),
        "{answer}"
    );
    assert_eq!(comfyui.calls(PROMPT), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_while_its_picture_cannot_be_sent() {
    let (comfyui, relay) = relay().await;
    let name = sent(&relay, 1).await;
    comfyui.reply(UPLOAD, Reply::Disconnect);
    let submitting = async {
        let (status, answer) = relay.post(JOBS, &job(&name)).await;
        assert_eq!(status, 201, "{answer}");
    };
    let mending = async {
        comfyui.wait_for_calls(UPLOAD, 1).await;
        assert_eq!(comfyui.calls(PROMPT), 0);
        take(&comfyui, &name);
        comfyui.wait_for_calls(PROMPT, 1).await;
    };
    tokio::join!(submitting, mending);
    assert!(has(&comfyui.bytes_of(UPLOAD), &picture(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_picture_never_arrives_fails_and_those_behind_it_run() {
    let (comfyui, relay) = relay().await;
    relay.post("/api/anime/queue/pause", &json!({})).await;
    let name = sent(&relay, 1).await;
    comfyui.reply(UPLOAD, Reply::Disconnect);
    let behind = json!({"job_id": "behind", "workflow": "txt2img"});
    for body in [job(&name), behind] {
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{answer}");
    }
    relay.post("/api/anime/queue/resume", &json!({})).await;
    comfyui.wait_for_calls(PROMPT, 1).await;
    wait_until("the job has failed", async || {
        relay.job("shot").await.1["status"] == "failed"
    })
    .await;
    assert_eq!(comfyui.calls(PROMPT), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_a_picture_leaves_the_job_to_others() {
    let (full, other) = (ScriptedComfy::start().await, ScriptedComfy::start().await);
    let urls = format!("{},{}", full.url(), other.url());
    let mut settings = Settings::default();
    settings.relay.workflows = PathBuf::from("comfy_workflows");
    let relay = TestRelay::connected_to(&urls, settings).await;
    for comfyui in [&full, &other] {
        comfyui.accept_prompts_as("prompt");
        comfyui.set_queue(&["prompt"], &[]);
    }
    let name = sent(&relay, 1).await;
    take(&other, &name);
    full.answer(UPLOAD, 500, &json!({}));
    // Each server is tried first for one of them.
    for (count, prompt) in [(1, "prompt"), (2, "second")] {
        other.accept_prompts_as(prompt);
        other.set_queue(&["prompt"], &["second"][..count - 1]);
        let body = json!({"workflow": "img2img", "parameters": {"start": name}});
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{answer}");
        other.wait_for_calls(PROMPT, count).await;
    }
    assert!(full.calls(UPLOAD) > 0);
    assert_eq!(full.calls(PROMPT), 0);
}

on_both!(a_picture_outlives_a_restart_and_goes_where_the_job_goes,);

async fn a_picture_outlives_a_restart_and_goes_where_the_job_goes(db: TestDatabase) {
    let settings = || {
        let mut settings = Settings::from(db.config());
        settings.relay.workflows = PathBuf::from("comfy_workflows");
        settings
    };
    let first = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&first.url(), settings()).await;
    let (status, answer) = relay.post("/api/anime/queue/pause", &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let name = sent(&relay, 9).await;
    let (status, answer) = relay.post(JOBS, &job(&name)).await;
    assert_eq!(status, 201, "{answer}");
    relay.stop().await;
    // The relay comes back with another server.
    let second = ScriptedComfy::start().await;
    second.accept_prompts_as("prompt");
    take(&second, &name);
    let relay = TestRelay::connected_to(&second.url(), settings()).await;
    assert_eq!(second.calls(UPLOAD), 0);
    let (status, answer) = relay.post("/api/anime/queue/resume", &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    second.wait_for_calls(PROMPT, 1).await;
    assert!(has(&second.bytes_of(UPLOAD), &picture(9)));
    assert_eq!(second.posted()["prompt"]["10"]["inputs"]["image"], name);
    assert_eq!((first.calls(UPLOAD), first.calls(PROMPT)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fails_whose_picture_is_gone_when_its_turn_comes() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::from(db.config())).await;
    relay.post("/api/anime/queue/pause", &json!({})).await;
    let name = sent(&relay, 4).await;
    let (status, answer) = relay.post(JOBS, &job(&name)).await;
    assert_eq!(status, 201, "{answer}");
    db.execute("DELETE FROM comfy_relay.input_files").await;
    relay.post("/api/anime/queue/resume", &json!({})).await;
    wait_until("the job has failed", async || {
        relay.job("shot").await.1["status"] == "failed"
    })
    .await;
    let (_, failed) = relay.job("shot").await;
    let why = failed["error"].as_str().unwrap_or_default();
    assert!(why.contains("is not here any more"), "{failed}");
    assert_eq!(comfyui.calls(PROMPT), 0);
}

on_both!(pictures_that_nobody_uses_are_deleted,);

async fn pictures_that_nobody_uses_are_deleted(db: TestDatabase) {
    let mut settings = Settings::from(db.config());
    settings.relay.cleanup_interval = std::time::Duration::from_millis(50);
    let relay = TestRelay::without_backend(settings).await;
    let (old, new) = (sent(&relay, 1).await, sent(&relay, 2).await);
    let days = 24 * 60 * 60 * 1_000_i64;
    db.execute(&format!(
        "UPDATE comfy_relay.input_files SET used_at = used_at - {} WHERE name = '{old}'; \
         UPDATE comfy_relay.input_files SET used_at = used_at - {} WHERE name = '{new}'",
        32 * days,
        30 * days,
    ))
    .await;
    let names = async || {
        db.values("SELECT name AS v FROM comfy_relay.input_files")
            .await
    };
    wait_until("the old one is deleted", async || {
        names().await == [Some(new.clone())]
    })
    .await;
}

on_both!(a_use_of_a_picture_is_noted_once_a_day,);

/// A write rewrites the whole picture.
async fn a_use_of_a_picture_is_noted_once_a_day(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::from(db.config())).await;
    relay.post("/api/anime/queue/pause", &json!({})).await;
    let (old, new) = (sent(&relay, 1).await, sent(&relay, 2).await);
    let hours = 60 * 60 * 1_000_i64;
    let back = [(&old, 25 * hours), (&new, 23 * hours)];
    for (name, time) in back {
        db.execute(&format!(
            "UPDATE comfy_relay.input_files SET used_at = used_at - {time} WHERE name = '{name}'"
        ))
        .await;
    }
    let used = async |name: &str| {
        let find = format!(
            "SELECT CAST(used_at AS TEXT) AS v FROM comfy_relay.input_files WHERE name = '{name}'"
        );
        let found = db.values(&find).await;
        let time = found[0].as_ref().unwrap().parse::<i64>();
        time.unwrap()
    };
    let before = (used(&old).await, used(&new).await);
    let load = |name: &str| json!({"class_type": "LoadImage", "inputs": {"image": name}});
    let graph = json!({"1": load(&old), "2": load(&new)});
    let (status, answer) = relay.post(JOBS, &json!({"workflow": graph})).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(used(&new).await, before.1);
    assert!(used(&old).await >= before.0 + 25 * hours);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pictures_of_one_graph_are_counted() {
    let (_comfyui, relay) = relay().await;
    let graph = |count: usize| -> Value {
        let node = |number: usize| {
            let inputs = json!({"image": format!("relay-{number:032x}.png")});
            (
                number.to_string(),
                json!({"class_type": "LoadImage", "inputs": inputs}),
            )
        };
        (0..count)
            .map(node)
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    // Nobody has sent them.
    for (count, code) in [(100, "input_not_found"), (101, "too_many_inputs")] {
        let (status, answer) = relay.post(JOBS, &json!({"workflow": graph(count)})).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_sends_pictures_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("photo.png");
    std::fs::write(&file, picture(3)).unwrap();
    let (comfyui, relay) = relay().await;
    let name = sent(&relay, 3).await;
    take(&comfyui, &name);
    let url = relay.url();
    let submit = async |workflow: &str, input: String| {
        let arguments = [
            "submit", workflow, "--input", &input, "--prompt", "a cat", "--relay", &url,
        ];
        let output = Program::run(&arguments, &[]).await;
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for key in ["start", "10.image"] {
        let (code, errors) = submit("img2img", format!("{key}={}", file.display())).await;
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(comfyui.posted()["prompt"]["10"]["inputs"]["image"], name);
    }
    std::fs::write(&file, "no picture").unwrap();
    for (input, code, text) in [
        (
            format!("start={}", file.display()),
            1,
            "this is not a picture",
        ),
        (
            "start=/no/such.png".to_owned(),
            1,
            "cannot read /no/such.png",
        ),
        ("start".to_owned(), 64, "expected NAME=FILE"),
    ] {
        let (exit, errors) = submit("img2img", input).await;
        assert_eq!(exit, Some(code), "{errors}");
        assert!(errors.contains(text), "{errors}");
    }
}
