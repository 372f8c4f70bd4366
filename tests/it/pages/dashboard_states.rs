//! What the dashboard says of texts, long intervals, and servers.

use comfy_relay::config::{RelayConfig, ServerConfig};
use comfy_relay::replay::PlaybackSpeed;
use comfy_relay::store::Store;
use reqwest::Method;
use serde_json::{Value, json};

use super::dashboard::{end, find, open, root, shown};
use crate::support::database::TestDatabase;
use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;

/// A node has shown a text of two lines beside its video.
const SHOWN: &str = "0.33.0/12c-custom-ui-outputs";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_job_shows_the_texts_of_its_nodes_to_be_copied() {
    let relay = TestRelay::replaying(SHOWN).await;
    end(&relay, "shot", SHOWN, "completed").await;
    let Some(page) = open("texts", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let text = find(&events, "shown");
    assert_eq!(text["name"], "ui", "by its title");
    assert_eq!(text["text"], "erste Zeile ✓\n\nzweite Zeile äöü");
    assert_eq!(text["copied"], text["text"]);
    assert_eq!(
        text["files"],
        json!(["AnimateDiff_00001.mp4", "ComfyUI_00001_.png"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_has_left_is_not_cut_off_on_a_phone() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let running = json!({"progress": 40, "status": "processing", "message": "Frame 40", "estimated_remaining": 600});
    relay.report("shot", &running).await;
    let Some(page) = open("cut", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let cards: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "card")
        .collect();
    assert_eq!(cards.len(), 6);
    for card in cards {
        let parts = card["parts"].as_array().unwrap();
        assert_eq!(parts.len(), 2, "{card}");
        assert!(
            parts.iter().all(|part| part[1].as_i64().unwrap() <= 0),
            "{card}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_has_left_is_not_said_while_the_relay_is_away() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let running = json!({"progress": 40, "status": "processing", "message": "Frame 40", "estimated_remaining": 600});
    relay.report("shot", &running).await;
    let Some(mut page) = open("away", &root(&relay), &[]) else {
        return;
    };
    let events = page.until("card").await;
    assert_eq!(find(&events, "card")["refused"], 3);
    let events = page.until("live").await;
    let left = find(&events, "live")["left"].as_str().unwrap();
    assert!(left.starts_with("about "), "{left}");
    relay.stop().await;
    let events = shown(page).await;
    let stale = find(&events, "stale");
    assert_eq!(stale["left"], "not known now");
    let said = stale["sub"].as_str().unwrap();
    assert!(said.starts_with("seen "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_servers_shows_their_speed_over_the_day() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    end(&relay, "first", TXT2IMG, "completed").await;
    end(&relay, "shot", TXT2IMG, "completed").await;
    let Some(page) = open("servers", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let server = find(&events, "server");
    assert_eq!(server["state"], "ok");
    let label = server["label"].as_str().expect("no line is drawn");
    assert!(
        label.starts_with("Speed over the last 24 hours: from "),
        "{label}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_another_relay_follows_is_shown_as_standing_by() {
    let first = TestRelay::replaying(TXT2IMG).await;
    let url = first.comfyui_url();
    // One of an earlier release, which does not say how it is.
    let lease = format!(
        "INSERT INTO comfy_relay.leases (backend, holder, held_until) VALUES ('{}', 'another', {})",
        url.trim_start_matches("http://"),
        jiff::Timestamp::now().as_millisecond() + 300_000,
    );
    let db = TestDatabase::sqlite().await;
    Store::open(&db.config()).migrate().await.unwrap();
    db.execute(&lease).await;
    let second = TestRelay::start(&url, db.config()).await;
    wait_until("the second relay stands by", async || {
        let (_, health) = second.get("/api/anime/health").await;
        health["components"]["comfyui"][0]["status"] == "held_elsewhere"
    })
    .await;
    let Some(page) = open("servers", &root(&second), &[]) else {
        return;
    };
    let events = shown(page).await;
    for place in ["lane", "server"] {
        let said = find(&events, place);
        let words = said["said"].as_str().unwrap();
        assert!(words.starts_with("standing by: another relay"), "{said}");
    }
    assert_eq!(find(&events, "lane")["state"], "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_the_queue_are_paused_and_resumed_on_the_dashboard() {
    let mut settings = Settings::from(PlaybackSpeed::Real(1.0));
    settings.relay.dispatch_depth = RelayConfig::default().dispatch_depth;
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let server = relay.comfyui_url().trim_start_matches("http://").to_owned();
    // From now on it is known how long the workflow takes.
    end(&relay, "first", TXT2IMG, "completed").await;
    // Enough that some still wait when a slow browser has opened the page.
    for number in 1..=20 {
        relay.submit(&format!("shot-{number}"), TXT2IMG).await;
    }
    let Some(page) = open("operated", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let planned = find(&events, "planned");
    let pause = format!("{server}: Pause");
    assert_eq!(planned["buttons"], json!([pause]));
    let stopped = find(&events, "stopped");
    let said = stopped["said"].as_str().unwrap();
    assert!(said.starts_with("paused · until "), "{stopped}");
    assert_eq!(stopped["buttons"], json!([format!("{server}: Resume")]));
    assert_eq!(stopped["why"], format!("Waiting: {server} is paused"));
    let card = find(&events, "server");
    assert_eq!(
        (&card["said"], &card["buttons"]),
        (&json!("paused"), &json!(["Resume"]))
    );
    assert_eq!(
        find(&events, "resumed")["buttons"],
        json!(["Pause", "Drain"])
    );
    let said = |event: &str| find(&events, event)["summary"].as_str().unwrap().to_owned();
    assert!(said("queue").contains("The queue is paused."));
    assert!(!said("running").contains("paused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_the_scope_operate_gets_no_buttons() {
    let relay = TestRelay::replaying_with(TXT2IMG, guarded()).await;
    let server = relay
        .comfyui_url()
        .replace("http://", "")
        .replace(':', "%3A");
    let operator = token(&json!({"scope": "operate", "jobs": []}));
    let path = format!("/api/anime/backends/{server}/pause");
    let paused = relay.request_as(&operator, Method::POST, &path);
    assert_eq!(paused.send().await.unwrap().status(), 200);
    let watcher = token(&json!({"scope": "subscribe monitor", "jobs": "*"}));
    let Some(page) = open("watched", &root(&relay), &[&watcher]) else {
        return;
    };
    let events = shown(page).await;
    let lane = find(&events, "lane");
    assert_eq!(
        (&lane["said"], &lane["buttons"]),
        (&json!("paused"), &json!([]))
    );
    assert_eq!(find(&events, "server")["buttons"], 0);
}

#[test]
fn what_operators_have_asked_for_has_words_in_each_language() {
    let document = std::fs::read("docs/openapi.json").unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let operations = &document["components"]["schemas"]["Operation"]["enum"];
    for language in ["english", "german", "japanese"] {
        let path = format!("src/server/pages/dashboard/{language}.js");
        let texts = std::fs::read_to_string(path).unwrap();
        for operation in operations.as_array().unwrap() {
            let key = format!(" {}: \"", operation.as_str().unwrap());
            assert!(texts.contains(&key), "{language} lacks{key}");
        }
    }
}
