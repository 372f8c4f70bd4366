//! Several relays on one database share one queue.

use std::collections::BTreeSet;
use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{job, knows_waiting, prompts_at, prompts_run, relay_kills, servers, settings, urls};
use crate::storage::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::subscriber::is_final;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

on_both!(
    a_relay_with_room_hands_in_what_waits_with_another,
    a_job_is_submitted_to_a_relay_that_follows_no_server,
    a_job_that_waits_with_another_relay_is_cancelled,
    a_job_is_cancelled_through_any_relay,
    a_prompt_of_another_relay_is_deleted_over_comfyuis_api,
    priorities_hold_between_relays,
    a_name_is_given_once_by_two_relays,
    keys_are_left_to_relays_that_can_open_them,
    a_claim_for_a_server_that_another_relay_follows_now_is_settled_there,
    killed_relays_that_share_a_queue_lose_no_job_and_run_none_twice,
);

/// How often a relay is killed.
const KILLS: usize = 20;

async fn submit(relay: &TestRelay, body: &Value) {
    let (status, answer) = relay.post("/api/anime/jobs", body).await;
    assert_eq!(status, 201, "{answer}");
}

async fn await_end(relay: &TestRelay, id: &str) -> Value {
    wait_until(&format!("{id} has ended"), async || {
        is_final(&relay.job(id).await.1)
    })
    .await;
    relay.job(id).await.1
}

/// Two relays, each before a server of its own.
async fn pair(db: &TestDatabase, urls: [&str; 2]) -> [TestRelay; 2] {
    let first = TestRelay::connected_to(urls[0], settings(db)).await;
    let second = TestRelay::connected_to(urls[1], settings(db)).await;
    [first, second]
}

async fn pause_queue(relay: &TestRelay, word: &str) {
    let path = format!("/api/anime/queue/{word}");
    let (status, answer) = relay.post(&path, &json!({})).await;
    assert_eq!(status, 200, "{answer}");
}

async fn a_relay_with_room_hands_in_what_waits_with_another(db: TestDatabase) {
    let servers = servers(2).await;
    let urls = [servers[0].url(), servers[1].url()];
    let [first, second] = pair(&db, [&urls[0], &urls[1]]).await;
    let ids: Vec<String> = (0..24).map(|number| format!("job-{number}")).collect();
    pause_queue(&first, "pause").await;
    for id in &ids {
        submit(&first, &job(id).await).await;
    }
    let mut subscribers = Vec::new();
    for id in &ids {
        subscribers.push(first.subscribe(id).await);
    }
    pause_queue(&first, "resume").await;
    for subscriber in &mut subscribers {
        // Checks that nothing goes backwards, and that the end comes once.
        subscriber.ends_as("completed").await;
    }
    for id in &ids {
        assert_eq!(await_end(&second, id).await["status"], "completed");
    }
    let run = [prompts_run(&urls[0]).await, prompts_run(&urls[1]).await];
    assert!(run.iter().all(|run| !run.is_empty()), "{run:?}");
    let run = run.concat();
    let different: BTreeSet<&String> = run.iter().collect();
    assert_eq!((run.len(), different.len()), (24, 24), "each once");
}

async fn a_job_is_submitted_to_a_relay_that_follows_no_server(db: TestDatabase) {
    let servers = servers(1).await;
    let url = servers[0].url();
    let first = TestRelay::connected_to(&url, settings(&db)).await;
    let second = TestRelay::start(&url, settings(&db)).await;
    wait_until("the second one stands by", async || {
        let (_, health) = second.get("/api/anime/health").await;
        health["components"]["comfyui"][0]["followed_elsewhere"] == true
    })
    .await;
    submit(&second, &job("shot").await).await;
    let mut subscriber = second.subscribe("shot").await;
    subscriber.ends_as("completed").await;
    assert_eq!(await_end(&first, "shot").await["status"], "completed");
    assert_eq!(prompts_run(&url).await.len(), 1);
}

async fn a_job_that_waits_with_another_relay_is_cancelled(db: TestDatabase) {
    let servers = servers(2).await;
    let urls = [servers[0].url(), servers[1].url()];
    let [first, second] = pair(&db, [&urls[0], &urls[1]]).await;
    for relay in [&first, &second] {
        pause_queue(relay, "pause").await;
    }
    submit(&first, &job("own").await).await;
    submit(&first, &job("foreign").await).await;
    let mut own = first.subscribe("own").await;
    let mut foreign = first.subscribe("foreign").await;
    for (relay, id) in [(&first, "own"), (&second, "foreign")] {
        let path = format!("/api/anime/jobs/{id}/cancel");
        let (status, answer) = relay.post(&path, &json!({})).await;
        assert_eq!(
            (status, &answer["message"]),
            (202, &json!("it is cancelled"))
        );
    }
    own.ends_as("cancelled").await;
    foreign.ends_as("cancelled").await;
    pause_queue(&second, "resume").await;
    submit(&first, &job("last").await).await;
    assert_eq!(await_end(&first, "last").await["status"], "completed");
    let run = [prompts_run(&urls[0]).await, prompts_run(&urls[1]).await].concat();
    assert_eq!(run.len(), 1, "the cancelled ones did not run");
}

