use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::forecast::QueueForecast;
use super::lease::Lease;
use crate::comfy::{ComfyClient, Queue};
use crate::job::Event;

/// How many events of prompts that nobody has registered are kept, for the registration that may
/// be on its way: an event can overtake the answer to the `POST /prompt` that it belongs to.
const MAX_STRAYS: usize = 512;

/// One ComfyUI server, and what is known of it at the moment.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) comfy: ComfyClient,
    /// Wakes the task that compares open jobs with the queue and the history, at once.
    pub(super) look_now: Notify,
    /// Wakes it when it has rested for a moment: the queue has changed.
    pub(super) look_soon: Notify,
    /// Asks the reader for a new socket.
    pub(super) redial: Notify,
    pub(super) connected: watch::Sender<bool>,
    /// Whether we are the relay that follows it.
    pub(super) lease: watch::Sender<Lease>,
    /// Taken for a look-up of a prompt that nobody has registered: one reads the queue for all who
    /// wait meanwhile.
    pub(super) turn: tokio::sync::Mutex<Option<QueueIds>>,
    state: Mutex<BackendState>,
}

/// The prompts that a queue held.
#[derive(Debug)]
pub(super) struct QueueIds {
    /// When it was asked for.
    pub(super) asked_at: Instant,
    pub(super) prompts: HashSet<String>,
}

/// What is known of a ComfyUI server at the moment.
#[derive(Debug)]
pub(super) struct BackendState {
    /// How often the socket was lost. What was seen before the last loss may be gone after it.
    pub(super) losses: u64,
    /// Whether it answers. A socket that is dialled again at once is no reason to say no.
    pub(super) reachable: bool,
    pub(super) version: Option<String>,
    /// The server is new, or has come back: its version is to be asked for.
    pub(super) version_due: bool,
    pub(super) queue_remaining: Option<u64>,
    pub(super) running: usize,
    pub(super) pending: usize,
    /// Nothing is known of what its nodes cost: its history is to be asked for.
    pub(super) history_due: bool,
    /// The prompt that messages without an id are about.
    pub(super) current: Option<String>,
    /// A prompt whose entry was in the history: while it is, the server has not been restarted.
    pub(super) witness: Option<String>,
    /// When the socket was last heard.
    pub(super) heard_at: Instant,
    /// How often the socket was replaced because of silence, since it last told of a prompt.
    pub(super) silences: u32,
    /// How many prompts in a row ended of which the open socket told nothing.
    pub(super) deaf: u32,
    /// When the socket was opened last.
    pub(super) opened_at: Instant,
    /// How many sockets in a row were lost soon after they were opened.
    pub(super) flaps: u32,
    /// It was told in the log that the server's answers are of no use.
    pub(super) complained: bool,
    /// How long its queue will take.
    pub(super) forecast: QueueForecast,
    strays: VecDeque<(String, Event)>,
}

impl Backend {
    pub(super) fn new(comfy: ComfyClient) -> Self {
        Self {
            comfy,
            look_now: Notify::new(),
            look_soon: Notify::new(),
            redial: Notify::new(),
            connected: watch::Sender::new(false),
            lease: watch::Sender::new(Lease::Unknown),
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(BackendState {
                losses: 0,
                reachable: false,
                version: None,
                version_due: true,
                queue_remaining: None,
                running: 0,
                pending: 0,
                history_due: false,
                current: None,
                witness: None,
                heard_at: Instant::now(),
                silences: 0,
                deaf: 0,
                opened_at: Instant::now(),
                flaps: 0,
                complained: false,
                forecast: QueueForecast::default(),
                strays: VecDeque::new(),
            }),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.comfy.name()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, BackendState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that lives this long is no sign of trouble.
const SETTLED: Duration = Duration::from_secs(5);

/// So many sockets lost at once, one after the other, are no accident.
const MAX_FLAPS: u32 = 5;

/// So many prompts in a row are not missed by accident.
const MAX_DEAF: u32 = 2;

impl BackendState {
    /// The socket is open.
    pub(super) fn opened(&mut self) {
        self.opened_at = Instant::now();
        self.reachable = true;
        self.version_due = true;
    }

    /// The socket, which was open, is lost.
    pub(super) fn lost(&mut self) {
        self.losses += 1;
        self.flaps = match self.opened_at.elapsed() < SETTLED {
            true => self.flaps + 1,
            false => 0,
        };
    }

    /// Whether socket after socket is lost, or hears nothing: somebody else uses our client id.
    pub(super) fn is_contested(&self) -> bool {
        let flaps = self.flaps >= MAX_FLAPS && self.opened_at.elapsed() < SETTLED;
        flaps || self.deaf >= MAX_DEAF
    }

    /// Keeps an event of a prompt that nobody has registered.
    pub(super) fn keep_stray(&mut self, prompt_id: String, event: Event) {
        if self.strays.len() == MAX_STRAYS {
            self.strays.pop_front();
        }
        self.strays.push_back((prompt_id, event));
    }

    /// The kept events of a prompt, in their order.
    pub(super) fn take_strays(&mut self, prompt_id: &str) -> Vec<Event> {
        let (mine, others) = std::mem::take(&mut self.strays)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(id, _)| id == prompt_id);
        self.strays = others;
        mine.into_iter().map(|(_, event)| event).collect()
    }

    /// Takes note of a queue's length. The server runs one prompt at a time.
    pub(super) fn heard_of_queue(&mut self, remaining: Option<u64>) {
        self.queue_remaining = remaining;
        if let Some(remaining) = remaining.and_then(|count| usize::try_from(count).ok()) {
            self.running = remaining.min(1);
            self.pending = remaining - self.running;
        }
    }

    /// Takes note of a queue.
    pub(super) fn saw(&mut self, queue: &Queue) {
        self.running = queue.running().len();
        self.pending = queue.pending_count();
        self.queue_remaining = Some((self.running + self.pending) as u64);
        if let [running] = queue.running() {
            self.current = Some(running.prompt_id.clone());
        }
    }
}
