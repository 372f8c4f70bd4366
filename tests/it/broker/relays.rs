//! Two relays on one database, with Redis between them.

use std::time::Duration;

use comfy_relay::config::WebhookConfig;
use comfy_relay::job::JobId;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::{has_redis, metric, relay, relay_with, with_redis, without_backend};
use crate::storage::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::redis_server::RedisServer;
use crate::support::test_relay::UNREACHABLE;
use crate::support::wait::wait_until;
use crate::support::webhook_receiver::WEBHOOK_SECRET;

on_both!(
    a_subscriber_at_another_relay_receives_what_the_owner_sends,
    a_subscriber_that_comes_late_gets_the_newest_state_at_once,
    what_is_no_state_changes_nothing,
);

async fn a_subscriber_at_another_relay_receives_what_the_owner_sends(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(20.0)).await;
    let owner = relay(&comfyui.url(), &db, redis.config()).await;
    owner.connected().await;
    let other = without_backend(&db, redis.config()).await;
    let mut local = owner.subscribe("shot").await;
    let mut remote = other.subscribe("shot").await;
    owner.submit("shot", TXT2IMG).await;
    local.ends_as("completed").await;
    remote.ends_as("completed").await;
    // A row knows nothing of nodes: a state that names them has come over Redis.
    let has_node = |state: &&Value| state["node"].is_object();
    let over_redis: Vec<&Value> = remote.states.iter().filter(has_node).collect();
    assert!(over_redis.len() > 5, "{:?}", remote.states);
    for state in over_redis {
        assert!(local.states.contains(state), "{state}");
    }
    assert_eq!(remote.last(), local.last());
    assert!(metric(&other, "redis_received_total").await > 5.0);
    assert!(metric(&owner, "redis_published_total").await > 5.0);
    // Both answer the same about it.
    let (_, here) = owner.job("shot").await;
    let (_, there) = other.job("shot").await;
    for field in ["status", "progress", "output_path", "outputs", "prompt_id"] {
        assert_eq!(here[field], there[field], "{field}");
    }
}

async fn a_subscriber_that_comes_late_gets_the_newest_state_at_once(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let owner = without_backend(&db, redis.config()).await;
    let other = without_backend(&db, redis.config()).await;
    let report = json!({"progress": 30, "status": "processing", "message": "Compositing"});
    owner.report("render", &report).await;
    let mut remote = other.subscribe("render").await;
    let is_known = |state: &Value| state["progress"] == 30;
    let state = remote.receive_until(is_known).await;
    assert_eq!(state["message"], "Compositing");
    // Of a job that nobody follows here any more, nothing is received.
    drop(remote);
    let channel = "anime_relays:render";
    wait_until("the channel is left", async || {
        let subscribers: (String, u64) = redis.command(&["PUBSUB", "NUMSUB", channel]).await;
        subscribers.1 == 0
    })
    .await;
}

