//! Every recording of every version, through the relay, to what its subscribers see.

use std::path::PathBuf;
use std::time::Duration;

use comfy_relay::recording::{Exchange, RecordedOutcome, Recording};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::recordings::{names, recording};
use crate::support::subscriber::{Subscriber, is_final};
use crate::support::test_relay::{Settings, TestRelay};

/// How long one recording may take, played as fast as possible, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many recordings are played at a time.
const AT_A_TIME: usize = 6;

/// Prompts that were posted further apart than this came after the end of those before.
const BURST_S: f64 = 1.0;

/// The relay tells of every prompt what the recording's `meta.json` tells, and the same story each
/// time: see the `.downstream.json` beside each recording.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_what_happened() {
    let names = names();
    assert!(names.len() >= 150, "only {} recordings", names.len());
    let plays = names.into_iter().map(|name| async move {
        let played = tokio::spawn(timeout(PATIENCE, play(name.clone())));
        match played.await {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(_)) => vec![format!("{name}: does not come to an end")],
            Err(error) => vec![format!("{name}: {error}")],
        }
    });
    let wrong: Vec<String> = futures_util::stream::iter(plays)
        .buffer_unordered(AT_A_TIME)
        .map(futures_util::stream::iter)
        .flatten()
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Plays a recording and says what is wrong.
async fn play(name: String) -> Vec<String> {
    let recording = recording(&name).await;
    let relay = TestRelay::replaying_all(vec![recording.clone()], Settings::default()).await;
    let mut told = Vec::new();
    let mut open: Vec<(usize, JoinHandle<Subscriber>)> = Vec::new();
    let mut posted_at = f64::NEG_INFINITY;
    for (index, prompt) in recording.prompts().enumerate() {
        if prompt.t - posted_at > BURST_S {
            told.extend(hear_out(&relay, &recording, &mut open).await);
        }
        posted_at = prompt.t;
        let job = format!("job-{index}");
        let mut subscriber = relay.subscribe(&job).await;
        match hand_in(&relay, &recording, prompt, &job).await {
            None => {
                let heard = tokio::spawn(async move {
                    assert_eq!(subscriber.close_code().await, 1000);
                    subscriber
                });
                open.push((index, heard));
            }
            Some(refusal) => told.push((index, json!({"refused": refusal}), None)),
        }
    }
    told.extend(hear_out(&relay, &recording, &mut open).await);
    told.sort_by_key(|(index, _, _)| *index);
    let mut wrong: Vec<String> = told
        .iter()
        .filter_map(|(index, _, wrong)| {
            Some(format!("{name}, prompt {index}: {}", wrong.as_ref()?))
        })
        .collect();
    let stories: Vec<Value> = told.into_iter().map(|(_, story, _)| story).collect();
    wrong.extend(compare(&name, &Value::from(stories)));
    wrong
}

/// Hands a prompt in as it was recorded: through the relay, or to ComfyUI by somebody else, and then
/// registered with the relay. Tells the refusal, if it is refused.
async fn hand_in(
    relay: &TestRelay,
    recording: &Recording,
    prompt: &Exchange,
    job: &str,
) -> Option<Value> {
    let body = &prompt.request_body;
    let is_ours = body["client_id"] == recording.meta.client_id.as_str();
    let request = if is_ours {
        json!({"job_id": job, "workflow": body["prompt"]})
    } else {
        let (status, answer) = relay.post_to_comfyui("/prompt", body).await;
        assert_eq!(status, 200, "{answer}");
        json!({"job_id": job, "prompt_id": answer["prompt_id"]})
    };
    let (status, answer) = relay.post("/api/anime/jobs", &request).await;
    if status == 201 {
        return None;
    }
    if answer["error"]["code"] != "workflow_rejected" {
        // The relay has refused it by itself; the recording goes on with the next prompt.
        relay.post_to_comfyui("/prompt", body).await;
    }
    Some(json!({"status": status, "error": answer["error"]}))
}

type Told = (usize, Value, Option<String>);

