//! How a backend is, in one word and with the reason.

use jiff::Timestamp;

use crate::job;
use crate::relay::backend::Backend;
use crate::relay::backend::operation::Operation;
use crate::relay::backend::worker::Life;
use crate::wire_schema::word_schema;

/// How a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Its socket is open, its prompts run, and it takes new ones.
    Connected,
    /// It shows no sign of life, and prompts that it has taken do not start.
    Stalled,
    /// Its graphics card has failed in prompt after prompt.
    Sick,
    /// No socket can be opened.
    Unreachable,
    /// Another relay follows it, and this one stands by.
    HeldElsewhere,
    /// Socket after socket is lost or receives nothing.
    Contested,
    /// An operator has paused it.
    Paused,
    /// An operator drains it.
    Draining,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Connected,
        Self::Stalled,
        Self::Sick,
        Self::Unreachable,
        Self::HeldElsewhere,
        Self::Contested,
        Self::Paused,
        Self::Draining,
    ];

    /// Whether it is as it should be: an operator has it so, or it runs.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Connected | Self::Paused | Self::Draining)
    }

    /// Its word in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Stalled => "stalled",
            Self::Sick => "sick",
            Self::Unreachable => "unreachable",
            Self::HeldElsewhere => "held_elsewhere",
            Self::Contested => "contested",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

word_schema!(Condition, "How a ComfyUI server is.");

impl Backend {
    /// How it is, and why, if it is not healthy and the reason is known.
    pub(in crate::relay) fn condition(&self, now: Timestamp) -> (Condition, Option<String>) {
        let connected = *self.connected.borrow();
        let stands_by = self.stands_by();
        let state = self.state();
        if stands_by {
            return (Condition::HeldElsewhere, None);
        }
        if state.socket.is_contested() {
            return (Condition::Contested, None);
        }
        let unreachable = || {
            let reason = state.outage.reason().map(str::to_owned);
            (Condition::Unreachable, reason)
        };
        // A socket that was replaced, because nothing was received, is open again in a moment.
        if !connected && !state.api.reachable {
            return unreachable();
        }
        if state.device.is_sick() {
            let reason =
                "prompt after prompt fails with a fault of the graphics card; restart ComfyUI";
            return (Condition::Sick, Some(reason.to_owned()));
        }
        match (state.worker.life(), state.worker.silent_since()) {
            (Life::Stalled, Some(since)) => {
                let silence = job::passed(now.duration_since(since));
                let waiting = state.queue.pending;
                let prompts = if waiting == 1 {
                    "prompt waits"
                } else {
                    "prompts wait"
                };
                let reason = format!(
                    "no sign of life for {silence} while {waiting} {prompts}; if nothing moves, restart ComfyUI"
                );
                (Condition::Stalled, Some(reason))
            }
            _ if connected => operated(state.operation),
            _ => unreachable(),
        }
    }
}

/// How a backend is that has no fault.
fn operated(operation: Operation) -> (Condition, Option<String>) {
    let (condition, reason) = match operation {
        Operation::Run => return (Condition::Connected, None),
        Operation::Pause => (
            Condition::Paused,
            "an operator has paused it: what it has goes on, and nothing new is handed in",
        ),
        Operation::Remove | Operation::Discard => (
            Condition::Draining,
            "an operator removes it: what runs ends first, unless it is removed at once",
        ),
        Operation::Drain => (
            Condition::Draining,
            "an operator drains it: what runs goes on, what waits in its queue is taken back, and nothing new is handed in",
        ),
    };
    (condition, Some(reason.to_owned()))
}
