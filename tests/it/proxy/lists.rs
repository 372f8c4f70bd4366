//! Queue, history and what servers say of themselves, as though they were one server.

use comfy_relay::config::RelayConfig;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::comfy_client::{ComfyClient, count, get, is_of_type, post, take_prompt};
use crate::support::database::TestDatabase;
use crate::support::recordings::{ERROR, TXT2IMG, one_node_workflow, recording, replay, workflow};
use crate::support::scripted_comfy::{JOB_LIST, Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

/// No prompt begins before anybody's patience ends.
const STILL: PlaybackSpeed = PlaybackSpeed::Real(1e-6);

/// A prompt begins, and does not end before anybody's patience does.
const SLOW: PlaybackSpeed = PlaybackSpeed::Real(0.02);

/// A prompt id that servers keep.
const PROMPT_ID: &str = "0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4";

/// How many prompts of a megabyte wait: far more than all buffers between the relay and a client hold.
const WAITING: usize = 48;

/// A newer server, which lists jobs.
const WITH_JOBS: &str = "0.33.0/01-txt2img-basic";

async fn server(name: &str, speed: PlaybackSpeed) -> Replay {
    replay(vec![recording(name).await], speed).await
}

/// A relay before servers, each busy with as many prompts as by default, and the URL of ComfyUI's API.
async fn before(servers: &[Replay]) -> (TestRelay, String) {
    let mut settings = Settings::default();
    settings.relay.dispatch_depth = RelayConfig::default().dispatch_depth;
    let urls: Vec<String> = servers.iter().map(Replay::url).collect();
    let relay = TestRelay::connected_to(&urls.join(","), settings).await;
    let api = relay.serve_comfy().await;
    (relay, api)
}

/// The prompts of a queue, those that wait after those that run.
async fn queued(api: &str) -> Vec<Value> {
    let (status, queue) = get(api, "/queue").await;
    assert_eq!(status, 200, "{queue}");
    let lists = ["queue_running", "queue_pending"];
    let lists = lists.map(|name| queue[name].as_array().unwrap().clone());
    lists.concat()
}

fn ids(queue: &[Value]) -> Vec<&str> {
    let mut ids: Vec<&str> = queue
        .iter()
        .map(|prompt| prompt[1].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids
}

async fn status(relay: &TestRelay, id: &str) -> Value {
    relay.job(id).await.1["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queues_are_one_and_prompts_are_deleted_from_it() {
    let servers = [server(TXT2IMG, STILL).await, server(TXT2IMG, STILL).await];
    let (relay, api) = before(&servers).await;
    let graph = workflow(TXT2IMG).await;
    let mut posted = Vec::new();
    for _ in 0..7 {
        posted.push(take_prompt(&api, "me", &graph).await);
    }
    let wait_for = async |waiting: usize, all: usize| {
        wait_until("four are on the servers, and the others wait", async || {
            let (_, queue) = relay.get("/api/anime/queue").await;
            queue["waiting"] == waiting && queued(&api).await.len() == all
        })
        .await;
    };
    wait_for(3, 7).await;
    let queue = queued(&api).await;
    let mut expected: Vec<&str> = posted.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(ids(&queue), expected);
    for prompt in &queue {
        assert!(prompt[0].is_number() && prompt[2] == graph, "{prompt}");
        assert_eq!(prompt[3]["client_id"], "me");
        assert!(prompt[3]["comfy_relay"].is_null(), "{prompt}");
        assert_eq!(prompt[4], json!(["9"]));
    }
    let deleted = [&posted[1], &posted[6]];
    let (code, _) = post(&api, "/queue", &json!({"delete": deleted})).await;
    assert_eq!(code, 200);
    wait_for(1, 5).await;
    for id in deleted {
        wait_until("it is cancelled", async || {
            status(&relay, id).await == "cancelled"
        })
        .await;
    }
    assert_eq!(
        post(&api, "/api/queue", &json!({"clear": true})).await.0,
        200
    );
    wait_until("all are gone", async || queued(&api).await.is_empty()).await;
    for id in &posted {
        wait_until("it is cancelled", async || {
            status(&relay, id).await == "cancelled"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_interrupted_by_its_id_or_whatever_it_is() {
    let servers = [server(TXT2IMG, SLOW).await];
    let (relay, api) = before(&servers).await;
    let mut client = ComfyClient::connect(&api, "me").await;
    let graph = workflow(TXT2IMG).await;
    for is_named in [true, false] {
        let id = take_prompt(&api, "me", &graph).await;
        wait_until("it runs", async || {
            status(&relay, &id).await == "processing"
        })
        .await;
        let (code, _) = post(&api, "/interrupt", &json!({"prompt_id": "another"})).await;
        assert_eq!(code, 200);
        assert_eq!(status(&relay, &id).await, "processing");
        let body = if is_named {
            json!({"prompt_id": id})
        } else {
            json!({})
        };
        assert_eq!(post(&api, "/interrupt", &body).await.0, 200);
        let events = client.until_done(&id).await;
        assert_eq!(count(&events, "execution_interrupted"), 1);
        wait_until("it is cancelled", async || {
            status(&relay, &id).await == "cancelled"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_while_another_prompt_is_interrupted_goes_on() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as(PROMPT_ID);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let api = relay.serve_comfy().await;
    let id = take_prompt(&api, "me", &one_node_workflow()).await;
    comfyui.set_queue(&[PROMPT_ID], &["next"]);
    comfyui.send(&json!({"type": "executing", "data": {"node": "9", "prompt_id": PROMPT_ID}}));
    wait_until("it runs", async || {
        status(&relay, &id).await == "processing"
    })
    .await;
    let cancel = format!("POST /api/jobs/{PROMPT_ID}/cancel");
    comfyui.reply(&cancel, Reply::Hang);
    let interrupting = {
        let api = api.clone();
        tokio::spawn(async move { post(&api, "/interrupt", &json!({})).await.0 })
    };
    comfyui.wait_for_calls(&cancel, 1).await;
    // It ends by itself meanwhile, and the next one begins.
    comfyui.complete(PROMPT_ID);
    comfyui.set_queue(&["next"], &[]);
    comfyui.send(&json!({"type": "executing", "data": {"node": null, "prompt_id": PROMPT_ID}}));
    wait_until("it has completed", async || {
        status(&relay, &id).await == "completed"
    })
    .await;
    comfyui.answer(&cancel, 200, &json!({"cancelled": true}));
    assert_eq!(interrupting.await.unwrap(), 200);
    assert_eq!(comfyui.calls("POST /interrupt"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_histories_are_one_and_outlive_their_servers() {
    let servers = vec![
        server(TXT2IMG, PlaybackSpeed::Fastest).await,
        server(TXT2IMG, PlaybackSpeed::Fastest).await,
    ];
    let (relay, api) = before(&servers).await;
    let graph = workflow(TXT2IMG).await;
    let mut posted = Vec::new();
    for _ in 0..3 {
        let id = take_prompt(&api, "me", &graph).await;
        wait_until("it has completed", async || {
            status(&relay, &id).await == "completed"
        })
        .await;
        posted.push(id);
    }
    let (_, history) = get(&api, "/history").await;
    let history = history.as_object().unwrap();
    assert_eq!(history.len(), 3);
    for id in &posted {
        let (_, one) = get(&api, &format!("/api/history/{id}")).await;
        assert_eq!(one[id], history[id]);
        assert_eq!(one[id]["prompt"][1], id.as_str());
        assert_eq!(one[id]["prompt"][3]["client_id"], "me");
        assert!(one[id]["outputs"]["9"]["images"][0]["filename"].is_string());
    }
    let (_, newest) = get(&api, "/history?max_items=1").await;
    assert_eq!(newest.as_object().unwrap().len(), 1);
    assert_eq!(get(&api, "/history/unknown").await, (200, json!({})));
    assert_eq!(
        post(&api, "/history", &json!({"delete": [posted[0]]}))
            .await
            .0,
        200
    );
    assert_eq!(get(&api, "/history").await.1.as_object().unwrap().len(), 2);
    let (_, before) = get(&api, &format!("/history/{}", posted[1])).await;
    for server in servers {
        server.shutdown().await;
    }
    let (code, after) = get(&api, &format!("/history/{}", posted[1])).await;
    assert_eq!(code, 200, "{after}");
    let id = &posted[1];
    assert_eq!(after[id]["outputs"], before[id]["outputs"]);
    assert_eq!(after[id]["prompt"][2], graph);
    assert_eq!(after[id]["status"]["status_str"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_jobs_are_listed_and_cancelled_by_their_ids() {
    let servers = [
        server(WITH_JOBS, STILL).await,
        server(WITH_JOBS, STILL).await,
    ];
    let (relay, api) = before(&servers).await;
    let graph = workflow(WITH_JOBS).await;
    let mut posted = Vec::new();
    for _ in 0..5 {
        posted.push(take_prompt(&api, "me", &graph).await);
    }
    let listed = async |query: &str| {
        let (code, list) = get(&api, &format!("/api/jobs{query}")).await;
        assert_eq!(code, 200, "{list}");
        list
    };
    wait_until("all are listed", async || {
        listed("").await["jobs"].as_array().unwrap().len() == 5
    })
    .await;
    let list = listed("?status=pending,in_progress&limit=2").await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(list["pagination"]["total"], 5);
    assert_eq!(list["pagination"]["has_more"], true);
    // None has ended, wherever it waits.
    let ended = listed("?status=completed,failed,cancelled").await;
    assert_eq!(
        (&ended["jobs"], &ended["pagination"]["total"]),
        (&json!([]), &json!(0))
    );
    for id in &posted {
        let (code, job) = get(&api, &format!("/api/jobs/{id}")).await;
        assert_eq!((code, &job["id"]), (200, &json!(id)), "{job}");
        let (_, answer) = post(&api, &format!("/api/jobs/{id}/cancel"), &json!({})).await;
        assert_eq!(answer, json!({"cancelled": true}));
        wait_until("it is cancelled", async || {
            status(&relay, id).await == "cancelled"
        })
        .await;
    }
    let (_, again) = post(&api, &format!("/api/jobs/{}/cancel", posted[0]), &json!({})).await;
    assert_eq!(again, json!({"cancelled": false}));
    assert_eq!(get(&api, "/api/jobs/unknown").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_prompts_are_cancelled_wherever_they_are() {
    let servers = [server(WITH_JOBS, SLOW).await, server(WITH_JOBS, SLOW).await];
    let (relay, api) = before(&servers).await;
    let mut posted = Vec::new();
    for _ in 0..6 {
        posted.push(take_prompt(&api, "me", &workflow(WITH_JOBS).await).await);
    }
    let cancel = async |ids: &Value| post(&api, "/api/jobs/cancel", &json!({"job_ids": ids})).await;
    // One that is not there keeps none of the others.
    let some = json!([posted[0], "unknown", posted[1], posted[5]]);
    assert_eq!(cancel(&some).await, (200, json!({"cancelled": true})));
    for id in [&posted[0], &posted[1], &posted[5]] {
        wait_until("it is cancelled", async || {
            status(&relay, id).await == "cancelled"
        })
        .await;
    }
    assert_ne!(status(&relay, &posted[2]).await, "cancelled");
    assert_eq!(cancel(&some).await, (200, json!({"cancelled": false})));
    assert_eq!(cancel(&json!([])).await, (200, json!({"cancelled": false})));
    assert_eq!(cancel(&json!("all")).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_say_together_what_they_can_do() {
    let servers = [
        server(TXT2IMG, PlaybackSpeed::Fastest).await,
        server(ERROR, PlaybackSpeed::Fastest).await,
    ];
    let (_relay, api) = before(&servers).await;
    let mut classes = Vec::new();
    let mut devices = 0;
    for server in &servers {
        let (_, info) = get(&server.url(), "/object_info").await;
        classes.extend(info.as_object().unwrap().keys().cloned());
        let (_, stats) = get(&server.url(), "/system_stats").await;
        devices += stats["devices"].as_array().unwrap().len();
    }
    classes.sort_unstable();
    classes.dedup();
    let (_, info) = get(&api, "/object_info").await;
    let mut known: Vec<String> = info.as_object().unwrap().keys().cloned().collect();
    known.sort_unstable();
    assert_eq!(known, classes);
    let (_, one) = get(&api, "/api/object_info/ProbeFail").await;
    assert!(
        one["ProbeFail"].is_object(),
        "only one of them has it: {one}"
    );
    let (_, stats) = get(&api, "/system_stats").await;
    assert_eq!(stats["devices"].as_array().unwrap().len(), devices);
    assert!(devices >= 2 && stats["system"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_before_a_restart_is_deleted_from_the_histories() {
    let db = TestDatabase::sqlite().await;
    let settings = Settings::from(db.config());
    let comfyui = ScriptedComfy::start().await;
    // It chooses ids itself.
    comfyui.accept_prompts_as(PROMPT_ID);
    comfyui.answer("POST /history", 200, &Value::Null);
    let relay = TestRelay::connected_to(&comfyui.url(), settings.clone()).await;
    let api = relay.serve_comfy().await;
    let id = take_prompt(&api, "me", &one_node_workflow()).await;
    comfyui.complete(PROMPT_ID);
    wait_until("it has completed", async || {
        status(&relay, &id).await == "completed"
    })
    .await;
    relay.stop().await;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let api = relay.serve_comfy().await;
    let deletion = json!({"delete": [id]});
    assert_eq!(post(&api, "/history", &deletion).await.0, 200);
    let deleted = comfyui.body_of("POST /history");
    assert_eq!(deleted, json!({"delete": [PROMPT_ID]}));
}

/// Each has a graph of a megabyte: they are read as the client takes them.
#[tokio::test(flavor = "multi_thread")]
async fn the_graphs_of_waiting_prompts_are_not_held_all_at_once() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::from(db.config())).await;
    let api = relay.serve_comfy().await;
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    let mut graph = one_node_workflow();
    graph["9"]["inputs"]["text"] = "x".repeat(1 << 20).into();
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..WAITING {
        ids.push(take_prompt(&api, "me", &graph).await);
    }
    // With a small receive buffer, so that the kernel does not hold the whole answer.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let address = api.strip_prefix("http://").unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("GET /queue HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1 << 20];
    stream.read_exact(&mut answer).await.unwrap();
    db.execute("DELETE FROM comfy_relay.submissions").await;
    stream.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let queue: Value = serde_json::from_slice(&answer[head.unwrap() + 4..]).unwrap();
    let listed = queue["queue_pending"].as_array().unwrap();
    let in_order: Vec<&str> = listed.iter().map(|it| it[1].as_str().unwrap()).collect();
    assert_eq!(in_order, ids);
    let whole = listed.iter().filter(|it| it[2]["9"].is_object()).count();
    assert!(
        (1..WAITING - 10).contains(&whole),
        "{whole} were read before"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_deleted_before_it_begins_ends_without_an_event() {
    let servers = [server(TXT2IMG, STILL).await];
    let (relay, api) = before(&servers).await;
    let mut client = ComfyClient::connect(&api, "me").await;
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    let id = take_prompt(&api, "me", &workflow(TXT2IMG).await).await;
    client.until_length(1).await;
    assert_eq!(post(&api, "/queue", &json!({"delete": [id]})).await.0, 200);
    let is_empty = |text: &Value| text["data"]["status"]["exec_info"]["queue_remaining"] == 0;
    let events = client.until(is_empty).await;
    assert!(
        events.iter().all(|event| is_of_type(event, "status")),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_list_of_jobs_is_said_as_comfyui_says_it() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.list_jobs(&[], &[]);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let api = relay.serve_comfy().await;
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    take_prompt(&api, "me", &one_node_workflow()).await;
    let total = async |query: &str| {
        let (_, list) = get(&api, &format!("/api/jobs{query}")).await;
        list["pagination"]["total"].clone()
    };
    assert_eq!(
        (total("").await, total("?workflow_id=w").await),
        (json!(1), json!(0))
    );
    for query in ["limit=0", "limit=-1", "limit=x", "offset=x"] {
        let (status, answer) = get(&api, &format!("/api/jobs?{query}")).await;
        assert!(
            status == 400 && answer["error"].is_string(),
            "{query}: {status} {answer}"
        );
    }
    let refusal = json!({"error": "Invalid status value(s): bogus"});
    comfyui.answer(JOB_LIST, 400, &refusal);
    assert_eq!(get(&api, "/api/jobs?status=bogus").await, (400, refusal));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_id_of_the_relay_is_shown_to_nobody() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as(PROMPT_ID);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let api = relay.serve_comfy().await;
    let id = take_prompt(&api, "me", &one_node_workflow()).await;
    let posted = comfyui.posted();
    let extra = &posted["extra_data"];
    let mut listed = extra.clone();
    // As ComfyUI adds it.
    listed["client_id"] = posted["client_id"].clone();
    let own = posted["client_id"].as_str().unwrap();
    let shown = json!({"id": PROMPT_ID, "status": "in_progress", "workflow": {"prompt": {}, "extra_data": listed}});
    comfyui.answer(&format!("GET /api/jobs/{PROMPT_ID}"), 200, &shown);
    let (status, job) = get(&api, &format!("/api/jobs/{id}")).await;
    assert_eq!(status, 200, "{job}");
    assert_eq!(
        job["workflow"]["extra_data"],
        json!({"client_id": "me"}),
        "{job}"
    );
    let foreign = json!([0, "other", {}, {"client_id": own}, []]);
    let queue = json!({"queue_running": [foreign], "queue_pending": []});
    comfyui.answer("GET /queue", 200, &queue);
    let (_, queue) = get(&api, "/queue").await;
    assert_eq!(queue["queue_running"][0][1], "other");
    assert!(!queue.to_string().contains(own), "{queue}");
}
