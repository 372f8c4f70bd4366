//! `comfy-relay token`: the tokens that it makes are those that a relay accepts.

use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::program::Program;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::TestRelay;
use crate::support::tokens::{SECRET, guarded, in_seconds, token, upgrade};

const MAKE: [&str; 4] = ["token", "make", "--sub", "ada"];

async fn make(arguments: &[&str]) -> String {
    let arguments = [&MAKE[..], arguments].concat();
    let made = Program::run(&arguments, &[("AUTH_JWT_SECRET", SECRET)]).await;
    let (token, errors) = texts(&made);
    assert!(made.status.success(), "{errors}");
    assert_eq!(errors, "");
    // The token stands alone, so that a script can take it.
    let token = token.strip_suffix('\n').unwrap().to_owned();
    assert!(!token.contains(char::is_whitespace), "{token}");
    token
}

async fn check(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let checked = Program::run(&[&["token", "check"], arguments].concat(), variables).await;
    let (shown, errors) = texts(&checked);
    (checked.status.code(), shown, errors)
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_accepts_the_tokens_that_are_made() {
    let relay = TestRelay::without_backend(guarded()).await;
    let token = make(&[
        "--jobs",
        "shot-12,shot-13",
        "--scope",
        "subscribe progress",
        "--for",
        "2h",
    ])
    .await;
    let path = |job: &str| format!("/api/anime/jobs/{job}/progress");
    let report = json!({"progress": 10, "status": "processing"});
    for (job, status) in [("shot-12", 202), ("shot-13", 202), ("shot-14", 403)] {
        let request = relay.request_as(&token, reqwest::Method::POST, &path(job));
        let answer = request.json(&report).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{job}");
    }
    let url = relay.socket_url("/ws/shot-12");
    let bearer = format!("Bearer {token}");
    let mut subscriber = Subscriber::connect(upgrade(&url, &[("authorization", &bearer)])).await;
    subscriber.receive_greeting().await;
    assert_eq!(subscriber.receive_type("progress").await["progress"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_and_checked() {
    let secret = ("AUTH_JWT_SECRET", SECRET);
    let good = make(&["--jobs", "*", "--scope", "subscribe,monitor"]).await;
    let (code, shown, errors) = check(&[], &[("RELAY_TOKEN", &good), secret]).await;
    assert_eq!(code, Some(0), "{errors}");
    for line in [
        "sub        ada",
        "jobs       all",
        "scope      subscribe monitor",
        "in 59 min",
        "signature  good",
    ] {
        let line = if line == "in 59 min" && shown.contains("in 1 h 00 min") {
            "in 1 h"
        } else {
            line
        };
        assert!(shown.contains(line), "{line:?}: {shown}");
    }
    // Without the secret, it can still be read.
    let (code, shown, _) = check(&[&good], &[]).await;
    assert_eq!(code, Some(0));
    assert!(
        shown.contains("not checked: set AUTH_JWT_SECRET"),
        "{shown}"
    );
    let expired = token(&json!({"exp": in_seconds(-3_700), "scope": "subscribe fly\u{1b}[2J"}));
    for variables in [&[secret][..], &[]] {
        let (code, shown, errors) = check(&[&expired], variables).await;
        assert_eq!(code, Some(1), "{shown}");
        assert!(
            shown.contains("1 h 01 min ago") && shown.contains("is not a scope"),
            "{shown}"
        );
        assert!(
            !shown.contains('\u{1b}'),
            "a token controls the terminal: {shown:?}"
        );
        assert!(errors.contains("has expired"), "{errors}");
    }
    let other = "another secret of more than thirty-two bytes";
    let (code, _, errors) = check(&[&good], &[("AUTH_JWT_SECRET", other)]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("signature is wrong"), "{errors}");
    let (code, _, errors) = check(&["nonsense"], &[]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("not a JSON Web Token"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_that_a_relay_checks_can_be_given() {
    let claims = ["--auth-audience", "studio", "--auth-issuer", "front desk"];
    let good = make(&[&["--jobs", "a"], &claims[..]].concat()).await;
    let secret = ("AUTH_JWT_SECRET", SECRET);
    let mine = [
        secret,
        ("AUTH_AUDIENCE", "studio"),
        ("AUTH_ISSUER", "front desk"),
    ];
    assert_eq!(check(&[&good], &mine).await.0, Some(0));
    let others = [secret, ("AUTH_AUDIENCE", "elsewhere")];
    let (code, _, errors) = check(&[&good], &others).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("(aud)"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_from_standard_input() {
    let program = env!("CARGO_BIN_EXE_comfy-relay");
    let script =
        format!(r#""{program}" token make --sub ada --jobs a | "{program}" token check -"#);
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("AUTH_JWT_SECRET", SECRET);
    // A token of the environment is not the one that is meant.
    command.env("RELAY_TOKEN", "nonsense").stdin(Stdio::null());
    let checked = Program::output(command).await;
    let (shown, errors) = texts(&checked);
    assert!(checked.status.success(), "{errors}");
    assert!(shown.contains("signature  good"), "{shown}");
}
