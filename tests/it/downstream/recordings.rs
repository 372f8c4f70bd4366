//! Every recording of every version, through the relay, to what its subscribers see.

use std::path::PathBuf;
use std::time::Duration;

use comfy_relay::recording::{Exchange, RecordedOutcome, Recording};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::recordings::{ERROR, FIXTURES, TXT2IMG, names, recording};
use crate::support::subscriber::{Subscriber, is_final, waits_for_comfyui};
use crate::support::test_relay::{Settings, TestRelay};

/// How long one recording may take, played as fast as possible, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many recordings are played at the same time.
const CONCURRENCY: usize = 6;

/// Prompts that were posted further apart than this came after the end of those before.
const BURST_S: f64 = 1.0;

/// One recording of each kind, of new and of old servers.
const KINDS: [(&str, &str); 7] = [
    ("basic", TXT2IMG),
    ("cached", "0.8.0/05-cached-rerun"),
    ("error", ERROR),
    ("interrupted", "0.8.0/09-interrupt"),
    ("previews", "0.8.0/02-previews-metadata"),
    ("basic_0_0_8", "0.0.8/01-txt2img-basic"),
    ("basic_2023", "2023-08-14/01-txt2img-basic"),
];

/// Fields of a message that differ from run to run.
const VOLATILE: [&str; 10] = [
    "backend",
    "elapsed",
    "epoch",
    "estimated_completion",
    "estimated_high",
    "estimated_low",
    "estimated_remaining",
    "prompt_id",
    "seq",
    "timestamp",
];

/// What came of playing a recording.
struct Playback {
    /// What the subscriber of each prompt saw.
    stories: Vec<Value>,
    /// Each wrong end of a prompt.
    problems: Vec<String>,
}

/// What came of one prompt.
struct PlayedPrompt {
    index: usize,
    story: Value,
    problem: Option<String>,
}

/// A prompt that has not ended, with its subscriber.
struct OpenPrompt {
    index: usize,
    subscriber: JoinHandle<Subscriber>,
}

/// Every prompt ends as the recording's `meta.json` says, and its subscribers see the same story each time:
/// the `.downstream.json` beside the recording.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_what_happened() {
    let names = names();
    assert!(names.len() >= 200, "only {} recordings", names.len());
    let plays = names.into_iter().map(|name| async move {
        let played = timeout(PATIENCE, play(name.clone(), summary));
        match tokio::spawn(played).await {
            Ok(Ok(playback)) => {
                let mut problems = playback.problems;
                problems.extend(compare(&name, &Value::from(playback.stories)));
                problems
            }
            Ok(Err(_)) => vec![format!("{name}: does not end")],
            Err(error) => vec![format!("{name}: {error}")],
        }
    });
    let problems: Vec<String> = futures_util::stream::iter(plays)
        .buffer_unordered(CONCURRENCY)
        .map(futures_util::stream::iter)
        .flatten()
        .collect()
        .await;
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The whole story, for one recording of each kind. `cargo insta review` accepts a change.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_these_stories() {
    for (kind, name) in KINDS {
        let playback = play(name.to_owned(), story).await;
        assert!(playback.problems.is_empty(), "{:?}", playback.problems);
        let stories = serde_json::to_string_pretty(&playback.stories).unwrap();
        insta::assert_snapshot!(kind, stories);
    }
}

