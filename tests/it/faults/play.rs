//! Plays a recording through a gate to the relay, and judges what its subscribers were told.

use std::sync::Arc;
use std::time::Duration;

use comfy_relay::recording::{Exchange, RecordedOutcome, Recording};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::chaos_proxy::fault::Fault;
use crate::support::chaos_proxy::{ChaosProxy, Told};
use crate::support::subscriber::{Subscriber, is_final};
use crate::support::test_relay::{Settings, TestRelay};

/// Prompts that were posted further apart than this came after the end of those before.
const BURST_S: f64 = 1.0;

/// How long one play may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a prompt is handed in that meets a fault each time.
const ATTEMPTS: usize = 100;

/// A prompt on its way.
struct Open {
    index: usize,
    prompt_id: String,
    heard: JoinHandle<Subscriber>,
}

/// What a play came to.
pub(crate) struct Played {
    /// What is wrong with it.
    pub(crate) wrong: Vec<String>,
    /// What went through.
    pub(crate) told: Told,
    /// How many jobs were heard out.
    pub(crate) jobs: usize,
}

/// A relay that is quick to notice what is made to happen.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.comfy.poll_interval = Duration::from_millis(50);
    settings.comfy.max_silence = Duration::from_millis(600);
    settings.comfy.event_grace = Duration::from_millis(600);
    // Longer than an entry is ever late here, also on a busy machine.
    settings.comfy.history_grace = Duration::from_secs(5);
    settings
}

/// Plays a recording with these faults.
pub(crate) async fn play(recording: Arc<Recording>, faults: Vec<Fault>) -> Played {
    play_with(settings(), recording, faults).await
}

/// The same with a relay of these settings.
pub(crate) async fn play_with(
    settings: Settings,
    recording: Arc<Recording>,
    faults: Vec<Fault>,
) -> Played {
    let played = tokio::spawn(timeout(PATIENCE, play_out(settings, recording, faults)));
    let wrong = match played.await {
        Ok(Ok(played)) => return played,
        Ok(Err(_)) => "does not come to an end".to_owned(),
        Err(error) => error.to_string(),
    };
    Played {
        wrong: vec![wrong],
        told: Told::default(),
        jobs: 0,
    }
}

async fn play_out(settings: Settings, recording: Arc<Recording>, faults: Vec<Fault>) -> Played {
    let gate = ChaosProxy::before(recording.clone(), faults.clone()).await;
    let relay = TestRelay::connected_to(&gate.url(), settings).await;
    let mut played = Played {
        wrong: Vec::new(),
        told: Told::default(),
        jobs: 0,
    };
    let mut open = Vec::new();
    let mut posted_at = f64::NEG_INFINITY;
    for (index, prompt) in recording.prompts().enumerate() {
        if prompt.t - posted_at > BURST_S {
            hear_out(&relay, &gate, &recording, &faults, &mut open, &mut played).await;
        }
        posted_at = prompt.t;
        let subscriber = relay.subscribe(&format!("job-{index}")).await;
        match hand_in(&relay, &gate, &recording, prompt, index).await {
            Ok(Some(prompt_id)) => open.push(Open {
                index,
                prompt_id,
                heard: tokio::spawn(hear(subscriber)),
            }),
            Ok(None) => {}
            Err(why) => {
                played.wrong.push(format!("prompt {index}: {why}"));
                break;
            }
        }
    }
    hear_out(&relay, &gate, &recording, &faults, &mut open, &mut played).await;
    played.told = gate.told();
    relay.stop().await;
    played
}

async fn hear(mut subscriber: Subscriber) -> Subscriber {
    assert_eq!(
        subscriber.close_code().await,
        1000,
        "{:?}",
        subscriber.states
    );
    subscriber
}

