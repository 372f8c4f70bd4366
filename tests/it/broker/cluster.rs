//! States over a Redis Cluster: three masters, one of which has a replica.

use std::process::Command;

use comfy_relay::config::RedisConfig;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{has_redis, metric, without_backend};
use crate::support::database::TestDatabase;
use crate::support::nginx::free_port;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::wait::wait_until;

/// So many that each master has some.
const JOBS: usize = 24;

fn report(progress: u64, status: &str) -> Value {
    json!({"progress": progress, "status": status})
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_once_at_three_relays_while_a_master_is_killed() {
    if let Some(cluster) = RedisCluster::start().await {
        let config = cluster.config();
        jobs_end_once(cluster, config, |job| format!("anime_state:{job}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_sharded_channels_end_once_at_three_relays_while_a_master_is_killed() {
    if let Some(cluster) = RedisCluster::start().await {
        let config = cluster.sharded();
        jobs_end_once(cluster, config, |job| format!("anime_state:{{{job}}}")).await;
    }
}

async fn jobs_end_once(mut cluster: RedisCluster, config: RedisConfig, key: fn(&str) -> String) {
    let db = TestDatabase::sqlite().await;
    let owner = without_backend(&db, config.clone()).await;
    let others = [
        without_backend(&db, config.clone()).await,
        without_backend(&db, config).await,
    ];
    let jobs: Vec<String> = (0..JOBS).map(|number| format!("job-{number}")).collect();
    let mut watching = JoinSet::new();
    for job in &jobs {
        for relay in [&owner, &others[0], &others[1]] {
            let mut subscriber = relay.subscribe(job).await;
            // Checks that nothing goes backwards, and that nothing comes after the end.
            watching.spawn(async move { subscriber.ends_as("completed").await });
        }
    }
    for progress in [10, 20, 30] {
        for job in &jobs {
            owner.report(job, &report(progress, "processing")).await;
        }
    }
    for relay in &others {
        wait_until("states come over Redis", async || {
            metric(relay, "redis_received_total").await >= JOBS as f64
        })
        .await;
    }

    cluster.nodes[0].kill();
    let (early, late) = jobs.split_at(JOBS / 2);
    for job in early {
        owner.report(job, &report(100, "completed")).await;
    }
    has_redis(&owner, "unreachable").await;
    for job in late {
        owner.report(job, &report(60, "processing")).await;
    }
    for relay in [&owner, &others[0], &others[1]] {
        has_redis(relay, "connected").await;
    }
    let received = metric(&others[0], "redis_received_total").await;
    for job in late {
        owner.report(job, &report(100, "completed")).await;
    }
    watching.join_all().await;
    assert!(metric(&others[0], "redis_received_total").await > received);
    // The replica has become a master, and has the ends of the jobs that the killed one had held.
    let mut is_moved = false;
    for job in &jobs {
        let key = key(job);
        is_moved |= cluster.holder(&key).await.0 == 0;
        wait_until("the end is kept", async || {
            let state = cluster.field(&key, "state").await;
            state.is_some_and(|state| state.contains(r#""status":"completed""#))
        })
        .await;
    }
    assert!(is_moved, "the killed master has held none of the jobs");

    // It comes back, as a replica.
    cluster.nodes[0].restart().await;
    owner.report("after", &report(40, "processing")).await;
    let mut remote = others[1].subscribe("after").await;
    remote.receive_until(|state| state["progress"] == 40).await;
    owner.report("after", &report(100, "completed")).await;
    remote.ends_as("completed").await;
    has_redis(&owner, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_permissions_is_enough_for_a_cluster() {
    let Some(cluster) = RedisCluster::start().await else {
        return;
    };
    // As docs/scaling.md says it.
    let rules = "ACL SETUSER relay on >hunter2 resetchannels ~anime_state:* &anime_progress:* &anime_relays:* \
        &anime_wake &anime_previews:* \
                 -@all +ping +select +hmget +hset +pexpire +publish +subscribe +unsubscribe +evalsha +script|load \
                 +cluster|info +cluster|slots +asking +spublish +ssubscribe +sunsubscribe";
    let rules: Vec<&str> = rules.split_whitespace().collect();
    for node in &cluster.nodes {
        let _: () = node.command(&rules).await;
    }
    for (job, mut config) in [("plain", cluster.config()), ("sharded", cluster.sharded())] {
        config.user = Some("relay".to_owned());
        config.password = Some("hunter2".to_owned().into());
        let db = TestDatabase::sqlite().await;
        let owner = without_backend(&db, config.clone()).await;
        let other = without_backend(&db, config).await;
        let mut remote = other.subscribe(job).await;
        owner.report(job, &report(30, "processing")).await;
        remote.receive_until(|state| state["progress"] == 30).await;
        wait_until("it has come over Redis", async || {
            metric(&other, "redis_received_total").await >= 1.0
        })
        .await;
        owner.report(job, &report(100, "completed")).await;
        remote.ends_as("completed").await;
        assert_eq!(metric(&owner, "redis_errors_total").await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_all_nodes_are_encrypted_where_the_address_says_so() {
    let bus = free_port().to_string();
    let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let settings = [&settings[..], &["--tls-cluster", "yes"]].concat();
    let Some((server, authority)) = RedisServer::encrypted_with(&settings) else {
        return;
    };
    let add_slots = || {
        let mut client = Command::new("redis-cli");
        client.args(["--tls", "-h", "127.0.0.1", "--cacert"]);
        client
            .arg(&authority)
            .args(["-p", &server.port().to_string()]);
        client.args(["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let output = client.output().unwrap();
        output.stdout.starts_with(b"OK")
    };
    wait_until("it takes the slots", async || add_slots()).await;
    let url = format!("rediss+cluster://{}", server.address());
    let mut config: RedisConfig = url.parse().unwrap();
    config.ca_file = Some(authority.clone());
    config.has_sharded_channels = true;
    let db = TestDatabase::sqlite().await;
    let owner = without_backend(&db, config.clone()).await;
    let other = without_backend(&db, config).await;
    let mut remote = other.subscribe("render").await;
    owner.report("render", &report(30, "processing")).await;
    remote.receive_until(|state| state["progress"] == 30).await;
    wait_until("it has come over Redis", async || {
        metric(&other, "redis_received_total").await >= 1.0
    })
    .await;
}
