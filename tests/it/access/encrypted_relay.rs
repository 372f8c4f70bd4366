//! The commands that talk to a relay which serves TLS.

use std::process::Output;

use comfy_relay::replay::PlaybackSpeed;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, recording, replay};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_and_watch_use_tls() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(file("cert.pem"), cert.pem()).unwrap();
    std::fs::write(file("key.pem"), signing_key.serialize_pem()).unwrap();
    let recording = recording(TXT2IMG).await;
    let workflow = recording.prompts().next().unwrap().request_body.to_string();
    std::fs::write(file("workflow.json"), workflow).unwrap();
    let comfyui = replay(vec![recording], PlaybackSpeed::Fastest).await;
    let program = Program::start(
        &["--comfyui-url", &comfyui.url()],
        &[
            ("TLS_CERT", &file("cert.pem")),
            ("TLS_KEY", &file("key.pem")),
        ],
    );
    program.logs("serving https").await;
    let relay = format!("https://{}", program.address());
    let trusting = [
        ("RELAY_URL", relay.as_str()),
        ("RELAY_CA_FILE", &file("cert.pem")),
    ];

    let submit = [
        "submit",
        &file("workflow.json"),
        "--job-id",
        "job",
        "--watch",
    ];
    let output = Program::run(&submit, &trusting).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let output = Program::run(&["watch", "job"], &trusting).await;
    assert!(output.status.success(), "{}", stderr(&output));

    // Without the CA file the certificate is not trusted.
    let output = Program::run(&["watch", "job"], &trusting[..1]).await;
    assert_eq!(output.status.code(), Some(3));
    let submit = Program::run(&submit, &trusting[..1]).await;
    assert_eq!(submit.status.code(), Some(1));
    for error in [stderr(&output), stderr(&submit)] {
        assert!(error.contains("unknown authority"), "{error}");
        assert!(error.contains("RELAY_CA_FILE"), "{error}");
    }
    let unencrypted = relay.replace("https", "http");
    let output = Program::run(&["watch", "job", "--relay", &unencrypted], &[]).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_address_is_refused_as_the_relays() {
    for address in [
        "ftp://host",
        "host:port",
        "http://",
        "http://host/?a=1",
        "http://me:secret@host",
    ] {
        for command in ["watch", "submit"] {
            let output = Program::run(&[command, "job", "--relay", address], &[]).await;
            let error = stderr(&output);
            assert_eq!(output.status.code(), Some(64), "{address}: {error}");
            assert!(error.contains("the relay's address"), "{address}: {error}");
            assert!(!error.contains("ComfyUI"), "{address}: {error}");
            assert!(!error.contains("secret"), "{address}: {error}");
        }
    }
    let variables = [("RELAY_CA_FILE", "/absent.pem")];
    for command in ["watch", "submit"] {
        let output = Program::run(&[command, "job"], &variables).await;
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains("/absent.pem"), "{error}");
        assert!(error.contains("RELAY_CA_FILE"), "{error}");
    }
}
