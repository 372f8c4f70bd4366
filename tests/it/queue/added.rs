//! Servers are added and removed while relays run.

use comfy_relay::replay::{PlaybackSpeed, Replay};
use reqwest::Method;
use serde_json::{Value, json};

use super::operations::complete;
use super::{SPEED, job, prompts_at, prompts_run, servers, settings};
use crate::storage::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::wait::wait_until;

on_both!(
    an_added_server_takes_what_waits,
    an_added_server_is_kept_over_a_restart,
    a_job_that_an_added_server_cannot_run_waits_for_another,
    a_removed_server_is_drained_first,
    what_a_server_has_that_is_removed_at_once_runs_elsewhere,
    prompts_of_others_go_on_at_a_server_that_is_removed_at_once,
    a_server_that_is_being_removed_may_stay,
    another_relay_follows_what_is_added_and_removed,
);

pub(super) const BACKENDS: &str = "/api/anime/backends";

/// Too slow for a prompt to end in a test.
const NEVER: PlaybackSpeed = PlaybackSpeed::Real(0.02);

/// The settings of a relay to which servers on loopback may be added.
pub(super) fn open_settings(db: &TestDatabase) -> Settings {
    let mut settings = settings(db);
    settings.comfy.networks = vec!["127.0.0.0/8".parse().unwrap()];
    settings
}

pub(super) fn body(name: &str, server: &Replay) -> Value {
    json!({"name": name, "url": server.url()})
}

