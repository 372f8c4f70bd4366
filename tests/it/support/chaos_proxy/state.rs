//! The state of a proxy: the server, the faults that are due, and what was forwarded.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comfy_relay::recording::Recording;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use reqwest::Client;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::recordings::replay;

use super::fault::{BadAnswer, Call, Fault};

/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The state of a proxy.
pub(super) struct State {
    recording: Arc<Recording>,
    pub(super) client: Client,
    inner: Mutex<Inner>,
    /// Held during a restart: nothing is forwarded meanwhile.
    pub(super) restart_lock: Arc<tokio::sync::Mutex<()>>,
}

struct Inner {
    comfyui: Replay,
    /// History entries of earlier servers.
    kept_entries: Map<String, Value>,
    faults: Vec<Fault>,
    /// The next answers that will be bad.
    bad_answers: Vec<(Call, usize, BadAnswer)>,
    frames: usize,
    /// Cancelled to close every connection.
    connections: CancellationToken,
    closed_until: Option<Instant>,
    observed: Observed,
}

/// What a proxy has forwarded to the relay.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// Prompts whose end was forwarded, as an event or in the history.
    pub(crate) ended: HashSet<String>,
    /// Those of them whose end was forwarded before the first restart.
    pub(crate) before_restart: Option<HashSet<String>>,
    /// How many prompts the server has accepted.
    pub(crate) accepted: usize,
    /// The server was restarted after it had accepted prompts, and accepts no more, because a recording cannot
    /// be continued in the middle.
    pub(crate) accepts_no_more: bool,
    /// The prompts whose history entries outlived a restart.
    pub(crate) kept: HashSet<String>,
    /// How many sockets were opened.
    pub(crate) sockets: usize,
    /// How many frames were forwarded.
    pub(crate) frames: usize,
}

impl State {
    pub(super) async fn new(recording: Arc<Recording>, faults: Vec<Fault>) -> Self {
        Self {
            client: Client::builder()
                .no_proxy()
                .timeout(ANSWER_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            inner: Mutex::new(Inner {
                comfyui: replay(vec![recording.clone()], PlaybackSpeed::Fastest).await,
                kept_entries: Map::new(),
                faults,
                bad_answers: Vec::new(),
                frames: 0,
                connections: CancellationToken::new(),
                closed_until: None,
                observed: Observed::default(),
            }),
            recording,
            restart_lock: Arc::default(),
        }
    }

    /// Cancelled when every connection is closed; `None` while connections are refused.
    pub(super) fn connections(&self) -> Option<CancellationToken> {
        let mut inner = self.inner.lock().unwrap();
        if inner
            .closed_until
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        inner.closed_until = None;
        Some(inner.connections.clone())
    }

    pub(super) fn comfyui_url(&self) -> String {
        self.inner.lock().unwrap().comfyui.url()
    }

    pub(super) fn comfyui_address(&self) -> SocketAddr {
        self.inner.lock().unwrap().comfyui.address()
    }

    pub(super) fn observed(&self) -> Observed {
        let inner = self.inner.lock().unwrap();
        Observed {
            frames: inner.frames,
            ..inner.observed.clone()
        }
    }

    /// Counts a frame, and takes the faults that happen before it.
    pub(super) fn take_faults(&self) -> Vec<Fault> {
        let mut inner = self.inner.lock().unwrap();
        let number = inner.frames;
        inner.frames += 1;
        let (due, later) = std::mem::take(&mut inner.faults)
            .into_iter()
            .partition(|fault| fault.frame() <= number);
        inner.faults = later;
        due
    }

    /// Takes the bad answers that are due before any frame.
    pub(super) fn add_first_bad_answers(&self) {
        let mut inner = self.inner.lock().unwrap();
        let is_due = |fault: &Fault| matches!(fault, Fault::Answers { frame: 0, .. });
        let (due, later): (Vec<Fault>, Vec<Fault>) = std::mem::take(&mut inner.faults)
            .into_iter()
            .partition(is_due);
        inner.faults = later;
        drop(inner);
        for fault in due {
            if let Fault::Answers {
                call, times, how, ..
            } = fault
            {
                self.add_bad_answer(call, times, how);
            }
        }
    }

    pub(super) fn add_bad_answer(&self, call: Call, times: usize, how: BadAnswer) {
        self.inner
            .lock()
            .unwrap()
            .bad_answers
            .push((call, times, how));
    }

    /// How the next answer to a call is bad. `is_in_history`: it is an entry of the history.
    pub(super) fn take_bad_answer(&self, call: Call, is_in_history: bool) -> Option<BadAnswer> {
        let mut inner = self.inner.lock().unwrap();
        let applies = |(of, times, how): &&mut (Call, usize, BadAnswer)| {
            *of == call && *times > 0 && (*how != BadAnswer::Late || is_in_history)
        };
        let (_, times, how) = inner.bad_answers.iter_mut().find(applies)?;
        *times -= 1;
        Some(*how)
    }

    /// Counts the end of a prompt as forwarded.
    pub(super) fn add_end(&self, prompt_id: &str) {
        let mut inner = self.inner.lock().unwrap();
        inner.observed.ended.insert(prompt_id.to_owned());
    }

    pub(super) fn add_socket(&self) {
        self.inner.lock().unwrap().observed.sockets += 1;
    }

    /// Counts a prompt as accepted by the server.
    pub(super) fn add_prompt(&self) {
        self.inner.lock().unwrap().observed.accepted += 1;
    }

    /// The history entry of an earlier server.
    pub(super) fn kept_entry(&self, prompt_id: &str) -> Option<Value> {
        self.inner
            .lock()
            .unwrap()
            .kept_entries
            .get(prompt_id)
            .cloned()
    }

    /// Closes every connection, and refuses new ones for a while.
    pub(super) fn refuse(&self, lasts: Duration) {
        let mut inner = self.inner.lock().unwrap();
        inner.closed_until = Some(Instant::now() + lasts);
        std::mem::take(&mut inner.connections).cancel();
    }

    /// Replaces the server by a new one.
    pub(super) async fn restart(&self, keeps_history: bool) {
        let entries = if keeps_history {
            self.history().await
        } else {
            Map::new()
        };
        let fresh = replay(vec![self.recording.clone()], PlaybackSpeed::Fastest).await;
        let mut inner = self.inner.lock().unwrap();
        let ended = inner.observed.ended.clone();
        inner.observed.before_restart.get_or_insert(ended);
        inner.observed.accepts_no_more |= inner.observed.accepted > 0;
        inner.observed.kept = entries.keys().cloned().collect();
        inner.kept_entries = entries;
        std::mem::replace(&mut inner.comfyui, fresh).start_shutdown();
        std::mem::take(&mut inner.connections).cancel();
    }

    async fn history(&self) -> Map<String, Value> {
        let url = format!("{}/history", self.comfyui_url());
        let answer = self.client.get(url).send().await.unwrap();
        let mut entries: Map<String, Value> = answer.json().await.unwrap();
        entries.extend(self.inner.lock().unwrap().kept_entries.clone());
        entries
    }
}

/// The prompt whose end an event announces.
pub(super) fn prompt_ended_by(text: &str) -> Option<String> {
    let kinds = [
        "execution_success",
        "execution_error",
        "execution_interrupted",
    ];
    if !kinds.iter().any(|kind| text.contains(kind)) {
        return None;
    }
    let event: Value = serde_json::from_str(text).ok()?;
    Some(event["data"]["prompt_id"].as_str()?.to_owned())
}
