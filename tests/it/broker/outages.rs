//! Redis that is killed, restarted, cut off or silent: jobs go on, and nothing goes back.

use comfy_relay::config::RedisConfig;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use serde_json::{Value, json};

use super::{has_redis, metric, relay, relay_with, with_redis, without_backend};
use crate::support::database::{TestDatabase, on_both};
use crate::support::nginx::free_port;
use crate::support::program::Program;
use crate::support::redis_server::RedisServer;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;
use crate::support::webhook_receiver::{ReceivedWebhook, WebhookReceiver};
use crate::webhooks::webhooks;

on_both!(
    jobs_go_on_while_redis_is_killed_and_restarted,
    a_relay_that_is_cut_off_from_redis_follows_the_rows,
    relays_follow_the_sentinels_to_another_server,
);

fn report(progress: u64, status: &str) -> Value {
    json!({"progress": progress, "status": status})
}

async fn health(relay: &TestRelay) -> Value {
    relay.get("/api/anime/health").await.1
}

/// The node accepts connections and the script, and refuses every state, until it has slots.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_that_is_not_usable_is_logged_once_and_tried_ever_more_rarely() {
    let bus = free_port().to_string();
    let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let Some(redis) = RedisServer::with(&settings) else {
        return;
    };
    redis.ready().await;
    let relay = Program::start(&[], &[("REDIS_URL", &redis.url())]);
    relay.ready().await;
    let path = "/api/anime/jobs/render/progress";
    relay.post(path, &report(10, "processing")).await.unwrap();
    relay.logs("cannot publish to Redis").await;
    let refused = async || -> u64 {
        let info: String = redis.command(&["INFO", "errorstats"]).await;
        let mut lines = info.lines();
        let count = lines.find_map(|line| line.strip_prefix("errorstat_CLUSTERDOWN:count="));
        count.map_or(0, |count| count.parse().unwrap())
    };
    wait_until("it is tried again", async || refused().await >= 6).await;
    let log = relay.log();
    assert_eq!(log.matches("cannot publish to Redis").count(), 1, "{log}");
    assert!(!log.contains("can publish to Redis"), "{log}");

    let _: () = redis
        .command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    relay.logs("can publish to Redis").await;
    wait_until("the state is kept", async || {
        let kept: Option<u64> = redis.command(&["HGET", "anime_state:render", "seq"]).await;
        kept.is_some()
    })
    .await;
}

async fn jobs_go_on_while_redis_is_killed_and_restarted(db: TestDatabase) {
    let Some(mut redis) = RedisServer::start().await else {
        return;
    };
    let owner = without_backend(&db, redis.config()).await;
    let other = without_backend(&db, redis.config()).await;
    let (mut local, mut remote) = (
        owner.subscribe("render").await,
        other.subscribe("render").await,
    );
    owner.report("render", &report(10, "processing")).await;
    remote.receive_until(|state| state["progress"] == 10).await;

    redis.kill();
    for relay in [&owner, &other] {
        has_redis(relay, "unreachable").await;
        assert_eq!(health(relay).await["status"], "degraded");
    }
    owner.report("render", &report(40, "processing")).await;
    local.receive_until(|state| state["progress"] == 40).await;
    // From the row.
    remote.receive_until(|state| state["progress"] == 40).await;
    owner.report("short", &report(100, "completed")).await;

    redis.restart().await;
    for relay in [&owner, &other] {
        has_redis(relay, "connected").await;
    }
    // What goes on is published again, and what has ended meanwhile is not forgotten.
    for (job, seq) in [("render", local.last()["seq"].clone()), ("short", json!(1))] {
        let key = format!("anime_state:{job}");
        wait_until("the newest state is kept again", async || {
            let kept: Option<u64> = redis.command(&["HGET", &key, "seq"]).await;
            kept.is_some_and(|kept| kept >= seq.as_u64().unwrap())
        })
        .await;
    }
    let received = metric(&other, "redis_received_total").await;
    owner.report("render", &report(70, "processing")).await;
    remote.receive_until(|state| state["progress"] == 70).await;
    wait_until("it comes over Redis again", async || {
        metric(&other, "redis_received_total").await > received
    })
    .await;
    owner.report("render", &report(100, "completed")).await;
    for subscriber in [&mut local, &mut remote] {
        subscriber.ends_as("completed").await;
    }
}

async fn relays_follow_the_sentinels_to_another_server(db: TestDatabase) {
    let Some(mut master) = RedisServer::start().await else {
        return;
    };
    let replica = master.replica().await;
    let sentinel = RedisServer::sentinel(&master, "states").await;
    // Nothing answers at the first.
    let url = format!("redis+sentinel://127.0.0.1:1,{}/states", sentinel.address());
    let config: RedisConfig = url.parse().unwrap();
    let owner = without_backend(&db, config.clone()).await;
    let other = without_backend(&db, config).await;
    let mut remote = other.subscribe("render").await;
    owner.report("render", &report(10, "processing")).await;
    remote.receive_until(|state| state["progress"] == 10).await;

    master.kill();
    owner.report("short", &report(100, "completed")).await;
    wait_until("the replica has what was reported meanwhile", async || {
        let kept: Option<u64> = replica.command(&["HGET", "anime_state:short", "seq"]).await;
        kept.is_some()
    })
    .await;
    for relay in [&owner, &other] {
        has_redis(relay, "connected").await;
    }
    let received = metric(&other, "redis_received_total").await;
    owner.report("render", &report(70, "processing")).await;
    remote.receive_until(|state| state["progress"] == 70).await;
    wait_until("it comes over Redis", async || {
        metric(&other, "redis_received_total").await > received
    })
    .await;
    owner.report("render", &report(100, "completed")).await;
    remote.ends_as("completed").await;
}

