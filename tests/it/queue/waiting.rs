//! What waits, why, and in which order.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{STILL, job, prompts_at, prompts_run, release, servers, settings, still_servers, urls};
use crate::support::database::{TestDatabase, on_both};
use crate::support::subscriber::is_final;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

on_both!(
    jobs_wait_here_and_run_in_their_order,
    waiting_jobs_outlive_the_relay,
    a_job_that_waits_goes_on_from_a_row_that_names_a_planned_server,
    a_job_that_waits_is_cancelled_at_once,
    a_higher_priority_goes_first,
    the_limit_holds_for_submissions_at_the_same_moment,
    many_submissions_at_the_same_moment_wait_for_the_database,
    a_job_that_waits_is_predicted_after_one_that_nothing_waited_behind,
);

/// How many prompts a server has at a time.
const DEPTH: usize = 2;

async fn submit(relay: &TestRelay, body: &Value) -> Value {
    let (status, answer) = relay.post("/api/anime/jobs", body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

async fn await_end(relay: &TestRelay, ids: &[String], status: &str) {
    for id in ids {
        let is_ended = async || {
            let (_, job) = relay.job(id).await;
            is_final(&job)
        };
        wait_until(&format!("{id} has ended"), is_ended).await;
        let (_, job) = relay.job(id).await;
        assert_eq!(job["status"], status, "{job}");
    }
}

async fn jobs_wait_here_and_run_in_their_order(db: TestDatabase) {
    let servers = still_servers(1).await;
    let server = servers[0].url();
    let relay = TestRelay::connected_to(&server, settings(&db)).await;
    let ids: Vec<String> = (0..8).map(|number| format!("job-{number}")).collect();
    let mut prompts = Vec::new();
    for id in &ids {
        let answer = submit(&relay, &job(id).await).await;
        assert_eq!(answer["backend"], server.trim_start_matches("http://"));
        prompts.push(answer["prompt_id"].as_str().unwrap().to_owned());
        assert!(prompts_at(&server).await <= DEPTH);
    }
    let (_, last) = relay.job("job-7").await;
    assert_eq!(last["status"], "queued");
    assert_eq!(last["waiting_for"], "server");
    let (status, shown) = relay.get("/api/anime/jobs/job-7/workflow").await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["workflow"], job("job-7").await["workflow"]);
    assert!(
        last["queue_position"].as_u64().unwrap() > DEPTH as u64,
        "{last}"
    );
    assert!(
        last["message"].as_str().unwrap().ends_with("ahead"),
        "{last}"
    );
    let mut subscriber = relay.subscribe("job-7").await;
    release(&servers);
    subscriber.ends_as("completed").await;
    assert!(subscriber.last().get("waiting_for").is_none());
    await_end(&relay, &ids, "completed").await;
    assert_eq!(prompts_run(&server).await, prompts);
}

async fn waiting_jobs_outlive_the_relay(db: TestDatabase) {
    let servers = still_servers(2).await;
    let ids: Vec<String> = (0..12).map(|number| format!("job-{number}")).collect();
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    for id in &ids {
        submit(&relay, &job(id).await).await;
    }
    relay.stop().await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    release(&servers);
    await_end(&relay, &ids, "completed").await;
    let mut run = prompts_run(&servers[0].url()).await;
    run.extend(prompts_run(&servers[1].url()).await);
    assert_eq!(run.len(), ids.len(), "each once");
}

/// Earlier releases have written the planned server into the row.
async fn a_job_that_waits_goes_on_from_a_row_that_names_a_planned_server(db: TestDatabase) {
    let servers = still_servers(1).await;
    let name = servers[0].url().trim_start_matches("http://").to_owned();
    let ids: Vec<String> = (0..3).map(|number| format!("job-{number}")).collect();
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    for id in &ids {
        submit(&relay, &job(id).await).await;
    }
    relay.stop().await;
    let row = "SELECT coalesce(backend, '-') AS v FROM comfy_relay.jobs WHERE job_key = 'job-2'";
    assert_eq!(db.value(row).await, "-");
    db.execute(&format!(
        "UPDATE comfy_relay.jobs SET backend = '{name}' WHERE job_key = 'job-2'"
    ))
    .await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    wait_until("it waits", async || {
        relay.job("job-2").await.1["waiting_for"] == "server"
    })
    .await;
    release(&servers);
    await_end(&relay, &ids, "completed").await;
}

async fn a_job_that_waits_is_cancelled_at_once(db: TestDatabase) {
    let servers = still_servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let ids: Vec<String> = (0..5).map(|number| format!("job-{number}")).collect();
    for id in &ids {
        submit(&relay, &job(id).await).await;
    }
    let (status, _) = relay.post("/api/anime/jobs/job-4/cancel", &json!({})).await;
    assert_eq!(status, 202);
    let (_, cancelled) = relay.job("job-4").await;
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    release(&servers);
    await_end(&relay, &ids[..4], "completed").await;
    assert_eq!(prompts_run(&servers[0].url()).await.len(), 4);
}

async fn a_higher_priority_goes_first(db: TestDatabase) {
    let servers = still_servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let mut prompts = Vec::new();
    for (number, priority) in [0, 0, 0, 1, 5, 1, -3].into_iter().enumerate() {
        let mut body = job(&format!("job-{number}")).await;
        body["priority"] = priority.into();
        let answer = submit(&relay, &body).await;
        prompts.push(answer["prompt_id"].as_str().unwrap().to_owned());
    }
    let ids: Vec<String> = (0..7).map(|number| format!("job-{number}")).collect();
    release(&servers);
    await_end(&relay, &ids, "completed").await;
    // The first two were handed in before the others came.
    let order = [0, 1, 4, 3, 5, 2, 6].map(|number: usize| prompts[number].clone());
    assert_eq!(prompts_run(&servers[0].url()).await, order);
}

async fn a_job_that_waits_is_predicted_after_one_that_nothing_waited_behind(db: TestDatabase) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    // Of this one nothing is known, so that it would leave its server without a predicted end.
    submit(&relay, &job("first").await).await;
    await_end(&relay, &["first".to_owned()], "completed").await;
    servers[0].set_speed(STILL);
    let mut subscriber = relay.subscribe("job-3").await;
    for number in 0..4 {
        submit(&relay, &job(&format!("job-{number}")).await).await;
    }
    let is_predicted =
        |state: &Value| state["waiting_for"] == "server" && state["estimated_start"].is_string();
    subscriber.receive_until(is_predicted).await;
}

