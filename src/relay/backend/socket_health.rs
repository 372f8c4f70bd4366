//! Whether an open socket still receives: the server may have forgotten it, or another client may have
//! taken its place with the same client id. ComfyUI reports neither.

use std::time::Duration;

use tokio::time::Instant;

/// A socket that stays open this long is not flapping.
const SETTLED: Duration = Duration::from_secs(5);

/// So many sockets in a row that were lost before they settled are no accident.
const MAX_FLAPS: u32 = 5;

/// So many prompts in a row that ended without an event are no accident.
const MAX_MISSED_ENDINGS: u32 = 2;

/// How much longer, at most, a socket may be silent during a prompt whose nodes send nothing by nature:
/// the timeout doubles with each socket that stays as silent as the one before.
const MAX_TIMEOUT_FACTOR: u32 = 16;

/// The record of one backend's sockets.
#[derive(Debug)]
pub(in crate::relay) struct SocketHealth {
    /// How often the socket was lost or replaced. What was seen before the last disconnect may be gone
    /// after it.
    pub(in crate::relay) disconnects: u64,
    /// How often it was replaced because nothing was received.
    pub(in crate::relay) replacements: u64,
    /// When the last frame was received, or the last job registered.
    last_frame_at: Instant,
    opened_at: Instant,
    is_open: bool,
    /// The newest attempt to open one has failed.
    is_away: bool,
    /// How many sockets in a row were lost before they settled.
    flaps: u32,
    /// How many sockets in a row were replaced because nothing was received.
    stale_sockets: u32,
    /// How many prompts in a row ended of which the open socket received nothing.
    missed_endings: u32,
}

impl SocketHealth {
    pub(in crate::relay) fn new() -> Self {
        Self {
            disconnects: 0,
            replacements: 0,
            last_frame_at: Instant::now(),
            opened_at: Instant::now(),
            is_open: false,
            is_away: false,
            flaps: 0,
            stale_sockets: 0,
            missed_endings: 0,
        }
    }

    /// The socket was opened.
    pub(in crate::relay) fn on_connect(&mut self) {
        self.opened_at = Instant::now();
        self.is_open = true;
        self.is_away = false;
    }

    /// No socket could be opened: the server is away, and nobody cuts its sockets.
    pub(in crate::relay) fn on_failed_dial(&mut self) {
        self.is_away = true;
    }

    /// The open socket was lost.
    pub(in crate::relay) fn on_disconnect(&mut self) {
        self.disconnects += 1;
        self.is_open = false;
        self.flaps = if self.opened_at.elapsed() < SETTLED {
            self.flaps + 1
        } else {
            0
        };
    }

    /// Restarts the measure of silence: a frame was received, or a job registered with an idle server,
    /// which had nothing to send before.
    pub(in crate::relay) fn restart_silence(&mut self) {
        self.last_frame_at = Instant::now();
    }

    /// The socket received an event that names its prompt: it works.
    pub(in crate::relay) fn on_event(&mut self) {
        self.stale_sockets = 0;
        self.missed_endings = 0;
    }

    /// Whether the socket is to be replaced, because a prompt of ours runs and nothing was received for
    /// `timeout`, or a multiple of it after stale sockets. Returns how long it was silent at least.
    pub(in crate::relay) fn check_stale(&mut self, timeout: Duration) -> Option<Duration> {
        let factor = (1 << self.stale_sockets.min(16)).min(MAX_TIMEOUT_FACTOR);
        let timeout = timeout * factor;
        if self.last_frame_at.elapsed() < timeout {
            return None;
        }
        self.stale_sockets += 1;
        self.replacements += 1;
        self.last_frame_at = Instant::now();
        Some(timeout)
    }

    /// Counts a prompt of ours that ended without an event. Only if the socket was open since the server
    /// last had the prompt, which was after `disconnects` disconnects. Returns whether it was.
    pub(in crate::relay) fn count_missed_ending(&mut self, disconnects: u64) -> bool {
        let was_open = disconnects == self.disconnects;
        self.missed_endings += u32::from(was_open);
        was_open
    }

    /// Whether socket after socket is lost, or receives nothing: another client uses our client id, or something
    /// before the server cuts them. True until one has settled.
    pub(in crate::relay) fn is_contested(&self) -> bool {
        let has_settled = self.is_open && self.opened_at.elapsed() >= SETTLED;
        let flaps = self.flaps >= MAX_FLAPS && !has_settled && !self.is_away;
        flaps || self.missed_endings >= MAX_MISSED_ENDINGS
    }
}
