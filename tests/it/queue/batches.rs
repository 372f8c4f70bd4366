//! Many jobs of one workflow are submitted at once.

use std::collections::HashSet;
use std::time::Duration;

use comfy_relay::config::Dispatch;
use comfy_relay::replay::Replay;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{SPEED, prompts_run, servers, settings, urls};
use crate::storage::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::wait::wait_until;

on_both!(
    a_batch_runs_as_one_group,
    seeds_grow_by_one,
    a_batch_is_submitted_in_full_or_not_at_all,
    a_batch_with_a_key_is_submitted_once,
    a_batch_counts_in_full_for_the_limit,
    the_largest_batch_is_taken_in_full,
    batches_are_submitted_from_the_terminal,
    a_killed_relay_leaves_a_batch_in_full_or_not_at_all,
);

const WORKFLOW: &str = "comfy_workflows/txt2img.json";

const BATCHES: &str = "/api/anime/batches";

/// A relay before a server.
async fn relay(settings: Settings) -> (TestRelay, Vec<Replay>) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    (relay, servers)
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (
        answer.0,
        answer.1["error"]["code"].as_str().unwrap_or_default(),
    )
}

async fn count(db: &TestDatabase, table: &str) -> String {
    let count = format!("SELECT count(*) AS v FROM comfy_relay.{table}");
    db.value(&count).await
}

