//! `webhook test` and `webhook verify`, and settings of webhooks that are wrong.

use crate::support::program::Program;
use crate::support::webhook_receiver::{Reaction, WEBHOOK_SECRET, WebhookReceiver};

const SECRET: [(&str, &str); 1] = [("WEBHOOK_SECRET", WEBHOOK_SECRET)];

#[tokio::test(flavor = "multi_thread")]
async fn an_example_is_sent_and_verified() {
    let receiver = WebhookReceiver::start().await;
    let sent = Program::run(&["webhook", "test", &receiver.url()], &SECRET).await;
    let text = String::from_utf8(sent.stdout).unwrap();
    assert_eq!(sent.status.code(), Some(0), "{text}");
    let received = receiver.received();
    let [message] = &received[..] else {
        panic!("{received:?}");
    };
    assert!(
        text.contains(&message.id) && text.contains("204, accepted"),
        "{text}"
    );
    assert_eq!(message.event(), "job.completed");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.json");
    let verify = async |body: &str, id: &str, timestamp: &str| {
        std::fs::write(&file, body).unwrap();
        let arguments = [
            "webhook",
            "verify",
            file.to_str().unwrap(),
            "--id",
            id,
            "--timestamp",
            timestamp,
            "--signature",
            &message.signature,
        ];
        let checked = Program::run(&arguments, &SECRET).await;
        let texts = [checked.stdout, checked.stderr].concat();
        (checked.status.code(), String::from_utf8(texts).unwrap())
    };
    let (id, timestamp) = (message.id.as_str(), message.timestamp.as_str());
    let good = verify(&message.text, id, timestamp).await;
    assert_eq!(good, (Some(0), "signature  good\n".to_owned()));
    let (code, text) = verify(&format!("{} ", message.text), id, timestamp).await;
    assert!(code == Some(1) && text.contains("no signature"), "{text}");
    let (code, text) = verify(&message.text, "msg_other", timestamp).await;
    assert!(code == Some(1) && text.contains("no signature"), "{text}");
    let (code, text) = verify(&message.text, id, "1600000000").await;
    assert!(code == Some(1) && text.contains("s ago"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_the_example_is_named() {
    for (status, word) in [(500, "500"), (410, "gone"), (302, "302")] {
        let receiver = WebhookReceiver::answering(move |_, _| Reaction::status(status)).await;
        let sent = Program::run(&["webhook", "test", &receiver.url()], &SECRET).await;
        let text = String::from_utf8(sent.stdout).unwrap();
        assert!(
            sent.status.code() == Some(1) && text.contains(word),
            "{text}"
        );
    }
    let away = Program::run(&["webhook", "test", "http://127.0.0.1:1/"], &SECRET).await;
    let text = String::from_utf8(away.stdout).unwrap();
    assert!(
        away.status.code() == Some(1) && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_of_webhooks_end_the_start() {
    let url = ("WEBHOOK_URL", "https://app.example/hook");
    for (variables, reason) in [
        (vec![url], "there is no secret"),
        (vec![url, ("WEBHOOK_SECRET", "hunter2")], "whsec_"),
        (vec![("WEBHOOK_HOSTS", "app.example")], "there is no secret"),
        (
            vec![("WEBHOOK_URL", "https://me:hunter2@app.example/")],
            "without a user",
        ),
        (vec![("WEBHOOK_PROGRESS", "7")], "a multiple of 5"),
        (
            vec![("WEBHOOK_HOSTS", "https://app.example")],
            "expected HOST",
        ),
    ] {
        let refused = Program::run(&["serve", "--listen", "127.0.0.1:0"], &variables).await;
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(64), "{variables:?}: {text}");
        assert!(
            text.contains(reason) && text.contains("WEBHOOK_"),
            "{variables:?}: {text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
