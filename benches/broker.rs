//! What a publication over Redis costs its relay, and how long it takes to others:
//! `REDIS_URL=redis://127.0.0.1:6379 cargo bench --bench broker`.
//!
//! It writes keys that begin with `bench:`, which expire within a day.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot continue has failed"
)]

use std::time::Duration;

use bytes::Bytes;
use comfy_relay::broker::{Broker, JobState, Position};
use comfy_relay::config::RedisConfig;
use comfy_relay::job::JobId;
use jiff::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

// As in the program.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "../src/allocator.rs"]
mod allocator;

/// Jobs whose states are published in turn.
const JOBS: usize = 100;

/// States a second, all jobs together, and for how many seconds.
const RATE: u32 = 1_000;
const SECONDS: u32 = 10;

/// Relays that follow all of these jobs, beside the one that owns them.
const FOLLOWERS: usize = 2;

fn main() {
    // As in the program.
    comfy_relay::cli::runtime().unwrap().block_on(run());
}

async fn run() {
    let Ok(url) = std::env::var("REDIS_URL") else {
        println!("set REDIS_URL to a Redis server for this benchmark");
        return;
    };
    let mut redis: RedisConfig = url.parse().unwrap();
    // What an earlier run has left is newer than what this one begins with.
    redis.prefix = format!("bench:{}:", std::process::id());
    println!("{RATE} publications a second of {JOBS} jobs, for {SECONDS} s");
    let alone = cpu_of_a_publication(None).await;
    let shared = cpu_of_a_publication(Some(&redis)).await;
    println!(
        "CPU of the relay for one: {alone:.1} µs alone, {shared:.1} µs over Redis, {:.1} µs more",
        shared - alone
    );
    let mut latencies = latencies(&redis).await;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "to {FOLLOWERS} other relays: {} states, p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms",
        latencies.len(),
        milliseconds(at(0.5)),
        milliseconds(at(0.99)),
        milliseconds(at(1.0)),
    );
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn id(job: usize) -> JobId {
    JobId::parse(&format!("job-{job}")).unwrap()
}

fn state(job: usize, seq: u64) -> JobState {
    let payload = json!({
        "type": "progress", "job_id": id(job), "status": "processing", "progress": 57, "estimated_remaining": 12,
        "estimated_low": 10, "estimated_high": 15, "estimated_completion": "2026-11-30T04:00:12.000Z",
        "message": "KSampler: step 12 of 20", "timestamp": "2026-11-30T04:00:00.123Z",
        "prompt_id": "0b7c2a5e-6a0f-4d0e-9a55-3c3c1c6f2a11", "seq": seq,
        "node": {"id": "3", "class_type": "KSampler", "title": "KSampler", "step": 12, "steps": 20},
        "nodes": {"done": 4, "cached": 2, "total": 9}, "queue_position": 0, "elapsed": 8.25, "backend": "127.0.0.1:8188",
    });
    JobState {
        job: id(job),
        position: Position { epoch: 1, seq },
        is_final: false,
        payload: Bytes::from(payload.to_string()),
        created_at: Timestamp::UNIX_EPOCH,
        started_at: Some(Timestamp::UNIX_EPOCH),
        ended_at: None,
        error_code: None,
        learned_from: None,
        output_urls: Vec::new(),
    }
}

/// Publishes at the rate, in a task, as the relay does: a thread outside the runtime would be woken for each state. Calls `published`
/// with the number of each state before.
async fn publish(broker: &Broker, mut published: impl FnMut(u64) + Send + 'static) {
    let broker = broker.clone();
    let publishing = tokio::spawn(async move {
        let mut tick = interval(Duration::from_secs(1) / RATE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..u64::from(RATE * SECONDS) {
            tick.tick().await;
            published(number);
            broker.publish(state(number as usize % JOBS, number + 1));
        }
    });
    publishing.await.unwrap();
}

async fn started(config: Option<&RedisConfig>, name: &str, stop: &CancellationToken) -> Broker {
    let broker = Broker::new(config, name);
    tokio::spawn(broker.clone().run(stop.clone()));
    if config.is_some() {
        broker.connected().await;
    }
    broker
}

/// The time of the processors that this process takes for one publication, in microseconds.
async fn cpu_of_a_publication(config: Option<&RedisConfig>) -> f64 {
    let stop = CancellationToken::new();
    let broker = started(config, "owner", &stop).await;
    let before = cpu();
    publish(&broker, |_| {}).await;
    let used = cpu() - before;
    stop.cancel();
    used as f64 / f64::from(RATE * SECONDS)
}

/// Microseconds of all threads, in the program and in the kernel.
fn cpu() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
}

/// How long each state took to each of the followers.
async fn latencies(config: &RedisConfig) -> Vec<Duration> {
    let stop = CancellationToken::new();
    let mut config = config.clone();
    config.prefix.push_str("latency:");
    let owner = started(Some(&config), "owner", &stop).await;
    let began = Instant::now();
    let (sent, times) = tokio::sync::watch::channel(Vec::new());
    let mut receiving = Vec::new();
    for follower in 0..FOLLOWERS {
        let broker = started(Some(&config), &format!("follower-{follower}"), &stop).await;
        broker.follow_only((0..JOBS).map(id));
        let times = times.clone();
        receiving.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let last = u64::from(RATE * SECONDS);
            loop {
                let received = broker.received().await;
                let now = began.elapsed();
                for state in &received {
                    let sent: Duration = times.borrow()[state.stored.seq as usize - 1];
                    latencies.push(now - sent);
                }
                if received.iter().any(|state| state.stored.seq == last) {
                    return latencies;
                }
            }
        }));
    }
    publish(&owner, move |_| {
        sent.send_modify(|times| times.push(began.elapsed()))
    })
    .await;
    let mut all = Vec::new();
    for receiving in receiving {
        all.extend(receiving.await.unwrap());
    }
    stop.cancel();
    all
}
