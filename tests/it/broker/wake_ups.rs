//! Relays that are woken by what another one has written, and do not look by themselves.

use std::time::Duration;

use comfy_relay::config::RedisConfig;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{has_redis, metric, relay_with, with_redis};
use crate::storage::lifecycle::{comfyui, settings};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::TXT2IMG;
use crate::support::redis_server::RedisServer;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{TestRelay, UNREACHABLE};
use crate::support::wait::wait_until;

on_both!(
    a_relay_that_is_woken_acts_on_what_was_asked_for_at_another,
    a_relay_that_is_woken_reads_the_rows_that_have_changed,
);

/// No relay looks by itself before the test is over.
const NEVER: Duration = Duration::from_secs(3_600);

/// No prompt begins before the test is over.
const STILL: PlaybackSpeed = PlaybackSpeed::Real(1e-6);

/// How often each time is measured.
const TIMES: usize = 8;

/// A relay that learns what others have written only when it is woken.
async fn woken(url: &str, db: &TestDatabase, redis: RedisConfig) -> TestRelay {
    let mut settings = with_redis(db, redis);
    settings.relay.look_interval = NEVER;
    relay_with(url, settings).await
}

/// Two relays before one server: the first follows it, the second stands by.
async fn pair(url: &str, start: impl AsyncFn() -> TestRelay) -> [TestRelay; 2] {
    let first = start().await;
    first.connected().await;
    let second = start().await;
    wait_until("the second one stands by", async || {
        let (_, health) = second.get("/api/anime/health").await;
        let server = &health["components"]["comfyui"][0];
        server["status"] == "held_elsewhere" || server["followed_elsewhere"] == true
    })
    .await;
    assert!(first.handle.backend_statuses()[0].connected, "{url}");
    [first, second]
}

async fn post(relay: &TestRelay, path: &str) {
    let (status, answer) = relay.post(path, &json!({})).await;
    assert!([200, 202].contains(&status), "{answer}");
}

async fn cancel(relay: &TestRelay, job: &str) {
    post(relay, &format!("/api/anime/jobs/{job}/cancel")).await;
}

async fn prompts_at(server: &str) -> usize {
    let queue = reqwest::get(format!("{server}/queue")).await.unwrap();
    let queue: Value = queue.json().await.unwrap();
    let count = |kind: &str| queue[kind].as_array().unwrap().len();
    count("queue_running") + count("queue_pending")
}

async fn a_relay_that_is_woken_acts_on_what_was_asked_for_at_another(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let comfyui = comfyui(&[TXT2IMG], STILL).await;
    let url = comfyui.url();
    let [first, second] = pair(&url, async || woken(&url, &db, redis.config()).await).await;

    // It hands in what was submitted elsewhere, and cancels it there.
    second.submit("shot", TXT2IMG).await;
    wait_until("the first one hands it in", async || {
        prompts_at(&url).await == 1
    })
    .await;
    let mut local = first.subscribe("shot").await;
    cancel(&second, "shot").await;
    local.ends_as("cancelled").await;
    assert_eq!(prompts_at(&url).await, 0);

    // It pauses, and goes on.
    post(&second, "/api/anime/queue/pause").await;
    wait_until("the first one pauses", async || {
        first.handle.is_queue_paused()
    })
    .await;
    first.submit("waits", TXT2IMG).await;
    post(&second, "/api/anime/queue/resume").await;
    wait_until("the first one goes on", async || {
        prompts_at(&url).await == 1
    })
    .await;
}

