//! The states of many jobs on one socket, or one event stream.

use std::time::{Duration, Instant};

use comfy_relay::config::ServerConfig;
use comfy_relay::job::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::raw_client::RawClient;
use crate::support::recordings::TXT2IMG;
use crate::support::subscriber::{Subscriber, is_final};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;

fn running(progress: u64) -> Value {
    json!({"progress": progress, "status": "processing"})
}

fn ended(status: &str) -> Value {
    json!({"progress": 99, "status": status})
}

/// What a feed has sent, as far as a job that is reported last: the job, its status and its progress.
async fn states_until(feed: &mut Subscriber, last: &str) -> Vec<(String, String, u64)> {
    feed.receive_until(|message| message["type"] == "progress" && message["job_id"] == last)
        .await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let states = std::mem::take(&mut feed.states).into_iter();
    states
        .map(|state| {
            let progress = state["progress"].as_u64().unwrap();
            (text(&state["job_id"]), text(&state["status"]), progress)
        })
        .collect()
}

fn is(job: &str, status: &str, progress: u64) -> (String, String, u64) {
    (job.to_owned(), status.to_owned(), progress)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_has_the_open_jobs_every_change_the_new_jobs_and_each_end_once() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    relay.report("old", &ended("completed")).await;
    relay.report("a", &running(10)).await;
    let mut feed = Subscriber::connect(relay.socket_url("/ws/jobs")).await;
    let greeting = feed.receive_greeting().await;
    assert_eq!(greeting["job_id"], "jobs");
    assert_eq!(
        states_until(&mut feed, "a").await,
        [is("a", "processing", 10)]
    );
    relay.report("b", &running(1)).await;
    feed.receive_until(|message| message["job_id"] == "b").await;
    relay.report("a", &running(20)).await;
    feed.receive_until(|message| message["progress"] == 20)
        .await;
    relay.report("a", &ended("completed")).await;
    relay.report("a", &ended("completed")).await;
    relay.report("b", &ended("failed")).await;
    relay.report("c", &ended("cancelled")).await;
    relay.report("last", &running(0)).await;
    let mut states = states_until(&mut feed, "last").await;
    states.sort();
    assert_eq!(
        states,
        [
            is("a", "completed", 100),
            is("a", "processing", 20),
            is("b", "failed", 1),
            is("b", "processing", 1),
            is("c", "cancelled", 0),
            is("last", "processing", 0),
        ]
    );
    assert_eq!(feed.errors.len(), 1, "{:?}", feed.errors);
    assert_eq!(feed.errors[0]["job_id"], "b");
    feed.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_has_the_same_messages_as_the_socket_of_a_job() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let mut feed = relay.connect("/ws/jobs").await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    feed.receive_until(is_final).await;
    for state in &feed.states {
        assert!(subscriber.states.contains(state), "{state}");
    }
    assert_eq!(feed.last(), subscriber.last());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_narrowed_by_its_parameters() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    let mut failed = relay.connect("/ws/jobs?status=failed").await;
    let mut running_only = relay.connect("/ws/jobs?status=processing").await;
    let mut named = relay.connect("/ws/jobs?q=SHOT").await;
    let mut elsewhere = relay.connect("/ws/jobs?backend=gpu:8188").await;
    let mut labelled = relay.connect("/ws/jobs?label=episode=3&group=ep3").await;
    relay
        .report("a", &json!({"progress": 0, "status": "queued"}))
        .await;
    relay.report("b", &ended("cancelled")).await;
    let mut tagged = running(5);
    tagged["labels"] = json!({"episode": "3", "take": "1"});
    tagged["group"] = json!("ep3");
    relay.report("shot-1", &tagged).await;
    relay.report("shot-1", &ended("failed")).await;
    relay.report("last-shot", &running(7)).await;
    relay.report("last-shot", &ended("failed")).await;
    let last = |message: &Value| message["job_id"] == "last-shot" && is_final(message);
    for feed in [&mut failed, &mut running_only, &mut named] {
        feed.receive_until(last).await;
    }
    let jobs = |feed: &Subscriber| {
        let mut jobs: Vec<Value> = (feed.states.iter())
            .map(|state| state["job_id"].clone())
            .collect();
        jobs.dedup();
        jobs
    };
    for feed in [&failed, &running_only, &named] {
        assert_eq!(jobs(feed), ["shot-1", "last-shot"]);
    }
    assert!(failed.states.iter().all(is_final));
    elsewhere.ping().await;
    assert!(elsewhere.states.is_empty());
    labelled.receive_until(is_final).await;
    assert_eq!(jobs(&labelled), ["shot-1"]);
    assert_eq!(labelled.last()["labels"]["take"], "1");
    assert_eq!(labelled.last()["group"], "ep3");
    for (query, code) in [
        ("status=odd", "bad_status"),
        ("lable=a", "unknown_parameter"),
        ("label=a", "bad_query"),
        ("previews=2", "bad_query"),
        ("interval_ms=-1", "bad_query"),
        ("interval_ms=0.5", "bad_query"),
        ("interval_ms=10001", "bad_query"),
    ] {
        let mut refused = relay.connect(&format!("/ws/jobs?{query}")).await;
        assert_eq!(refused.receive_type("error").await["code"], code);
        let (status, answer) = relay.get(&format!("/api/anime/jobs/events?{query}")).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_with_an_interval_has_at_most_one_state_of_each_job_in_it_and_every_end() {
    const INTERVAL: Duration = Duration::from_millis(400);
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    relay.report("a", &running(0)).await;
    let mut often = relay.connect("/ws/jobs").await;
    let path = format!("/ws/jobs?interval_ms={}", INTERVAL.as_millis());
    let began = Instant::now();
    let mut spaced = relay.connect(&path).await;
    for progress in 1..=20 {
        relay.report("a", &running(progress)).await;
        relay.report("b", &running(progress)).await;
        often
            .receive_until(|it| it["job_id"] == "b" && it["progress"] == progress)
            .await;
    }
    relay.report("a", &ended("completed")).await;
    relay.report("b", &ended("cancelled")).await;
    spaced.receive_until(is_final).await;
    spaced.receive_until(is_final).await;
    let intervals = began.elapsed().as_millis() / INTERVAL.as_millis();
    for (job, status) in [("a", "completed"), ("b", "cancelled")] {
        let of_job = |state: &&Value| state["job_id"] == job;
        let count = spaced.states.iter().filter(of_job).count();
        // One when it began, and one at the end of each interval.
        assert!(count as u128 <= intervals + 1, "{count} in {intervals}");
        assert!(count < often.states.iter().filter(of_job).count());
        let last = spaced.states.iter().rfind(of_job).unwrap();
        assert_eq!(last["status"], status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_feed_skips_states_but_has_every_end() {
    const JOBS: usize = 40;
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    let mut slow = RawClient::with_small_buffer(&relay.address(), "/ws/jobs").await;
    let mut quick = relay.connect("/ws/jobs").await;
    let huge = "x".repeat(1 << 17);
    for progress in 1..=10 {
        for job in 0..JOBS {
            let report = json!({"progress": progress, "status": "processing", "output_path": huge});
            relay.report(&format!("job-{job}"), &report).await;
        }
    }
    for job in 0..JOBS {
        relay
            .report(&format!("job-{job}"), &ended("completed"))
            .await;
    }
    let mut ends = 0;
    while ends < JOBS {
        quick.receive_until(is_final).await;
        ends += 1;
    }
    let mut seen = Vec::new();
    let mut ended = std::collections::BTreeSet::new();
    while ended.len() < JOBS {
        let (_, state) = slow
            .text_until(|message| message["type"] == "progress")
            .await;
        if is_final(&state) {
            assert!(ended.insert(state["job_id"].to_string()), "{state}");
        }
        seen.push(state["progress"].as_u64().unwrap());
    }
    assert!(
        seen.len() < 11 * JOBS,
        "no state was skipped: {}",
        seen.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_has_the_jobs_of_its_token_only() {
    let relay = TestRelay::without_backend(guarded()).await;
    let all = token(&json!({}));
    let report = async |job: &str| {
        let path = format!("/api/anime/jobs/{job}/progress");
        let request = relay.request_as(&all, Method::POST, &path);
        let response = request.json(&running(5)).send().await.unwrap();
        assert_eq!(response.status(), 202);
    };
    report("theirs").await;
    report("mine").await;
    let mine = token(&json!({"jobs": ["mine", "later"], "scope": "subscribe"}));
    let mut feed = relay.connect(&format!("/ws/jobs?token={mine}")).await;
    feed.receive_type("progress").await;
    report("theirs-too").await;
    report("later").await;
    feed.receive_until(|message| message["job_id"] == "later")
        .await;
    let jobs: Vec<&Value> = feed.states.iter().map(|state| &state["job_id"]).collect();
    assert_eq!(jobs, ["mine", "later"]);
    let other = token(&json!({"scope": "submit"}));
    let mut refused = relay.connect(&format!("/ws/jobs?token={other}")).await;
    assert_eq!(refused.receive_type("error").await["code"], "forbidden");
    assert_eq!(refused.close_code().await, 4403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_has_all_jobs_too() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    relay.report("a", &running(10)).await;
    let request = relay.request(Method::GET, "/api/anime/jobs/events?q=a");
    let mut events = request.send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut next = async |part: &str| {
        while !text.contains(part) {
            text += std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap();
        }
    };
    next(r#""type":"connection""#).await;
    next(r#""job_id":"a","status":"processing","progress":10"#).await;
    relay.report("b", &running(1)).await;
    relay
        .report("a", &json!({"progress": 20, "status": "failed"}))
        .await;
    next(r#""code":"reported""#).await;
    next(r#""job_id":"a","status":"failed""#).await;
    assert!(!text.contains(r#""job_id":"b""#), "{text}");
    let head = relay.request(Method::HEAD, "/api/anime/jobs/events");
    assert_eq!(head.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ended_long_ago_is_not_news_when_somebody_asks_for_it() {
    let mut settings = Settings::without_heartbeat();
    settings.relay.remember = Duration::ZERO;
    settings.relay.cleanup_interval = Duration::from_millis(10);
    let relay = TestRelay::without_backend(settings).await;
    relay.report("old", &ended("completed")).await;
    let id = JobId::parse("old").unwrap();
    wait_until("the job is forgotten", async || !relay.handle.knows(&id)).await;
    let mut feed = relay.connect("/ws/jobs").await;
    assert_eq!(relay.job("old").await.0, 200);
    relay.report("new", &running(1)).await;
    assert_eq!(
        states_until(&mut feed, "new").await,
        [is("new", "processing", 1)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_pinged_and_closed_when_the_relay_stops() {
    let server = ServerConfig {
        ping_interval: Duration::from_millis(50),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(server).await;
    let mut feed = relay.connect("/ws/jobs").await;
    feed.receive_type("ping").await;
    relay.start_shutdown();
    assert_eq!(feed.close_code().await, 1001);
}
