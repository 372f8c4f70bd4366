//! The dashboard for readers of other languages, with other colours, on a phone, and in a tab that nobody sees.

use comfy_relay::config::ServerConfig;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::dashboard::{end, find, open, root, shown};
use crate::support::experience::experienced;
use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::TestRelay;

/// What a page of the dashboard loads at most, in bytes.
const MAX_LOADED: u64 = 150_000;

/// The job of a producer, which runs as long as the test needs it.
async fn run_shot(relay: &TestRelay) {
    let running = json!({"progress": 40, "status": "processing", "message": "Frame 40", "estimated_remaining": 600});
    relay.report("shot", &running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_language_is_whole_and_loads_its_own_texts_alone() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    end(&relay, "done", TXT2IMG, "completed").await;
    run_shot(&relay).await;
    let Some(page) = open("languages", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    for (language, table, status) in [
        ("en", "english.js", "Completed"),
        ("de", "german.js", "Fertig"),
        ("ja", "japanese.js", "完了"),
    ] {
        let of = |name: &str| -> &Value {
            let found = events
                .iter()
                .find(|event| event["event"] == name && event["language"] == language);
            found.unwrap_or_else(|| panic!("no {name} in {language}: {events:?}"))
        };
        let home = of("home");
        assert_eq!(home["lang"], language);
        assert_eq!(home["tables"], json!([table]));
        assert_eq!(home["status"], status, "{home}");
        assert_eq!(home["sideways"], 0, "{home}");
        let bytes = home["bytes"].as_u64().unwrap();
        assert!(bytes > 50_000 && bytes < MAX_LOADED, "{home}");
        let history = of("history");
        let image = history["image"].as_str().unwrap();
        assert!(
            image.starts_with(&relay.url()) && image.ends_with("?w=160"),
            "{image}"
        );
        assert!(history["width"].as_u64().unwrap() <= 160, "{history}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_colours_leave_no_bar_and_no_block_without_an_edge() {
    // It runs for minutes.
    let relay = TestRelay::replaying_with(TXT2IMG, PlaybackSpeed::Real(0.02)).await;
    relay.submit("shot", TXT2IMG).await;
    let Some(page) = open("forced", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let forced = find(&events, "forced");
    let (text, highlight) = (&forced["system"]["text"], &forced["system"]["highlight"]);
    assert_ne!(text, highlight);
    let block = &forced["block"];
    assert_eq!(block["borderTopStyle"], "solid", "{block}");
    let filled = block["backgroundImage"].as_str().unwrap();
    assert!(filled.contains(highlight.as_str().unwrap()), "{filled}");
    assert_eq!(&forced["now"]["backgroundColor"], text);
    assert_eq!(&forced["rail"]["backgroundColor"], highlight);
    assert_eq!(forced["track"]["borderTopStyle"], "solid");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_is_notified_where_nobody_sees_the_page() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    run_shot(&relay).await;
    let Some(mut page) = open("bell", &root(&relay), &[]) else {
        return;
    };
    page.until("away").await;
    relay
        .report("shot", &json!({"progress": 100, "status": "completed"}))
        .await;
    let events = shown(page).await;
    let notified = &find(&events, "notified")["shown"];
    assert_eq!(
        notified,
        &json!([{"title": "shot has completed", "tag": "shot"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_farm_follows_the_only_card_on_a_phone() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    run_shot(&relay).await;
    let Some(page) = open("gap", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let pixels = find(&events, "gap")["pixels"].as_f64().unwrap();
    // What is between all parts of the page.
    assert!((0.0..40.0).contains(&pixels), "{pixels} pixels of nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_opens_as_a_list_on_a_phone() {
    let (relay, recording) = experienced("0.8.0/10-queue-delete-pending").await;
    // Time stands still until the last of the recorded prompts is posted.
    for (job, prompt) in ["first", "waits-1", "waits-2"]
        .into_iter()
        .zip(recording.prompts())
    {
        let mut graph = prompt.request_body["prompt"].clone();
        // Minutes, also by what is learned on a fast machine.
        graph["3"]["inputs"]["steps"] = json!(100_000);
        relay.submit_workflow(job, &graph).await;
    }
    run_shot(&relay).await;
    let Some(page) = open("lane", &root(&relay), &[]) else {
        return;
    };
    let events = shown(page).await;
    let opened = find(&events, "opened");
    assert_eq!(
        (&opened["before"], &opened["after"]),
        (&json!("false"), &json!("true"))
    );
    assert_eq!(opened["jobs"], json!(["first", "waits-1", "waits-2"]));
    let said = opened["said"].as_str().unwrap();
    assert!(
        said.starts_with("from ") && said.contains("about"),
        "{said}"
    );
    assert_eq!(opened["label"], "Open the jobs of 127.0.0.1");
}