pub(super) async fn add(relay: &TestRelay, body: &Value) -> Value {
    let (status, answer) = relay.post(BACKENDS, body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

pub(super) async fn remove(relay: &TestRelay, name: &str, query: &str) -> (u16, Value) {
    let path = format!("{BACKENDS}/{name}{query}");
    let response = relay.request(Method::DELETE, &path).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// The names of the servers at each place that lists them.
pub(super) async fn names(relay: &TestRelay) -> Vec<Vec<String>> {
    let (_, backends) = relay.get(BACKENDS).await;
    let (_, health) = relay.get("/api/anime/health").await;
    let monitor = relay.monitor().await.receive_until(|_| true).await;
    let lists = [
        &backends["backends"],
        &health["components"]["comfyui"],
        &monitor["backends"],
    ];
    let names = lists.map(|list| {
        let backends = list.as_array().unwrap().iter();
        let names = backends.map(|it| it["name"].as_str().unwrap().to_owned());
        names.collect()
    });
    names.into()
}

pub(super) async fn is_gone(relay: &TestRelay, name: &str) {
    wait_until(&format!("{name} is gone"), async || {
        names(relay).await.iter().flatten().all(|it| it != name)
    })
    .await;
}

async fn is_connected(relay: &TestRelay, name: &str) {
    wait_until(&format!("{name} is connected"), async || {
        let (_, backends) = relay.get(BACKENDS).await;
        let mut backends = backends["backends"].as_array().unwrap().iter();
        backends.any(|it| it["name"] == name && it["status"] == "connected")
    })
    .await;
}

async fn submit(relay: &TestRelay, id: &str, backend: &Value) -> Value {
    let mut body = job(id).await;
    body["backend"] = backend.clone();
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

async fn pause(relay: &TestRelay, name: &str, verb: &str) {
    let name = name.replace(':', "%3A");
    let path = format!("{BACKENDS}/{name}/{verb}");
    let (status, answer) = relay.post(&path, &Value::Null).await;
    assert_eq!(status, 200, "{answer}");
}

fn name_of(server: &Replay) -> String {
    server.url().trim_start_matches("http://").to_owned()
}

async fn an_added_server_takes_what_waits(db: TestDatabase) {
    let servers = servers(2).await;
    let first = name_of(&servers[0]);
    let relay = TestRelay::connected_to(&servers[0].url(), open_settings(&db)).await;
    pause(&relay, &first, "pause").await;
    for id in ["a", "b"] {
        submit(&relay, id, &Value::Null).await;
    }
    let mut wanted = body("gpu9", &servers[1]);
    wanted["labels"] = json!({"gpu": "h100"});
    let added = add(&relay, &wanted).await;
    assert_eq!(added["name"], "gpu9", "{added}");
    assert_eq!(added["url"], servers[1].url(), "{added}");
    assert_eq!(added["labels"], json!({"gpu": "h100"}), "{added}");
    assert_eq!(names(&relay).await, vec![vec![first, "gpu9".to_owned()]; 3]);
    complete(&relay, &["a", "b"]).await;
    assert_eq!(prompts_run(&servers[1].url()).await.len(), 2);
    assert_eq!(relay.job("a").await.1["backend"], "gpu9");
    let labelled = submit(&relay, "c", &json!("gpu=h100")).await;
    assert_eq!(labelled["backend"], "gpu9", "{labelled}");
    complete(&relay, &["c"]).await;
    let metrics = relay.request(Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("gpu9"), "{metrics}");
}

async fn an_added_server_is_kept_over_a_restart(db: TestDatabase) {
    let servers = servers(2).await;
    let relay = TestRelay::connected_to(&servers[0].url(), open_settings(&db)).await;
    let mut wanted = body("gpu9", &servers[1]);
    wanted["labels"] = json!({"gpu": "h100", "room": "2"});
    add(&relay, &wanted).await;
    is_connected(&relay, "gpu9").await;
    pause(&relay, "gpu9", "pause").await;
    submit(&relay, "a", &json!("gpu9")).await;
    relay.stop().await;
    let relay = TestRelay::connected_to(&servers[0].url(), open_settings(&db)).await;
    let (_, backends) = relay.get(BACKENDS).await;
    let kept = &backends["backends"][1];
    assert_eq!(kept["name"], "gpu9", "{backends}");
    assert_eq!(kept["labels"], wanted["labels"], "{backends}");
    assert_eq!(kept["operation"], "paused", "{backends}");
    pause(&relay, "gpu9", "resume").await;
    complete(&relay, &["a"]).await;
    assert_eq!(prompts_run(&servers[1].url()).await.len(), 1);
}

async fn a_job_that_an_added_server_cannot_run_waits_for_another(db: TestDatabase) {
    let able = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let first = name_of(&able);
    let relay = TestRelay::connected_to(&able.url(), open_settings(&db)).await;
    pause(&relay, &first, "pause").await;
    submit(&relay, "a", &Value::Null).await;
    let unable = ScriptedComfy::start().await;
    let lack = json!({"error": {"type": "invalid_prompt", "message": "no such model", "details": "", "extra_info": {}},
        "node_errors": {}});
    unable.answer("POST /prompt", 400, &lack);
    add(&relay, &json!({"name": "gpu9", "url": unable.url()})).await;
    unable.wait_for_calls("POST /prompt", 1).await;
    let message = format!("Waiting: {first} is paused");
    wait_until("it waits for the other one", async || {
        relay.job("a").await.1["message"] == message
    })
    .await;
    pause(&relay, &first, "resume").await;
    complete(&relay, &["a"]).await;
    assert_eq!(relay.job("a").await.1["backend"], first);
}

async fn a_removed_server_is_drained_first(db: TestDatabase) {
    let servers = [
        comfyui(&[TXT2IMG], SPEED).await,
        comfyui(&[TXT2IMG], NEVER).await,
    ];
    let first = name_of(&servers[0]);
    let relay = TestRelay::connected_to(&servers[0].url(), open_settings(&db)).await;
    add(&relay, &body("gpu9", &servers[1])).await;
    is_connected(&relay, "gpu9").await;
    pause(&relay, &first, "pause").await;
    for id in ["a", "b", "c", "d"] {
        submit(&relay, id, &Value::Null).await;
    }
    wait_until("the first one runs", async || {
        relay.job("a").await.1["status"] == "processing"
    })
    .await;
    let (status, answer) = remove(&relay, "gpu9", "").await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["operation"], "removing", "{answer}");
    pause(&relay, &first, "resume").await;
    servers[1].set_speed(SPEED);
    complete(&relay, &["a", "b", "c", "d"]).await;
    is_gone(&relay, "gpu9").await;
    let (_, ran) = relay.job("a").await;
    assert_eq!(ran["backend"], "gpu9", "what ran has ended there: {ran}");
    let runs = [&servers[0], &servers[1]].map(|server| server.url());
    let runs = [
        prompts_run(&runs[0]).await.len(),
        prompts_run(&runs[1]).await.len(),
    ];
    assert_eq!(runs[0] + runs[1], 4, "each once: {runs:?}");
    for table in ["added_backends", "operations"] {
        let left = db
            .values(&format!("SELECT 'row' AS v FROM comfy_relay.{table}"))
            .await;
        assert_eq!(left.len(), 0, "{table}");
    }
    let (status, answer) = remove(&relay, "gpu9", "").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("backend_unknown"))
    );
}

async fn prompts_of_others_go_on_at_a_server_that_is_removed_at_once(db: TestDatabase) {
    let slow = comfyui(&[TXT2IMG], NEVER).await;
    let first = servers(1).await;
    let mut settings = open_settings(&db);
    settings.comfy.discovery = true;
    let relay = TestRelay::connected_to(&first[0].url(), settings).await;
    add(&relay, &body("gpu9", &slow)).await;
    is_connected(&relay, "gpu9").await;
    let prompt = json!({"prompt": job("x").await["workflow"], "client_id": "another"});
    let post = reqwest::Client::new().post(format!("{}/prompt", slow.url()));
    let (status, answer) = response(post.json(&prompt)).await;
    assert_eq!(status, 200, "{answer}");
    wait_until("it has become a job", async || {
        let (_, list) = relay.get("/api/anime/jobs?status=processing").await;
        list["jobs"][0]["job_id"] == answer["prompt_id"]
    })
    .await;
    let (status, answer) = remove(&relay, "gpu9", "?force=true").await;
    assert_eq!(status, 202, "{answer}");
    is_gone(&relay, "gpu9").await;
    // Nothing is under way any more.
    relay.stop().await;
    assert_eq!(prompts_at(&slow.url()).await, 1);
}

async fn what_a_server_has_that_is_removed_at_once_runs_elsewhere(db: TestDatabase) {
    let slow = comfyui(&[TXT2IMG], NEVER).await;
    let fast = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let first = name_of(&fast);
    let relay = TestRelay::connected_to(&fast.url(), open_settings(&db)).await;
    add(&relay, &body("gpu9", &slow)).await;
    is_connected(&relay, "gpu9").await;
    pause(&relay, &first, "pause").await;
    for id in ["a", "b"] {
        assert_eq!(submit(&relay, id, &Value::Null).await["backend"], "gpu9");
    }
    submit(&relay, "bound", &json!("gpu9")).await;
    let mut subscriber = relay.subscribe("a").await;
    wait_until("one runs, and one is ready", async || {
        relay.job("a").await.1["status"] == "processing" && prompts_at(&slow.url()).await == 2
    })
    .await;
    pause(&relay, &first, "resume").await;
    let (status, answer) = remove(&relay, "gpu9", "?force=true").await;
    assert_eq!(status, 202, "{answer}");
    complete(&relay, &["a", "b"]).await;
    subscriber.ends_as("completed").await;
    let last = subscriber.states.last().unwrap();
    assert_eq!(
        (&last["attempt"], &last["backend"]),
        (&json!(2), &json!(first))
    );
    is_gone(&relay, "gpu9").await;
    wait_until("its prompts are cancelled there", async || {
        prompts_at(&slow.url()).await == 0
    })
    .await;
    wait_until("it says what it waits for", async || {
        relay.job("bound").await.1["message"] == "Waiting: there is no server gpu9"
    })
    .await;
    let (status, answer) = relay
        .post(
            "/api/anime/jobs",
            &json!({"workflow": {}, "backend": "gpu9"}),
        )
        .await;
    assert_eq!(status, 400, "{answer}");
    // The name is free for another server.
    let other = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    add(&relay, &body("gpu9", &other)).await;
    complete(&relay, &["bound"]).await;
    assert_eq!(prompts_run(&other.url()).await.len(), 1);
}

async fn a_server_that_is_being_removed_may_stay(db: TestDatabase) {
    let fast = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let slow = comfyui(&[TXT2IMG], NEVER).await;
    let relay = TestRelay::connected_to(&fast.url(), open_settings(&db)).await;
    add(&relay, &body("gpu9", &slow)).await;
    is_connected(&relay, "gpu9").await;
    submit(&relay, "a", &json!("gpu9")).await;
    remove(&relay, "gpu9", "").await;
    let (_, backends) = relay.get(BACKENDS).await;
    let leaving = &backends["backends"][1];
    assert_eq!(leaving["operation"], "removing", "{backends}");
    assert_eq!(leaving["status"], "draining", "{backends}");
    let refused = json!({"workflow": job("x").await["workflow"], "backend": "gpu9"});
    let (status, answer) = relay.post("/api/anime/jobs", &refused).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("backend_unknown"))
    );
    let (status, answer) = relay.post(BACKENDS, &body("gpu9", &slow)).await;
    assert_eq!(status, 200, "it was there: {answer}");
    assert_eq!(answer["operation"], "running", "{answer}");
    assert_eq!(relay.job("a").await.1["backend"], "gpu9");
}

