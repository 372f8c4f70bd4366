//! Scripts in Python, shell and SQL.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tool::{installed, is_installed};

/// Runs a program to its end. Its standard input stays open, as a terminal does: wscat leaves when it ends.
async fn run(program: &str, arguments: &[&str], path: Option<&str>) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(path) = path {
        let before = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:{before}"));
    }
    command.env("WSCAT_SECONDS", "1");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let running = tokio::task::spawn_blocking(move || {
        let mut process = command.spawn().unwrap();
        let _input = process.stdin.take();
        process.wait_with_output().unwrap()
    });
    running.await.unwrap()
}

fn stdout(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_script_follows_a_job_to_its_end() {
    let Some(python) = installed("python/bin/python") else {
        return;
    };
    let relay = TestRelay::replaying(TXT2IMG).await;
    let arguments = ["tests/clients/follow.py", "shot", &relay.socket_url("")];
    let python = python.to_str().unwrap();
    let (output, _) = tokio::join!(run(python, &arguments, None), relay.submit("shot", TXT2IMG));
    let text = stdout(&output);
    let messages: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(messages[0]["type"], "connection");
    assert_eq!(messages.last().unwrap()["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn wscat_shows_a_job_and_the_monitor() {
    let Some(wscat) = installed("node_modules/.bin/wscat") else {
        return;
    };
    let relay = TestRelay::without_backend(Settings::default()).await;
    relay
        .report("shot", &json!({"progress": 100, "status": "completed"}))
        .await;
    let folder = wscat.parent().unwrap().to_str();
    let arguments = ["tests/clients/wscat.sh", "shot", &relay.address()];
    let text = stdout(&run("sh", &arguments, folder).await);
    for part in [
        "Connected to job shot",
        r#""status":"completed""#,
        "Connected to the system monitor",
        "system_status",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(text.matches(r#""type":"pong""#).count(), 2, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_query_status_and_health_with_curl_and_jq() {
    if !is_installed("curl", "apt-get install curl") || !is_installed("jq", "apt-get install jq") {
        return;
    }
    let relay = TestRelay::without_backend(Settings::default()).await;
    let _subscriber = relay.subscribe("shot").await;
    let arguments = ["tests/clients/status.sh", &relay.address()];
    let text = stdout(&run("sh", &arguments, None).await);
    assert!(text.contains("/ws/{job_id}"), "{text}");
    assert!(text.contains(r#""connection_count": 1"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_writes_into_metadata_while_the_relay_does() {
    if !is_installed("psql", "apt-get install postgresql-client") {
        return;
    }
    let db = TestDatabase::postgres().await;
    db.execute(
        "CREATE TABLE jobs (id SERIAL PRIMARY KEY, status VARCHAR(50), output_path VARCHAR(500), \
         error_message TEXT, metadata JSONB, created_at TIMESTAMP DEFAULT now(), completed_at TIMESTAMP); \
         INSERT INTO jobs (id, status, metadata) VALUES (12, 'queued', '{\"scene\": 3}')",
    )
    .await;
    let relay = TestRelay::without_backend(db.config()).await;
    let report = |progress: u8, status: &str| json!({"progress": progress, "status": status});
    relay.report("12", &report(40, "processing")).await;
    let sql = "tests/clients/update_metadata.sql";
    let arguments = [
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        "-v",
        "job_id=12",
        "-f",
        sql,
        &db.url(),
    ];
    let text = stdout(&run("psql", &arguments, None).await);
    assert!(text.contains("mika"), "{text}");
    relay.report("12", &report(100, "completed")).await;
    relay.stop().await;
    let keys = "SELECT concat_ws(' ', status, metadata->>'progress', metadata->>'reviewed_by', metadata->>'scene') \
        AS v FROM jobs WHERE id = 12";
    assert_eq!(db.value(keys).await, "completed 100 mika 3");
}