async fn what_is_no_state_changes_nothing(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let owner = without_backend(&db, redis.config()).await;
    let other = without_backend(&db, redis.config()).await;
    owner
        .report("render", &json!({"progress": 30, "status": "processing"}))
        .await;
    let mut remote = other.subscribe("render").await;
    remote.receive_until(|state| state["progress"] == 30).await;
    let channel = "anime_relays:render";
    wait_until("it is followed", async || {
        let subscribers: (String, u64) = redis.command(&["PUBSUB", "NUMSUB", channel]).await;
        subscribers.1 == 1
    })
    .await;
    let head = r#"{"epoch":1,"owner":"nobody","created_at":"2026-11-30T04:00:00Z"}"#;
    let old = r#"{"type":"progress","job_id":"render","status":"processing","progress":10,"estimated_remaining":null,"message":"Old","timestamp":"2026-11-30T04:00:00Z","seq":0}"#;
    let foreign = old.replace("render", "other");
    let junk = ["", "{}", "\n", "null\nnull", &format!("{head}\n{foreign}")];
    for message in junk {
        let _: u64 = redis.command(&["PUBLISH", channel, message]).await;
    }
    let message = format!("{head}\n{old}");
    let _: u64 = redis.command(&["PUBLISH", channel, &message]).await;
    wait_until("all was read", async || {
        metric(&other, "redis_rejected_total").await == 5.0
    })
    .await;
    owner
        .report("render", &json!({"progress": 100, "status": "completed"}))
        .await;
    remote.ends_as("completed").await;
    assert!(remote.states.iter().all(|state| state["message"] != "Old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_permissions_is_enough() {
    // As docs/scaling.md says it.
    let rules = "--user default off --user relay on >hunter2 resetchannels ~anime_state:* &anime_progress:* &anime_relays:* \
                 &anime_wake &anime_previews:* -@all +ping +select +hmget +hset +pexpire +publish +subscribe +unsubscribe +evalsha +script|load";
    let rules: Vec<&str> = rules.split_whitespace().collect();
    let Some(server) = RedisServer::with(&rules) else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let mut config = server.config();
    config.user = Some("relay".to_owned());
    config.password = Some("hunter2".to_owned().into());
    let owner = without_backend(&db, config.clone()).await;
    let other = without_backend(&db, config).await;
    // Before it was connected, the server may not have listened yet.
    let errors = metric(&owner, "redis_errors_total").await;
    let mut remote = other.subscribe("render").await;
    owner
        .report("render", &json!({"progress": 30, "status": "processing"}))
        .await;
    remote.receive_until(|state| state["progress"] == 30).await;
    wait_until("it has come over Redis", async || {
        metric(&other, "redis_received_total").await >= 1.0
    })
    .await;
    assert_eq!(metric(&owner, "redis_errors_total").await, errors);
    has_redis(&owner, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_encrypted_where_the_address_says_so() {
    let Some((server, authority)) = RedisServer::encrypted() else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let mut config = server.config();
    config.has_tls = true;
    config.ca_file = Some(authority);
    let owner = without_backend(&db, config.clone()).await;
    let report = json!({"progress": 30, "status": "processing"});
    owner.report("render", &report).await;
    wait_until("Redis has the state", async || {
        metric(&owner, "redis_published_total").await >= 1.0
    })
    .await;
    // Nobody vouches for the certificate.
    config.ca_file = None;
    let relay = Program::start(&[], &[("REDIS_URL", &config.to_string())]);
    relay.logs("cannot publish to Redis").await;
}

/// The message of the end is the test's: of a real one nobody can say whether it was written before the owner died.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_its_owner_could_not_write_is_written_by_the_relay_that_takes_over() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::postgres().await;
    let (url, redis_url) = (db.url(), redis.url());
    let owner = Program::start(&[], &[("DATABASE_URL", &url), ("REDIS_URL", &redis_url)]);
    owner.ready().await;
    let mut settings = with_redis(&db, redis.config());
    // It drops what it has of ended jobs as soon as the database can answer for them.
    settings.relay.details_of = 0;
    settings.relay.details_for = Duration::ZERO;
    // Nobody need be there: what counts is that the event is written.
    settings.relay.webhook = WebhookConfig {
        url: Some("http://127.0.0.1:9/".parse().unwrap()),
        secret: Some(WEBHOOK_SECRET.to_owned().into()),
        ..WebhookConfig::default()
    };
    let other = relay_with(UNREACHABLE, settings).await;
    let report = json!({"progress": 30, "status": "processing"});
    let path = "/api/anime/jobs/render/progress";
    wait_until("the owner takes the report", async || {
        owner
            .post(path, &report)
            .await
            .is_some_and(|(status, _)| status == 202)
    })
    .await;
    let mut remote = other.subscribe("render").await;
    remote.receive_until(|state| state["progress"] == 30).await;
    let query = |field: &'static str| ["HGET", "anime_state:render", field];
    let head: String = redis.command(&query("head")).await;
    let state: String = redis.command(&query("state")).await;
    let mut state: Value = serde_json::from_str(&state).unwrap();
    state["status"] = json!("completed");
    state["progress"] = json!(100);
    state["seq"] = json!(state["seq"].as_u64().unwrap() + 500);
    let message = format!("{head}\n{state}");
    wait_until("the end is received", async || {
        let heard: u64 = redis
            .command(&["PUBLISH", "anime_relays:render", &message])
            .await;
        heard > 0
    })
    .await;
    remote.ends_as("completed").await;
    let row = "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'render'";
    assert_eq!(db.value(row).await, "processing");
    let report = json!({"progress": 100, "status": "completed"});
    other.report("another", &report).await;
    let another = JobId::parse("another").unwrap();
    wait_until("a job that has ended later is dropped", async || {
        other.handle.newest_state(&another).is_none()
    })
    .await;
    owner.kill().await;
    db.wait_for(row, "completed").await;
    // It has the number that subscribers have seen.
    let row = "SELECT seq AS v FROM comfy_relay.jobs WHERE job_key = 'render'";
    assert_eq!(db.value(row).await, remote.last()["seq"].to_string());
    let announced = "SELECT count(*) AS v FROM comfy_relay.webhook_deliveries \
        WHERE job_key = 'render' AND event = 'job.completed'";
    assert_eq!(db.value(announced).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_shown_without_the_password() {
    let Some(server) = RedisServer::with(&["--requirepass", "right"]) else {
        return;
    };
    let url = format!("redis://:hunter2@{}", server.address());
    let relay = Program::start(&[], &[("REDIS_URL", &url)]);
    relay.ready().await;
    relay.logs("cannot publish to Redis").await;
    let (_, health) = relay.get("/api/anime/health").await.unwrap();
    assert_eq!(health["status"], "degraded");
    let shown = &health["components"]["redis"];
    assert_eq!(shown["status"], "unreachable");
    assert!(shown["reason"].is_string(), "{health}");
    for text in [relay.log(), health.to_string()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(relay.log().contains("redis://:***@"), "{}", relay.log());
}
