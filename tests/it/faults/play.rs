//! Plays a recording through a [`ChaosProxy`] to the relay, and checks what its subscribers received.

use std::sync::Arc;
use std::time::Duration;

use comfy_relay::config::Dispatch;
use comfy_relay::recording::{Exchange, RecordedOutcome, Recording};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::chaos_proxy::fault::Fault;
use crate::support::chaos_proxy::{ChaosProxy, Observed};
use crate::support::database::TestDatabase;
use crate::support::hanging_server::HangingServer;
use crate::support::subscriber::{Subscriber, is_final};
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};

/// Prompts that were posted further apart than this came after the end of those before.
const BURST_S: f64 = 1.0;

/// How long one play may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a prompt is submitted while faults prevent it.
const ATTEMPTS: usize = 100;

/// A prompt that has not ended, with its subscriber.
struct OpenPrompt {
    index: usize,
    prompt_id: String,
    subscriber: JoinHandle<Subscriber>,
}

/// What there is beside the relay and its ComfyUI.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Surroundings {
    /// A second ComfyUI that accepts connections and answers nothing, first in the list.
    pub(crate) has_hanging_server: bool,
    /// A second relay on the same database, which stands by. The jobs are followed there.
    pub(crate) has_second_relay: bool,
}

/// The relays and what they need, which stops with them.
struct Scene {
    relay: TestRelay,
    second: Option<TestRelay>,
    _database: Option<TestDatabase>,
    hanging: Option<HangingServer>,
}

impl Scene {
    async fn start(settings: Settings, proxy: &ChaosProxy, surroundings: Surroundings) -> Self {
        let mut urls = proxy.url();
        let mut hanging = None;
        if surroundings.has_hanging_server {
            let server = HangingServer::start().await;
            urls = format!("{},{urls}", server.url());
            hanging = Some(server);
        }
        if !surroundings.has_second_relay {
            return Self {
                relay: TestRelay::start(&urls, settings).await,
                second: None,
                _database: None,
                hanging,
            };
        }
        let database = TestDatabase::sqlite().await;
        let with_database = |settings: Settings| Settings {
            store: database.config(),
            ..settings
        };
        let relay = TestRelay::start(&urls, with_database(settings.clone())).await;
        relay.connected_to_any().await;
        // It follows one of its own, so that no server moves to it: here prompts are handed in to servers of one relay.
        let urls = format!("{urls},{UNREACHABLE}");
        let second = TestRelay::start(&urls, with_database(settings)).await;
        Self {
            relay,
            second: Some(second),
            _database: Some(database),
            hanging,
        }
    }

    /// Waits until the relay is connected to the ComfyUI that answers.
    async fn connected(&self) {
        if self.hanging.is_some() {
            self.relay.connected_to_any().await;
        } else {
            self.relay.connected().await;
        }
    }

    /// Where the jobs are followed.
    fn front(&self) -> &TestRelay {
        self.second.as_ref().unwrap_or(&self.relay)
    }
}

/// What came of playing a recording.
pub(crate) struct PlayReport {
    /// Each wrong end of a prompt.
    pub(crate) problems: Vec<String>,
    /// What the proxy forwarded.
    pub(crate) observed: Observed,
    /// How many jobs were followed to their end.
    pub(crate) jobs: usize,
}

/// Settings of a relay that notices faults quickly.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.comfy.poll_interval = Duration::from_millis(50);
    settings.comfy.max_silence = Duration::from_millis(600);
    settings.comfy.event_grace = Duration::from_millis(600);
    // Three faults can withhold an entry from six answers: longer than these take, also on a busy machine.
    settings.comfy.history_grace = Duration::from_secs(8);
    // A recording is played in its order, and once.
    settings.relay.dispatch = Dispatch::Direct;
    settings
}

/// Plays a recording with these faults.
pub(crate) async fn play(recording: Arc<Recording>, faults: Vec<Fault>) -> PlayReport {
    play_with(settings(), recording, faults, Surroundings::default()).await
}

/// Plays a recording with these faults to a relay with these settings and surroundings.
pub(crate) async fn play_with(
    settings: Settings,
    recording: Arc<Recording>,
    faults: Vec<Fault>,
    surroundings: Surroundings,
) -> PlayReport {
    let playing = play_to_end(settings, recording, faults, surroundings);
    let played = tokio::spawn(timeout(PATIENCE, playing));
    let problem = match played.await {
        Ok(Ok(played)) => return played,
        Ok(Err(_)) => "does not end".to_owned(),
        Err(error) => error.to_string(),
    };
    PlayReport {
        problems: vec![problem],
        observed: Observed::default(),
        jobs: 0,
    }
}

async fn play_to_end(
    settings: Settings,
    recording: Arc<Recording>,
    faults: Vec<Fault>,
    surroundings: Surroundings,
) -> PlayReport {
    let proxy = ChaosProxy::start(recording.clone(), faults.clone()).await;
    let scene = Scene::start(settings, &proxy, surroundings).await;
    scene.connected().await;
    let mut played = PlayReport {
        problems: Vec::new(),
        observed: Observed::default(),
        jobs: 0,
    };
    let mut open = Vec::new();
    let mut posted_at = f64::NEG_INFINITY;
    for (index, prompt) in recording.prompts().enumerate() {
        if prompt.t - posted_at > BURST_S {
            check_ends(&scene, &proxy, &recording, &faults, &mut open, &mut played).await;
        }
        posted_at = prompt.t;
        let subscriber = scene.front().subscribe(&format!("job-{index}")).await;
        match submit(&scene, &proxy, &recording, prompt, index).await {
            Ok(Some(prompt_id)) => open.push(OpenPrompt {
                index,
                prompt_id,
                subscriber: tokio::spawn(read_to_end(subscriber)),
            }),
            Ok(None) => {}
            Err(why) => {
                played.problems.push(format!("prompt {index}: {why}"));
                break;
            }
        }
    }
    check_ends(&scene, &proxy, &recording, &faults, &mut open, &mut played).await;
    played.observed = proxy.observed();
    scene.relay.stop().await;
    if let Some(second) = scene.second {
        second.stop().await;
    }
    played
}

