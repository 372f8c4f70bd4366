//! Files of jobs: links without a token, thumbnails, copies that stay, texts.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::database::TestDatabase;
use comfy_relay::config::{Secret, ServerConfig, StoreConfig};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::recordings::{TXT2IMG, one_node_workflow};
use crate::support::scripted_comfy::{Reply, ScriptedComfy, saved_view};
use crate::support::signer::{Signer, guarded_by, write_keys};
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, in_seconds, token};
use crate::support::wait::wait_until;

const FILE: &str = "/api/anime/jobs/p/outputs/0";
const ROW_PATH: &str = "SELECT output_path AS v FROM comfy_relay.jobs";

/// A relay whose ComfyUI has run a prompt `p` that has saved these files.
async fn with_files(files: &[&str], settings: impl Into<Settings>) -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let files: Vec<Value> = (files.iter())
        .map(|name| json!({"filename": name, "subfolder": "", "type": "output"}))
        .collect();
    let entry = json!({"prompt": [0, "p", {}, {}, []], "outputs": {"9": {"images": files}},
        "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/p", 200, &json!({"p": entry}));
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    (comfyui, relay)
}

async fn read(relay: &TestRelay, path: &str) -> Response {
    relay.request(Method::GET, path).send().await.unwrap()
}

async fn error(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    (status, answer["error"]["code"].as_str().unwrap().to_owned())
}