async fn a_prompt_of_another_relay_is_deleted_over_comfyuis_api(db: TestDatabase) {
    let servers = servers(2).await;
    let urls = [servers[0].url(), servers[1].url()];
    let [first, second] = pair(&db, [&urls[0], &urls[1]]).await;
    for relay in [&first, &second] {
        pause_queue(relay, "pause").await;
    }
    let api = second.serve_comfy().await;
    let client = reqwest::Client::new();
    for (id, path, body) in [
        ("deleted", "/queue", json!({"delete": ["deleted"]})),
        ("cancelled", "/api/jobs/cancelled/cancel", json!({})),
    ] {
        submit(&first, &job(id).await).await;
        let request = client.post(format!("{api}{path}")).json(&body);
        assert_eq!(request.send().await.unwrap().status(), 200);
        assert_eq!(await_end(&first, id).await["status"], "cancelled");
    }
}

async fn a_job_is_cancelled_through_any_relay(db: TestDatabase) {
    // So slow that nothing ends by itself.
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(0.1)).await;
    let first = TestRelay::connected_to(&comfyui.url(), settings(&db)).await;
    let second = TestRelay::start(&comfyui.url(), settings(&db)).await;
    let mut subscribers = Vec::new();
    for id in ["runs", "waits"] {
        submit(&first, &job(id).await).await;
        subscribers.push(second.subscribe(id).await);
    }
    subscribers[0]
        .receive_until(|state| state["status"] == "processing")
        .await;
    for id in ["waits", "runs"] {
        let path = format!("/api/anime/jobs/{id}/cancel");
        let (status, answer) = second.post(&path, &json!({})).await;
        assert_eq!(status, 202, "{answer}");
    }
    for subscriber in &mut subscribers {
        subscriber.ends_as("cancelled").await;
    }
    for id in ["runs", "waits"] {
        assert_eq!(await_end(&first, id).await["status"], "cancelled");
    }
    let requests = "SELECT count(*) AS v FROM comfy_relay.cancel_requests";
    db.wait_for(requests, "0").await;
    assert_eq!(prompts_at(&comfyui.url()).await, 0);
}

async fn priorities_hold_between_relays(db: TestDatabase) {
    let servers = servers(1).await;
    let url = servers[0].url();
    let first = TestRelay::connected_to(&url, settings(&db)).await;
    let second = TestRelay::start(&url, settings(&db)).await;
    pause_queue(&first, "pause").await;
    let stopped = "SELECT count(*) AS v FROM comfy_relay.operations WHERE subject = 'queue'";
    db.wait_for(stopped, "1").await;
    let mut wanted = Vec::new();
    for (relay, id, priority) in [
        (&first, "low-1", 0),
        (&second, "low-2", 0),
        (&second, "high", 5),
        (&first, "low-3", 0),
    ] {
        let mut body = job(id).await;
        body["priority"] = json!(priority);
        let (status, answer) = relay.post("/api/anime/jobs", &body).await;
        assert_eq!(status, 201, "{answer}");
        wanted.push((-priority, answer["prompt_id"].as_str().unwrap().to_owned()));
    }
    // The sort is stable.
    wanted.sort_by_key(|(priority, _)| *priority);
    // The first relay must know them all before it chooses.
    knows_waiting(&first, 4).await;
    pause_queue(&first, "resume").await;
    for id in ["low-1", "low-2", "high", "low-3"] {
        assert_eq!(await_end(&first, id).await["status"], "completed");
    }
    let wanted: Vec<String> = wanted.into_iter().map(|(_, prompt)| prompt).collect();
    assert_eq!(prompts_run(&url).await, wanted);
}