async fn read_to_end(mut subscriber: Subscriber) -> Subscriber {
    assert_eq!(
        subscriber.close_code().await,
        1000,
        "{:?}",
        subscriber.states
    );
    subscriber
}

/// Submits a prompt until it is accepted: through the relay, or to ComfyUI as another client, and then registers
/// it. Returns its id, or `None` if it is rightly refused.
async fn submit(
    scene: &Scene,
    proxy: &ChaosProxy,
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
        let Some(posted) = proxy.post_directly(body).await else {
            return Ok(None);
        };
        request = json!({"job_id": job, "prompt_id": posted["prompt_id"]});
    }
    let mut last = Value::Null;
    for _ in 0..ATTEMPTS {
        let accepted = proxy.accepted().await;
        let (status, answer) = scene.relay.post("/api/anime/jobs", &request).await;
        if [201, 202].contains(&status) {
            return Ok(Some(answer["prompt_id"].as_str().unwrap().to_owned()));
        }
        if is_refused && (400..500).contains(&status) {
            if answer["error"]["code"] != "workflow_rejected" {
                // The relay has refused it without asking ComfyUI; the recording goes on with the next prompt.
                proxy.post_directly(body).await;
            }
            return Ok(None);
        }
        // A prompt that was accepted, but whose answer was lost, belongs to no job.
        if proxy.observed().accepts_no_more || proxy.accepted().await > accepted {
            return Ok(None);
        }
        last = answer;
        // Each bad answer is given once; wait for the next socket.
        scene.connected().await;
    }
    Err(format!("cannot be submitted: {last}"))
}

/// Waits for the end of all open jobs, and checks each.
async fn check_ends(
    scene: &Scene,
    proxy: &ChaosProxy,
    recording: &Recording,
    faults: &[Fault],
    open: &mut Vec<OpenPrompt>,
    played: &mut PlayReport,
) {
    for one in open.drain(..) {
        played.jobs += 1;
        let subscriber = match one.subscriber.await {
            Ok(subscriber) => subscriber,
            Err(error) => {
                let problem = format!("prompt {}: {error}", one.index);
                played.problems.push(problem);
                continue;
            }
        };
        let job = format!("job-{}", one.index);
        let (_, view) = scene.front().job(&job).await;
        let (_, owners) = scene.relay.job(&job).await;
        if (&view["status"], &view["error_code"]) != (&owners["status"], &owners["error_code"]) {
            let problem = format!("prompt {}: {view} at the second relay, {owners}", one.index);
            played.problems.push(problem);
        }
        let ends = subscriber
            .states
            .iter()
            .filter(|state| is_final(state))
            .count();
        let last = subscriber.last();
        let prompt = recording.prompts().nth(one.index).unwrap();
        let allowed = allowed_ends(recording, prompt, faults, &proxy.observed(), &one.prompt_id);
        let found = (
            last["status"].as_str().unwrap(),
            view["error_code"].as_str(),
        );
        if ends != 1 || !allowed.contains(&found) {
            played.problems.push(format!(
                "prompt {}: ended as {found:?}, {ends} times, instead of {allowed:?}: {last}",
                one.index
            ));
        }
    }
}

/// A final status and its error code.
type End = (&'static str, Option<&'static str>);

const LOST: End = ("failed", Some("prompt_lost"));

/// The outcome is unknown: servers of 2023 send it on the socket only.
const WITHOUT_OUTPUTS: End = ("failed", Some("execution_error"));

/// The ends that a prompt may have. There is one, unless the relay cannot know it: the server died after it had
/// sent the end, which the relay may not have received; the socket was lost while a prompt was cancelled, which
/// the history of some versions does not show; or a client deleted the history.
fn allowed_ends(
    recording: &Recording,
    prompt: &Exchange,
    faults: &[Fault],
    observed: &Observed,
    prompt_id: &str,
) -> Vec<End> {
    let recorded = prompt.response["prompt_id"].as_str().unwrap_or_default();
    let outcome = match recording.outcome(recorded) {
        Some(RecordedOutcome::Completed) => ("completed", None),
        Some(RecordedOutcome::Cancelled) => ("cancelled", None),
        Some(RecordedOutcome::Failed) => ("failed", Some("execution_error")),
        Some(RecordedOutcome::Lost) | None => LOST,
    };
    let is_cancelled = outcome.0 == "cancelled";
    if let Some(before) = observed
        .before_restart
        .as_ref()
        .filter(|_| observed.accepts_no_more)
    {
        if observed.kept.contains(prompt_id) {
            return vec![outcome];
        }
        if before.contains(prompt_id) || is_cancelled {
            return vec![outcome, LOST];
        }
        // With a history, the server does not look restarted.
        let keeps_history = !observed.kept.is_empty();
        return if keeps_history {
            vec![LOST, ("cancelled", None)]
        } else {
            vec![LOST]
        };
    }
    let mut allowed = vec![outcome];
    if is_cancelled && faults.iter().any(Fault::disconnects) {
        allowed.push(LOST);
        if recording.meta.comfyui_version.starts_with("2023") {
            allowed.push(WITHOUT_OUTPUTS);
        }
    }
    if recording
        .exchanges
        .iter()
        .any(|call| call.is("POST", "/history"))
    {
        allowed.push(LOST);
    }
    allowed
}
