//! What the relay neither sends nor logs: folders, tracebacks, prompts and tokens.

use comfy_relay::config::RelayConfig;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{SECRET, in_seconds, token, upgrade};

/// The message of an exception with private details.
const RAISED: &str = "cannot read '/home/ada/comfy/input/secret cat.png'\n\
    Traceback (most recent call last):\n  File \"/opt/comfy/nodes.py\", line 12, in load\n";

/// Parts of it, and of other private texts.
const PRIVATE: [&str; 5] = ["/home", "ada", "/opt", "Traceback", "a secret prompt"];

fn assert_redacted(text: &str) {
    for word in PRIVATE {
        assert!(!text.contains(word), "{word:?} is in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_of_nodes_are_sent_without_folders_tracebacks_and_prompts() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    relay.register("job", "p").await;
    let mut subscriber = relay.subscribe("job").await;
    let data = json!({
        "prompt_id": "p", "node_id": "3", "node_type": "LoadImage", "executed": [],
        "exception_message": RAISED, "exception_type": "FileNotFoundError",
        "traceback": ["File \"/opt/comfy/nodes.py\""],
        "current_inputs": {"text": ["a secret prompt"]}, "current_outputs": [],
    });
    comfyui.set_queue(&[], &[]);
    comfyui.send(&json!({"type": "execution_error", "data": data}));
    assert_eq!(subscriber.close_code().await, 1000);
    let last = subscriber.last();
    assert_eq!(
        last["error"],
        "LoadImage (node 3): cannot read 'secret cat.png'"
    );
    assert_redacted(&format!("{:?} {:?}", subscriber.states, subscriber.errors));
    for path in ["/api/anime/jobs/job", "/api/anime/jobs"] {
        let (status, answer) = relay.get(path).await;
        assert_eq!(status, 200);
        assert_redacted(&answer.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_producers_are_sent_without_folders_and_tracebacks() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut subscriber = relay.subscribe("job").await;
    let report = json!({"progress": 10, "status": "failed", "error": RAISED});
    let (status, _) = relay.post("/api/anime/jobs/job/progress", &report).await;
    assert_eq!(status, 202);
    assert_eq!(subscriber.close_code().await, 1000);
    assert_eq!(subscriber.last()["error"], "cannot read 'secret cat.png'");
    assert_redacted(&format!("{:?} {:?}", subscriber.states, subscriber.errors));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_workflow_is_named_without_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder.json")).unwrap();
    std::fs::write(folder.path().join("garbled.json"), [0xff, 0xfe]).unwrap();
    let settings = Settings::default();
    let workflows = folder.path().to_owned();
    let relay = RelayConfig {
        workflows,
        ..settings.relay
    };
    let settings = Settings { relay, ..settings };
    let relay = TestRelay::without_backend(settings).await;
    for name in ["folder", "garbled", "absent"] {
        let (status, answer) = relay
            .post("/api/anime/jobs", &json!({"workflow": name}))
            .await;
        assert!(status >= 400, "{answer}");
        let folder = folder.path().to_str().unwrap();
        assert!(!answer.to_string().contains(folder), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_secrets_and_prompts_are_never_logged() {
    let variables = [("AUTH_JWT_SECRET", SECRET), ("LOG", "trace")];
    let program = Program::start(&[], &variables);
    program.ready().await;
    let base = format!("http://{}/api/anime/jobs", program.address());
    let client = Client::builder().no_proxy().build().unwrap();
    let tokens = [
        token(&json!({})),
        token(&json!({"exp": in_seconds(-5)})),
        token(&json!({"scope": "monitor", "jobs": ["other"]})),
        "no.kEyAnDnOtOkEn.oFnObOdY".to_owned(),
    ];
    let workflow = json!({"3": {"class_type": "A", "inputs": {"text": "a secret prompt"}}});
    for token in &tokens {
        for request in [
            client.get(format!("{base}/job?token={token}")),
            client.get(format!("{base}/a%20b?token={token}")),
            client.get(format!("{base}/nothing/here/at/all?token={token}")),
            client.get(format!("{base}/job")).bearer_auth(token),
            client
                .post(&base)
                .bearer_auth(token)
                .json(&json!({"workflow": workflow})),
            client
                .post(&base)
                .bearer_auth(token)
                .body("{\"workflow\": \"a secret prompt"),
        ] {
            let answer = request.send().await.unwrap().text().await.unwrap();
            assert!(!answer.contains(token.as_str()), "{answer}");
            assert_redacted(&answer);
        }
        for path in ["ws/job", "ws/monitor"] {
            let url = format!("ws://{}/{path}", program.address());
            for request in [
                upgrade(&format!("{url}?token={token}"), &[]),
                upgrade(
                    &url,
                    &[("sec-websocket-protocol", &format!("bearer, {token}"))],
                ),
            ] {
                let mut subscriber = Subscriber::connect(request).await;
                let is_authorized =
                    token == &tokens[0] || (token == &tokens[2] && path == "ws/monitor");
                if !is_authorized {
                    subscriber.close_code().await;
                    continue;
                }
                for text in [
                    json!({"type": "auth", "token": token}),
                    json!({"type": "auth", "token": [token]}),
                    json!({"type": token}),
                ] {
                    subscriber.send(&text.to_string()).await;
                }
                subscriber.ping().await;
            }
        }
    }
    // The relay logs a request before it answers the next one.
    let health = format!("http://{}/api/anime/health", program.address());
    client.request(Method::GET, health).send().await.unwrap();
    let log = program.kill().await;
    assert!(
        log.contains("TRACE") && log.contains("subscriber connected"),
        "{log}"
    );
    for token in &tokens {
        for part in token.split('.').skip(1) {
            let line = log.lines().find(|line| line.contains(part));
            assert_eq!(line, None, "a token is logged");
        }
    }
    assert!(!log.contains(SECRET), "the secret is logged");
    assert!(!log.contains("a secret prompt"), "a prompt is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_with_a_token_is_not_passed_on() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let page = relay.request(Method::GET, "/").send().await.unwrap();
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    let (_, answer) = relay.get("/nothing?token=abc").await;
    assert_eq!(answer["error"]["code"], "not_found");
    assert!(!Value::to_string(&answer).contains("abc"), "{answer}");
}