/// Waits for the end of all open jobs. Tells of each its story, and what is wrong with its end.
async fn hear_out(
    relay: &TestRelay,
    recording: &Recording,
    open: &mut Vec<(usize, JoinHandle<Subscriber>)>,
) -> Vec<Told> {
    let mut told = Vec::new();
    for (index, heard) in open.drain(..) {
        let subscriber = heard.await.unwrap();
        let prompt = recording.prompts().nth(index).unwrap();
        let (_, view) = relay.job(&format!("job-{index}")).await;
        let wrong = wrong_end(recording, prompt, subscriber.last(), &view);
        let is_ours = prompt.request_body["client_id"] == recording.meta.client_id.as_str();
        told.push((index, story(&subscriber, is_ours), wrong));
    }
    told
}

fn wrong_end(
    recording: &Recording,
    prompt: &Exchange,
    last: &Value,
    view: &Value,
) -> Option<String> {
    let id = prompt.response["prompt_id"].as_str().unwrap();
    let (status, code) = match recording.meta.outcome[id] {
        RecordedOutcome::Completed => ("completed", Value::Null),
        RecordedOutcome::Cancelled => ("cancelled", Value::Null),
        RecordedOutcome::Failed => ("failed", "execution_error".into()),
        RecordedOutcome::Lost => ("failed", "prompt_lost".into()),
    };
    let is_right = last["status"] == status && view["error_code"] == code;
    (!is_right).then(|| {
        format!(
            "should be {status} {code}, is {last}, {}",
            view["error_code"]
        )
    })
}

/// The meaning of what a subscriber heard, timing left out, and with it the progress, which is a share
/// of time. Of prompts whose events go to nobody, or
/// to somebody else, only the end: what comes before depends on when the queue is looked at.
fn story(subscriber: &Subscriber, is_ours: bool) -> Value {
    let mut steps: Vec<String> = Vec::new();
    let told = subscriber
        .states
        .iter()
        .filter(|state| is_ours && !is_final(state));
    for state in told.filter(|state| !depends_on_timing(state)) {
        let node = state["node"]["id"].as_str().unwrap_or("-");
        let message = state["message"].as_str().unwrap();
        let step = format!("[{node}] {message}");
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    let last = subscriber.last();
    let errors: Vec<&Value> = subscriber
        .errors
        .iter()
        .map(|error| &error["code"])
        .collect();
    let outputs = last["outputs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|output| {
            let word = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {} {}",
                word("node"),
                word("kind"),
                word("type"),
                word("filename")
            )
        });
    json!({
        "steps": steps,
        "status": last["status"],
        "progress": if last["status"] == "completed" { last["progress"].clone() } else { Value::Null },
        "message": last["message"],
        "error": last["error"],
        "errors": errors,
        "output_path": last["output_path"],
        "outputs": outputs.collect::<Vec<_>>(),
        "nodes": if is_ours { last["nodes"].clone() } else { Value::Null },
    })
}

/// When the queue is looked at, and whether a dialled server is up again, is a matter of timing.
fn depends_on_timing(state: &Value) -> bool {
    let from_the_queue = state["status"] == "queued" || state["message"] == "Starting";
    from_the_queue || state["message"] == "Waiting for ComfyUI to answer"
}

/// Compares with the file beside the recording, or writes it where `UPDATE_FIXTURES` says so.
fn compare(name: &str, told: &Value) -> Option<String> {
    let file = PathBuf::from("fixtures").join(format!("{name}.downstream.json"));
    let told = serde_json::to_string_pretty(told).unwrap() + "\n";
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(file, told).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    if told == expected {
        return None;
    }
    let differs = told.lines().zip(expected.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| told.lines().count().min(expected.lines().count()));
    let at = |text: &str| {
        text.lines()
            .nth(line)
            .unwrap_or("(its end)")
            .trim()
            .to_owned()
    };
    Some(format!(
        "{name}: line {} is {}, but {} says {}",
        line + 1,
        at(&told),
        file.display(),
        at(&expected)
    ))
}