/// Plays a recording, with a subscriber for each prompt, and describes what each has seen.
async fn play(name: String, describe: fn(&Subscriber, bool) -> Value) -> Playback {
    let recording = recording(&name).await;
    let relay = TestRelay::replaying_all(vec![recording.clone()], Settings::default()).await;
    let mut played = Vec::new();
    let mut open = Vec::new();
    let mut posted_at = f64::NEG_INFINITY;
    for (index, prompt) in recording.prompts().enumerate() {
        if prompt.t - posted_at > BURST_S {
            played.extend(end_of_all(&relay, &recording, &mut open, describe).await);
        }
        posted_at = prompt.t;
        let job = format!("job-{index}");
        let mut subscriber = relay.subscribe(&job).await;
        match submit(&relay, &recording, prompt, &job).await {
            Ok(()) => {
                let subscriber = tokio::spawn(async move {
                    assert_eq!(subscriber.close_code().await, 1000);
                    subscriber
                });
                open.push(OpenPrompt { index, subscriber });
            }
            Err(refusal) => played.push(PlayedPrompt {
                index,
                story: json!({"refused": refusal}),
                problem: None,
            }),
        }
    }
    played.extend(end_of_all(&relay, &recording, &mut open, describe).await);
    played.sort_by_key(|prompt| prompt.index);
    let problems = played.iter().filter_map(|prompt| {
        let problem = prompt.problem.as_ref()?;
        Some(format!("{name}, prompt {}: {problem}", prompt.index))
    });
    Playback {
        problems: problems.collect(),
        stories: played.into_iter().map(|prompt| prompt.story).collect(),
    }
}

/// Submits a prompt as it was recorded: through the relay, or to ComfyUI as another client, and then
/// registers it. Returns the answer if the prompt is refused.
async fn submit(
    relay: &TestRelay,
    recording: &Recording,
    prompt: &Exchange,
    job: &str,
) -> Result<(), Value> {
    let body = &prompt.request_body;
    let request = if is_ours(recording, prompt) {
        // The recorded server runs each prompt once.
        let mut request = json!({"job_id": job, "workflow": body["prompt"], "retries": 0});
        if let Some(targets) = body.get("partial_execution_targets") {
            request["partial_execution_targets"] = targets.clone();
        }
        request
    } else {
        let (status, answer) = relay.post_to_comfyui("/prompt", body).await;
        assert_eq!(status, 200, "{answer}");
        json!({"job_id": job, "prompt_id": answer["prompt_id"]})
    };
    let (status, answer) = relay.post("/api/anime/jobs", &request).await;
    if status == 201 {
        return Ok(());
    }
    if answer["error"]["code"] != "workflow_rejected" {
        // The relay has refused it without asking ComfyUI; the recording goes on with the next prompt.
        relay.post_to_comfyui("/prompt", body).await;
    }
    Err(json!({"status": status, "error": answer["error"]}))
}

/// Whether the recorded client posted a prompt, which is the client that received its events.
fn is_ours(recording: &Recording, prompt: &Exchange) -> bool {
    prompt.request_body["client_id"] == recording.meta.client_id.as_str()
}

/// Waits for the end of all open prompts.
async fn end_of_all(
    relay: &TestRelay,
    recording: &Recording,
    open: &mut Vec<OpenPrompt>,
    describe: fn(&Subscriber, bool) -> Value,
) -> Vec<PlayedPrompt> {
    let mut played = Vec::new();
    for OpenPrompt { index, subscriber } in open.drain(..) {
        let subscriber = subscriber.await.unwrap();
        let prompt = recording.prompts().nth(index).unwrap();
        let (_, job) = relay.job(&format!("job-{index}")).await;
        played.push(PlayedPrompt {
            index,
            story: describe(&subscriber, is_ours(recording, prompt)),
            problem: wrong_end(recording, prompt, subscriber.last(), &job),
        });
    }
    played
}

fn wrong_end(
    recording: &Recording,
    prompt: &Exchange,
    last: &Value,
    job: &Value,
) -> Option<String> {
    let id = prompt.response["prompt_id"].as_str().unwrap();
    let (status, code) = match recording.outcome(id).unwrap() {
        RecordedOutcome::Completed => ("completed", Value::Null),
        RecordedOutcome::Cancelled => ("cancelled", Value::Null),
        RecordedOutcome::Failed => ("failed", "execution_error".into()),
        RecordedOutcome::Lost => ("failed", "prompt_lost".into()),
    };
    let found = &job["error_code"];
    let is_right = last["status"] == status && *found == code;
    (!is_right).then(|| format!("should be {status} {code}, is {last}, {found}"))
}

