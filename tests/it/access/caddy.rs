//! The relay behind a real Caddy with TLS, under a path, as `docs/install.md` sets it up.

use comfy_relay::config::ServerConfig;
use serde_json::json;

use super::nginx::follows_a_job;
use crate::support::nginx::free_port;
use crate::support::recordings::TXT2IMG;
use crate::support::site::{Site, SiteFiles, documented};
use crate::support::test_relay::TestRelay;

/// Starts the documented configuration, adapted to this machine; `None` on a machine without Caddy.
async fn start(relay: &TestRelay) -> Option<Site> {
    let files = SiteFiles::new(free_port());
    let address = format!("https://localhost:{} {{", files.port);
    let tls = format!(
        "{address}\n\tbind 127.0.0.1\n\ttls {} {}",
        files.certificate, files.key
    );
    let config = documented("docs/install.md", "caddyfile")
        .replace("studio.example {", &tls)
        .replace("127.0.0.1:8328", &relay.address());
    files.caddy(&config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_behind_caddy_gives_a_ws_url_that_opens() {
    let mut server = ServerConfig::default();
    server.access.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let Some(site) = start(&relay).await else {
        return;
    };
    follows_a_job(&site).await;
    for path in ["", "web/page.js", "api/anime/jobs/"] {
        let url = format!("{}/relay/{path}", site.url());
        let answer = site.client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    // Without the slash the pages would look for their modules elsewhere.
    let answer = site.client().get(format!("{}/relay", site.url())).send();
    let url = answer.await.unwrap().url().clone();
    assert_eq!(url.path(), "/relay/");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_come_through_caddy_at_once() {
    let mut server = ServerConfig::default();
    server.access.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let relay = TestRelay::without_backend(server).await;
    let Some(site) = start(&relay).await else {
        return;
    };
    let report = |progress| json!({"progress": progress, "status": "processing"});
    relay.report("render", &report(10)).await;
    let url = format!("{}/relay/api/anime/jobs/render/events", site.url());
    let mut events = site.client().get(url).send().await.unwrap();
    let mut text = String::new();
    // Each state is read before the next one is reported: nothing may wait for more.
    for progress in [10, 20, 30] {
        if progress > 10 {
            relay.report("render", &report(progress)).await;
        }
        let wanted = format!("\"progress\":{progress},");
        while !text.contains(&wanted) {
            let chunk = events.chunk().await.unwrap().unwrap();
            text += std::str::from_utf8(&chunk).unwrap();
        }
    }
}