async fn another_relay_follows_what_is_added_and_removed(db: TestDatabase) {
    let servers = servers(2).await;
    let relay = TestRelay::connected_to(&servers[0].url(), open_settings(&db)).await;
    let other = TestRelay::start(&servers[0].url(), open_settings(&db)).await;
    add(&other, &body("gpu9", &servers[1])).await;
    wait_until("both know it", async || {
        names(&relay).await[0].len() == 2 && names(&other).await[0].len() == 2
    })
    .await;
    let (status, _) = remove(&relay, "gpu9", "").await;
    assert_eq!(status, 202);
    is_gone(&relay, "gpu9").await;
    is_gone(&other, "gpu9").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_added_or_removed_is_said_with_a_code() {
    let servers = servers(2).await;
    let first = name_of(&servers[0]);
    let mut settings = Settings::default();
    settings.comfy.networks = vec!["127.0.0.0/8".parse().unwrap()];
    let relay = TestRelay::connected_to(&servers[0].url(), settings).await;
    let url = servers[1].url();
    for (body, code, word) in [
        (json!({"url": url}), "bad_name", "name"),
        (json!({"name": "", "url": url}), "bad_name", "name"),
        (json!({"name": "a=b", "url": url}), "bad_name", "name"),
        (json!({"name": "a/b", "url": url}), "bad_name", "name"),
        (json!({"name": 7, "url": url}), "bad_name", "name"),
        (
            json!({"name": "x".repeat(65), "url": url}),
            "bad_name",
            "name",
        ),
        (json!({"name": "gpu9"}), "bad_url", "url"),
        (json!({"name": "gpu9", "url": 7}), "bad_url", "url"),
        (
            json!({"name": "gpu9", "url": "ftp://gpu9"}),
            "bad_url",
            "url",
        ),
        (
            json!({"name": "gpu9", "url": "http://me:secret@gpu9"}),
            "bad_url",
            "url",
        ),
        (
            json!({"name": "gpu9", "url": "http://gpu9.invalid:8188"}),
            "bad_url",
            "gpu9.invalid",
        ),
        (
            json!({"name": "gpu9", "url": url, "labels": []}),
            "bad_labels",
            "labels",
        ),
        (
            json!({"name": "gpu9", "url": url, "labels": {"gpu": 1}}),
            "bad_labels",
            "gpu",
        ),
        (
            json!({"name": "gpu9", "url": url, "token": "t"}),
            "unknown_field",
            "token",
        ),
        (json!([]), "bad_json", ""),
    ] {
        let (status, answer) = relay.post(BACKENDS, &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert_eq!(answer["error"]["code"], code, "{body}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{body}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    let added = add(&relay, &json!({"name": "gpu9", "url": url})).await;
    let (status, again) = relay
        .post(BACKENDS, &json!({"name": "gpu9", "url": format!("{url}/")}))
        .await;
    assert_eq!(status, 200, "{again}");
    assert_eq!(again["labels"], added["labels"]);
    for (name, url) in [
        ("gpu9", "http://127.0.0.9:8188"),
        ("gpu8", url.as_str()),
        (first.as_str(), url.as_str()),
        ("gpu8", servers[0].url().as_str()),
    ] {
        let (status, answer) = relay
            .post(BACKENDS, &json!({"name": name, "url": url}))
            .await;
        assert_eq!(status, 409, "{name} {url}: {answer}");
        assert_eq!(answer["error"]["code"], "backend_exists", "{answer}");
    }
    let configured = first.replace(':', "%3A");
    let (status, answer) = remove(&relay, &configured, "").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("backend_configured"))
    );
    let (status, answer) = remove(&relay, "gpu7", "").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("backend_unknown"))
    );
    let (status, answer) = remove(&relay, "gpu9", "?force=perhaps").await;
    assert_eq!(status, 400, "{answer}");
    let (status, _) = relay.get(&format!("{BACKENDS}/gpu9")).await;
    assert_eq!(status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_add_and_remove_servers() {
    let servers = servers(2).await;
    let mut settings = Settings::default();
    settings.comfy.networks = vec!["127.0.0.0/8".parse().unwrap()];
    let relay = TestRelay::connected_to(&servers[0].url(), settings).await;
    let (relay_url, url) = (relay.url(), servers[1].url());
    let run = async |arguments: &[&str]| {
        let output = Program::run(arguments, &[("RELAY_URL", relay_url.as_str())]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            text,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let labels = ["--label", "gpu=h100", "--label", "room=2"];
    let arguments = [&["backends", "add", "gpu9", url.as_str()][..], &labels].concat();
    let (code, text, error) = run(&arguments).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("gpu9: running"), "{text}");
    let (_, listed, _) = run(&["backends"]).await;
    assert!(listed.contains("gpu=h100, room=2"), "{listed}");
    let (code, text, error) = run(&["backends", "remove", "gpu9", "--force"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("gpu9: removing"), "{text}");
    is_gone(&relay, "gpu9").await;
    for wrong in [
        &["backends", "add", "gpu9"][..],
        &["backends", "pause", "gpu9", &url],
        &["backends", "pause", "gpu9", "--force"],
        &["backends", "remove", "gpu9", "--label", "a=b"],
    ] {
        let (code, _, error) = run(wrong).await;
        assert_eq!(code, Some(64), "{wrong:?}: {error}");
    }
}
