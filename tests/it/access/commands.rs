//! The program's own commands, where the relay wants tokens.

use std::process::{Command, Output};

use reqwest::Method;
use serde_json::json;

use crate::support::test_relay::{TestRelay, answer};
use crate::support::tokens::{guarded, relay, token};

async fn run(world: &TestRelay, arguments: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
    command.args(arguments);
    command.env("RELAY_URL", format!("http://{}", world.address()));
    if let Some(token) = token {
        command.env("RELAY_TOKEN", token);
    }
    let running = tokio::task::spawn_blocking(move || command.output());
    running.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_send_theirs() {
    let world = relay(guarded()).await;
    let good = token(&json!({}));
    let report = json!({"progress": 100, "status": "completed"});
    let path = "/api/anime/jobs/job/progress";
    let request = world.with_token(Method::POST, path, &good).json(&report);
    assert_eq!(answer(request).await.0, 202);
    let other = token(&json!({"jobs": ["other"]}));
    for (token, code, told) in [
        (Some(good.as_str()), 0, ""),
        (None, 3, "a token is needed"),
        (Some("nonsense"), 3, "the token is malformed"),
        (Some(other.as_str()), 3, "the token is not for the job"),
        (Some("no\nheader"), 3, "RELAY_TOKEN"),
    ] {
        let output = run(&world, &["watch", "job", "--json"], token).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        assert!(complaint.contains(told), "{complaint}");
        assert!(
            token.is_none_or(|token| !complaint.contains(token)),
            "{complaint}"
        );
    }
    let submit = ["submit", "comfy_workflows/txt2img.json"];
    for (token, told) in [
        (Some(good.as_str()), "backend_unreachable"),
        (None, "unauthenticated"),
    ] {
        let output = run(&world, &submit, token).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains(told), "{complaint}");
    }
}