/// Hands a prompt in until it is taken: through the relay, or to ComfyUI by somebody else, and then
/// registered. Tells its id; none where it is refused by right.
async fn hand_in(
    relay: &TestRelay,
    gate: &ChaosProxy,
    recording: &Recording,
    prompt: &Exchange,
    index: usize,
) -> Result<Option<String>, String> {
    let body = &prompt.request_body;
    let job = format!("job-{index}");
    let is_ours = body["client_id"] == recording.meta.client_id.as_str();
    let is_refused = prompt.response["prompt_id"].is_null();
    let mut request = json!({"job_id": job, "workflow": body["prompt"]});
    if !is_ours {
        let Some(posted) = gate.post_elsewhere(body).await else {
            return Ok(None);
        };
        request = json!({"job_id": job, "prompt_id": posted["prompt_id"]});
    }
    let mut last = Value::Null;
    for _ in 0..ATTEMPTS {
        let taken = gate.taken().await;
        let (status, told) = relay.post("/api/anime/jobs", &request).await;
        if status == 201 {
            return Ok(Some(told["prompt_id"].as_str().unwrap().to_owned()));
        }
        if is_refused && (400..500).contains(&status) {
            if told["error"]["code"] != "workflow_rejected" {
                // The relay has refused it by itself; the recording goes on with the next prompt.
                gate.post_elsewhere(body).await;
            }
            return Ok(None);
        }
        // One that was taken, and whose answer was lost for good, is nobody's.
        if gate.told().is_over || gate.taken().await > taken {
            return Ok(None);
        }
        last = told;
        // An answer that was spoilt is used up; a socket that was lost is waited for.
        relay.connected().await;
    }
    Err(format!("cannot be handed in: {last}"))
}

/// Hears all open jobs out, and judges each.
async fn hear_out(
    relay: &TestRelay,
    gate: &ChaosProxy,
    recording: &Recording,
    faults: &[Fault],
    open: &mut Vec<Open>,
    played: &mut Played,
) {
    for one in open.drain(..) {
        played.jobs += 1;
        let subscriber = match one.heard.await {
            Ok(subscriber) => subscriber,
            Err(error) => {
                let wrong = format!("prompt {}: {error}", one.index);
                played.wrong.push(wrong);
                continue;
            }
        };
        let (_, view) = relay.job(&format!("job-{}", one.index)).await;
        let ends = subscriber
            .states
            .iter()
            .filter(|state| is_final(state))
            .count();
        let last = subscriber.last();
        let prompt = recording.prompts().nth(one.index).unwrap();
        let truths = truths(recording, prompt, faults, &gate.told(), &one.prompt_id);
        let told = (
            last["status"].as_str().unwrap(),
            view["error_code"].as_str(),
        );
        if ends != 1 || !truths.contains(&told) {
            played.wrong.push(format!(
                "prompt {}: told {told:?}, {ends} times, where {truths:?} is true: {last}",
                one.index
            ));
        }
    }
}

type Truth = (&'static str, Option<&'static str>);

const LOST: Truth = ("failed", Some("prompt_lost"));

/// Nobody told what became of it: servers of 2023 tell it on the socket alone.
const WITHOUT_OUTPUTS: Truth = ("failed", Some("execution_error"));

/// What may be told of a prompt's end. It is one thing, unless nobody can know: where the server died
/// after it had told the end, but perhaps not been heard; where the socket was lost while a prompt was
/// called off, which only the socket tells, or nothing tells from a restart; and where somebody deletes
/// what is in the history.
fn truths(
    recording: &Recording,
    prompt: &Exchange,
    faults: &[Fault],
    told: &Told,
    prompt_id: &str,
) -> Vec<Truth> {
    let recorded = prompt.response["prompt_id"].as_str().unwrap_or_default();
    let outcome = match recording.meta.outcome.get(recorded) {
        Some(RecordedOutcome::Completed) => ("completed", None),
        Some(RecordedOutcome::Cancelled) => ("cancelled", None),
        Some(RecordedOutcome::Failed) => ("failed", Some("execution_error")),
        Some(RecordedOutcome::Lost) | None => LOST,
    };
    let is_cancelled = outcome.0 == "cancelled";
    if let Some(before) = told.before_restart.as_ref().filter(|_| told.is_over) {
        if told.kept.contains(prompt_id) {
            return vec![outcome];
        }
        let keeps_history = !told.kept.is_empty();
        return match before.contains(prompt_id) || is_cancelled {
            true => vec![outcome, LOST],
            // A history that is there says that the server was not restarted.
            false if keeps_history => vec![LOST, ("cancelled", None)],
            false => vec![LOST],
        };
    }
    let mut truths = vec![outcome];
    if is_cancelled && faults.iter().any(Fault::loses_sockets) {
        truths.push(LOST);
        if recording.meta.comfyui_version.starts_with("2023") {
            truths.push(WITHOUT_OUTPUTS);
        }
    }
    if recording
        .exchanges
        .iter()
        .any(|call| call.is("POST", "/history"))
    {
        truths.push(LOST);
    }
    truths
}
