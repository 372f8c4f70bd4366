//! Clients that others have written, unchanged but for the address.

use std::path::PathBuf;
use std::process::Command;

use comfy_relay::replay::{PlaybackSpeed, Replay};
use reqwest::Url;
use serde_json::{Value, json};

use crate::support::recordings::{TXT2IMG, recording, replay, workflow};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};
use crate::support::tool::{Events, installed, node_with_websocket, skip};
use crate::support::wait::wait_until;

/// Fast, and not so fast that a client that connects after it has submitted comes too late for everything.
pub(super) const SPEED: PlaybackSpeed = PlaybackSpeed::Real(10.0);

/// A prompt begins, and does not end before anybody's patience does.
pub(super) const SLOW: PlaybackSpeed = PlaybackSpeed::Real(0.02);

/// A relay before two servers, with a workflow in a file.
pub(super) struct Stage {
    _servers: [Replay; 2],
    pub(super) relay: TestRelay,
    pub(super) api: String,
    folder: tempfile::TempDir,
}

impl Stage {
    pub(super) async fn new(speed: PlaybackSpeed, settings: Settings) -> Self {
        Self::playing(TXT2IMG, speed, settings).await
    }

    /// The same with the workflow of another recording.
    pub(super) async fn playing(name: &str, speed: PlaybackSpeed, settings: Settings) -> Self {
        let server = async || replay(vec![recording(name).await], speed).await;
        let servers = [server().await, server().await];
        let urls = format!("{},{}", servers[0].url(), servers[1].url());
        let relay = TestRelay::connected_to(&urls, settings).await;
        let api = relay.serve_comfy().await;
        let folder = tempfile::tempdir().unwrap();
        let graph = workflow(name).await.to_string();
        std::fs::write(folder.path().join("workflow.json"), graph).unwrap();
        Self {
            _servers: servers,
            relay,
            api,
            folder,
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("workflow.json")
    }

    /// The package comfy-api-simplified; `None` on a machine without it.
    fn simplified(&self, scenario: &str, arguments: &[&str]) -> Option<Events> {
        let python = installed("python/bin/python")?;
        let mut tried = Command::new(&python);
        let tried = tried.args(["-c", "import comfy_api_simplified"]).output();
        if !tried.unwrap().status.success() {
            skip("comfy-api-simplified", "tests/run installs it");
            return None;
        }
        let mut command = Command::new(python);
        command.args(["tests/clients/simplified_client.py", scenario, &self.api]);
        command.arg(self.file()).args(arguments);
        Some(Events::of(command))
    }

    /// The package comfy-script; `None` on a machine without it.
    fn script(&self, scenario: &str) -> Option<Events> {
        let python = installed("python-comfy-script/bin/python")?;
        let mut command = Command::new(python);
        command.args(["tests/clients/comfy_script_client.py", scenario, &self.api]);
        Some(Events::of(command))
    }

    /// A command of the package comfy-cli; `None` on a machine without it.
    fn cli(&self, words: &[&str]) -> Option<Events> {
        let program = installed("python/bin/comfy")?;
        let address: Url = self.api.parse().unwrap();
        let port = address.port().unwrap().to_string();
        let mut command = Command::new(program);
        command.args(["--skip-prompt", "--json"]).args(words);
        command.args(["--where", "local", "--host", "127.0.0.1", "--port", &port]);
        // It keeps a list of jobs there.
        command
            .env("HOME", self.folder.path())
            .env("DO_NOT_TRACK", "1");
        Some(Events::of(command))
    }

    /// The package @saintno/comfyui-sdk; `None` on a machine without it.
    fn sdk(&self, arguments: &[&str]) -> Option<Events> {
        let module = installed("node_modules/@saintno/comfyui-sdk/build/index.esm.js")?;
        let mut command = node_with_websocket("tests/clients/comfyui_sdk.mjs")?;
        command
            .arg(module)
            .arg(&self.api)
            .arg(self.file())
            .arg("9")
            .args(arguments);
        Some(Events::of(command))
    }

    /// The only job, and where it has run.
    pub(super) async fn jobs(&self) -> Vec<Value> {
        let token = token(&json!({}));
        let request = self
            .relay
            .request_as(&token, reqwest::Method::GET, "/api/anime/jobs");
        let (_, list) = crate::support::test_relay::response(request).await;
        list["jobs"].as_array().unwrap().clone()
    }
}

pub(super) fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["event"] == name)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn comfy_api_simplified_gets_its_picture() {
    let stage = Stage::new(SPEED, Settings::default()).await;
    for run in 1..=2 {
        let Some(mut client) = stage.simplified("picture", &["Save Image"]) else {
            return;
        };
        let events = client.until("done").await;
        let pictures = named(&events, "picture");
        assert_eq!(pictures.len(), 1, "{events:?}");
        // The head of a PNG file.
        assert_eq!(pictures[0]["head"], "89504e47");
        assert!(client.end().await);
        let jobs = stage.jobs().await;
        assert_eq!(jobs.len(), run);
        assert!(
            jobs.iter().all(|job| job["labels"]["via"] == "comfy"),
            "{jobs:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn comfy_api_simplified_signs_in_by_http_basic() {
    let stage = Stage::new(SPEED, Settings::from(guarded())).await;
    let token = token(&json!({}));
    let Some(mut client) = stage.simplified("picture", &["Save Image", "me", &token]) else {
        return;
    };
    let events = client.until("done").await;
    assert_eq!(named(&events, "picture").len(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn comfy_api_simplified_interrupts_what_runs() {
    let stage = Stage::new(SLOW, Settings::default()).await;
    let Some(mut client) = stage.simplified("cancel", &[]) else {
        return;
    };
    let events = client.until("done").await;
    let queued = named(&events, "queued")[0]["prompt_id"].as_str().unwrap();
    assert_eq!(named(&events, "running")[0]["before"], 0);
    wait_until("the job is cancelled", async || {
        stage.relay.job(queued).await.1["status"] == "cancelled"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn comfy_script_runs_python_to_its_picture() {
    // It opens its socket in another thread than it submits in, and asks for nothing that it has missed.
    let stage = Stage::new(PlaybackSpeed::Real(2.0), Settings::default()).await;
    for _ in 0..2 {
        let Some(mut client) = stage.script("picture") else {
            return;
        };
        let events = client.until("done").await;
        let pictures = named(&events, "picture");
        assert_eq!(pictures.len(), 1, "{events:?}");
        assert_eq!(pictures[0]["format"], "PNG");
        let steps = named(&events, "progress");
        let steps: Vec<u64> = steps
            .iter()
            .map(|it| it["value"].as_u64().unwrap())
            .collect();
        assert!(steps.is_sorted() && !steps.is_empty(), "{events:?}");
        assert!(client.end().await);
    }
    assert_eq!(stage.jobs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn comfy_script_interrupts_what_runs() {
    let stage = Stage::new(SLOW, Settings::default()).await;
    let Some(mut client) = stage.script("cancel") else {
        return;
    };
    let events = client.until("done").await;
    assert_eq!(named(&events, "picture").len(), 0, "{events:?}");
    let queued = named(&events, "queued")[0]["prompt_id"].as_str().unwrap();
    wait_until("the job is cancelled", async || {
        stage.relay.job(queued).await.1["status"] == "cancelled"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_npm_follows_a_prompt_to_its_picture() {
    let stage = Stage::new(SPEED, Settings::default()).await;
    for _ in 0..2 {
        let Some(mut client) = stage.sdk(&[]) else {
            return;
        };
        let events = client.until("done").await;
        assert_eq!(named(&events, "failed").len(), 0, "{events:?}");
        assert_eq!(named(&events, "picture").len(), 1, "{events:?}");
        assert!(!named(&events, "progress").is_empty(), "{events:?}");
        assert!(client.end().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_npm_signs_in_with_a_token() {
    let stage = Stage::new(SPEED, Settings::from(guarded())).await;
    let Some(mut client) = stage.sdk(&[&token(&json!({}))]) else {
        return;
    };
    let events = client.until("done").await;
    assert_eq!(named(&events, "picture").len(), 1, "{events:?}");
}

/// The last line of comfy-cli, in which it says what has come of a command, and the lines before it.
async fn envelope(mut client: Events) -> (Value, Vec<Value>) {
    let mut events = Vec::new();
    loop {
        let event = client.next().await;
        if event["type"] == "envelope" {
            assert_eq!(event["ok"], true, "{event}");
            return (event["data"].clone(), events);
        }
        events.push(event);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn comfy_cli_follows_a_prompt_to_its_picture() {
    let stage = Stage::new(SPEED, Settings::default()).await;
    let file = stage.file();
    let run = ["run", "--json", "--wait", "--workflow"];
    let run = [&run[..], &[file.to_str().unwrap()]].concat();
    let Some(client) = stage.cli(&run) else {
        return;
    };
    let (done, events) = envelope(client).await;
    assert_eq!(done["status"], "completed", "{done}");
    let picture = done["outputs"][0].as_str().unwrap();
    assert!(picture.starts_with(&stage.api), "{picture}");
    assert_eq!(reqwest::get(picture).await.unwrap().status(), 200);
    // It prints not more of them than a person can read.
    let steps = events.iter().filter(|event| event["type"] == "progress");
    let steps: Vec<u64> = steps
        .map(|step| step["completed"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted() && !steps.is_empty(), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn comfy_cli_cancels_what_it_has_submitted() {
    let stage = Stage::new(SLOW, Settings::default()).await;
    let file = stage.file();
    let run = ["run", "--json", "--no-watch", "--workflow"];
    let run = [&run[..], &[file.to_str().unwrap()]].concat();
    let Some(client) = stage.cli(&run) else {
        return;
    };
    let (submitted, _) = envelope(client).await;
    let id = submitted["prompt_id"].as_str().unwrap();
    let cancelling = stage.cli(&["jobs", "cancel", id]).unwrap();
    envelope(cancelling).await;
    wait_until("the job is cancelled", async || {
        stage.relay.job(id).await.1["status"] == "cancelled"
    })
    .await;
}
