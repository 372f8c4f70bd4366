//! Producers that report on a channel: all relays receive what they publish, and one applies it.

use std::process::Command;

use comfy_relay::broker::Broker;
use comfy_relay::config::RedisConfig;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::{has_redis, metric, relay, without_backend};
use crate::storage::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::tool::{Events, installed};
use crate::support::wait::wait_until;

on_both!(
    the_owner_of_a_job_applies_what_all_relays_receive,
    an_end_that_is_published_once_is_applied_although_the_owner_stops,
    an_end_that_its_owner_does_not_receive_is_applied_by_another_relay,
    what_is_no_report_is_counted_and_changes_nothing,
);

/// The settings of a relay that takes reports.
fn taking(config: RedisConfig) -> RedisConfig {
    RedisConfig {
        takes_reports: true,
        ..config
    }
}

/// Publishes a report. Returns how many relays receive it.
async fn publish(redis: &RedisServer, job: &str, report: &Value) -> u64 {
    let channel = format!("anime_progress_in:{job}");
    let publish = ["PUBLISH", &channel, &report.to_string()];
    redis.command(&publish).await
}

fn report(progress: u64, status: &str) -> Value {
    json!({"progress": progress, "status": status})
}

/// How often the job has changed its owner.
async fn epoch(db: &TestDatabase, job: &str) -> String {
    let query = format!("SELECT epoch AS v FROM comfy_relay.jobs WHERE job_key = '{job}'");
    db.value(&query).await
}

async fn the_owner_of_a_job_applies_what_all_relays_receive(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let owner = without_backend(&db, taking(redis.config())).await;
    let other = without_backend(&db, taking(redis.config())).await;
    owner.report("render", &report(10, "processing")).await;
    let before = epoch(&db, "render").await;
    let mut remote = other.subscribe("render").await;
    for progress in [20, 30, 40, 50] {
        assert_eq!(
            publish(&redis, "render", &report(progress, "processing")).await,
            2
        );
        let is_applied = |state: &Value| state["progress"] == progress;
        remote.receive_until(is_applied).await;
    }
    assert_eq!(epoch(&db, "render").await, before);
    assert_eq!(metric(&other, "redis_reports_total").await, 4.0);

    // Another relay takes the job over, and its reports.
    owner.stop().await;
    wait_until("the other relay applies them", async || {
        publish(&redis, "render", &report(60, "processing")).await;
        other.job("render").await.1["progress"] == 60
    })
    .await;
    publish(&redis, "render", &report(100, "completed")).await;
    remote.ends_as("completed").await;
    // The end stays, and is no mistake when it is repeated.
    publish(&redis, "render", &report(100, "completed")).await;
    publish(&redis, "render", &report(100, "failed")).await;
    wait_until("the other end is refused", async || {
        metric(&other, "redis_reports_rejected_total").await == 1.0
    })
    .await;
    assert_eq!(other.job("render").await.1["status"], "completed");
}

async fn an_end_that_is_published_once_is_applied_although_the_owner_stops(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let owner = without_backend(&db, taking(redis.config())).await;
    let other = without_backend(&db, taking(redis.config())).await;
    let mut remote = other.subscribe("render").await;
    owner.report("render", &report(10, "processing")).await;
    // The other relay knows now whose job it is.
    for progress in [20, 30] {
        publish(&redis, "render", &report(progress, "processing")).await;
        let is_applied = |state: &Value| state["progress"] == progress;
        remote.receive_until(is_applied).await;
    }
    owner.stop().await;
    assert_eq!(
        publish(&redis, "render", &report(100, "completed")).await,
        1
    );
    remote.ends_as("completed").await;
    assert_eq!(metric(&other, "redis_reports_rejected_total").await, 0.0);
}

async fn an_end_that_its_owner_does_not_receive_is_applied_by_another_relay(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let owner = without_backend(&db, redis.config()).await;
    let others = [
        without_backend(&db, taking(redis.config())).await,
        without_backend(&db, taking(redis.config())).await,
    ];
    let mut local = owner.subscribe("render").await;
    owner.report("render", &report(10, "processing")).await;
    assert_eq!(publish(&redis, "render", &report(70, "failed")).await, 2);
    local.ends_as("failed").await;
    for relay in &others {
        assert_eq!(metric(relay, "redis_reports_rejected_total").await, 0.0);
    }
}