async fn a_name_is_given_once_by_two_relays(db: TestDatabase) {
    let servers = servers(2).await;
    let urls = [servers[0].url(), servers[1].url()];
    let [first, second] = pair(&db, [&urls[0], &urls[1]]).await;
    let mut accepted = BTreeSet::new();
    for number in 0..8 {
        let id = format!("job-{number}");
        let [mut one, mut other] = [job(&id).await, job(&id).await];
        one["params"] = json!({"3.seed": 2 * number});
        other["params"] = json!({"3.seed": 2 * number + 1});
        let (one, other) = tokio::join!(
            first.post("/api/anime/jobs", &one),
            second.post("/api/anime/jobs", &other),
        );
        let statuses = [one.0, other.0];
        assert!(
            statuses == [201, 409] || statuses == [409, 201],
            "{one:?} {other:?}"
        );
        accepted.insert(2 * number + u64::from(one.0 == 409));
        let same = job(&format!("same-{number}")).await;
        let (one, other) = tokio::join!(
            first.post("/api/anime/jobs", &same),
            second.post("/api/anime/jobs", &same),
        );
        let statuses = [one.0, other.0];
        assert!(
            statuses == [201, 200] || statuses == [200, 201],
            "{one:?} {other:?}"
        );
        assert_eq!(one.1["prompt_id"], other.1["prompt_id"]);
    }
    for number in 0..8 {
        for name in ["job", "same"] {
            let ended = await_end(&second, &format!("{name}-{number}")).await;
            assert_eq!(ended["status"], "completed", "{ended}");
        }
    }
    let mut run = Vec::new();
    for url in &urls {
        let history = reqwest::get(format!("{url}/history?max_items=100"))
            .await
            .unwrap();
        let history: Value = history.json().await.unwrap();
        let prompts = history.as_object().unwrap().values();
        run.extend(prompts.filter_map(|it| it["prompt"][2]["3"]["inputs"]["seed"].as_u64()));
    }
    assert_eq!(run.len(), 16, "each once: {run:?}");
    let of_jobs: BTreeSet<u64> = run.into_iter().filter(|seed| *seed < 16).collect();
    assert_eq!(of_jobs, accepted, "what was accepted ran");
    let locks = "SELECT count(*) AS v FROM comfy_relay.requests";
    db.wait_for(locks, "0").await;
}

async fn keys_are_left_to_relays_that_can_open_them(db: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let servers = servers(2).await;
    let urls = [servers[0].url(), servers[1].url()];
    let mut with_key = settings(&db);
    with_key.relay.queue_key_file = Some(folder.path().join("one.key"));
    let mut with_another = settings(&db);
    with_another.relay.queue_key_file = Some(folder.path().join("another.key"));
    let first = TestRelay::connected_to(&urls[0], with_key).await;
    let second = TestRelay::connected_to(&urls[1], with_another).await;
    pause_queue(&first, "pause").await;
    for number in 0..6 {
        let mut body = job(&format!("job-{number}")).await;
        body["extra_data"] = json!({"api_key_comfy_org": "comfyui-0123456789abcdef"});
        submit(&first, &body).await;
    }
    pause_queue(&second, "resume").await;
    for number in 0..6 {
        let ended = await_end(&first, &format!("job-{number}")).await;
        assert_eq!(ended["status"], "completed", "{ended}");
    }
    assert_eq!(prompts_run(&urls[0]).await.len(), 6);
    assert!(prompts_run(&urls[1]).await.is_empty());
}

async fn a_claim_for_a_server_that_another_relay_follows_now_is_settled_there(db: TestDatabase) {
    let servers = servers(1).await;
    let url = servers[0].url();
    let first = TestRelay::connected_to(&url, settings(&db)).await;
    let second = TestRelay::start(&url, settings(&db)).await;
    pause_queue(&first, "pause").await;
    submit(&second, &job("shot").await).await;
    let waits = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE job_key = 'shot'";
    db.wait_for(waits, "1").await;
    // As though the second relay had followed the server, and had claimed the job for it, when it lost the lease.
    let claim = format!(
        "UPDATE comfy_relay.submissions SET state = 'handed_in', backend = '{}'",
        url.trim_start_matches("http://")
    );
    db.execute(&claim).await;
    let released = "SELECT state AS v FROM comfy_relay.submissions";
    db.wait_for(released, "waiting").await;
    pause_queue(&first, "resume").await;
    assert_eq!(await_end(&second, "shot").await["status"], "completed");
    assert_eq!(prompts_run(&url).await.len(), 1);
}

async fn killed_relays_that_share_a_queue_lose_no_job_and_run_none_twice(db: TestDatabase) {
    let servers = servers(2).await;
    let seed: u64 = 20_261_130;
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut taken = 0;
    let mut relays = [
        Program::with_database(&db.url(), &urls(&servers)).await,
        Program::with_database(&db.url(), &urls(&servers)).await,
    ];
    for kill in 1..=KILLS {
        let death = Instant::now() + Duration::from_millis(random.random_range(150..900));
        tokio::select! {
            () = sleep_until(death) => {}
            () = async {
                while taken < 3 * kill {
                    relay_kills::submit(&relays[taken % 2], taken).await;
                    taken += 1;
                }
                std::future::pending::<()>().await;
            } => {}
        }
        let [first, second] = relays;
        let (killed, other) = if random.random() {
            (first, second)
        } else {
            (second, first)
        };
        killed.kill().await;
        let new = Program::with_database(&db.url(), &urls(&servers)).await;
        relays = [other, new];
    }
    for number in taken..3 * KILLS {
        relay_kills::submit(&relays[number % 2], number).await;
    }
    let completed = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'completed'";
    db.wait_for(completed, &(3 * KILLS).to_string()).await;
    for relay in relays {
        relay.kill().await;
    }
    let mut run = Vec::new();
    for server in &servers {
        run.extend(prompts_run(&server.url()).await);
    }
    let different: BTreeSet<&String> = run.iter().collect();
    assert_eq!((run.len(), different.len()), (60, 60), "each once");
    eprintln!("{KILLS} kills, {taken} jobs taken by the last");
}
