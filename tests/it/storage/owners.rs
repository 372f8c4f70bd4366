//! Several relays on one database: each open job has one owner, and all relays answer the same.

use std::time::Duration;

use serde_json::{Value, json};

use super::lifecycle::settings;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(
    a_producers_job_has_one_owner,
    a_job_of_another_comfyui_is_only_read,
    a_report_at_another_relay_moves_the_job,
    an_end_that_another_relay_overtakes_is_written,
    a_subscriber_at_another_relay_follows_the_job,
    a_first_report_at_two_relays_makes_one_job,
    the_job_of_a_killed_relay_is_taken_over,
    a_feed_has_the_jobs_of_other_relays,
    an_end_reaches_subscribers_although_its_number_is_lower,
);

fn report(progress: u64, status: &str) -> Value {
    json!({"progress": progress, "status": status})
}

/// A relay that publishes running jobs often, as all relays do after some seconds.
async fn relay(url: &str, db: &TestDatabase) -> TestRelay {
    let mut settings: Settings = settings(db.config());
    settings.relay.heartbeat = Duration::from_millis(100);
    settings.comfy.lease = Duration::from_millis(900);
    TestRelay::start(url, settings).await
}

async fn without_backend(db: &TestDatabase) -> TestRelay {
    relay(crate::support::test_relay::UNREACHABLE, db).await
}

async fn state(relay: &TestRelay, job: &str) -> (Value, Value) {
    let (_, view) = relay.job(job).await;
    (view["status"].clone(), view["progress"].clone())
}

async fn progress_in_row(db: &TestDatabase) -> u64 {
    let row = db
        .value("SELECT progress AS v FROM comfy_relay.jobs WHERE job_key = 'render'")
        .await;
    row.parse().unwrap()
}

async fn a_producers_job_has_one_owner(db: TestDatabase) {
    let first = without_backend(&db).await;
    first.report("render", &report(10, "processing")).await;
    let second = without_backend(&db).await;
    first.report("render", &report(60, "processing")).await;
    // The row does not go back, however often either relay publishes.
    let mut highest = 0;
    let mut reads = 0;
    wait_until("both have had time to write", async || {
        let progress = progress_in_row(&db).await;
        progress == 60
    })
    .await;
    while reads < 100 {
        let progress = progress_in_row(&db).await;
        assert!(
            progress >= highest,
            "the row fell from {highest} to {progress}"
        );
        highest = highest.max(progress);
        reads += 1;
        assert_eq!(
            state(&second, "render").await,
            (json!("processing"), json!(60))
        );
    }
    first.report("render", &report(100, "completed")).await;
    assert_eq!(state(&second, "render").await.0, "completed");
    assert_eq!(state(&first, "render").await.0, "completed");
}

async fn a_job_of_another_comfyui_is_only_read(db: TestDatabase) {
    let (one, other) = (ScriptedComfy::start().await, ScriptedComfy::start().await);
    let first = relay(&one.url(), &db).await;
    first.connected().await;
    one.set_queue(&["p"], &[]);
    first.register("job", "p").await;
    wait_until("it runs", async || {
        state(&first, "job").await.0 == "processing"
    })
    .await;
    let second = relay(&other.url(), &db).await;
    second.connected().await;
    wait_until("the second one shows it", async || {
        state(&second, "job").await.0 == "processing"
    })
    .await;
    one.set_queue(&[], &[]);
    one.complete("p");
    wait_until("it ends", async || {
        state(&first, "job").await.0 == "completed"
    })
    .await;
    wait_until("the second one shows its end", async || {
        state(&second, "job").await.0 == "completed"
    })
    .await;
}

async fn a_report_at_another_relay_moves_the_job(db: TestDatabase) {
    let (first, second) = (without_backend(&db).await, without_backend(&db).await);
    let mut subscriber = first.subscribe("render").await;
    first.report("render", &report(10, "processing")).await;
    // As behind a proxy that takes the relays in turn.
    for percent in 2..9_u64 {
        let relay = if percent % 2 == 0 { &second } else { &first };
        relay
            .report("render", &report(percent * 10, "processing"))
            .await;
    }
    second.report("render", &report(100, "completed")).await;
    subscriber.ends_as("completed").await;
    for relay in [&first, &second] {
        assert_eq!(
            state(relay, "render").await,
            (json!("completed"), json!(100))
        );
    }
    let (status, answer) = first
        .post("/api/anime/jobs/render/progress", &report(20, "processing"))
        .await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("job_ended"))
    );
}

