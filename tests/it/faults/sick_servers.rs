//! One ComfyUI that hangs, is slow to say anything, or is away harms no other.

use std::time::{Duration, Instant};

use comfy_relay::config::{ComfyConfig, Dispatch, LimitConfig, ServerConfig};
use comfy_relay::job::JobId;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::PATIENCE;

/// Less than a caller waits for one server that has not answered.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(9);

/// Two servers and a relay that is connected to both and knows that both are idle.
async fn two_idle(settings: Settings) -> ([ScriptedComfy; 2], TestRelay) {
    let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
    let urls = [servers[0].url(), servers[1].url()].join(",");
    let relay = TestRelay::connected_to(&urls, settings).await;
    for server in &servers {
        let info = json!({"status": {"exec_info": {"queue_remaining": 0}}});
        server.send(&json!({"type": "status", "data": info}));
    }
    let both_are_idle = |message: &Value| {
        let backends = message["backends"].as_array();
        backends.is_some_and(|all| all.iter().all(|it| it["queue_remaining"] == 0))
    };
    relay.monitor().await.receive_until(both_are_idle).await;
    (servers, relay)
}

/// Settings under which a hanging server is waited for longer than any test lasts.
fn patient() -> Settings {
    let settings = Settings::default();
    Settings {
        comfy: ComfyConfig {
            response_timeout: Duration::from_secs(600),
            ..settings.comfy
        },
        ..settings
    }
}

