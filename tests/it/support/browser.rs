//! Chromium, driven by the scripts in `tests/browser`.

use std::path::Path;
use std::time::Duration;

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use super::nginx::{Nginx, free_port};
use super::test_relay::TestRelay;
use super::tokens::{guarded, in_seconds, token};
use super::tool::{Events, installed, is_installed, node};

/// Runs a script of `tests/browser`; `None` on a machine without node, Chromium or playwright-core.
pub(crate) fn run(script: &str, arguments: &[&str]) -> Option<Events> {
    if std::env::var_os("CHROMIUM").is_none()
        && !is_installed("chromium", "apt-get install chromium")
    {
        return None;
    }
    installed("node_modules/playwright-core")?;
    let script = Path::new("tests/browser").join(script);
    let mut command = node(script.to_str().unwrap())?;
    command.args(arguments);
    Some(Events::of(command))
}

/// The events up to the end of a script, none of which may be an error of the page.
pub(crate) async fn done(mut events: Events) -> Vec<Value> {
    let all = events.until("done").await;
    let is_error = |event: &&Value| event["event"] == "page_error";
    assert_eq!(all.iter().find(is_error), None);
    assert!(events.end().await);
    all
}

/// An nginx before a relay, with its port. It passes no `Upgrade` on, as it does unless it is configured to.
pub(crate) async fn proxy_without_sockets(relay: &TestRelay) -> Option<(Nginx, String)> {
    let port = free_port();
    let server = format!(
        "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {}; proxy_buffering off; }} }}",
        relay.url()
    );
    let nginx = Nginx::start(tempfile::tempdir().unwrap(), port, &server).await?;
    Some((nginx, format!("http://127.0.0.1:{port}/")))
}

/// A relay that needs a token and has the job `shot`, which has completed; and a token for it.
pub(crate) async fn relay_that_needs_a_token() -> (TestRelay, String) {
    let server = ServerConfig {
        // The page is open for longer than a test takes, and its own pings come seldom.
        connection_timeout: Duration::from_secs(60),
        ..guarded()
    };
    let relay = TestRelay::without_backend(server).await;
    let claims = json!({"sub": "mika", "jobs": "*", "scope": "subscribe monitor progress", "exp": in_seconds(3_600)});
    let token = token(&claims);
    let report = json!({"progress": 100, "status": "completed"});
    let path = "/api/anime/jobs/shot/progress";
    let reported = relay
        .request_as(&token, reqwest::Method::POST, path)
        .json(&report);
    assert_eq!(reported.send().await.unwrap().status(), 202);
    (relay, token)
}
