//! TLS, and certificates that change.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_relay::config::{ServerConfig, TlsConfig};
use comfy_relay::job::{JobId, Report, Status, Tags};
use futures_util::{SinkExt, StreamExt};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;
use crate::support::wait::PATIENCE;

/// Writes a new certificate and its key, and returns the certificate.
fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn settings() -> (ServerConfig, TempDir, CertificateDer<'static>) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_certificate(folder.path());
    let server = ServerConfig {
        handshake_timeout: Duration::from_millis(300),
        reload_interval: Duration::from_millis(10),
        tls: Some(TlsConfig {
            certificate: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        }),
        ..ServerConfig::default()
    };
    (server, folder, certificate)
}

async fn encrypted() -> (TestRelay, TempDir, CertificateDer<'static>) {
    let (server, folder, certificate) = settings();
    (
        TestRelay::without_backend(server).await,
        folder,
        certificate,
    )
}

/// Connects as a client that trusts one certificate; `None` if the relay has another one.
async fn connect(
    relay: &TestRelay,
    trusted: &CertificateDer<'static>,
) -> Option<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(relay.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(PATIENCE, connecting).await.unwrap().ok()
}

async fn ask(stream: &mut TlsStream<TcpStream>, head: &str, body: &str) -> String {
    let request = format!(
        "{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_sockets_are_encrypted() {
    let (relay, _folder, certificate) = encrypted().await;
    let mut stream = connect(&relay, &certificate).await.unwrap();
    let report = json!({"progress": 40, "status": "processing"}).to_string();
    let answer = ask(
        &mut stream,
        "POST /api/anime/jobs/job/progress HTTP/1.1",
        &report,
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");

    let stream = connect(&relay, &certificate).await.unwrap();
    let (mut socket, _) = client_async("wss://localhost/ws/job", stream)
        .await
        .unwrap();
    socket
        .send(Message::text(r#"{"type": "ping"}"#))
        .await
        .unwrap();
    let mut received = Vec::new();
    while received.len() < 3 {
        let frame = timeout(PATIENCE, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let message: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
        received.push(message["type"].as_str().unwrap().to_owned());
    }
    received.sort_unstable();
    assert_eq!(received, ["connection", "pong", "progress"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_not_served_on_a_tls_port() {
    let (relay, _folder, certificate) = encrypted().await;
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut received = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut received))
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&received).contains("HTTP/1.1 200"));
    // A client that only connects is disconnected, and delays no other meanwhile.
    let mut silent = TcpStream::connect(relay.address()).await.unwrap();
    assert!(connect(&relay, &certificate).await.is_some());
    let mut received = Vec::new();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut received))
        .await
        .unwrap();
    assert!(received.is_empty());
}

/// Waits until the relay uses this certificate.
async fn await_certificate(relay: &TestRelay, certificate: &CertificateDer<'static>) {
    let began = Instant::now();
    while connect(relay, certificate).await.is_none() {
        assert!(
            began.elapsed() < PATIENCE,
            "the new certificate is not used"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_and_a_bad_one_is_not() {
    let (relay, folder, first) = encrypted().await;
    let before = connect(&relay, &first).await.unwrap();
    let second = write_certificate(folder.path());
    await_certificate(&relay, &second).await;
    assert!(connect(&relay, &first).await.is_none());
    // Open connections stay open.
    let (mut socket, _) = client_async("wss://localhost/ws/job", before)
        .await
        .unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());

    let wrong = [
        ("cert.pem", String::new()),
        (
            "cert.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        ),
        ("key.pem", "not a key".to_owned()),
    ];
    for (name, text) in wrong {
        std::fs::write(folder.path().join(name), text).unwrap();
        // Longer than the interval in which files are reloaded.
        for _ in 0..20 {
            assert!(connect(&relay, &second).await.is_some(), "{name}");
        }
    }
    // A key of another certificate.
    let CertifiedKey { cert, .. } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write_certificate(folder.path());
    std::fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
    let last = write_certificate(folder.path());
    await_certificate(&relay, &last).await;
}

/// More than one TLS write, to a client that sends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_message_is_sent_whole_over_tls() {
    let (relay, _folder, certificate) = encrypted().await;
    let stream = connect(&relay, &certificate).await.unwrap();
    let (mut socket, _) = client_async("wss://localhost/ws/job?close=end", stream)
        .await
        .unwrap();
    let id = JobId::parse("job").unwrap();
    let long = "x".repeat(1 << 20);
    for (progress, status) in [(5, Status::Processing), (99, Status::Completed)] {
        let report = Report {
            progress,
            status,
            estimated_remaining: None,
            message: None,
            output_path: Some(long.clone()),
            error: None,
        };
        relay
            .handle
            .report(&id, report, Tags::default())
            .await
            .unwrap();
    }
    let mut states = 0;
    loop {
        let received = timeout(PATIENCE, socket.next()).await.unwrap();
        match received.unwrap().unwrap() {
            Message::Text(text) if text.contains("\"progress\"") => {
                assert!(text.len() > long.len());
                states += 1;
            }
            Message::Close(frame) => break assert_eq!(u16::from(frame.unwrap().code), 1000),
            _ => {}
        }
    }
    assert_eq!(states, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_of_sockets_begin_with_wss_under_tls() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let (server, _folder, certificate) = settings();
    let relay = TestRelay::start(&comfyui.url(), server).await;
    let mut stream = connect(&relay, &certificate).await.unwrap();
    let job = json!({"job_id": "job", "prompt_id": "p"}).to_string();
    let answer = ask(&mut stream, "POST /api/anime/jobs HTTP/1.1", &job).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("\"wss://localhost/ws/job\""), "{answer}");
}