/// The end comes before any relay has missed the one that was killed.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_published_once_is_applied_although_the_owner_is_killed() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::postgres().await;
    let (database, url) = (db.url(), redis.url());
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("REDIS_URL", &url),
        ("REDIS_PROGRESS_IN", "on"),
    ];
    let owner = Program::start(&[], &variables);
    owner.ready().await;
    let other = without_backend(&db, taking(redis.config())).await;
    let mut remote = other.subscribe("render").await;
    let path = "/api/anime/jobs/render/progress";
    owner.post(path, &report(10, "processing")).await.unwrap();
    for progress in [20, 30] {
        publish(&redis, "render", &report(progress, "processing")).await;
        let is_applied = |state: &Value| state["progress"] == progress;
        remote.receive_until(is_applied).await;
    }
    owner.kill().await;
    publish(&redis, "render", &report(100, "completed")).await;
    remote.ends_as("completed").await;
    assert_eq!(metric(&other, "redis_reports_rejected_total").await, 0.0);
}

async fn what_is_no_report_is_counted_and_changes_nothing(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(20.0)).await;
    let owner = relay(&comfyui.url(), &db, taking(redis.config())).await;
    owner.connected().await;
    let other = without_backend(&db, taking(redis.config())).await;
    let mut remote = other.subscribe("shot").await;
    owner.submit("shot", TXT2IMG).await;
    remote.ends_as("completed").await;
    let long = json!({"progress": 1, "status": "processing", "message": "x".repeat(70_000)});
    let bodies = [
        String::new(),
        "{}".to_owned(),
        "not JSON".to_owned(),
        "\u{0}".to_owned(),
        json!([1]).to_string(),
        report(101, "processing").to_string(),
        report(1, "done").to_string(),
        json!({"progress": 1, "status": "queued", "percent": 5}).to_string(),
        json!({"progress": 1, "status": "queued", "labels": {"a b": "c"}}).to_string(),
        long.to_string(),
    ];
    for body in &bodies {
        let channel = "anime_progress_in:render";
        let _: u64 = redis.command(&["PUBLISH", channel, body]).await;
    }
    let good = report(50, "processing").to_string();
    for job in ["", "a b", "group:g", "monitor"] {
        let channel = format!("anime_progress_in:{job}");
        let _: u64 = redis.command(&["PUBLISH", &channel, &good]).await;
    }
    for relay in [&owner, &other] {
        wait_until("all are counted", async || {
            metric(relay, "redis_reports_rejected_total").await == 14.0
        })
        .await;
    }
    let rows = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE job_key <> 'shot'";
    assert_eq!(db.value(rows).await, "0");
    // A job of ComfyUI has its own producer: its owner refuses others, as over HTTP.
    publish(&redis, "shot", &report(1, "failed")).await;
    wait_until("it is refused", async || {
        metric(&owner, "redis_reports_rejected_total").await == 15.0
    })
    .await;
    assert_eq!(metric(&other, "redis_reports_rejected_total").await, 14.0);
    assert_eq!(owner.job("shot").await.1["status"], "completed");
    // What is right is still taken.
    let mut render = other.subscribe("render").await;
    publish(&redis, "render", &report(50, "processing")).await;
    render.receive_until(|state| state["progress"] == 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_python_reports_a_job_that_one_of_two_relays_registers() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let Some(python) = installed("python/bin/python") else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let relays = [
        without_backend(&db, taking(redis.config())).await,
        without_backend(&db, taking(redis.config())).await,
    ];
    let mut subscribers = [
        relays[0].subscribe("render").await,
        relays[1].subscribe("render").await,
    ];
    let mut command = Command::new(python);
    command.args([
        "tests/clients/report.py",
        &redis.port().to_string(),
        "render",
    ]);
    let mut service = Events::of(command);
    for progress in [10, 40, 70, 100] {
        let state = service.next().await;
        assert_eq!(state["progress"], progress);
        assert_eq!(state["message"], format!("Frame {progress}"));
    }
    assert!(service.end().await);
    for (relay, subscriber) in relays.iter().zip(&mut subscribers) {
        subscriber.ends_as("completed").await;
        assert_eq!(relay.job("render").await.1["labels"]["shot"], "12");
        assert_eq!(metric(relay, "redis_reports_total").await, 4.0);
        assert_eq!(metric(relay, "redis_reports_rejected_total").await, 0.0);
    }
    // It has stayed with the relay that has registered it, as one that nobody else could report on.
    relays[0].report("other", &report(10, "processing")).await;
    assert_eq!(epoch(&db, "render").await, epoch(&db, "other").await);
}