async fn a_relay_that_is_cut_off_from_redis_follows_the_rows(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let proxy = TcpProxy::start(redis.address()).await;
    let mut cut_off = redis.config();
    cut_off.hosts[0].port = proxy.port();
    let owner = without_backend(&db, cut_off).await;
    let other = without_backend(&db, redis.config()).await;
    let mut remote = other.subscribe("render").await;
    owner.report("render", &report(10, "processing")).await;
    remote.receive_until(|state| state["progress"] == 10).await;

    // The other relay is still connected, and hears nothing.
    proxy.cut();
    has_redis(&owner, "unreachable").await;
    owner.report("render", &report(30, "processing")).await;
    remote.receive_until(|state| state["progress"] == 30).await;
    has_redis(&other, "connected").await;
    proxy.restore();
    has_redis(&owner, "connected").await;

    // A connection over which nothing comes any more is noticed, and made again.
    proxy.freeze();
    owner.report("render", &report(60, "processing")).await;
    remote.receive_until(|state| state["progress"] == 60).await;
    wait_until("the state is sent over another connection", async || {
        let kept: Option<String> = redis
            .command(&["HGET", "anime_state:render", "state"])
            .await;
        let kept = kept.and_then(|kept| serde_json::from_str::<Value>(&kept).ok());
        kept.is_some_and(|kept| kept["progress"] == 60)
    })
    .await;
    owner.report("render", &report(100, "completed")).await;
    remote.ends_as("completed").await;
    assert!(metric(&owner, "redis_errors_total").await > 0.0);
}

/// A relay in a process of its own, to be killed.
fn program(db: &TestDatabase, redis: &RedisServer, comfyui: &ScriptedComfy) -> Program {
    let variables = [
        ("DATABASE_URL", db.url()),
        ("REDIS_URL", redis.url()),
        ("COMFYUI_URL", comfyui.url()),
    ];
    let variables = variables.each_ref();
    Program::start(&[], &variables.map(|(name, value)| (*name, value.as_str())))
}

/// Until this connection rolls back, the rows of jobs can be read and not written.
async fn locked(db: &TestDatabase) -> AsyncPgConnection {
    let mut gate = AsyncPgConnection::establish(&db.url()).await.unwrap();
    gate.batch_execute("BEGIN; LOCK TABLE comfy_relay.jobs IN EXCLUSIVE MODE")
        .await
        .unwrap();
    gate
}

/// The database of the relay that has registered the job takes no rows, and the relay is killed: the job is known from Redis alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_relay_was_killed_before_it_wrote_it_is_registered_again() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::postgres().await;
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let other = relay(&comfyui.url(), &db, redis.config()).await;
    other.connected().await;
    let first = program(&db, &redis, &comfyui);
    first.ready().await;
    first.logs("standing by").await;
    let mut subscriber = other.subscribe("job").await;
    let mut gate = locked(&db).await;
    let registration = json!({"job_id": "job", "prompt_id": "p"});
    let answer = first.post("/api/anime/jobs", &registration).await;
    assert_eq!(answer.unwrap().0, 202, "it is not written yet");
    let seen = subscriber.receive_type("progress").await;
    first.kill().await;
    gate.batch_execute("ROLLBACK").await.unwrap();
    let (status, answer) = other.post("/api/anime/jobs", &registration).await;
    assert_eq!(status, 201, "{answer}");
    let prompt = "SELECT prompt_id AS v FROM comfy_relay.jobs WHERE job_key = 'job'";
    assert_eq!(db.value(prompt).await, "p");
    comfyui.send(&json!({"type": "executing", "data": {"node": "3", "prompt_id": "p"}}));
    let is_later = |state: &Value| state["seq"].as_u64() > seen["seq"].as_u64();
    subscriber.receive_until(is_later).await;
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
    db.wait_for("SELECT status AS v FROM comfy_relay.jobs", "completed")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_whose_relay_was_killed_before_it_wrote_it_is_sent_to_webhooks() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::postgres().await;
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    // It follows ComfyUI.
    let first = program(&db, &redis, &comfyui);
    first.ready().await;
    first.logs("connected to ComfyUI").await;
    let receiver = WebhookReceiver::start().await;
    let mut settings = with_redis(&db, redis.config());
    settings.relay.webhook = webhooks(Some(&receiver));
    let other = relay_with(&comfyui.url(), settings).await;
    let mut subscriber = other.subscribe("job").await;
    let mut gate = locked(&db).await;
    let registration = json!({"job_id": "job", "prompt_id": "p"});
    let answer = first.post("/api/anime/jobs", &registration).await;
    assert_eq!(answer.unwrap().0, 202, "it is not written yet");
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
    first.kill().await;
    gate.batch_execute("ROLLBACK").await.unwrap();
    let (status, answer) = other.post("/api/anime/jobs", &registration).await;
    assert!(status == 200 || status == 201, "{status} {answer}");
    let has_end =
        |all: &[ReceivedWebhook]| all.iter().any(|message| message.event() == "job.completed");
    receiver.wait_for("the end", has_end).await;
    let ended = "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'job'";
    assert_eq!(db.value(ended).await, "completed");
    let received = receiver.received();
    let ends = received.iter().filter(|it| it.event() == "job.completed");
    assert_eq!(ends.count(), 1);
}
