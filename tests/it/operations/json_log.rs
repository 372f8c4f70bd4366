//! The log as JSON: one object a line, with the job and the request that it is about.

use reqwest::Client;
use serde_json::{Map, Value, json};

use crate::support::program::Program;

/// Every line that a program has logged, as the object that it must be.
fn lines(program: &Program) -> Vec<Map<String, Value>> {
    let log = program.log();
    let lines = log.lines().map(|line| {
        let object = serde_json::from_str(line);
        object.unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_an_object_with_its_job_and_its_request() {
    let variables = [("LOG_FORMAT", "json"), ("LOG", "comfy_relay=debug")];
    let program = Program::start(&[], &variables);
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!(
        "http://{}/api/anime/jobs/shot-7/progress",
        program.address()
    );
    let report = json!({"progress": 10, "status": "processing"});
    let request = client.post(url).header("x-request-id", "take-the-lift");
    let answer = request.json(&report).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    program.logs(r#""status":202"#).await;
    program.logs(r#""backend":"127.0.0.1:1""#).await;
    let lines = lines(&program);
    for line in &lines {
        for name in ["timestamp", "level", "target", "message"] {
            assert!(line[name].is_string(), "{name}: {line:?}");
        }
    }
    let is_of_both = |line: &&Map<String, Value>| {
        line.get("job_id") == Some(&json!("shot-7"))
            && line.get("request_id") == Some(&json!("take-the-lift"))
    };
    assert!(lines.iter().any(|line| is_of_both(&line)), "{lines:#?}");
    let request = lines
        .iter()
        .find(|line| line.get("status") == Some(&json!(202)));
    assert_eq!(request.unwrap()["request_id"], "take-the-lift");
    // What is logged of a server has its name.
    assert!(
        lines
            .iter()
            .any(|line| line.get("backend") == Some(&json!("127.0.0.1:1"))),
        "{lines:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_logged_ends_its_line() {
    let variables = [("LOG_FORMAT", "json"), ("LOG", "comfy_relay=debug")];
    let program = Program::start(
        &["--output-root", "a\n{\"level\":\"ERROR\"}\u{202e}\u{9b}31m"],
        &variables,
    );
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/a%0a%7b%22b%22", program.address());
    assert_eq!(client.get(url).send().await.unwrap().status(), 404);
    program.logs(r#""status":404"#).await;
    assert!(!lines(&program).is_empty());
    let log = program.log();
    assert!(!log.contains(['\u{202e}', '\u{9b}', '\u{1b}']), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_of_the_log_is_one_that_there_is() {
    let refused = Program::run(&["serve"], &[("LOG_FORMAT", "xml")]).await;
    assert_eq!(refused.status.code(), Some(64));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        text.contains("LOG_FORMAT (--log-format") && text.contains("json"),
        "{text}"
    );
}