fn ids(answer: &Value) -> Vec<String> {
    let jobs = answer["jobs"].as_array().unwrap().iter();
    jobs.map(|job| job["job_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn a_batch_runs_as_one_group(db: TestDatabase) {
    let (relay, servers) = relay(settings(&db)).await;
    let body = json!({"workflow": workflow(TXT2IMG).await, "labels": {"episode": "3"},
        "params": [{"3.seed": 1}, {"3.seed": 2}, {"3.seed": 3}, {}]});
    let (status, answer) = relay.post(BATCHES, &body).await;
    assert_eq!(status, 201, "{answer}");
    let group = answer["group"].as_str().unwrap();
    let ws = answer["ws_url"].as_str().unwrap();
    assert!(ws.ends_with(&format!("/ws/group:{group}")), "{ws}");
    let jobs = answer["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 4);
    let backend = servers[0].url().trim_start_matches("http://").to_owned();
    for job in jobs {
        assert_eq!(job["backend"], backend.as_str(), "{job}");
        let id = job["job_id"].as_str().unwrap();
        assert!(
            job["ws_url"]
                .as_str()
                .unwrap()
                .ends_with(&format!("/ws/{id}"))
        );
        let (_, shown) = relay.job(id).await;
        assert_eq!(shown["group"], group);
        assert_eq!(shown["labels"]["episode"], "3");
    }
    let mut subscriber = relay.subscribe(&format!("group:{group}")).await;
    subscriber.ends_as("completed").await;
    let wanted: Vec<&str> = jobs
        .iter()
        .map(|job| job["prompt_id"].as_str().unwrap())
        .collect();
    assert_eq!(
        prompts_run(&servers[0].url()).await,
        wanted,
        "in their order"
    );
    let history = format!("{}/history", servers[0].url());
    let history: Value = reqwest::get(history).await.unwrap().json().await.unwrap();
    let seeds: Vec<&Value> = wanted
        .iter()
        .map(|id| &history[*id]["prompt"][2]["3"]["inputs"]["seed"])
        .collect();
    assert_eq!(seeds[..3], [&json!(1), &json!(2), &json!(3)]);
}

async fn seeds_grow_by_one(db: TestDatabase) {
    let (relay, servers) = relay(settings(&db)).await;
    let mut graph = workflow(TXT2IMG).await;
    graph["3"]["inputs"]["seed"] = json!(41);
    for (seed, wanted) in [(Some(7), [7, 8, 9]), (None, [41, 42, 43])] {
        let mut body = json!({"workflow": graph, "count": 3, "group": format!("g{seed:?}").replace(['(', ')'], "")});
        if let Some(seed) = seed {
            body["seed"] = json!(seed);
        }
        let (status, answer) = relay.post(BATCHES, &body).await;
        assert_eq!(status, 201, "{answer}");
        let group = format!("group:{}", answer["group"].as_str().unwrap());
        relay.subscribe(&group).await.ends_as("completed").await;
        let history = format!("{}/history", servers[0].url());
        let history: Value = reqwest::get(history).await.unwrap().json().await.unwrap();
        let jobs = answer["jobs"].as_array().unwrap().iter();
        let seeds = jobs.map(|job| {
            let prompt = &history[job["prompt_id"].as_str().unwrap()]["prompt"];
            prompt[2]["3"]["inputs"]["seed"].as_u64().unwrap()
        });
        assert_eq!(seeds.collect::<Vec<_>>(), wanted);
    }
    let mut without = graph.clone();
    without["3"]["inputs"]["seed"] = json!(["4", 0]);
    let body = json!({"workflow": without, "count": 2, "seed": 1});
    assert_eq!(
        code(&relay.post(BATCHES, &body).await),
        (400, "bad_parameter")
    );
}

async fn a_batch_is_submitted_in_full_or_not_at_all(db: TestDatabase) {
    // Its recorded refusals show which model files the server has.
    let server = comfyui(&[TXT2IMG, "0.8.0/08-validation-error"], SPEED).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let graph = workflow(TXT2IMG).await;
    let body = json!({"workflow": graph, "params": [{}, {"3.seed": "x"}, {}, {"99.seed": 1}, {"4.ckpt_name": "missing.safetensors"}]});
    let refused = relay.post(BATCHES, &body).await;
    assert_eq!(code(&refused), (400, "bad_batch"), "{}", refused.1);
    let problems = refused.1["error"]["details"]["problems"]
        .as_array()
        .unwrap();
    let named: Vec<_> = problems
        .iter()
        .map(|it| (it["index"].as_u64().unwrap(), it["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        named,
        [
            (1, "bad_parameter"),
            (3, "bad_parameter"),
            (4, "workflow_rejected")
        ],
        "{problems:?}"
    );
    for (change, wanted) in [
        (json!({"params": []}), "bad_batch"),
        (json!({"count": 0}), "bad_batch"),
        (json!({"count": 1001}), "bad_batch"),
        (json!({"count": 2, "params": [{}]}), "bad_batch"),
        (json!({}), "bad_batch"),
        (json!({"params": [{}, 1]}), "bad_batch"),
        (json!({"count": 2, "seed": -1}), "bad_batch"),
        (json!({"count": 2, "seed": u64::MAX}), "bad_parameter"),
        (json!({"count": 2, "job_ids": ["a"]}), "bad_batch"),
        (json!({"count": 2, "job_ids": ["a", "a"]}), "bad_batch"),
        (json!({"count": 2, "job_ids": ["a", "b c"]}), "bad_batch"),
        (json!({"count": 2, "odd": 1}), "unknown_field"),
        (
            json!({"count": 2, "backend": "elsewhere"}),
            "backend_unknown",
        ),
        (json!({"count": 2, "priority": "high"}), "bad_priority"),
    ] {
        let mut body = json!({"workflow": graph});
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let refused = relay.post(BATCHES, &body).await;
        assert_eq!(code(&refused), (400, wanted), "{change}: {}", refused.1);
    }
    let taken = json!({"workflow": graph, "job_id": "b"});
    assert_eq!(relay.post("/api/anime/jobs", &taken).await.0, 201);
    let body = json!({"workflow": graph, "count": 3, "job_ids": ["a", "b", "c"]});
    assert_eq!(code(&relay.post(BATCHES, &body).await), (409, "job_exists"));
    assert_eq!(count(&db, "jobs").await, "1", "nothing half done");
    assert_eq!(count(&db, "submissions").await, "1");
    relay.subscribe("b").await.ends_as("completed").await;
    assert_eq!(prompts_run(&server.url()).await.len(), 1);
}

async fn a_batch_with_a_key_is_submitted_once(db: TestDatabase) {
    let (relay, servers) = relay(settings(&db)).await;
    let body = json!({"workflow": workflow(TXT2IMG).await, "count": 3});
    let post = async |relay: &TestRelay| {
        let request = relay.request(Method::POST, BATCHES).json(&body);
        response(request.header("idempotency-key", "k")).await
    };
    let (one, other) = tokio::join!(post(&relay), post(&relay));
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    assert_eq!(ids(&one.1), ids(&other.1));
    assert_eq!(one.1["group"], other.1["group"]);
    let named = json!({"workflow": workflow(TXT2IMG).await, "count": 2, "job_ids": ["a", "b"]});
    let (status, first) = relay.post(BATCHES, &named).await;
    assert_eq!(status, 201, "{first}");
    let (status, again) = relay.post(BATCHES, &named).await;
    assert_eq!((status, &again["replayed"]), (200, &json!(true)), "{again}");
    assert_eq!(again["group"], first["group"]);
    assert_eq!(count(&db, "jobs").await, "5");
    relay.stop().await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let (status, again) = post(&relay).await;
    assert_eq!((status, ids(&again)), (200, ids(&one.1)));
    let group = format!("group:{}", again["group"].as_str().unwrap());
    relay.subscribe(&group).await.ends_as("completed").await;
}

async fn a_batch_counts_in_full_for_the_limit(db: TestDatabase) {
    let mut settings = settings(&db);
    settings.relay.queue_limit = 5;
    let (relay, _servers) = relay(settings).await;
    let mut body = json!({"workflow": workflow(TXT2IMG).await, "count": 6});
    let full = relay.post(BATCHES, &body).await;
    assert_eq!(code(&full), (429, "queue_full"));
    assert_eq!(count(&db, "jobs").await, "0");
    body["count"] = json!(5);
    assert_eq!(relay.post(BATCHES, &body).await.0, 201);
    assert_eq!(count(&db, "jobs").await, "5");
}

async fn the_largest_batch_is_taken_in_full(db: TestDatabase) {
    let (relay, _servers) = relay(settings(&db)).await;
    let body = json!({"workflow": workflow(TXT2IMG).await, "count": 1000, "seed": 1});
    let (status, answer) = relay.post(BATCHES, &body).await;
    assert_eq!(status, 201);
    assert_eq!(ids(&answer).iter().collect::<HashSet<_>>().len(), 1_000);
    assert_eq!(count(&db, "jobs").await, "1000");
    assert_eq!(count(&db, "submissions").await, "1000");
}

async fn batches_are_submitted_from_the_terminal(db: TestDatabase) {
    let (relay, servers) = relay(settings(&db)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shots.jsonl");
    std::fs::write(
        &file,
        "{\"3.seed\": 1}\n\n{\"3.seed\": 2, \"3.steps\": 9}\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let url = relay.url();
    let submit = async |arguments: &[&str]| {
        let arguments = [&["submit", WORKFLOW, "--relay", &url], arguments].concat();
        let output = Program::run(&arguments, &[]).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, out, told) = submit(&["--count", "3", "--seed", "7", "-p", "3.steps=8"]).await;
    assert_eq!((code, out.lines().count()), (Some(0), 3), "{told}");
    assert!(told.contains("3 jobs in the group "), "{told}");
    let watched = [
        "--params-file",
        file,
        "-p",
        "3.steps=8",
        "--watch",
        "--group",
        "scene",
    ];
    let (code, _, told) = submit(&watched).await;
    assert_eq!(code, Some(0), "{told}");
    for id in out.lines() {
        wait_until(&format!("{id} has ended"), async || {
            is_final(&relay.job(id).await.1)
        })
        .await;
    }
    let url = format!("{}/history?max_items=100", servers[0].url());
    let history: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let inputs = |entry: &Value| {
        let inputs = &entry["prompt"][2]["3"]["inputs"];
        (
            inputs["seed"].as_u64().unwrap(),
            inputs["steps"].as_u64().unwrap(),
        )
    };
    let mut run: Vec<_> = history.as_object().unwrap().values().map(inputs).collect();
    run.sort_unstable();
    assert_eq!(run, [(1, 8), (2, 9), (7, 8), (8, 8), (9, 8)]);
    std::fs::write(file, "{\"3.seed\": 1}\n7\n").unwrap();
    for (arguments, code, why) in [
        (["--params-file", file], 1, "job 2 in "),
        (["--params-file", "/no/such"], 1, "cannot read /no/such"),
        (["--count", "0"], 64, "--count"),
        // Neither the program nor the workflow has this flag.
        (["--colour", "7"], 64, "--colour"),
    ] {
        let (exit, _, told) = submit(&arguments).await;
        assert_eq!(exit, Some(code), "{told}");
        assert!(told.contains(why), "{told}");
    }
}

async fn a_killed_relay_leaves_a_batch_in_full_or_not_at_all(db: TestDatabase) {
    const KILLS: usize = 8;
    const JOBS: usize = 30;
    let servers = servers(1).await;
    let body = json!({"workflow": workflow(TXT2IMG).await, "count": JOBS});
    let seed: u64 = 20_261_130;
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let post = async |relay: &Program, key: usize| {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("http://{}{BATCHES}", relay.address()));
        let request = request.header("idempotency-key", key.to_string());
        response(request.json(&body)).await
    };
    // How many batches are there, by the jobs and by what is to be handed in. Both are read at once: a server of the database may
    // still commit what the killed relay has sent.
    let whole = async || {
        let counts = "SELECT count(*) || ' ' || (SELECT count(*) FROM comfy_relay.submissions) AS v FROM comfy_relay.jobs";
        let counts = db.value(counts).await;
        let (jobs, submissions) = counts.split_once(' ').unwrap();
        assert_eq!(jobs, submissions);
        let jobs: usize = jobs.parse().unwrap();
        assert_eq!(jobs % JOBS, 0, "{jobs} jobs");
        jobs / JOBS
    };
    for kill in 0..KILLS {
        let relay = Program::with_database(&db.url(), &urls(&servers)).await;
        wait_until("ComfyUI is connected", async || relay.is("healthy").await).await;
        let death =
            tokio::time::Instant::now() + Duration::from_millis(random.random_range(20..400));
        tokio::select! {
            () = tokio::time::sleep_until(death) => {}
            (status, answer) = post(&relay, kill) => assert_eq!(status, 201, "{answer}"),
        }
        relay.kill().await;
        whole().await;
    }
    eprintln!("{} of {KILLS} batches were taken", whole().await);
    let relay = Program::with_database(&db.url(), &urls(&servers)).await;
    wait_until("ComfyUI is connected", async || relay.is("healthy").await).await;
    for kill in 0..KILLS {
        let (status, answer) = post(&relay, kill).await;
        assert!([200, 201].contains(&status), "{answer}");
        assert_eq!(ids(&answer).len(), JOBS);
    }
    assert_eq!(whole().await, KILLS, "each once");
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_batches_without_a_queue() {
    let mut settings = Settings::default();
    settings.relay.dispatch = Dispatch::Direct;
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let body = json!({"workflow": workflow(TXT2IMG).await, "count": 2});
    let refused = relay.post(BATCHES, &body).await;
    assert_eq!(code(&refused), (409, "queue_off"));
    assert!(
        refused.1["error"]["message"]
            .as_str()
            .unwrap()
            .contains("DISPATCH=queue")
    );
}
