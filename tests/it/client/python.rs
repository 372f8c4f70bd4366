//! The module `comfy_relay` for Python.

use std::process::Command;

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::nginx::free_port;
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::TestRelay;
use crate::support::tokens::{guarded, token};
use crate::support::tool::{Events, installed};

/// Runs the script that uses the module; `None` on a machine without the package websockets.
fn run(url: &str, token: &str, arguments: &[&str]) -> Option<Events> {
    let mut command = Command::new(installed("python/bin/python")?);
    command.arg("tests/modules/follow.py").args(arguments);
    command
        .env("COMFY_RELAY_URL", url)
        .env("RELAY_TOKEN", token);
    Some(Events::of(command))
}

fn percents(events: &[Value]) -> Vec<u64> {
    let states = events.iter().filter(|it| it["event"] == "state");
    states.map(|it| it["progress"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_submits_a_job_and_follows_it_to_its_end() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workflow.json");
    std::fs::write(&file, workflow(TXT2IMG).await.to_string()).unwrap();
    let Some(mut script) = run(
        &relay.url(),
        "",
        &["submit", file.to_str().unwrap(), "shot"],
    ) else {
        return;
    };
    let events = script.until("done").await;
    assert_eq!(events[0]["event"], "submitted");
    assert_eq!(events[0]["ws_url"], relay.socket_url("/ws/shot"));
    let percents = percents(&events);
    assert!(
        percents.is_sorted() && percents.ends_with(&[100]),
        "{percents:?}"
    );
    assert!(script.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_on_after_a_restart_of_the_relay() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("relay.db").display());
    let address = format!("127.0.0.1:{}", free_port());
    let variables = [("LISTEN", address.as_str()), ("DATABASE_URL", &database)];
    let path = "/api/anime/jobs/shot/progress";
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    let running = json!({"progress": 40, "status": "processing"});
    relay.post(path, &running).await.unwrap();
    let Some(mut script) = run(&format!("http://{address}"), "", &["follow", "shot"]) else {
        return;
    };
    let mut events = script.until("state").await;
    // It is stopped in order once, and killed once.
    relay.terminate();
    let mut relay = relay;
    relay.exit_status().await;
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    let further = json!({"progress": 60, "status": "processing"});
    relay.post(path, &further).await.unwrap();
    while percents(&events).last() != Some(&60) {
        events.extend(script.until("state").await);
    }
    relay.kill().await;
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    let completed = json!({"progress": 100, "status": "completed"});
    relay.post(path, &completed).await.unwrap();
    events.extend(script.until("done").await);
    let percents = percents(&events);
    assert!(
        percents.starts_with(&[40]) && percents.ends_with(&[100]),
        "{percents:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_its_code() {
    let relay = TestRelay::without_backend(guarded()).await;
    let Some(mut script) = run(&relay.url(), "no.such.token", &["follow", "shot"]) else {
        return;
    };
    let events = script.until("done").await;
    assert_eq!(events[0]["code"], "unauthenticated", "{events:?}");
    let token = token(&json!({}));
    let mut script = run(&relay.url(), &token, &["cancel", "missing"]).unwrap();
    let events = script.until("done").await;
    assert_eq!(events[0]["event"], "refused", "{events:?}");
    assert!(events[0]["message"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_is_typed() {
    let Some(python) = installed("python/bin/mypy") else {
        return;
    };
    let mut command = Command::new(python);
    command.args(["--strict", "clients/python/comfy_relay.py"]);
    let output = Program::output(command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_another_socket_is_no_job() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    for name in ["monitor", "jobs", "events"] {
        let Some(mut script) = run(&relay.url(), "", &["follow", name]) else {
            return;
        };
        let events = script.until("done").await;
        let message = events[0]["message"].as_str().unwrap_or_default();
        assert!(message.contains("is reserved"), "{events:?}");
    }
}