fn refused(code: &str) -> (StatusCode, String) {
    (StatusCode::FORBIDDEN, code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_states_of_a_job_name_its_files_at_the_relay() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    let url = "/api/anime/jobs/shot/outputs/0";
    assert_eq!(subscriber.last()["outputs"][0]["url"], url);
    let (_, shown) = relay.job("shot").await;
    assert_eq!(shown["outputs"][0]["url"], url);
    assert_eq!(read(&relay, url).await.status(), 200);
    let (_, list) = relay.get("/api/anime/jobs/shot/outputs").await;
    assert_eq!(
        list["outputs"][0]["url"],
        format!("{}{url}", relay.url()),
        "no link is signed where no tokens are needed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_link_opens_one_file_without_a_token() {
    let (comfyui, relay) = with_files(&["a.txt", "b.txt"], guarded()).await;
    comfyui.reply(&saved_view("a.txt"), Reply::Text(200, "hello".to_owned()));
    let expires_at = in_seconds(600);
    let token = token(&json!({"jobs": ["p"], "scope": "subscribe", "exp": expires_at}));
    let list = relay.request_as(&token, Method::GET, "/api/anime/jobs/p/outputs");
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    let url = list["outputs"][0]["url"].as_str().unwrap();
    let link = url.strip_prefix(&relay.url()).unwrap();
    assert!(
        link.starts_with(&format!("{FILE}?exp={expires_at}&sig=")),
        "{link}"
    );
    assert_eq!(read(&relay, link).await.text().await.unwrap(), "hello");
    // Its thumbnails are opened, too; this file has none.
    let thumbnail = error(read(&relay, &format!("{link}&w=32")).await).await;
    let none = (
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "no_thumbnail".to_owned(),
    );
    assert_eq!(thumbnail, none);

    let unsigned = error(read(&relay, FILE).await).await;
    assert_eq!(
        unsigned,
        (StatusCode::UNAUTHORIZED, "unauthenticated".to_owned())
    );
    let longer = link.replace(&expires_at.to_string(), &(expires_at + 1).to_string());
    for wrong in [
        link.replace("/outputs/0", "/outputs/1"),
        link.replace("/jobs/p/", "/jobs/q/"),
        longer,
        format!("{FILE}?exp={expires_at}&sig=00"),
        format!("{FILE}?sig=00"),
    ] {
        let answer = error(read(&relay, &wrong).await).await;
        assert_eq!(answer, refused("bad_link"), "{wrong}");
    }
    let elsewhere = link.replace(FILE, "/api/anime/jobs/p");
    assert_eq!(read(&relay, &elsewhere).await.status(), 400);
    // A token counts before a link.
    let other = crate::support::tokens::token(&json!({"jobs": ["q"], "scope": "subscribe"}));
    let answer = relay
        .request_as(&other, Method::GET, link)
        .send()
        .await
        .unwrap();
    assert_eq!(error(answer).await, refused("forbidden"));
}

fn size(picture: &[u8]) -> (usize, usize) {
    let size = imagesize::blob_size(picture).unwrap();
    (size.width, size.height)
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_signed_also_where_keys_only_verify_tokens() {
    let folder = TempDir::new().unwrap();
    let (file, signer) = (folder.path().join("keys.json"), Signer::ed("a"));
    write_keys(&file, &[signer.jwk()]);
    let claims =
        json!({"sub": "mika", "jobs": "*", "scope": "subscribe register", "exp": in_seconds(60)});
    let token = signer.sign(&claims);
    let mut shared = guarded_by(&file);
    let secret = "a secret for links of more than thirty-two bytes".to_owned();
    shared.access.link_secret = Some(Secret::from(secret));
    for (settings, is_shared) in [(guarded_by(&file), false), (shared, true)] {
        let (comfyui, relay) = with_files(&["a.txt"], settings.clone()).await;
        comfyui.reply(&saved_view("a.txt"), Reply::Text(200, "hello".to_owned()));
        let list = relay.request_as(&token, Method::GET, "/api/anime/jobs/p/outputs");
        let list: Value = list.send().await.unwrap().json().await.unwrap();
        let url = list["outputs"][0]["url"].as_str().unwrap();
        let link = url.strip_prefix(&relay.url()).unwrap();
        assert_eq!(read(&relay, link).await.text().await.unwrap(), "hello");
        let other = link.replace("sig=", "sig=A");
        assert_eq!(error(read(&relay, &other).await).await, refused("bad_link"));
        // Another relay opens it only with the same secret; it knows the job by its prompt.
        let (comfyui, second) = with_files(&["a.txt"], settings).await;
        comfyui.reply(&saved_view("a.txt"), Reply::Text(200, "hello".to_owned()));
        let known = second.request_as(&token, Method::GET, "/api/anime/jobs/p");
        assert_eq!(known.send().await.unwrap().status(), 200);
        let opened = read(&second, link).await;
        assert_eq!(opened.status() == 200, is_shared, "{opened:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_is_smaller_never_larger_and_kept() {
    let folder = TempDir::new().unwrap();
    let server = ServerConfig {
        cache_dir: Some(folder.path().join("made")),
        ..ServerConfig::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    relay.submit("shot", TXT2IMG).await;
    relay.subscribe("shot").await.ends_as("completed").await;
    let path = "/api/anime/jobs/shot/outputs/0";
    let whole = read(&relay, path).await.bytes().await.unwrap();
    let (width, height) = size(&whole);
    let small = read(&relay, &format!("{path}?w=16")).await;
    assert_eq!(small.status(), 200);
    let etag = small.headers()["etag"].clone();
    let small = small.bytes().await.unwrap();
    assert_eq!(size(&small), (16, 16 * height / width));
    let large = read(&relay, &format!("{path}?w=2048")).await;
    assert_eq!(large.headers()["content-type"], "image/png");
    assert_eq!(large.bytes().await.unwrap(), whole);
    let kept = std::fs::read_dir(folder.path().join("made")).unwrap();
    assert_eq!(kept.count(), 1, "not the file itself");
    let again = read(&relay, &format!("{path}?w=16")).await;
    assert_eq!(again.bytes().await.unwrap(), small);
    let known = relay
        .request(Method::GET, &format!("{path}?w=16"))
        .header("if-none-match", etag);
    assert_eq!(known.send().await.unwrap().status(), 304);
    for (query, code) in [
        ("w=0", "bad_query"),
        ("w=2049", "bad_query"),
        ("h=1", "unknown_parameter"),
    ] {
        let answer = error(read(&relay, &format!("{path}?{query}")).await).await;
        assert_eq!(answer, (StatusCode::BAD_REQUEST, code.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_thumbnails_at_once_are_all_made() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    relay.submit("shot", TXT2IMG).await;
    relay.subscribe("shot").await.ends_as("completed").await;
    let reads = (1..=40).map(|width| {
        let relay = &relay;
        async move {
            let path = format!("/api/anime/jobs/shot/outputs/0?w={width}");
            size(&read(relay, &path).await.bytes().await.unwrap()).0
        }
    });
    let widths = futures_util::future::join_all(reads).await;
    assert_eq!(widths, (1..=40).collect::<Vec<_>>());
}

fn keeping(folder: &Path, store: StoreConfig) -> Settings {
    let mut settings = Settings::from(store);
    settings.relay.keep_outputs = Some(folder.to_owned());
    settings
}

async fn wait_for(path: &Path) {
    wait_until("the file is copied", async || path.is_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_completed_job_are_copied_and_stay() {
    let folder = TempDir::new().unwrap();
    let names = ["a.txt", "a.txt", "../../x.txt", "b.txt"];
    let db = TestDatabase::sqlite().await;
    let (comfyui, relay) = with_files(&names, keeping(folder.path(), db.config())).await;
    // The same file twice is one output.
    for name in ["a.txt", "b.txt", "..%2F..%2Fx.txt"] {
        comfyui.reply(
            &saved_view(name),
            Reply::Text(200, format!("this is {name}")),
        );
    }
    relay.subscribe("p").await.ends_as("completed").await;
    let kept = folder.path().join("p");
    for name in ["a.txt", "1-output", "b.txt"] {
        wait_for(&kept.join(name)).await;
    }
    let files = std::fs::read_dir(&kept).unwrap().count();
    assert_eq!(
        (files, std::fs::read_dir(folder.path()).unwrap().count()),
        (3, 1)
    );
    comfyui.answer(&saved_view("a.txt"), 404, &json!({}));
    let part = relay
        .request(Method::GET, FILE)
        .header("range", "bytes=5-6");
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(part.headers()["content-range"], "bytes 5-6/13");
    assert_eq!(part.text().await.unwrap(), "is");
    let (_, job) = relay.job("p").await;
    let path = kept.join("a.txt");
    assert_eq!(job["output_path"], path.to_str().unwrap());
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"][0]["output_path"], path.to_str().unwrap());
    // The state that a socket or an event stream begins with, and the row.
    let named = path.to_str().unwrap();
    wait_until("the final state names the copy", async || {
        let mut late = relay.subscribe("p").await;
        late.ends_as("completed").await;
        late.last()["output_path"] == named
    })
    .await;
    db.wait_for(ROW_PATH, named).await;
    let (_, list) = relay.get("/api/anime/jobs/p/outputs").await;
    let shown: Vec<&Value> = (list["outputs"].as_array().unwrap().iter())
        .map(|output| &output["size"])
        .collect();
    assert_eq!(shown, [13, 23, 13]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_copied_before_a_restart_is_copied_after_it() {
    let (folder, db) = (TempDir::new().unwrap(), TestDatabase::sqlite().await);
    let settings = Settings::from(db.config());
    let (comfyui, relay) = with_files(&["a.txt"], settings).await;
    comfyui.reply(&saved_view("a.txt"), Reply::Text(200, "text".to_owned()));
    relay.subscribe("p").await.ends_as("completed").await;
    relay.stop().await;
    // It waited for days, and has ended just now.
    db.execute("UPDATE comfy_relay.jobs SET created_at = '2020-01-01T00:00:00.000Z'")
        .await;
    // An earlier job of this name has left its file, and a relay that was killed a part of one.
    let (copy, part) = (
        folder.path().join("p/a.txt"),
        folder.path().join("p/.1.part"),
    );
    std::fs::create_dir(folder.path().join("p")).unwrap();
    for file in [&copy, &part] {
        std::fs::write(file, "old").unwrap();
    }
    let earlier = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    let file = std::fs::File::options().write(true).open(&copy).unwrap();
    file.set_modified(earlier).unwrap();
    let settings = keeping(folder.path(), db.config());
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    wait_until("the file is copied", async || {
        std::fs::read_to_string(&copy).is_ok_and(|text| text == "text")
    })
    .await;
    assert!(!part.exists());
    let mut late = relay.subscribe("p").await;
    late.ends_as("completed").await;
    assert_eq!(late.last()["output_path"], copy.to_str().unwrap());
    relay.stop().await;
}

/// Nothing else would have them copied later.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_does_not_answer_at_the_start_is_copied_all_the_same() {
    let (folder, db) = (TempDir::new().unwrap(), TestDatabase::postgres().await);
    let settings = Settings::from(db.config());
    let (comfyui, relay) = with_files(&["a.txt"], settings).await;
    comfyui.reply(&saved_view("a.txt"), Reply::Text(200, "text".to_owned()));
    relay.subscribe("p").await.ends_as("completed").await;
    db.wait_for("SELECT status AS v FROM comfy_relay.jobs", "completed")
        .await;
    relay.stop().await;
    db.execute("ALTER TABLE comfy_relay.jobs RENAME TO away")
        .await;
    let settings = keeping(folder.path(), db.config());
    let relay = TestRelay::start(&comfyui.url(), settings).await;
    let registered = "SELECT count(*) AS v FROM comfy_relay.relays";
    db.wait_for(registered, "1").await;
    db.execute("ALTER TABLE comfy_relay.away RENAME TO jobs")
        .await;
    wait_for(&folder.path().join("p/a.txt")).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_shown_in_the_list() {
    let (comfyui, relay) = with_files(&["note.txt", "long.txt"], Settings::default()).await;
    comfyui.reply(
        &saved_view("note.txt"),
        Reply::Text(200, "a note".to_owned()),
    );
    comfyui.reply(
        &saved_view("long.txt"),
        Reply::Text(200, "x".repeat(70_000)),
    );
    relay.subscribe("p").await.ends_as("completed").await;
    let (_, list) = relay.get("/api/anime/jobs/p/outputs").await;
    assert_eq!(list["outputs"][0]["text"], "a note");
    assert_eq!(list["outputs"][0]["size"], 6);
    assert!(list["outputs"][1].get("text").is_none());
    assert_eq!(list["outputs_total"], 2);
}

/// A relay that keeps files, whose ComfyUI has `prompt` run to its end, with one picture that is read as this reply says.
async fn completed_with(
    reply: Reply,
    settings: Settings,
) -> (ScriptedComfy, TestRelay, Subscriber) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    comfyui.reply(&saved_view("a.png"), reply);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit_workflow("shot", &one_node_workflow()).await;
    let file = json!({"filename": "a.png", "subfolder": "", "type": "output"});
    let entry = json!({"outputs": {"9": {"images": [file]}},
        "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": entry}));
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    (comfyui, relay, subscriber)
}

/// The end waits for no copy, and its path is the one that stays.
#[tokio::test(flavor = "multi_thread")]
async fn the_final_state_names_the_copy_before_it_is_there() {
    let (folder, db) = (TempDir::new().unwrap(), TestDatabase::sqlite().await);
    let settings = keeping(folder.path(), db.config());
    let (comfyui, relay, subscriber) = completed_with(Reply::Hang, settings).await;
    let copy = folder.path().join("shot/a.png");
    let named = copy.to_str().unwrap();
    assert!(!copy.exists());
    assert_eq!(subscriber.last()["output_path"], named);
    let (_, job) = relay.job("shot").await;
    assert_eq!(job["output_path"], named);
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"][0]["output_path"], named);
    db.wait_for(ROW_PATH, named).await;
    comfyui.reply(&saved_view("a.png"), Reply::File(b"a picture".to_vec()));
    wait_for(&copy).await;
    let mut late = relay.subscribe("shot").await;
    late.ends_as("completed").await;
    for field in ["output_path", "seq"] {
        assert_eq!(late.last()[field], subscriber.last()[field]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_copy_failed_the_path_is_that_of_comfyui_again() {
    let (folder, db) = (TempDir::new().unwrap(), TestDatabase::sqlite().await);
    let settings = keeping(folder.path(), db.config());
    let gone = Reply::Text(404, String::new());
    let (_comfyui, relay, subscriber) = completed_with(gone, settings).await;
    let copy = folder.path().join("shot/a.png");
    assert_eq!(subscriber.last()["output_path"], copy.to_str().unwrap());
    wait_until("the job names the file of ComfyUI", async || {
        let (_, job) = relay.job("shot").await;
        job["output_path"] == "a.png"
    })
    .await;
    let mut late = relay.subscribe("shot").await;
    late.ends_as("completed").await;
    assert_eq!(late.last()["output_path"], "a.png");
    assert_eq!(late.last()["seq"], subscriber.last()["seq"]);
    db.wait_for(ROW_PATH, "a.png").await;
}