async fn the_limit_holds_for_submissions_at_the_same_moment(db: TestDatabase) {
    const LIMIT: usize = 5;
    let servers = still_servers(1).await;
    let mut settings = settings(&db);
    settings.relay.queue_limit = LIMIT;
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    for id in ["runs", "ready"] {
        submit(&relay, &job(id).await).await;
    }
    let mut bodies = Vec::new();
    for number in 0..40 {
        bodies.push(job(&format!("job-{number}")).await);
    }
    let answers = join_all(
        bodies
            .iter()
            .map(|body| relay.post("/api/anime/jobs", body)),
    )
    .await;
    let mut taken = 0;
    for (status, answer) in answers {
        match status {
            201 => taken += 1,
            429 => assert_eq!(answer["error"]["code"], "queue_full", "{answer}"),
            _ => panic!("{status} {answer}"),
        }
    }
    assert_eq!(taken, LIMIT);
}

async fn many_submissions_at_the_same_moment_wait_for_the_database(db: TestDatabase) {
    let servers = servers(2).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let mut bodies = Vec::new();
    for number in 0..75 {
        bodies.push(job(&format!("job-{number}")).await);
    }
    let answers = join_all(
        bodies
            .iter()
            .map(|body| relay.post("/api/anime/jobs", body)),
    )
    .await;
    for (status, answer) in answers {
        assert!([201, 202].contains(&status), "{status} {answer}");
    }
    let stored = "SELECT count(*) AS v FROM comfy_relay.submissions";
    assert_eq!(db.value(stored).await, "75");
    for server in &servers {
        assert!(prompts_at(&server.url()).await <= DEPTH);
    }
}