/// Another relay takes the job after this one has looked who has it.
async fn an_end_that_another_relay_overtakes_is_written(db: TestDatabase) {
    let relay = without_backend(&db).await;
    let take = "UPDATE comfy_relay.jobs SET owner = 'another', epoch = epoch + 1";
    let status = "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = ";
    relay.report("render", &report(10, "processing")).await;
    db.execute(take).await;
    relay.report("render", &report(100, "completed")).await;
    assert_eq!(db.value(&format!("{status}'render'")).await, "completed");
    relay.report("model", &report(10, "processing")).await;
    db.execute(&format!("{take} WHERE job_key = 'model'")).await;
    let (code, answer) = relay
        .post("/api/anime/jobs/model/cancel", &Value::Null)
        .await;
    assert_eq!(code, 202, "{answer}");
    assert_eq!(db.value(&format!("{status}'model'")).await, "cancelled");
}

async fn a_subscriber_at_another_relay_follows_the_job(db: TestDatabase) {
    let (first, second) = (without_backend(&db).await, without_backend(&db).await);
    // Before there is such a job.
    let mut subscriber = second.subscribe("render").await;
    first.report("render", &report(10, "processing")).await;
    subscriber
        .receive_until(|state| state["progress"] == 10)
        .await;
    first.report("render", &report(40, "processing")).await;
    subscriber
        .receive_until(|state| state["progress"] == 40)
        .await;
    first.report("render", &report(100, "completed")).await;
    subscriber.ends_as("completed").await;
}

async fn a_first_report_at_two_relays_makes_one_job(db: TestDatabase) {
    let (first, second) = (without_backend(&db).await, without_backend(&db).await);
    let queued = report(0, "queued");
    tokio::join!(
        first.report("render", &queued),
        second.report("render", &queued)
    );
    let owners = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE owner IS NOT NULL";
    assert_eq!(db.value(owners).await, "1");
    second.report("render", &report(100, "completed")).await;
    wait_until("both answer the same", async || {
        state(&first, "render").await.0 == "completed"
    })
    .await;
}

async fn the_job_of_a_killed_relay_is_taken_over(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let first = Program::with_database(&db.url(), &comfyui.url()).await;
    let path = "/api/anime/jobs/render/progress";
    let answer = first.post(path, &report(10, "processing")).await;
    assert_eq!(answer.unwrap().0, 202);
    let owner = "SELECT owner AS v FROM comfy_relay.jobs";
    let before = db.value(owner).await;
    let second = without_backend(&db).await;
    assert_eq!(db.value(owner).await, before, "its owner lives");
    first.kill().await;
    wait_until("it is taken over", async || db.value(owner).await != before).await;
    assert_eq!(
        state(&second, "render").await,
        (json!("processing"), json!(10))
    );
    second.report("render", &report(100, "completed")).await;
    assert_eq!(state(&second, "render").await.0, "completed");
}

async fn a_feed_has_the_jobs_of_other_relays(db: TestDatabase) {
    let first = without_backend(&db).await;
    let second = without_backend(&db).await;
    let mut feed = second.connect("/ws/jobs").await;
    first.report("render", &report(10, "processing")).await;
    feed.receive_until(|message| message["job_id"] == "render")
        .await;
    first.report("render", &report(100, "completed")).await;
    feed.receive_until(|message| message["status"] == "completed")
        .await;
    // One that has ended before its row is read.
    first.report("flash", &report(100, "completed")).await;
    feed.receive_until(|message| message["job_id"] == "flash")
        .await;
    // A stream that begins later than that, by more than clocks differ, at a relay that has not read its row.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let third = without_backend(&db).await;
    let mut later = third.connect("/ws/jobs").await;
    for id in ["one", "two"] {
        first.report(id, &report(100, "completed")).await;
        let is_it = |message: &Value| {
            assert_ne!(message["job_id"], "flash");
            message["job_id"] == id
        };
        later.receive_until(is_it).await;
    }
}

/// As after a registration that was lost with its relay, and repeated at another one.
async fn an_end_reaches_subscribers_although_its_number_is_lower(db: TestDatabase) {
    let (first, second) = (without_backend(&db).await, without_backend(&db).await);
    let mut subscriber = second.subscribe("render").await;
    for progress in [10, 20, 30] {
        first
            .report("render", &report(progress, "processing"))
            .await;
    }
    subscriber
        .receive_until(|state| state["progress"] == 30)
        .await;
    db.execute(
        "UPDATE comfy_relay.jobs SET status = 'completed', progress = 100, seq = 1, epoch = epoch + 1, \
         owner = 'another'",
    )
    .await;
    subscriber.ends_as("completed").await;
}