async fn submit(relay: &TestRelay, job: &str) -> (u16, Value) {
    let body = json!({"job_id": job, "workflow": workflow(TXT2IMG).await});
    relay.post("/api/anime/jobs", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_found_beside_a_server_that_hangs() {
    for healthy in [0, 1] {
        let (servers, relay) = two_idle(patient()).await;
        servers[1 - healthy].reply("GET /queue", Reply::Hang);
        servers[healthy].set_queue(&["p"], &[]);
        let body = json!({"job_id": "job", "prompt_id": "p"});
        let registering = relay.post("/api/anime/jobs", &body);
        let answered = tokio::time::timeout(LOOKUP_TIMEOUT, registering).await;
        let (status, answer) = answered.expect("the servers are asked one after another");
        assert_eq!(status, 201, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_server_keeps_a_caller_no_longer_than_one_wait() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), patient()).await;
    comfyui.reply("GET /queue", Reply::Hang);
    let ids: Vec<JobId> = (0..20)
        .map(|number| JobId::parse(&format!("unknown-{number}")).unwrap())
        .collect();
    let lookups = join_all(ids.iter().map(|id| relay.handle.lookup(id)));
    let looked_up = tokio::time::timeout(PATIENCE, lookups).await.unwrap();
    assert!(looked_up.iter().all(Result::is_err));
    // All of them wait for the same answer.
    assert!(comfyui.calls("GET /queue") <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_job_is_searched_for_once_a_second() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let began_at = Instant::now();
    for _ in 0..100 {
        let (status, _) = relay.job("unknown").await;
        assert_eq!(status, 404);
    }
    let seconds = began_at.elapsed().as_secs_f64();
    let searches = comfyui.calls("GET /history/unknown");
    assert!(
        searches as f64 <= 1.0 + seconds,
        "{searches} in {seconds} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_a_socket_looks_for_count_as_requests() {
    let comfyui = ScriptedComfy::start().await;
    let server = ServerConfig {
        limits: LimitConfig {
            requests: 5,
            loopback: true,
            ..LimitConfig::default()
        },
        ..ServerConfig::default()
    };
    let relay = TestRelay::connected_to(&comfyui.url(), server).await;
    let mut subscriber = relay.subscribe("first").await;
    let mut refused = 0;
    for number in 0..50 {
        let job = format!("unknown-{number}");
        let message = json!({"type": "subscribe", "job_id": job});
        subscriber.send(&message.to_string()).await;
        let about = |message: &Value| message["job_id"] == job;
        let answer = subscriber.receive_until(about).await;
        refused += usize::from(answer["code"] == "too_many_requests");
    }
    // At least those of the first second are over the limit.
    assert!(refused > 0);
    // The first subscription was looked for, too.
    let searches =
        (0..50).filter(|number| comfyui.calls(&format!("GET /history/unknown-{number}")) > 0);
    assert_eq!(searches.count(), 50 - refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_make_the_relay_ask_for_the_queue_no_more_often() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as("p");
    comfyui.set_queue(&["p"], &[]);
    let pause = Duration::from_millis(200);
    let mut settings = Settings::default();
    settings.comfy.min_poll_pause = pause;
    settings.comfy.poll_interval = Duration::from_secs(60);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let (began_at, before) = (Instant::now(), comfyui.calls("GET /queue"));
    for number in 0..100 {
        let (status, answer) = submit(&relay, &format!("job-{number}")).await;
        assert_eq!(status, 201, "{answer}");
    }
    let pauses = began_at.elapsed().div_duration_f64(pause);
    let asked = comfyui.calls("GET /queue") - before;
    assert!(asked as f64 <= 2.0 + pauses, "{asked} in {pauses} pauses");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_submissions_at_once_go_to_two_idle_servers_in_equal_parts() {
    let mut settings = Settings::default();
    // The queue hands prompts in one after another.
    settings.relay.dispatch = Dispatch::Direct;
    let (servers, relay) = two_idle(settings).await;
    for server in &servers {
        server.reply("POST /prompt", Reply::Hang);
    }
    let jobs: Vec<String> = (0..10).map(|number| format!("job-{number}")).collect();
    let submitting = join_all(jobs.iter().map(|job| submit(&relay, job)));
    let answering = async {
        // One that has answered shows an empty queue.
        for server in &servers {
            server.wait_for_calls("POST /prompt", 5).await;
        }
        for (number, server) in servers.iter().enumerate() {
            server.accept_prompts_as(&format!("p{number}"));
        }
    };
    let (submitted, ()) = tokio::join!(submitting, answering);
    for (status, answer) in submitted {
        assert_eq!(status, 201, "{answer}");
    }
    assert_eq!(servers.map(|server| server.calls("POST /prompt")), [5, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_one_after_another_take_turns() {
    let (servers, relay) = two_idle(Settings::default()).await;
    for (number, server) in servers.iter().enumerate() {
        server.accept_prompts_as(&format!("p{number}"));
        // No message tells that the queue has grown.
    }
    for number in 0..10 {
        let (status, answer) = submit(&relay, &format!("job-{number}")).await;
        assert_eq!(status, 201, "{answer}");
    }
    let calls = servers.map(|server| server.calls("POST /prompt"));
    assert_eq!(calls.iter().sum::<usize>(), 10);
    assert!(calls.iter().all(|calls| *calls >= 3), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_goes_to_the_next_server_where_the_best_is_away() {
    let (servers, relay) = two_idle(Settings::default()).await;
    let [first, second] = servers;
    first.accept_prompts_as("p");
    // The longer queue.
    let info = json!({"status": {"exec_info": {"queue_remaining": 0}}});
    first.send(&json!({"type": "status", "data": info}));
    drop(second);
    for number in 0..4 {
        let (status, answer) = submit(&relay, &format!("job-{number}")).await;
        assert_eq!(status, 201, "{answer}");
        assert_eq!(answer["backend"], first.address().to_string());
    }
}

/// However many prompts the other one has.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_gets_no_further_submissions() {
    let mut settings = patient();
    settings.comfy.submit_wait = Duration::from_millis(200);
    let (servers, relay) = two_idle(settings).await;
    for call in ["POST /prompt", "GET /queue"] {
        servers[0].reply(call, Reply::Hang);
    }
    servers[1].accept_prompts_as("p");
    let mut accepted = Vec::new();
    for number in 0..8 {
        accepted.push(submit(&relay, &format!("job-{number}")).await.0);
    }
    accepted.sort_unstable();
    assert_eq!(accepted, [201, 201, 201, 201, 201, 201, 201, 202]);
    assert_eq!(servers[0].calls("POST /prompt"), 1);
}
