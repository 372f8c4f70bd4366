//! A ComfyUI is killed with jobs running and waiting.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::operations::{operate, operate_queue};
use super::{job, prompts_at, prompts_run, servers, settings, still_servers};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, one_node_workflow};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::is_final;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(
    all_jobs_complete_although_a_server_is_killed,
    a_job_for_a_server_that_freezes_runs_on_another_one,
    a_workflow_that_ends_two_servers_in_a_row_is_run_no_more,
);

const JOBS: usize = 201;

/// How many prompts a server has at a time.
const DEPTH: usize = 2;

async fn all_jobs_complete_although_a_server_is_killed(db: TestDatabase) {
    let servers = servers(2).await;
    let doomed = Program::slow_replay(TXT2IMG);
    doomed.ready().await;
    let name = doomed.address().to_string();
    let urls = format!("{},{},http://{name}", servers[0].url(), servers[1].url());
    let mut settings = settings(&db);
    settings.relay.lost_after = Duration::from_secs(1);
    let relay = TestRelay::connected_to(&urls, settings).await;
    operate_queue(&relay, "pause").await;
    let mut prompts = Vec::new();
    for number in 0..JOBS {
        let body = job(&format!("job-{number}")).await;
        let (status, answer) = relay.post("/api/anime/jobs", &body).await;
        assert_eq!(status, 201, "{answer}");
        prompts.push(answer["prompt_id"].as_str().unwrap().to_owned());
    }
    operate_queue(&relay, "resume").await;
    let running = async || {
        let (_, page) = relay
            .get(&format!("/api/anime/jobs?status=processing&backend={name}"))
            .await;
        let jobs = page["jobs"].as_array().unwrap().clone();
        jobs.first()
            .map(|job| job["job_id"].as_str().unwrap().to_owned())
    };
    wait_until("one runs on the server", async || running().await.is_some()).await;
    wait_until("another one is ready", async || {
        prompts_at(&format!("http://{name}")).await == DEPTH
    })
    .await;
    let victim = running().await.unwrap();
    let mut subscriber = relay.subscribe(&victim).await;
    doomed.kill().await;
    subscriber.ends_as("completed").await;
    let mut highest = 0;
    for state in &subscriber.states {
        let progress = state["progress"].as_u64().unwrap();
        assert!(progress >= highest, "{state}");
        highest = progress;
        assert_ne!(state["status"], "queued", "it has begun: {state}");
    }
    let restarted = |state: &&Value| state["attempt"] == 2;
    let restarted = subscriber
        .states
        .iter()
        .find(restarted)
        .expect("a second attempt");
    assert_eq!(restarted["waiting_for"], "server", "{restarted}");
    let messages: HashSet<&str> = subscriber
        .states
        .iter()
        .map(|state| state["message"].as_str().unwrap())
        .collect();
    assert!(
        messages.iter().any(|it| it.starts_with("Restarted on ")),
        "{messages:?}"
    );
    let mut taken_back = 0;
    for (number, prompt) in prompts.iter().enumerate() {
        let id = format!("job-{number}");
        wait_until("the job has ended", async || {
            is_final(&relay.job(&id).await.1)
        })
        .await;
        let (_, job) = relay.job(&id).await;
        assert_eq!(job["status"], "completed", "{job}");
        taken_back += usize::from(job["prompt_id"] != prompt.as_str());
    }
    let lost = "SELECT job_key || ' ' || lost AS v FROM comfy_relay.submissions WHERE lost <> '[]'";
    let lost = db.values(lost).await;
    // One ran, another one was ready.
    assert_eq!(taken_back, DEPTH, "{lost:#?}");
    let mut before = HashSet::new();
    // A job waits for a server that has no room for it yet, and goes to another one if that has room first: meanwhile as many may
    // overtake it as the servers have at a time.
    let most = DEPTH * 3;
    for server in &servers {
        let run = prompts_run(&server.url()).await;
        let places = run
            .iter()
            .filter_map(|id| prompts.iter().position(|it| it == id));
        let places: Vec<usize> = places.collect();
        let mut highest = 0;
        for place in &places {
            assert!(*place + most >= highest, "out of order: {places:?}");
            highest = highest.max(*place);
        }
        for prompt in run {
            assert!(before.insert(prompt), "run twice");
        }
    }
}

/// Its kernel accepts connections, and it never sends a byte.
async fn a_job_for_a_server_that_freezes_runs_on_another_one(db: TestDatabase) {
    let servers = servers(2).await;
    let proxy = TcpProxy::start(servers[0].address()).await;
    let mut settings = settings(&db);
    settings.comfy.submit_wait = Duration::from_millis(300);
    settings.comfy.connect_timeout = Duration::from_millis(300);
    settings.comfy.ping_interval = Duration::from_millis(50);
    settings.comfy.pong_timeout = Duration::from_millis(500);
    settings.relay.lost_after = Duration::from_secs(1);
    let urls = format!("{},{}", proxy.url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, settings).await;
    proxy.hold(true);
    proxy.freeze();
    for number in 0..4 {
        let body = job(&format!("job-{number}")).await;
        let (status, answer) = relay.post("/api/anime/jobs", &body).await;
        assert!([201, 202].contains(&status), "{answer}");
    }
    for number in 0..4 {
        let id = format!("job-{number}");
        wait_until("the job has ended", async || {
            is_final(&relay.job(&id).await.1)
        })
        .await;
        let (_, job) = relay.job(&id).await;
        assert_eq!(job["status"], "completed", "{job}");
    }
}

