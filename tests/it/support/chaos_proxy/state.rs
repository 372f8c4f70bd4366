use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comfy_relay::recording::Recording;
use comfy_relay::replay::{PlaybackSpeed, Replay, ReplayOptions};
use reqwest::Client;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fault::{Call, Fault, Spoilt};

/// How many times a server is asked before it counts as hung.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// What a gate knows.
pub(super) struct State {
    recording: Arc<Recording>,
    pub(super) client: Client,
    live: Mutex<Live>,
    /// Taken for a restart: nothing is handed on meanwhile.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

struct Live {
    comfyui: Replay,
    /// Entries of servers that are gone.
    kept: Map<String, Value>,
    faults: Vec<Fault>,
    /// Answers to be spoilt.
    spoilt: Vec<(Call, usize, Spoilt)>,
    frames: usize,
    /// Cancelled where every connection breaks off.
    life: CancellationToken,
    closed_until: Option<Instant>,
    told: Told,
}

/// What has gone through a gate to the relay.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Prompts whose end was told, by an event or in the history.
    pub(crate) ended: HashSet<String>,
    /// The prompts whose end had been told when the server was restarted for the first time.
    pub(crate) before_restart: Option<HashSet<String>>,
    /// How many prompts were taken by the server.
    pub(crate) taken: usize,
    /// The server was restarted when it had taken prompts: it takes no more, because a recording cannot
    /// be gone on with in the middle.
    pub(crate) is_over: bool,
    /// The prompts whose entries outlived a restart.
    pub(crate) kept: HashSet<String>,
    /// How many sockets there were.
    pub(crate) sockets: usize,
    /// How many frames there were.
    pub(crate) frames: usize,
}

impl State {
    pub(super) async fn new(recording: Arc<Recording>, faults: Vec<Fault>) -> Self {
        Self {
            client: Client::builder()
                .no_proxy()
                .timeout(ANSWER_PATIENCE)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            live: Mutex::new(Live {
                comfyui: comfyui(&recording).await,
                kept: Map::new(),
                faults,
                spoilt: Vec::new(),
                frames: 0,
                life: CancellationToken::new(),
                closed_until: None,
                told: Told::default(),
            }),
            recording,
            turn: Arc::default(),
        }
    }

    /// Lives until every connection breaks off; none while no connection is taken.
    pub(super) fn life(&self) -> Option<CancellationToken> {
        let mut live = self.live.lock().unwrap();
        if live
            .closed_until
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        live.closed_until = None;
        Some(live.life.clone())
    }

    pub(super) fn comfyui_url(&self) -> String {
        self.live.lock().unwrap().comfyui.url()
    }

    pub(super) fn comfyui_address(&self) -> SocketAddr {
        self.live.lock().unwrap().comfyui.address()
    }

    pub(super) fn told(&self) -> Told {
        let live = self.live.lock().unwrap();
        Told {
            frames: live.frames,
            ..live.told.clone()
        }
    }

    /// Counts a frame that is to be handed on, and takes the faults that come before it.
    pub(super) fn faults_before_a_frame(&self) -> Vec<Fault> {
        let mut live = self.live.lock().unwrap();
        let number = live.frames;
        live.frames += 1;
        let (due, later) = std::mem::take(&mut live.faults)
            .into_iter()
            .partition(|fault| fault.frame() <= number);
        live.faults = later;
        due
    }

    /// Faults of answers that are due before any frame.
    pub(super) fn spoil_from_the_start(&self) {
        let mut live = self.live.lock().unwrap();
        let is_due = |fault: &Fault| matches!(fault, Fault::Answers { frame: 0, .. });
        let (due, later): (Vec<Fault>, Vec<Fault>) = std::mem::take(&mut live.faults)
            .into_iter()
            .partition(is_due);
        live.faults = later;
        drop(live);
        for fault in due {
            if let Fault::Answers {
                call, times, how, ..
            } = fault
            {
                self.spoil(call, times, how);
            }
        }
    }

    pub(super) fn spoil(&self, call: Call, times: usize, how: Spoilt) {
        self.live.lock().unwrap().spoilt.push((call, times, how));
    }

    /// How the next answer to a call is spoilt; `is_there` where it is an entry of the history.
    pub(super) fn spoilt(&self, call: Call, is_there: bool) -> Option<Spoilt> {
        let mut live = self.live.lock().unwrap();
        let applies = |(of, times, how): &&mut (Call, usize, Spoilt)| {
            *of == call && *times > 0 && (*how != Spoilt::Late || is_there)
        };
        let (_, times, how) = live.spoilt.iter_mut().find(applies)?;
        *times -= 1;
        Some(*how)
    }

    /// The end of a prompt goes through.
    pub(super) fn tells_end(&self, prompt_id: &str) {
        let mut live = self.live.lock().unwrap();
        live.told.ended.insert(prompt_id.to_owned());
    }

    pub(super) fn opens_socket(&self) {
        self.live.lock().unwrap().told.sockets += 1;
    }

    /// A prompt was taken by the server.
    pub(super) fn takes_prompt(&self) {
        self.live.lock().unwrap().told.taken += 1;
    }

    /// An entry of a server that is gone.
    pub(super) fn kept(&self, prompt_id: &str) -> Option<Value> {
        self.live.lock().unwrap().kept.get(prompt_id).cloned()
    }

    /// Breaks every connection off, and takes no new one for so long.
    pub(super) fn refuse(&self, lasts: Duration) {
        let mut live = self.live.lock().unwrap();
        live.closed_until = Some(Instant::now() + lasts);
        std::mem::take(&mut live.life).cancel();
    }

    /// Kills the server, and starts another one in its place.
    pub(super) async fn restart(&self, keeps_history: bool) {
        let entries = match keeps_history {
            true => self.history().await,
            false => Map::new(),
        };
        let fresh = comfyui(&self.recording).await;
        let mut live = self.live.lock().unwrap();
        let ended = live.told.ended.clone();
        live.told.before_restart.get_or_insert(ended);
        live.told.is_over |= live.told.taken > 0;
        live.told.kept = entries.keys().cloned().collect();
        live.kept = entries;
        std::mem::replace(&mut live.comfyui, fresh).start_shutdown();
        std::mem::take(&mut live.life).cancel();
    }

    async fn history(&self) -> Map<String, Value> {
        let url = format!("{}/history", self.comfyui_url());
        let answer = self.client.get(url).send().await.unwrap();
        let mut entries: Map<String, Value> = answer.json().await.unwrap();
        entries.extend(self.live.lock().unwrap().kept.clone());
        entries
    }
}

async fn comfyui(recording: &Arc<Recording>) -> Replay {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ReplayOptions {
        speed: PlaybackSpeed::Fastest,
        repeat: true,
        ..ReplayOptions::default()
    };
    Replay::start(listener, vec![recording.clone()], options)
}

/// The prompt whose end a frame tells, if it does.
pub(super) fn end_told_by(text: &str) -> Option<String> {
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
