//! The relay behind a real nginx with TLS, under a path, as `docs/install.md` sets it up.

use std::sync::Arc;

use comfy_relay::config::ServerConfig;
use futures_util::StreamExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use crate::support::nginx::{Nginx, free_port};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::TestRelay;
use crate::support::tokens::upgrade;
use crate::support::wait::wait_until;

/// The documented nginx before a relay.
struct Proxy {
    _nginx: Nginx,
    port: u16,
    certificate: CertificateDer<'static>,
}

/// The configuration of nginx in the documents.
fn documented() -> String {
    let document = std::fs::read_to_string("docs/install.md").unwrap();
    let (_, rest) = document.split_once("```nginx\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

impl Proxy {
    /// Starts the documented configuration, adapted to this machine; `None` on a machine without nginx.
    async fn start(port: u16, relay: &str, adapt: impl Fn(String) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("cert.pem"), cert.pem()).unwrap();
        std::fs::write(at("key.pem"), signing_key.serialize_pem()).unwrap();
        let letsencrypt = "/etc/letsencrypt/live/studio.example";
        let http = adapt(documented())
            .replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"))
            .replace("listen [::]:443 ssl;", "")
            .replace("studio.example;", "localhost;")
            .replace(&format!("{letsencrypt}/fullchain.pem"), &at("cert.pem"))
            .replace(&format!("{letsencrypt}/privkey.pem"), &at("key.pem"))
            .replace("127.0.0.1:8328", relay);
        Some(Self {
            _nginx: Nginx::start(folder, port, &http).await?,
            port,
            certificate: cert.der().clone(),
        })
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn client(&self) -> Client {
        let certificate = Certificate::from_der(&self.certificate).unwrap();
        let client = Client::builder().no_proxy();
        client.add_root_certificate(certificate).build().unwrap()
    }

    fn connector(&self) -> Connector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        Connector::Rustls(Arc::new(config.with_no_client_auth()))
    }
}

/// Submits a job through nginx, and follows it at the `ws_url` of the answer, as a page of the same address.
async fn follows_a_job(proxy: &Proxy) {
    let jobs = format!("{}/relay/api/anime/jobs", proxy.url());
    let body = json!({"job_id": "job", "workflow": workflow(TXT2IMG).await});
    let request = proxy.client().post(jobs).json(&body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    let ws_url = answer["ws_url"].as_str().unwrap();
    let expected = format!("wss://localhost:{}/relay/ws/job", proxy.port);
    assert_eq!(ws_url, expected);
    let page = upgrade(ws_url, &[("origin", &proxy.url())]);
    let opening = connect_async_tls_with_config(page, None, false, Some(proxy.connector()));
    let (mut socket, _) = opening.await.unwrap();
    loop {
        let frame = socket.next().await.expect("closed before the end").unwrap();
        let Message::Text(text) = frame else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["status"] == "completed" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_behind_nginx_gives_a_ws_url_that_opens() {
    let mut server = ServerConfig::default();
    server.access.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let Some(proxy) = Proxy::start(free_port(), &relay.address(), |it| it).await else {
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
    let Some(proxy) = Proxy::start(free_port(), &relay.address(), whole_path).await else {
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
    let Some(proxy) = Proxy::start(port, &relay.address(), silent).await else {
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
