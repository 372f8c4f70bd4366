//! The page that submits workflows.

use std::collections::HashSet;
use std::path::PathBuf;

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::browser::{done, run};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};

const UPLOAD: &str = "POST /upload/image";

#[tokio::test(flavor = "multi_thread")]
async fn the_form_submits_on_every_screen_and_by_keyboard() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    // The name that the picture of the script has by its content.
    let name = "relay-6b7fa434f92a8b80aab02d9bf1a12e49.png";
    comfyui.answer(UPLOAD, 200, &json!({"name": name}));
    let Some(page) = run("submit.mjs", &[&format!("{}/submit", relay.url())]) else {
        return;
    };
    let events = done(page).await;
    let mut backgrounds = HashSet::new();
    for page in events.iter().filter(|it| it["event"] == "page") {
        assert_eq!(page["sideways"], 0, "{page}");
        assert_eq!(page["violations"], json!([]), "{page}");
        backgrounds.insert(page["background"].as_str().unwrap());
        if page["name"].as_str().unwrap().ends_with("-wrong") {
            assert_eq!(
                page["refused"],
                json!(["it is required", "0 is less than 1"]),
                "{page}"
            );
            assert_eq!(page["focused"], "lora_1", "{page}");
        }
    }
    assert_eq!(backgrounds.len(), 2);
    let event = |name: &str| -> &Value {
        let found = events.iter().find(|it| it["event"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {events:?}"))
    };
    let job = event("sent")["job"].as_str().unwrap();
    assert!(
        event("sent")["link"]
            .as_str()
            .unwrap()
            .ends_with(&format!("/jobs/{job}"))
    );
    let (_, answer) = relay.get(&format!("/api/anime/jobs/{job}/workflow")).await;
    let graph = &answer["workflow"];
    let text = graph["6"]["inputs"]["text"].as_str().unwrap();
    assert!(text.ends_with(" and a cat"), "{text}");
    assert_eq!(graph["3"]["inputs"]["steps"], 12);
    let picture = event("picture");
    assert_eq!(
        (&picture["query"], &picture["missing"]),
        (&json!("?workflow=img2img"), &json!(["it is required"]))
    );
    let job = picture["job"].as_str().unwrap();
    let (_, answer) = relay.get(&format!("/api/anime/jobs/{job}/workflow")).await;
    assert_eq!(answer["workflow"]["10"]["inputs"]["image"], name);
    assert_eq!(event("kept")["steps"], "12");
    assert_eq!(
        event("exact")["refused"],
        json!(["18014398509481985 is more than 9007199254740991"])
    );
    let touched = event("touched");
    assert_eq!(
        (&touched["seed"], &touched["steps"]),
        (&json!(7), &json!(12))
    );
    assert_eq!(touched["cfg"], Value::Null, "{touched}");
    let wrong = event("proxy")["wrong"].as_str().unwrap();
    assert!(
        wrong.contains("Large") || wrong.contains("413"),
        "a parser's error: {wrong}"
    );
    for (language, heading) in [
        ("en", "Submit a job"),
        ("de", "Auftrag aufgeben"),
        ("ja", "ジョブを投入"),
    ] {
        let page = events
            .iter()
            .find(|it| it["event"] == "page" && it["name"] == language);
        assert_eq!(page.unwrap()["texts"][0], heading);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_under_a_strict_policy() {
    let mut settings = Settings::from(ServerConfig::default());
    settings.relay.workflows = PathBuf::from("no such folder");
    let relay = TestRelay::without_backend(settings).await;
    let page = relay
        .request(reqwest::Method::GET, "/submit")
        .send()
        .await
        .unwrap();
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    let html = page.text().await.unwrap();
    assert!(!html.contains("://") && !html.contains("<style") && !html.contains("style="));
    assert!(html.contains("data-page=\"submit\"") && html.contains("web/submit.js"));
}