/// Of two relays, one cannot receive reports: it is left out where it is the one that would register the job.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_receives_no_reports_holds_up_no_job() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let deaf = without_backend(&db, redis.config()).await;
    let other = without_backend(&db, taking(redis.config())).await;
    let jobs: Vec<String> = (0..12).map(|number| format!("job-{number}")).collect();
    for job in &jobs {
        assert_eq!(publish(&redis, job, &report(30, "processing")).await, 1);
    }
    for job in &jobs {
        wait_until("it is registered", async || {
            deaf.job(job).await.1["progress"] == 30
        })
        .await;
        publish(&redis, job, &report(100, "completed")).await;
    }
    for job in &jobs {
        wait_until("it has ended", async || {
            other.job(job).await.1["status"] == "completed"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_received_at_any_node_of_a_cluster() {
    let Some(mut cluster) = RedisCluster::start().await else {
        return;
    };
    for (job, config) in [("plain", cluster.config()), ("sharded", cluster.sharded())] {
        let db = TestDatabase::sqlite().await;
        let one = without_backend(&db, taking(config.clone())).await;
        let two = without_backend(&db, taking(config)).await;
        let mut subscriber = two.subscribe(job).await;
        for (node, progress) in cluster.nodes.iter().zip([10, 20, 30, 40]) {
            publish(node, job, &report(progress, "processing")).await;
            let is_applied = |state: &Value| state["progress"] == progress;
            subscriber.receive_until(is_applied).await;
        }
        if job == "sharded" {
            cluster.nodes[0].kill();
            has_redis(&one, "unreachable").await;
            for relay in [&one, &two] {
                has_redis(relay, "connected").await;
            }
        }
        publish(&cluster.nodes[1], job, &report(100, "completed")).await;
        subscriber.ends_as("completed").await;
        assert_eq!(metric(&one, "redis_reports_rejected_total").await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_permissions_is_enough_for_reports() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    // As docs/scaling.md says it.
    let rules = "ACL SETUSER relay on >hunter2 resetchannels ~anime_state:* &anime_progress:* &anime_relays:* \
        &anime_wake &anime_previews:* \
                 -@all +ping +select +hmget +hset +pexpire +publish +subscribe +unsubscribe +evalsha +script|load \
                 &anime_progress_in:* +psubscribe";
    let rules: Vec<&str> = rules.split_whitespace().collect();
    let _: () = redis.command(&rules).await;
    let mut config = taking(redis.config());
    config.user = Some("relay".to_owned());
    config.password = Some("hunter2".to_owned().into());
    assert!(Broker::check(&config).await.is_ok());
    let db = TestDatabase::sqlite().await;
    let relay = without_backend(&db, config.clone()).await;
    let mut subscriber = relay.subscribe("render").await;
    publish(&redis, "render", &report(30, "processing")).await;
    subscriber
        .receive_until(|state| state["progress"] == 30)
        .await;
    let _: () = redis
        .command(&["ACL", "SETUSER", "relay", "-psubscribe"])
        .await;
    let refused = Broker::check(&config).await.unwrap_err();
    assert!(refused.contains("psubscribe"), "{refused}");
    // Nor is Redis usable without wake-ups or previews.
    config.takes_reports = false;
    assert!(Broker::check(&config).await.is_ok());
    for left_out in ["&anime_wake", "&anime_previews:*"] {
        let channels = [
            "&anime_progress:*",
            "&anime_relays:*",
            "&anime_wake",
            "&anime_previews:*",
        ];
        let kept = channels.into_iter().filter(|channel| *channel != left_out);
        let set = ["ACL", "SETUSER", "relay", "resetchannels"].into_iter();
        let set: Vec<&str> = set.chain(kept).collect();
        let _: () = redis.command(&set).await;
        let refused = Broker::check(&config).await.unwrap_err();
        assert!(refused.contains("channel"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_taken_only_where_that_is_set_and_wrong_ones_logged_once() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let url = redis.url();
    let off = Program::start(&[], &[("REDIS_URL", &url)]);
    off.ready().await;
    off.is("healthy").await;
    assert_eq!(
        publish(&redis, "render", &report(30, "processing")).await,
        0
    );
    let variables = [("REDIS_URL", url.as_str()), ("REDIS_PROGRESS_IN", "on")];
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    wait_until("it is subscribed", async || {
        publish(&redis, "first", &report(30, "processing")).await == 1
    })
    .await;
    for _ in 0..20 {
        publish(&redis, "render", &json!("wrong")).await;
    }
    publish(&redis, "render", &report(30, "processing")).await;
    wait_until("the right one is taken", async || {
        let job = relay.get("/api/anime/jobs/render").await;
        job.is_some_and(|(status, _)| status == 200)
    })
    .await;
    let log = relay.log();
    assert_eq!(log.matches("is not taken").count(), 1, "{log}");
    assert!(log.contains("not the expected JSON"), "{log}");
}