/// What a subscriber has seen: each state in a line, the errors and the final message in full, without what
/// differs from run to run.
fn story(subscriber: &Subscriber, is_ours: bool) -> Value {
    let states = stable_states(subscriber, is_ours).into_iter();
    let mut states: Vec<String> = states.map(line).collect();
    states.dedup();
    let errors: Vec<Value> = subscriber.errors.iter().map(without_volatile).collect();
    let last = without_volatile(subscriber.last());
    json!({"states": states, "errors": errors, "final": last})
}

fn line(state: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (node, nodes) = (&state["node"], &state["nodes"]);
    format!(
        "{}: {} {} {:?}: {} ({} done and {} cached of {})",
        text(&state["status"]),
        text(&node["id"]),
        text(&node["class_type"]),
        text(&node["title"]),
        text(&state["message"]),
        nodes["done"],
        nodes["cached"],
        nodes["total"],
    )
}

fn without_volatile(message: &Value) -> Value {
    // The address of ComfyUI is also a part of the URLs of outputs.
    let backend = message["backend"].as_str().unwrap_or("none");
    let text = message.to_string().replace(backend, "COMFYUI");
    let mut message: Value = serde_json::from_str(&text).unwrap();
    let is_completed = message["status"] == "completed";
    let fields = message.as_object_mut().unwrap();
    for name in VOLATILE {
        fields.shift_remove(name);
    }
    // The share of the time that has passed.
    if !is_completed {
        fields.shift_remove("progress");
    }
    message
}

/// The states that are the same in every run. Of prompts whose events ComfyUI sends to another client or to
/// nobody, this is only the end: what comes before depends on when the relay reads the queue.
fn stable_states(subscriber: &Subscriber, is_ours: bool) -> Vec<&Value> {
    let states = subscriber.states.iter();
    let is_stable = |state: &&Value| is_ours && !is_final(state) && !depends_on_timing(state);
    states.filter(is_stable).collect()
}

/// Whether a state depends on when the queue is read, and when a connection is made.
fn depends_on_timing(state: &Value) -> bool {
    state["status"] == "queued" || state["message"] == "Starting" || waits_for_comfyui(state)
}

/// A summary of what a subscriber has seen, without times and without the progress, which is a share of time.
fn summary(subscriber: &Subscriber, is_ours: bool) -> Value {
    let mut steps: Vec<String> = Vec::new();
    for state in stable_states(subscriber, is_ours) {
        let node = state["node"]["id"].as_str().unwrap_or("-");
        let message = state["message"].as_str().unwrap();
        steps.push(format!("[{node}] {message}"));
    }
    steps.dedup();
    let last = subscriber.last();
    let is_completed = last["status"] == "completed";
    let errors: Vec<&Value> = subscriber
        .errors
        .iter()
        .map(|error| &error["code"])
        .collect();
    let outputs = last["outputs"].as_array().into_iter().flatten();
    let outputs = outputs.map(|output| {
        let fields = ["node", "kind", "type", "filename"];
        fields
            .map(|field| output[field].as_str().unwrap_or_default())
            .join(" ")
    });
    json!({
        "steps": steps,
        "status": last["status"],
        "progress": is_completed.then(|| &last["progress"]),
        "message": last["message"],
        "error": last["error"],
        "errors": errors,
        "output_path": last["output_path"],
        "outputs": outputs.collect::<Vec<_>>(),
        "nodes": is_ours.then(|| &last["nodes"]),
    })
}

/// Compares with the file beside the recording, or writes it if `UPDATE_FIXTURES` is set.
fn compare(name: &str, stories: &Value) -> Option<String> {
    let file = PathBuf::from(FIXTURES).join(format!("{name}.downstream.json"));
    let found = serde_json::to_string_pretty(stories).unwrap() + "\n";
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(file, found).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    if found == expected {
        return None;
    }
    let mut lines = found.lines().zip(expected.lines());
    let line = lines.position(|(found, expected)| found != expected);
    let line = line.unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
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
        at(&found),
        file.display(),
        at(&expected)
    ))
}
