//! How long jobs wait: the queue ahead of them, with the prompts of other clients.

use comfy_relay::recording::{Exchange, Recording};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::experience::{experienced, register};
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::TestRelay;
use crate::support::wait::PATIENCE;

fn prompt(recording: &Recording, index: usize) -> &Exchange {
    recording.prompts().nth(index).unwrap()
}

/// The body of a recorded prompt, with another number of steps. With a hundred thousand of them it takes
/// minutes, also by what is learned on a busy machine, where all steps of a prompt can come at once.
fn body(recording: &Recording, index: usize, steps: u32) -> Value {
    let mut body = prompt(recording, index).request_body.clone();
    body["prompt"]["3"]["inputs"]["steps"] = steps.into();
    body
}

fn workflow(recording: &Recording, index: usize, steps: u32) -> Value {
    body(recording, index, steps)["prompt"].clone()
}

/// Receives until the job waits behind so many prompts.
async fn wait_behind(subscriber: &mut Subscriber, ahead: u64) -> Value {
    let waits = |state: &Value| state["status"] == "queued" && state["queue_position"] == ahead;
    receive_in_time(subscriber, waits).await
}

/// Receives until a message satisfies the condition, even if the relay only sends pings.
async fn receive_in_time(subscriber: &mut Subscriber, wanted: impl Fn(&Value) -> bool) -> Value {
    let receiving = timeout(PATIENCE, subscriber.receive_until(wanted));
    receiving.await.expect("it was never sent")
}

/// What the jobs have left at one moment, in seconds.
async fn remaining(relay: &TestRelay, jobs: &[&str]) -> Vec<f64> {
    let (_, page) = relay.get("/api/anime/jobs?limit=50").await;
    let listed = page["jobs"].as_array().unwrap();
    let of = |id: &&str| {
        let job = listed.iter().find(|job| job["job_id"] == *id).unwrap();
        let (low, high) = (&job["estimated_low"], &job["estimated_high"]);
        let seconds = job["estimated_remaining"].as_u64();
        assert!(low.as_u64() <= seconds && seconds <= high.as_u64(), "{job}");
        seconds.unwrap_or_else(|| panic!("nothing is known: {job}")) as f64
    };
    jobs.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_counts_the_time_of_all_jobs_ahead() {
    let (relay, recording) = experienced("0.8.0/10-queue-delete-pending").await;
    let mut last = relay.subscribe("d").await;
    for (index, (job, steps)) in [("a", 20), ("b", 100_000), ("c", 200_000), ("d", 300_000)]
        .into_iter()
        .enumerate()
    {
        relay
            .submit_workflow(job, &workflow(&recording, index, steps))
            .await;
    }
    let state = wait_behind(&mut last, 3).await;
    let published = state["estimated_remaining"].as_u64();
    assert!(published.is_some(), "{state}");
    let left = remaining(&relay, &["a", "b", "c", "d"]).await;
    let alone = [left[1] - left[0], left[2] - left[1], left[3] - left[2]];
    assert!(alone[0] > 0.0, "{left:?}");
    for (number, seconds) in (1..=3).zip(alone) {
        let expected = f64::from(number) * alone[2] / 3.0;
        assert!(
            (seconds - expected).abs() < 0.2 * expected + 2.0,
            "{left:?}"
        );
    }
    // Every interface shows the same, up to the time that passes meanwhile.
    let (_, shown) = relay.job("d").await;
    let status = relay.handle.system_status();
    let monitored = status.recent_jobs[0].estimated_remaining;
    for seconds in [published, monitored, shown["estimated_remaining"].as_u64()] {
        let seconds = seconds.unwrap() as f64;
        assert!(
            (seconds - left[3]).abs() < 0.1 * left[3],
            "{seconds} {left:?}"
        );
    }
    // A job begins when the one before it ends.
    let (_, before) = relay.job("c").await;
    let moment = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let start = moment(&shown["estimated_start"]);
    let gap = start.duration_since(moment(&before["estimated_completion"]));
    assert!(gap.as_secs_f64().abs() < 0.1 * left[2], "{gap:?} {left:?}");
    assert!(before["estimated_start"].is_string(), "{before}");
    let (_, running) = relay.job("a").await;
    assert!(running.get("estimated_start").is_none(), "{running}");
    // When the jobs ahead end, its time is shorter.
    relay
        .submit_workflow("e", &workflow(&recording, 4, 4))
        .await;
    receive_in_time(&mut last, |state| {
        state["status"] == "queued" && state["estimated_remaining"].as_f64() < Some(0.7 * left[3])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clients_prompt_counts_like_one_of_ours() {
    let (relay, recording) = experienced("0.8.0/17-two-clients").await;
    let mut last = relay.subscribe("c").await;
    relay
        .submit_workflow("a", &workflow(&recording, 0, 20))
        .await;
    let (status, posted) = relay
        .post_to_comfyui("/prompt", &body(&recording, 1, 300_000))
        .await;
    assert_eq!(status, 200);
    relay
        .submit_workflow("c", &workflow(&recording, 2, 100_000))
        .await;
    let state = wait_behind(&mut last, 2).await;
    assert!(state["estimated_remaining"].is_u64(), "{state}");
    // Register the other client's prompt to see its estimate.
    let followed = json!({"job_id": "b", "prompt_id": posted["prompt_id"]});
    assert_eq!(relay.post("/api/anime/jobs", &followed).await.0, 201);
    let mut other = relay.subscribe("b").await;
    wait_behind(&mut other, 1).await;
    let left = remaining(&relay, &["b", "c"]).await;
    let (others, own) = (left[0], left[1] - left[0]);
    assert!(own > 0.0 && others > 2.0 * own, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_unknown_prompt_there_is_no_estimate() {
    let (relay, recording) = experienced("0.8.0/17-two-clients").await;
    let mut last = relay.subscribe("c").await;
    relay
        .submit_workflow("a", &workflow(&recording, 0, 20))
        .await;
    let mut unknown = prompt(&recording, 1).request_body.clone();
    unknown["prompt"] = json!({"1": {"class_type": "NeverSeen", "inputs": {}}});
    assert_eq!(relay.post_to_comfyui("/prompt", &unknown).await.0, 200);
    relay
        .submit_workflow("c", &workflow(&recording, 2, 100_000))
        .await;
    let state = wait_behind(&mut last, 2).await;
    assert_eq!(state["estimated_remaining"], Value::Null, "{state}");
    let (_, shown) = relay.job("c").await;
    assert_eq!(shown["estimated_remaining"], Value::Null, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_put_in_front_is_counted() {
    let (relay, recording) = experienced("0.8.0/10c-queue-order").await;
    let mut overtaken = relay.subscribe("b").await;
    relay
        .submit_workflow("a", &workflow(&recording, 0, 20))
        .await;
    relay
        .submit_workflow("b", &workflow(&recording, 1, 100_000))
        .await;
    wait_behind(&mut overtaken, 1).await;
    let before = remaining(&relay, &["b"]).await[0];
    let front = body(&recording, 2, 300_000);
    assert_eq!(front["front"], true);
    register(&relay, "c", &front).await;
    wait_behind(&mut overtaken, 2).await;
    let left = remaining(&relay, &["b", "c"]).await;
    assert!(
        left[0] > left[1] && left[0] > 2.0 * before,
        "{before} {left:?}"
    );
}
