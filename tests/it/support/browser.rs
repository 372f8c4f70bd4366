//! Chromium, driven by the scripts in `tests/browser`.

use std::path::Path;

use serde_json::Value;

use super::nginx::{Nginx, free_port};
use super::test_relay::TestRelay;
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