async fn a_relay_that_is_woken_reads_the_rows_that_have_changed(db: TestDatabase) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let comfyui = ScriptedComfy::start().await;
    let url = comfyui.url();
    let [first, second] = pair(&url, async || woken(&url, &db, redis.config()).await).await;

    // A prompt of its server that was registered elsewhere is its job.
    comfyui.set_queue(&["p"], &[]);
    second.register("prompt", "p").await;
    let mut remote = second.subscribe("prompt").await;
    remote
        .receive_until(|state| state["status"] == "processing")
        .await;
    assert_eq!(
        db.value("SELECT count(DISTINCT owner) AS v FROM comfy_relay.jobs")
            .await,
        "1"
    );

    // A job whose producer reports elsewhere now is not its own any more.
    let report = |progress: u64| json!({"progress": progress, "status": "processing"});
    let mut local = first.subscribe("render").await;
    first.report("render", &report(10)).await;
    local.receive_until(|state| state["progress"] == 10).await;
    second.report("render", &report(50)).await;
    local.receive_until(|state| state["progress"] == 50).await;

    // A stream of all jobs has those of the other relay.
    let mut feed = first.connect("/ws/jobs").await;
    second.report("comp", &report(20)).await;
    feed.receive_until(|state| state["job_id"] == "comp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_holds_up_no_other_cancellation() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let (hung, well) = (ScriptedComfy::start().await, ScriptedComfy::start().await);
    hung.set_queue(&["p"], &[]);
    well.set_queue(&["q"], &[]);
    let (hung_call, well_call) = ("POST /api/jobs/p/cancel", "POST /api/jobs/q/cancel");
    hung.reply(hung_call, Reply::Hang);
    well.answer(well_call, 200, &json!({"cancelled": true}));
    let mut settings = with_redis(&db, redis.config());
    settings.relay.look_interval = NEVER;
    settings.comfy.response_timeout = NEVER;
    let urls = [hung.url(), well.url()].join(",");
    let first = relay_with(&urls, settings).await;
    first.connected().await;
    let second = woken(UNREACHABLE, &db, redis.config()).await;
    for (job, prompt, server, call) in [
        ("first", "p", &hung, hung_call),
        ("second", "q", &well, well_call),
    ] {
        first.register(job, prompt).await;
        let mut remote = second.subscribe(job).await;
        remote
            .receive_until(|state| state["status"] == "processing")
            .await;
        cancel(&second, job).await;
        server.wait_for_calls(call, 1).await;
    }
    assert_eq!(hung.calls(hung_call), 1, "it is asked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_wake_ups_are_a_few_looks() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let relay = woken(UNREACHABLE, &db, redis.config()).await;
    let message =
        json!({"from": "another", "look_at": [{"what": "queue"}, {"what": "operations"}]});
    let burst = "for i = 1, 1000 do redis.call('PUBLISH', 'anime_wake', ARGV[1]) end return 0";
    let began_at = Instant::now();
    let _: u64 = redis
        .command(&["EVAL", burst, "0", &message.to_string()])
        .await;
    wait_until("all were received", async || {
        metric(&relay, "redis_wake_ups_received_total").await == 1_000.0
    })
    .await;
    wait_until("it looks", async || {
        metric(&relay, "redis_looks_total").await >= 2.0
    })
    .await;
    // Of each kind one at once, and one after each tenth of a second.
    let most = 2.0 * (began_at.elapsed().as_secs_f64() * 10.0 + 2.0);
    let looks = metric(&relay, "redis_looks_total").await;
    assert!(looks <= most, "{looks} looks, at most {most}");

    for junk in [
        "",
        "{}",
        "null",
        r#"{"from":"a","look_at":[{"what":"cancel"}]}"#,
    ] {
        let _: u64 = redis.command(&["PUBLISH", "anime_wake", junk]).await;
    }
    wait_until("what is no wake-up was read", async || {
        metric(&relay, "redis_rejected_total").await == 4.0
    })
    .await;
    has_redis(&relay, "connected").await;
}

/// Prints how long it takes until a relay acts on what was asked for at another one: see docs/scaling.md.
#[tokio::test(flavor = "multi_thread")]
async fn relays_act_sooner_when_they_are_woken() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let mut sums = Vec::new();
    for redis in [None, Some(redis.config())] {
        let db = TestDatabase::postgres().await;
        let comfyui = comfyui(&[TXT2IMG], STILL).await;
        let url = comfyui.url();
        let is_woken = redis.is_some();
        let pair = pair(&url, async || {
            let mut settings = settings(db.config());
            settings.comfy.lease = Duration::from_millis(900);
            settings.relay.redis = redis.clone();
            TestRelay::start(&url, settings).await
        })
        .await;
        if is_woken {
            has_redis(&pair[0], "connected").await;
            has_redis(&pair[1], "connected").await;
        }
        sums.push(measure(&url, &pair, is_woken).await);
    }
    assert!(sums[1] < sums[0], "{sums:?}");
}

/// The sum of all times.
async fn measure(url: &str, [first, second]: &[TestRelay; 2], is_woken: bool) -> Duration {
    let (mut submissions, mut cancels, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..TIMES {
        let job = format!("job-{number}");
        let asked_at = Instant::now();
        second.submit(&job, TXT2IMG).await;
        while prompts_at(url).await == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        submissions.push(asked_at.elapsed());
        let mut local = first.subscribe(&job).await;
        let asked_at = Instant::now();
        cancel(second, &job).await;
        local.ends_as("cancelled").await;
        cancels.push(asked_at.elapsed());
        let asked_at = Instant::now();
        post(second, "/api/anime/queue/pause").await;
        while !first.handle.is_queue_paused() {
            sleep(Duration::from_millis(1)).await;
        }
        pauses.push(asked_at.elapsed());
        post(second, "/api/anime/queue/resume").await;
        while first.handle.is_queue_paused() {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let mut sum = Duration::ZERO;
    for (what, mut times) in [
        ("submission", submissions),
        ("cancellation", cancels),
        ("pause", pauses),
    ] {
        sum += times.iter().sum::<Duration>();
        times.sort();
        eprintln!(
            "woken {is_woken}, {what}: median {:?}, longest {:?}",
            times[TIMES / 2],
            times[TIMES - 1]
        );
    }
    sum
}
