//! The newest jobs and the connections of all relays on a database, at each of them.

use std::collections::BTreeSet;
use std::time::Duration;

use comfy_relay::config::RedisConfig;
use serde_json::{Value, json};

use super::has_redis;
use crate::storage::lifecycle::settings;
use crate::support::database::{TestDatabase, on_both};
use crate::support::redis_server::RedisServer;
use crate::support::test_relay::{TestRelay, UNREACHABLE};
use crate::support::wait::wait_until;

on_both!(
    lists_show_the_jobs_and_connections_of_all_relays,
    lists_show_the_same_with_redis,
);

async fn relay(db: &TestDatabase, redis: Option<RedisConfig>) -> TestRelay {
    let mut settings = settings(db.config());
    settings.comfy.lease = Duration::from_millis(900);
    let is_shared = redis.is_some();
    settings.relay.redis = redis;
    let relay = TestRelay::start(UNREACHABLE, settings).await;
    if is_shared {
        has_redis(&relay, "connected").await;
    }
    relay
}

/// The newest jobs that a relay lists, each with the relay that has it.
async fn recent_jobs(relay: &TestRelay) -> Vec<(String, String)> {
    let mut monitor = relay.monitor().await;
    let status = monitor.receive_type("system_status").await;
    let jobs = status["recent_jobs"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    jobs.map(|job| (text(&job["id"]), text(&job["relay"])))
        .collect()
}

/// How many connections a relay lists, and to which relays those are that follow a job.
async fn connections(relay: &TestRelay, job: &str) -> (Value, Value, BTreeSet<String>) {
    let (_, status) = relay.get("/api/anime/websocket/status").await;
    let connections = &status["connections"];
    let of_job = &connections["connection_details"][job];
    let listed = of_job["connections"].as_array();
    let relays = listed.into_iter().flatten().map(|it| &it["relay"]);
    let relays = relays.filter_map(Value::as_str).map(str::to_owned);
    (
        connections["total_connections"].clone(),
        of_job["connection_count"].clone(),
        relays.collect(),
    )
}

async fn lists_show_the_jobs_and_connections_of_all_relays(db: TestDatabase) {
    lists_show_all(&db, None).await;
}

async fn lists_show_the_same_with_redis(db: TestDatabase) {
    if let Some(redis) = RedisServer::start().await {
        lists_show_all(&db, Some(redis.config())).await;
    }
}

async fn lists_show_all(db: &TestDatabase, redis: Option<RedisConfig>) {
    let first = relay(db, redis.clone()).await;
    let second = relay(db, redis).await;
    let report = json!({"progress": 10, "status": "processing"});
    first.report("one", &report).await;
    second.report("two", &report).await;
    let _here = first.subscribe("one").await;
    let there = [second.subscribe("one").await, second.subscribe("two").await];
    for relay in [&first, &second] {
        // The newest first, each once, although the second one has a copy of the job of the first.
        wait_until("it lists the jobs of both", async || {
            let jobs = recent_jobs(relay).await;
            let ids: Vec<&str> = jobs.iter().map(|(id, _)| id.as_str()).collect();
            let relays: BTreeSet<&String> = jobs.iter().map(|(_, relay)| relay).collect();
            ids == ["two", "one"] && relays.len() == 2 && jobs.iter().all(|it| !it.1.is_empty())
        })
        .await;
        wait_until("it lists the connections to both", async || {
            let (total, count, relays) = connections(relay, "one").await;
            (total, count, relays.len()) == (json!(3), json!(2), 2)
        })
        .await;
    }
    let jobs = recent_jobs(&first).await;
    assert_eq!(jobs, recent_jobs(&second).await);
    // Monitors are not shown the names of machines.
    let (_, _, relays) = connections(&first, "one").await;
    let is_part_of = |id: &str| relays.iter().any(|name| name.ends_with(id));
    assert!(jobs.iter().all(|(_, id)| id.len() == 8 && is_part_of(id)));

    // What a relay has listed goes with it. Its jobs are those of the other one then.
    drop(there);
    second.stop().await;
    wait_until("only the first one is listed", async || {
        let jobs = recent_jobs(&first).await;
        let relays: BTreeSet<String> = jobs.into_iter().map(|(_, relay)| relay).collect();
        let (total, _, connected) = connections(&first, "one").await;
        // A relay that is alone does not name itself.
        relays == BTreeSet::from([String::new()]) && total == 1 && connected.len() == 1
    })
    .await;
}
