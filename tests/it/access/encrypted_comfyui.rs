//! ComfyUI behind a proxy that encrypts, serves a folder, and asks for credentials.

use std::path::Path;

use comfy_relay::config::{ComfyConfig, ComfyConnection};
use comfy_relay::replay::{PlaybackSpeed, Replay};
use reqwest::Method;
use serde_json::json;

use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, recording, replay};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tls_proxy::TlsProxy;

/// The credentials `me:p@ss` in a URL and in a header.
const IN_URL: &str = "me:p%40ss@";
const BASIC: &str = "Basic bWU6cEBzcw==";

const TOKEN: &str = "t0ken.of.a.proxy";
const BEARER: &str = "Bearer t0ken.of.a.proxy";

/// Texts that would give the credentials away.
const CREDENTIALS: [&str; 5] = ["p%40ss", "p@ss", "bWU6cEBzcw", "me:", TOKEN];

async fn comfyui() -> Replay {
    replay(vec![recording(TXT2IMG).await], PlaybackSpeed::Fastest).await
}

fn assert_no_credentials(text: &str) {
    for credential in CREDENTIALS {
        assert!(!text.contains(credential), "{credential:?} is in {text}");
    }
}

/// Runs a job through a relay that reaches ComfyUI at `url`, and checks everything that it serves.
async fn run_job(url: &str, ca_file: &Path, token: Option<&str>) {
    let settings = Settings::default();
    let comfy = ComfyConfig {
        connection: ComfyConnection {
            ca_file: Some(ca_file.to_owned()),
            token: token.map(|token| token.to_owned().into()),
        },
        ..settings.comfy
    };
    assert_no_credentials(&format!("{comfy:?}"));
    let relay = TestRelay::connected_to(url, Settings { comfy, ..settings }).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    let (_, job) = relay.job("job").await;
    let output = job["outputs"][0]["url"].as_str().unwrap();
    let file = relay.request(Method::GET, output).send().await.unwrap();
    assert_eq!(file.status(), 200, "{output}");
    let mut served = format!("{job} {:?}", subscriber.states);
    for path in [
        "/",
        "/metrics",
        "/api/anime/health",
        "/api/anime/backends",
        "/api/anime/jobs",
    ] {
        let response = relay.request(Method::GET, path).send().await.unwrap();
        served.push_str(&response.text().await.unwrap());
    }
    assert_no_credentials(&served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_through_a_proxy_that_asks_for_a_password() {
    let comfyui = comfyui().await;
    let proxy = TlsProxy::before(&comfyui.url(), BASIC).await;
    // Credentials in the URL come before the token.
    for token in [None, Some(TOKEN)] {
        run_job(&proxy.url(IN_URL), &proxy.ca_file(), token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_through_a_proxy_that_asks_for_a_token() {
    let comfyui = comfyui().await;
    let proxy = TlsProxy::before(&comfyui.url(), BEARER).await;
    run_job(&proxy.url(""), &proxy.ca_file(), Some(TOKEN)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_made_through_the_proxy() {
    let comfyui = comfyui().await;
    let proxy = TlsProxy::before(&comfyui.url(), BASIC).await;
    let (url, ca_file) = (proxy.url(IN_URL), proxy.ca_file());
    let variables = [
        ("COMFYUI_URL", url.as_str()),
        ("COMFYUI_CA_FILE", ca_file.to_str().unwrap()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let workflow = folder.path().join("workflow.json");
    let recording = recording(TXT2IMG).await;
    let body = &recording.prompts().next().unwrap().request_body;
    std::fs::write(&workflow, body.to_string()).unwrap();
    let out = folder.path().join("recording");
    let arguments = [
        "record",
        workflow.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    let output = Program::run(&arguments, &variables).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    for file in ["meta.json", "ws.jsonl", "http.jsonl"] {
        let text = std::fs::read_to_string(out.join(file)).unwrap();
        assert_no_credentials(&text);
        let wanted = if file == "meta.json" {
            "completed"
        } else {
            "prompt"
        };
        assert!(text.contains(wanted), "{text}");
    }
}

/// Runs the program until it logs `reason` for not reaching ComfyUI. Returns what it logs and serves.
async fn refused(url: &str, variables: &[(&str, &str)], reason: &str) -> String {
    let mut variables = variables.to_vec();
    variables.extend([("COMFYUI_URL", url), ("LOG", "trace")]);
    let program = Program::start(&[], &variables);
    program.ready().await;
    program.logs(reason).await;
    assert!(program.is("degraded").await);
    let job = json!({"workflow": {"3": {"class_type": "A", "inputs": {}}}});
    let (status, error) = program.post("/api/anime/jobs", &job).await.unwrap();
    assert!(status >= 500, "{status} {error}");
    let mut seen = error.to_string();
    for path in ["/metrics", "/api/anime/health", "/api/anime/backends"] {
        let url = format!("http://{}{path}", program.address());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(url).send().await.unwrap();
        seen.push_str(&response.text().await.unwrap());
    }
    seen + &program.kill().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_the_credentials_is_named_without_them() {
    let comfyui = comfyui().await;
    let proxy = TlsProxy::before(&comfyui.url(), "Basic of-somebody-else").await;
    let ca_file = proxy.ca_file();
    let ca_file = ("COMFYUI_CA_FILE", ca_file.to_str().unwrap());
    for (url, variables) in [
        (proxy.url(IN_URL), vec![ca_file]),
        (proxy.url(""), vec![ca_file, ("COMFYUI_TOKEN", TOKEN)]),
    ] {
        let seen = refused(&url, &variables, "401 Unauthorized").await;
        assert!(seen.contains("COMFYUI_TOKEN"), "{seen}");
        assert_no_credentials(&seen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_trusted_is_refused() {
    let comfyui = comfyui().await;
    let proxy = TlsProxy::before(&comfyui.url(), BASIC).await;
    let seen = refused(&proxy.url(IN_URL), &[], "unknown authority").await;
    assert!(seen.contains("COMFYUI_CA_FILE"), "{seen}");
    assert_no_credentials(&seen);
    // The authority is known, but the certificate is for another host.
    let ca_file = proxy.ca_file();
    let variables = [("COMFYUI_CA_FILE", ca_file.to_str().unwrap())];
    let url = proxy.url(IN_URL).replace("127.0.0.1", "localhost");
    let seen = refused(&url, &variables, "certificate is not valid").await;
    assert_no_credentials(&seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_settings_end_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let garbled = folder.path().join("garbled.pem");
    std::fs::write(&garbled, "no certificate").unwrap();
    let garbled = garbled.to_str().unwrap();
    for (name, value, reason) in [
        ("COMFYUI_CA_FILE", garbled, "garbled.pem"),
        ("COMFYUI_CA_FILE", "/absent.pem", "COMFYUI_CA_FILE"),
        ("COMFYUI_TOKEN", "t0ken.of\n.a.proxy", "COMFYUI_TOKEN"),
        ("COMFYUI_URL", "ftp://me:p%40ss@host", "neither http nor"),
        ("COMFYUI_URL", "https://me:p%40ss@", "ComfyUI's address"),
        ("COMFYUI_URL", "https://me:p%40ss@host/?a=1", "a query"),
    ] {
        let mut program = Program::start(&[], &[(name, value)]);
        let code = program.exit_status().await.code();
        let log = program.log();
        assert_eq!(code, Some(64), "{name}={value}: {log}");
        assert!(log.contains(reason), "{name}={value}: {log}");
        assert_no_credentials(&log);
        assert!(!log.contains("t0ken"), "{log}");
    }
}
