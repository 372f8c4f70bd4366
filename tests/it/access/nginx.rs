//! The relay behind a real nginx with TLS, under a path, as `docs/install.md` sets it up.

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::nginx::{Nginx, free_port};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::site::{Site, SiteFiles, documented};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

/// Starts the configuration of nginx in the documents, adapted to this machine; `None` on a machine without nginx.
async fn start(port: u16, relay: &str, adapt: impl Fn(String) -> String) -> Option<Site> {
    let files = SiteFiles::new(port);
    let letsencrypt = "/etc/letsencrypt/live/studio.example";
    let http = adapt(documented("docs/install.md", "nginx"))
        .replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"))
        .replace("listen [::]:443 ssl;", "")
        .replace("studio.example;", "localhost;")
        .replace(&format!("{letsencrypt}/fullchain.pem"), &files.certificate)
        .replace(&format!("{letsencrypt}/privkey.pem"), &files.key)
        .replace("127.0.0.1:8328", relay);
    files.nginx(&http).await
}

/// Submits a job through a proxy under `/relay/`, and follows it at the `ws_url` of the answer, as a page of the same address.
pub(super) async fn follows_a_job(site: &Site) {
    let jobs = format!("{}/relay/api/anime/jobs", site.url());
    let body = json!({"job_id": "job", "workflow": workflow(TXT2IMG).await});
    let answer = site.client().post(jobs).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    let ws_url = answer["ws_url"].as_str().unwrap();
    let socket = site.url().replace("https:", "wss:");
    assert_eq!(ws_url, format!("{socket}/relay/ws/job"));
    let mut socket = site.open(ws_url).await.unwrap();
    socket.completes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_behind_nginx_gives_a_ws_url_that_opens() {
    let mut server = ServerConfig::default();
    server.access.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let Some(proxy) = start(free_port(), &relay.address(), |it| it).await else {
        return;
    };
    follows_a_job(&proxy).await;
    for path in [
        "",
        "web/page.js",
        "websocket_test_client.html",
        "api/anime/jobs/",
    ] {
        let url = format!("{}/relay/{path}", proxy.url());
        let answer = proxy.client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_may_pass_the_path_on() {
    let mut server = ServerConfig::default();
    server.access.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let whole_path = |config: String| config.replace("127.0.0.1:8328/;", "127.0.0.1:8328;");
    let Some(proxy) = start(free_port(), &relay.address(), whole_path).await else {
        return;
    };
    follows_a_job(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_that_says_nothing_the_public_url_is_enough() {
    let port = free_port();
    let mut server = ServerConfig::default();
    let public_url = format!("https://localhost:{port}/relay/");
    server.access.public_url = Some(public_url.parse().unwrap());
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let silent = |config: String| {
        let says = |line: &&str| line.contains("X-Forwarded") || line.contains(" Host ");
        let lines: Vec<&str> = config.lines().filter(|line| !says(line)).collect();
        lines.join("\n") + "\n"
    };
    let Some(proxy) = start(port, &relay.address(), silent).await else {
        return;
    };
    follows_a_job(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_waits_for_a_relay_that_restarts_behind_its_proxy() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let line = TcpProxy::start(relay.address().parse().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let (log, port) = (folder.path().join("access.log"), free_port());
    let server = format!(
        "server {{ listen 127.0.0.1:{port}; access_log {}; location / {{ proxy_pass {}; \
         proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }}",
        log.display(),
        line.url()
    );
    let Some(_nginx) = Nginx::start(folder, port, &server).await else {
        return;
    };
    relay
        .report("job", &json!({"progress": 10, "status": "processing"}))
        .await;
    let url = format!("http://127.0.0.1:{port}");
    let mut watch = Program::start_command(&["watch", "job", "--relay", &url], &[]);
    wait_until("the job is watched", async || {
        let (_, status) = relay.get("/api/anime/websocket/status").await;
        status["connections"]["total_connections"] == 1
    })
    .await;
    line.cut();
    wait_until("nginx answers 502", async || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains(" 502 "))
    })
    .await;
    line.restore();
    relay
        .report("job", &json!({"progress": 100, "status": "completed"}))
        .await;
    assert!(watch.exit_status().await.success());
}
