//! Prompts that other clients hand to ComfyUI become jobs by themselves.

mod registered;
mod scripted;

use comfy_relay::replay::{PlaybackSpeed, Replay};
use reqwest::Client;
use serde_json::{Value, json};

use crate::storage::lifecycle::{self, comfyui};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::wait::wait_until;

/// A prompt without a client id: all sockets receive its progress.
const WITHOUT_CLIENT: &str = "0.33.0/13-no-client-id";

/// A prompt of a client whose events no other socket receives.
const OF_ANOTHER: &str = "0.33.0/13b-foreign-client-id";

/// What the jobs of such prompts say while they run.
const HIDDEN: &str = "Running for another client: its steps cannot be seen";

/// A prompt begins, and does not end before anybody's patience does.
const SLOW: PlaybackSpeed = PlaybackSpeed::Real(0.02);

/// A prompt takes some tenths of a second.
const FAST: PlaybackSpeed = PlaybackSpeed::Real(20.0);

on_both!(
    a_prompt_without_a_client_is_followed_live,
    a_prompt_of_another_client_is_followed_by_queue_and_history,
    a_prompt_that_became_a_job_goes_on_after_a_restart,
    prompts_of_the_relay_do_not_become_jobs_twice,
    the_pipelines_table_shows_no_prompt_that_nobody_registered,
);

/// The settings of a relay on a database that discovers prompts at once.
fn settings(db: &TestDatabase) -> Settings {
    let mut settings = lifecycle::settings(db.config());
    settings.comfy.discovery = true;
    settings
}

/// Posts the prompt of a recording to a server itself. Returns its id.
async fn post(server: &Replay, name: &str, client_id: Option<&str>) -> String {
    let mut body = json!({"prompt": workflow(name).await});
    if let Some(client_id) = client_id {
        body["client_id"] = client_id.into();
    }
    let request = Client::new().post(format!("{}/prompt", server.url()));
    let (status, answer) = response(request.json(&body)).await;
    assert_eq!(status, 200, "{answer}");
    answer["prompt_id"].as_str().unwrap().to_owned()
}

/// The jobs of a relay. Nothing is asked of ComfyUI for them.
async fn jobs(relay: &TestRelay) -> Vec<Value> {
    let (status, list) = relay.get("/api/anime/jobs").await;
    assert_eq!(status, 200, "{list}");
    list["jobs"].as_array().unwrap().clone()
}

/// The ids of the jobs of a relay, in alphabetical order.
async fn ids(relay: &TestRelay) -> Vec<String> {
    let jobs = jobs(relay).await.into_iter();
    let mut ids: Vec<String> = jobs
        .map(|job| job["job_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Waits until a job satisfies a condition. Returns it.
async fn job_that(relay: &TestRelay, id: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let find = async || {
        let jobs = jobs(relay).await;
        jobs.into_iter()
            .find(|job| job["job_id"] == id && is_wanted(job))
    };
    wait_until(&format!("{id} is as wanted"), async || {
        find().await.is_some()
    })
    .await;
    find().await.unwrap_or_default()
}

fn runs(job: &Value) -> bool {
    job["status"] == "processing"
}

async fn a_prompt_without_a_client_is_followed_live(db: TestDatabase) {
    let server = comfyui(&[WITHOUT_CLIENT], SLOW).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let id = post(&server, WITHOUT_CLIENT, None).await;
    let job = job_that(&relay, &id, runs).await;
    assert_eq!(job["labels"], json!({"via": "discovery"}), "{job}");
    assert_eq!(job["prompt_id"], id.as_str());
    let mut subscriber = relay.subscribe(&id).await;
    server.set_speed(FAST);
    subscriber.ends_as("completed").await;
    let has_steps = |state: &Value| state["node"]["steps"].as_u64().is_some();
    assert!(subscriber.states.iter().any(has_steps));
    assert!(!subscriber.last()["outputs"].as_array().unwrap().is_empty());
    let ends = subscriber.states.iter().filter(|state| is_final(state));
    assert_eq!(ends.count(), 1);
    assert_eq!(ids(&relay).await, [id]);
}

async fn a_prompt_of_another_client_is_followed_by_queue_and_history(db: TestDatabase) {
    let server = comfyui(&[OF_ANOTHER], SLOW).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let id = post(&server, OF_ANOTHER, Some("another")).await;
    job_that(&relay, &id, |job| runs(job) && job["message"] == HIDDEN).await;
    let mut subscriber = relay.subscribe(&id).await;
    server.set_speed(FAST);
    subscriber.ends_as("completed").await;
    let running = subscriber.states.iter().filter(|state| runs(state));
    for state in running {
        assert_eq!(state["message"], HIDDEN, "{state}");
    }
}

async fn a_prompt_that_became_a_job_goes_on_after_a_restart(db: TestDatabase) {
    let server = comfyui(&[WITHOUT_CLIENT], SLOW).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let id = post(&server, WITHOUT_CLIENT, None).await;
    job_that(&relay, &id, runs).await;
    let mut subscriber = relay.subscribe(&id).await;
    let before = subscriber.receive_type("progress").await;
    relay.stop().await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let mut subscriber = relay.subscribe(&id).await;
    let after = subscriber.receive_type("progress").await;
    assert!(after["seq"].as_u64() > before["seq"].as_u64(), "{after}");
    assert!(
        after["progress"].as_u64() >= before["progress"].as_u64(),
        "{before} then {after}"
    );
    assert_eq!(after["labels"], json!({"via": "discovery"}), "{after}");
    server.set_speed(FAST);
    subscriber.ends_as("completed").await;
    assert_eq!(ids(&relay).await, [id]);
}

async fn prompts_of_the_relay_do_not_become_jobs_twice(db: TestDatabase) {
    let server = comfyui(&[TXT2IMG], FAST).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let names: Vec<String> = (0..8).map(|number| format!("job-{number}")).collect();
    for name in &names {
        relay.submit(name, TXT2IMG).await;
    }
    let theirs = post(&server, TXT2IMG, Some("another")).await;
    job_that(&relay, &theirs, is_final).await;
    for name in &names {
        job_that(&relay, name, is_final).await;
    }
    let mut all = names;
    all.push(theirs);
    all.sort();
    assert_eq!(ids(&relay).await, all);
}

async fn the_pipelines_table_shows_no_prompt_that_nobody_registered(db: TestDatabase) {
    let server = comfyui(&[TXT2IMG], FAST).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let id = post(&server, TXT2IMG, Some("another")).await;
    job_that(&relay, &id, is_final).await;
    let due = "SELECT CASE WHEN mirror_due THEN 'due' ELSE 'not' END AS v FROM comfy_relay.jobs \
        WHERE status = 'completed'";
    db.wait_for(due, "not").await;
}

/// Also while a prompt of another client runs before one of our own.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_stay_prompts_where_discovery_is_off() {
    let server = comfyui(&[TXT2IMG], FAST).await;
    let relay = TestRelay::connected_to(&server.url(), Settings::default()).await;
    post(&server, TXT2IMG, Some("another")).await;
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit("mine", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    assert_eq!(ids(&relay).await, ["mine"]);
}
