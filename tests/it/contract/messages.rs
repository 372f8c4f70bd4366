//! Every message is one that the AsyncAPI document describes. Those of sockets and webhooks are checked wherever a test
//! receives one: see `support/subscriber.rs` and `support/webhook_receiver.rs`.

use comfy_relay::config::ServerConfig;
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::message_description::MessageDescription;
use crate::support::recordings::{ERROR, TXT2IMG};
use crate::support::redis_server::RedisServer;
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::PATIENCE;

fn check(channel: &str, message: &Value) {
    let checked = MessageDescription::kept().check_sent(channel, message);
    checked.unwrap_or_else(|why| panic!("{channel}: {why}"));
}

/// The messages of a text of events, of which the last line may still come.
fn messages(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let data = whole.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|message| serde_json::from_str(message).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_event_streams_are_documented() {
    for recording in [TXT2IMG, ERROR] {
        let relay = TestRelay::replaying(recording).await;
        let stream = |path: &str| relay.request(Method::GET, path).send();
        let of_job = stream("/api/anime/jobs/shot/events").await.unwrap();
        let mut of_all = stream("/api/anime/jobs/events").await.unwrap();
        relay.submit("shot", recording).await;
        let of_job = messages(&of_job.text().await.unwrap());
        assert!(of_job.len() > 5, "{of_job:?}");
        of_job
            .iter()
            .for_each(|message| check("job_events", message));
        // It does not end with the job.
        let mut text = String::new();
        while !messages(&text).iter().any(is_final) {
            let chunk = timeout(PATIENCE, of_all.chunk()).await.unwrap();
            text += std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap();
        }
        messages(&text)
            .iter()
            .for_each(|message| check("events", message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_states_on_redis_are_documented() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let mut settings = Settings::without_heartbeat();
    settings.relay.redis = Some(redis.config());
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    listener.subscribe("anime_progress:shot").await.unwrap();
    let mut states = listener.on_message();
    relay.submit("shot", TXT2IMG).await;
    loop {
        let state = timeout(PATIENCE, states.next()).await.unwrap().unwrap();
        let state: Value = serde_json::from_slice(state.get_payload_bytes()).unwrap();
        check("redis", &state);
        if is_final(&state) {
            break;
        }
    }
}

#[tokio::test]
async fn a_message_that_is_not_as_documented_is_found() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let report = json!({"progress": 40, "status": "processing", "message": "Frame 40", "labels": {"shot": "12"}});
    relay.report("shot", &report).await;
    let mut subscriber = relay.subscribe("shot").await;
    let state = subscriber.receive_type("progress").await;
    check("job", &state);
    let description = MessageDescription::kept();
    for (field, value) in [
        ("progres", json!(40)),
        ("progress", json!(101)),
        ("progress", json!("40")),
        ("status", json!("stuck")),
        ("timestamp", json!("today")),
        ("labels", json!({"shot": 12})),
        ("nodes", json!({"done": 1, "cached": 0, "totla": 2})),
        ("node", json!(null)),
        ("waiting_for", json!("a miracle")),
        ("type", json!("progres")),
    ] {
        let mut wrong = state.clone();
        wrong[field] = value;
        assert!(description.check_sent("job", &wrong).is_err(), "{wrong}");
    }
    let mut incomplete = state.clone();
    incomplete.as_object_mut().unwrap().shift_remove("seq");
    assert!(description.check_sent("job", &incomplete).is_err());
    let elsewhere = description.check_sent("monitor", &state);
    assert!(elsewhere.is_err(), "the monitor sends no states of jobs");
    assert_eq!(description.channel("/ws/monitor"), Some("monitor"));
    assert_eq!(description.channel("/ws/group:ep3"), Some("group"));
    assert_eq!(description.channel("/ws/shot"), Some("job"));
}
