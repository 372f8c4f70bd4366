//! Sockets whose token expires, and how clients renew it.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::subscriber::{Received, Subscriber};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{SECRET, guarded, in_seconds, token, upgrade};
use crate::support::wait::PATIENCE;

async fn connect(relay: &TestRelay, path: &str, token: &str) -> Subscriber {
    let bearer = format!("Bearer {token}");
    let request = upgrade(&relay.socket_url(path), &[("authorization", &bearer)]);
    let mut subscriber = Subscriber::connect(request).await;
    let Received::Text(greeting) = subscriber.receive().await else {
        panic!("no greeting");
    };
    assert_eq!(greeting["type"], "connection");
    subscriber
}

/// Waits until the relay has ended a socket whose token expires at this second.
async fn expiry(relay: &TestRelay, path: &str, expires_at: i64) {
    let mut other = connect(relay, path, &token(&json!({"exp": expires_at}))).await;
    assert_eq!(other.close_code().await, 4401, "{path}");
}

/// Any error but the one that ComfyUI is unreachable.
fn is_refusal(message: &Value) -> bool {
    message["type"] == "error" && message["code"] != "backend_unreachable"
}

async fn renew(subscriber: &mut Subscriber, token: &str) -> Value {
    let message = json!({"type": "auth", "token": token});
    subscriber.send(&message.to_string()).await;
    subscriber
        .receive_until(|message| message["type"] == "auth" || is_refusal(message))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_closed_when_its_token_expires() {
    let relay = TestRelay::without_backend(guarded()).await;
    for path in ["/ws/job", "/ws/monitor"] {
        let expires_at = in_seconds(2);
        let mut subscriber = connect(&relay, path, &token(&json!({"exp": expires_at}))).await;
        assert_eq!(subscriber.close_code().await, 4401, "{path}");
        assert!(Timestamp::now().as_second() >= expires_at, "{path}");
        let error = subscriber.errors.last().unwrap();
        assert_eq!(error["code"], "unauthenticated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_ends_when_its_token_expires() {
    let relay = TestRelay::without_backend(guarded()).await;
    let path = "/api/anime/jobs/job/events";
    let token = token(&json!({"exp": in_seconds(2)}));
    let request = relay.request_as(&token, Method::GET, path);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let text = tokio::time::timeout(PATIENCE, response.text())
        .await
        .unwrap()
        .unwrap();
    assert!(
        text.trim_end().ends_with('}') && text.contains("unauthenticated"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_keeps_the_socket_open() {
    let relay = TestRelay::without_backend(guarded()).await;
    for path in ["/ws/job", "/ws/monitor"] {
        let (first_end, later) = (in_seconds(2), in_seconds(3_600));
        let mut subscriber = connect(&relay, path, &token(&json!({"exp": first_end}))).await;
        let answer = renew(&mut subscriber, &token(&json!({"exp": later}))).await;
        assert_eq!(answer["type"], "auth", "{answer}");
        let renewed_until: Timestamp = answer["expires_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(renewed_until.as_second(), later);
        // A second longer than the first token was valid.
        expiry(&relay, path, first_end + 1).await;
        assert!(Timestamp::now().as_second() > first_end, "{path}");
        subscriber.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_must_permit_what_the_one_before_did() {
    let relay = TestRelay::without_backend(guarded()).await;
    let narrow = json!({"jobs": ["job", "other"], "scope": "subscribe cancel"});
    let mut subscriber = connect(&relay, "/ws/job", &token(&narrow)).await;
    let allowed = |changes: Value| {
        let mut claims = narrow.clone();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        token(&claims)
    };
    for (newer, code) in [
        (allowed(json!({"sub": "eve"})), "forbidden"),
        (allowed(json!({"sub": null})), "forbidden"),
        (allowed(json!({"jobs": ["job"]})), "forbidden"),
        (allowed(json!({"jobs": null})), "forbidden"),
        (allowed(json!({"scope": "subscribe"})), "forbidden"),
        (allowed(json!({"exp": in_seconds(-1)})), "unauthenticated"),
        ("nonsense".to_owned(), "unauthenticated"),
        (SECRET.to_owned(), "unauthenticated"),
    ] {
        let answer = renew(&mut subscriber, &newer).await;
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!(code))
        );
        assert!(!answer.to_string().contains(&newer), "{answer}");
    }
    // None of them has changed the permissions.
    subscriber
        .send(r#"{"type": "subscribe", "job_id": "third"}"#)
        .await;
    let refused = subscriber
        .receive_until(|message| message["job_id"] == "third")
        .await;
    assert_eq!(refused["code"], "forbidden");
    for newer in [
        allowed(json!({})),
        allowed(json!({"jobs": ["third", "other", "job"]})),
        allowed(json!({"jobs": "*"})),
    ] {
        let answer = renew(&mut subscriber, &newer).await;
        assert_eq!(answer["type"], "auth", "{answer}");
    }
    subscriber
        .send(r#"{"type": "subscribe", "job_id": "fourth"}"#)
        .await;
    subscriber.send(r#"{"type": "ping"}"#).await;
    let next = subscriber
        .receive_until(|message| message["type"] == "pong" || message["code"] == "forbidden")
        .await;
    assert_eq!(
        next["type"], "pong",
        "the job of the newest token is allowed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_tokens_are_accepted_and_ignored() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut subscriber = relay.subscribe("job").await;
    let answer = renew(&mut subscriber, "anything").await;
    assert_eq!(
        (&answer["type"], &answer["expires_at"]),
        (&json!("auth"), &Value::Null)
    );
}
