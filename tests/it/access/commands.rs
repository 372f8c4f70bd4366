//! The program's own commands, where the relay wants tokens.

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
async fn they_send_theirs() {
    let relay = TestRelay::without_backend(guarded()).await;
    let good = token(&json!({}));
    let report = json!({"progress": 100, "status": "completed"});
    let path = "/api/anime/jobs/job/progress";
    let request = relay.request_as(&good, Method::POST, path).json(&report);
    assert_eq!(response(request).await.0, 202);
    let other = token(&json!({"jobs": ["other"]}));
    for (token, code, told) in [
        (Some(good.as_str()), 0, ""),
        (None, 3, "a token is needed"),
        (Some("nonsense"), 3, "the token is malformed"),
        (Some(other.as_str()), 3, "the token is not for the job"),
        (Some("no\nheader"), 3, "RELAY_TOKEN"),
    ] {
        let output = run(&relay, &["watch", "job", "--json"], token).await;
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
        let output = run(&relay, &submit, token).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains(told), "{complaint}");
    }
}
