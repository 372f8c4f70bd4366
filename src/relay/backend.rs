mod follow;
pub(super) mod lease;
mod queries;
mod reconcile;
mod socket_health;

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backend::lease::Lease;
use super::estimates::queue_forecast::QueueForecast;
use crate::comfy::{ComfyClient, Queue};
use crate::job::Event;

/// How many events of prompts that nobody has registered are kept, for the registration that may
/// be on its way: an event can overtake the answer to the `POST /prompt` that it belongs to.
const MAX_EARLY_EVENTS: usize = 512;

/// One ComfyUI server, and what is known of it at the moment.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) comfy: ComfyClient,
    /// Wakes the task that compares open jobs with the queue and the history, at once.
    pub(super) reconcile_now: Notify,
    /// Wakes it when it has rested for a moment: the queue has changed.
    pub(super) reconcile_soon: Notify,
    /// Asks the reader for a new socket.
    pub(super) redial: Notify,
    pub(super) connected: watch::Sender<bool>,
    /// Whether we are the relay that follows it.
    pub(super) lease: watch::Sender<Lease>,
    /// Taken for a look-up of a prompt that nobody has registered: one reads the queue for all who
    /// wait meanwhile.
    pub(super) lookup_lock: tokio::sync::Mutex<Option<QueueIds>>,
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
    pub(super) disconnects: u64,
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
    pub(super) seen_in_history: Option<String>,
    /// When the socket was last heard.
    pub(super) last_frame_at: Instant,
    /// How often the socket was replaced because of silence, since it last told of a prompt.
    pub(super) stale_sockets: u32,
    /// How many prompts in a row ended of which the open socket told nothing.
    pub(super) missed_endings: u32,
    /// When the socket was opened last.
    pub(super) opened_at: Instant,
    /// How many sockets in a row were lost soon after they were opened.
    pub(super) flaps: u32,
    /// It was told in the log that the server's answers are of no use.
    pub(super) complained: bool,
    /// How long its queue will take.
    pub(super) forecast: QueueForecast,
    early_events: VecDeque<(String, Event)>,
}

impl Backend {
    pub(super) fn new(comfy: ComfyClient) -> Self {
        Self {
            comfy,
            reconcile_now: Notify::new(),
            reconcile_soon: Notify::new(),
            redial: Notify::new(),
            connected: watch::Sender::new(false),
            lease: watch::Sender::new(Lease::Unknown),
            lookup_lock: tokio::sync::Mutex::default(),
            state: Mutex::new(BackendState {
                disconnects: 0,
                reachable: false,
                version: None,
                version_due: true,
                queue_remaining: None,
                running: 0,
                pending: 0,
                history_due: false,
                current: None,
                seen_in_history: None,
                last_frame_at: Instant::now(),
                stale_sockets: 0,
                missed_endings: 0,
                opened_at: Instant::now(),
                flaps: 0,
                complained: false,
                forecast: QueueForecast::default(),
                early_events: VecDeque::new(),
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
const MAX_MISSED_ENDINGS: u32 = 2;

impl BackendState {
    /// The socket is open.
    pub(super) fn on_connect(&mut self) {
        self.opened_at = Instant::now();
        self.reachable = true;
        self.version_due = true;
    }

    /// The socket, which was open, is lost.
    pub(super) fn on_disconnect(&mut self) {
        self.disconnects += 1;
        self.flaps = match self.opened_at.elapsed() < SETTLED {
            true => self.flaps + 1,
            false => 0,
        };
    }

    /// Whether socket after socket is lost, or hears nothing: somebody else uses our client id.
    pub(super) fn is_contested(&self) -> bool {
        let flaps = self.flaps >= MAX_FLAPS && self.opened_at.elapsed() < SETTLED;
        flaps || self.missed_endings >= MAX_MISSED_ENDINGS
    }

    /// Keeps an event of a prompt that nobody has registered.
    pub(super) fn keep_early_event(&mut self, prompt_id: String, event: Event) {
        if self.early_events.len() == MAX_EARLY_EVENTS {
            self.early_events.pop_front();
        }
        self.early_events.push_back((prompt_id, event));
    }

    /// The kept events of a prompt, in their order.
    pub(super) fn take_early_events(&mut self, prompt_id: &str) -> Vec<Event> {
        let (mine, others) = std::mem::take(&mut self.early_events)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(id, _)| id == prompt_id);
        self.early_events = others;
        mine.into_iter().map(|(_, event)| event).collect()
    }

    /// Takes note of a queue's length. The server runs one prompt at a time.
    pub(super) fn set_queue_length(&mut self, remaining: Option<u64>) {
        self.queue_remaining = remaining;
        if let Some(remaining) = remaining.and_then(|count| usize::try_from(count).ok()) {
            self.running = remaining.min(1);
            self.pending = remaining - self.running;
        }
    }

    /// Takes note of a queue.
    pub(super) fn set_queue(&mut self, queue: &Queue) {
        self.running = queue.running().len();
        self.pending = queue.pending_count();
        self.queue_remaining = Some((self.running + self.pending) as u64);
        if let [running] = queue.running() {
            self.current = Some(running.prompt_id.clone());
        }
    }
}
