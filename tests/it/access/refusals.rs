//! What is refused is logged once for each kind and source, with the setting that allows it, and counted.

use reqwest::{Client, StatusCode};

use crate::support::program::Program;
use crate::support::tokens::SECRET;

/// The lines of a log that contain a text.
fn lines<'a>(log: &'a str, text: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(text)).collect()
}

/// Sends a request with a header, and expects this status.
async fn expect(client: &Client, url: &str, header: (&str, &str), status: u16) {
    let request = client.post(url).header(header.0, header.1);
    let answer = request.body("{}").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::from_u16(status).unwrap());
}

async fn metrics(client: &Client, program: &Program) -> String {
    let url = format!("http://{}/metrics", program.address());
    client.get(url).send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_pages_and_hosts_are_logged_once_and_counted() {
    let program = Program::start(&[], &[]);
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/anime/jobs", program.address());
    for _ in 0..3 {
        expect(&client, &url, ("origin", "https://evil.example"), 403).await;
        expect(&client, &url, ("host", "relay.example"), 403).await;
    }
    expect(&client, &url, ("origin", "https://other.example"), 403).await;
    let counted = metrics(&client, &program).await;
    assert!(
        counted.contains(r#"comfy_relay_refused_total{reason="origin"} 4"#),
        "{counted}"
    );
    assert!(
        counted.contains(r#"comfy_relay_refused_total{reason="host"} 3"#),
        "{counted}"
    );
    let log = program.kill().await;
    for (source, setting) in [
        ("https://evil.example", "ALLOWED_ORIGINS"),
        ("https://other.example", "ALLOWED_ORIGINS"),
        ("relay.example", "PUBLIC_URL"),
    ] {
        let logged = lines(&log, source);
        assert_eq!(logged.len(), 1, "{log}");
        assert!(
            logged[0].contains("WARN") && logged[0].contains(setting),
            "{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_are_logged_once_without_the_token() {
    let program = Program::start(&[], &[("AUTH_JWT_SECRET", SECRET)]);
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/anime/jobs", program.address());
    for _ in 0..3 {
        expect(&client, &url, ("authorization", "Bearer not.a.token"), 401).await;
    }
    // Health is for everybody: nothing is refused.
    let health = format!("http://{}/api/anime/health", program.address());
    client.get(health).send().await.unwrap();
    let log = program.kill().await;
    let logged = lines(&log, "security::refusals");
    assert_eq!(logged.len(), 1, "{log}");
    assert!(logged[0].contains("RELAY_TOKEN"), "{log}");
    assert!(!log.contains("not.a.token"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_logged_with_their_setting() {
    let variables = [("LIMIT_LOOPBACK", "true"), ("RATE_LIMIT_REQUESTS", "2")];
    let program = Program::start(&[], &variables);
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/anime/health", program.address());
    while client.get(&url).send().await.unwrap().status() != StatusCode::TOO_MANY_REQUESTS {}
    program.logs("RATE_LIMIT_REQUESTS").await;
    let log = program.kill().await;
    assert_eq!(lines(&log, "RATE_LIMIT_REQUESTS").len(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_drops_the_upgrade_is_named() {
    let program = Program::start(&[], &[]);
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/ws/job", program.address());
    let request = client
        .get(url)
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    assert!(
        answer
            .text()
            .await
            .unwrap()
            .contains("a proxy on the way has removed")
    );
    program.logs("have the proxy pass on Upgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_mode_shows_connections_refusals_requests_and_states() {
    let program = Program::start(&[], &[("LOG", "debug")]);
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let report = format!(
        "http://{}/api/anime/jobs/render/progress",
        program.address()
    );
    let (socket, _) =
        tokio_tungstenite::connect_async(program.socket_url("/ws/render?token=hidden"))
            .await
            .unwrap();
    let body = r#"{"progress": 40, "status": "processing", "message": "Frame 40"}"#;
    client.post(&report).body(body).send().await.unwrap();
    for _ in 0..2 {
        expect(&client, &report, ("origin", "https://evil.example"), 403).await;
    }
    drop(socket);
    program.logs("subscriber disconnected").await;
    let log = program.kill().await;
    for text in [
        "subscriber connected",
        r#"method=POST path="/api/anime/jobs/render/progress" status=202"#,
        r#"status="processing" progress=40 text="Frame 40""#,
    ] {
        assert!(log.contains(text), "{text:?} is not in\n{log}");
    }
    assert_eq!(lines(&log, "https://evil.example").len(), 2, "each refusal");
    assert!(!log.contains("hidden"), "{log}");
}
