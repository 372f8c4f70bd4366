//! The commands of the program with a relay that requires tokens.

use std::process::Output;

use reqwest::Method;
use serde_json::json;

use crate::support::program::Program;
use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{guarded, token};

async fn run(relay: &TestRelay, arguments: &[&str], token: Option<&str>) -> Output {
    let url = relay.url();
    let mut variables = vec![("RELAY_URL", url.as_str())];
    variables.extend(token.map(|token| ("RELAY_TOKEN", token)));
    Program::run(arguments, &variables).await
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_send_their_token() {
    let relay = TestRelay::without_backend(guarded()).await;
    let good = token(&json!({}));
    let report = json!({"progress": 100, "status": "completed"});
    let path = "/api/anime/jobs/job/progress";
    let request = relay.request_as(&good, Method::POST, path).json(&report);
    assert_eq!(response(request).await.0, 202);
    let other = token(&json!({"jobs": ["other"]}));
    for (token, code, expected) in [
        (Some(good.as_str()), 0, ""),
        (None, 3, "a token is needed"),
        (None, 3, "RELAY_TOKEN"),
        (Some("nonsense"), 3, "the token is malformed"),
        (Some("nonsense"), 3, "RELAY_TOKEN"),
        (Some(other.as_str()), 3, "the token is not for the job"),
        (Some("no\nheader"), 64, "RELAY_TOKEN"),
    ] {
        let output = run(&relay, &["watch", "job", "--json"], token).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(
            token.is_none_or(|token| !message.contains(token)),
            "{message}"
        );
    }
    let submit = ["submit", "comfy_workflows/txt2img.json"];
    for (token, expected) in [
        (Some(good.as_str()), "backend_unreachable"),
        (None, "unauthenticated"),
        (None, "RELAY_TOKEN"),
    ] {
        let output = run(&relay, &submit, token).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}