/// Two jobs of one workflow, each on a server of its own.
async fn a_workflow_that_ends_two_servers_in_a_row_is_run_no_more(db: TestDatabase) {
    let doomed = [Program::slow_replay(TXT2IMG), Program::slow_replay(TXT2IMG)];
    let [first, second] = &doomed;
    first.ready().await;
    second.ready().await;
    let names = [first.address().to_string(), second.address().to_string()];
    let last = still_servers(1).await;
    let urls = format!("http://{},http://{},{}", names[0], names[1], last[0].url());
    let mut settings = settings(&db);
    settings.relay.lost_after = Duration::from_millis(500);
    let relay = TestRelay::connected_to(&urls, settings).await;
    let last = last[0].url().trim_start_matches("http://").to_owned();
    let submit = async |id: &str, backend: Value| {
        let mut body = job(id).await;
        body["backend"] = backend;
        body["retries"] = json!(5);
        let (status, answer) = relay.post("/api/anime/jobs", &body).await;
        assert_eq!(status, 201, "{answer}");
        wait_until("it runs", async || {
            relay.job(id).await.1["status"] == "processing"
        })
        .await;
    };
    operate(&relay, &last, "pause").await;
    submit("one", json!([names[0], last])).await;
    operate(&relay, &last, "resume").await;
    let [first, second] = doomed;
    first.kill().await;
    wait_until("it waits again", async || {
        relay.job("one").await.1.get("attempts").is_some()
    })
    .await;
    submit("two", json!(names[1])).await;
    second.kill().await;
    let restarted = Program::replay(TXT2IMG, &names[1]);
    restarted.ready().await;
    relay.subscribe("two").await.ends_as("failed").await;
    let (_, ended) = relay.job("two").await;
    assert_eq!(ended["error_code"], "prompt_lost", "{ended}");
    let error = ended["error"].as_str().unwrap();
    assert!(error.contains("two ComfyUI servers in a row"), "{ended}");
}

fn image(filename: &str) -> Value {
    json!({"images": [{"filename": filename, "subfolder": "", "type": "output"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_again_has_the_files_of_its_last_attempt_alone() {
    let (first, second) = (ScriptedComfy::start().await, ScriptedComfy::start().await);
    second.refuse_sockets(true);
    let mut settings = Settings::default();
    settings.relay.lost_after = Duration::from_millis(200);
    let relay = TestRelay::start(&format!("{},{}", first.url(), second.url()), settings).await;
    relay.connected_to_any().await;
    first.accept_prompts_as("one");
    first.set_queue(&["one"], &[]);
    let body = json!({"job_id": "job", "workflow": one_node_workflow(), "retries": 1});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    let mut subscriber = relay.subscribe("job").await;
    first.send(&json!({"type": "execution_start", "data": {"prompt_id": "one"}}));
    first.send(
        &json!({"type": "executed", "data": {"prompt_id": "one", "node": "9",
        "display_node": "9", "output": image("lost.png")}}),
    );
    subscriber
        .receive_until(|state| state["output_path"] == "lost.png")
        .await;
    second.accept_prompts_as("two");
    second.set_queue(&["two"], &[]);
    second.refuse_sockets(false);
    first.refuse_sockets(true);
    first.close_sockets();
    subscriber
        .receive_until(|state| state["attempt"] == 2 && state["prompt_id"] == "two")
        .await;
    let entry = json!({"prompt": [0, "two", {}, {}, ["9"]], "outputs": {"9": image("made.png")},
        "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    second.answer("GET /history/two", 200, &json!({ "two": entry }));
    second.set_queue(&[], &[]);
    second.send(&json!({"type": "execution_success", "data": {"prompt_id": "two"}}));
    subscriber.ends_as("completed").await;
    let last = subscriber.last();
    assert_eq!(last["outputs_total"], 1, "{last}");
    assert_eq!(last["output_path"], "made.png", "{last}");
    second.set_saved_image("made.png", 4, 4);
    let file = relay.request(Method::GET, "/api/anime/jobs/job/outputs/0");
    assert_eq!(file.send().await.unwrap().status(), 200);
}

/// The only server of a relay goes away while it has not answered a submission, and is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_cancelled_at_a_server_that_is_back_is_not_handed_in_again() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = Settings::default();
    settings.comfy.submit_wait = Duration::from_millis(100);
    settings.relay.lost_after = Duration::from_millis(200);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    comfyui.reply("POST /prompt", Reply::Hang);
    let body = json!({"job_id": "job", "workflow": one_node_workflow()});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 202, "{answer}");
    comfyui.wait_for_calls("POST /prompt", 1).await;
    let first = comfyui.posted()["prompt_id"].as_str().unwrap().to_owned();
    comfyui.refuse_sockets(true);
    comfyui.close_sockets();
    wait_until("the job waits as another prompt", async || {
        relay.job("job").await.1["prompt_id"] != first.as_str()
    })
    .await;
    comfyui.accept_prompts_as("taken");
    comfyui.refuse_sockets(false);
    comfyui.wait_for_calls("POST /prompt", 2).await;
    assert_ne!(comfyui.posted()["prompt_id"], first.as_str());
    let cancel = format!("POST /api/jobs/{first}/cancel");
    comfyui.wait_for_calls(&cancel, 1).await;
}
