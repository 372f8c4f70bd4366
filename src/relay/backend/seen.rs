//! How a backend is: as this relay sees it, or as the one says that follows it.

use jiff::Timestamp;

use crate::job;
use crate::relay::backend::backend_report::BackendReport;
use crate::relay::backend::condition::Condition;
use crate::relay::backend::operation::Operation;
use crate::relay::backend::worker::Life;
use crate::relay::backend::{Backend, Lease};

/// How a server is, whichever relay follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct SeenBackend {
    pub(in crate::relay) report: BackendReport,
    /// Another relay follows it, and has said so.
    pub(in crate::relay) is_elsewhere: bool,
}

impl Backend {
    /// How it is, as far as this relay sees it.
    pub(in crate::relay) fn report(&self, now: Timestamp) -> BackendReport {
        let is_connected = *self.connected.borrow();
        let (condition, reason) = self.condition(now);
        let state = self.state();
        BackendReport {
            condition,
            reason,
            is_connected,
            running: state.queue.running,
            pending: state.queue.pending,
            remaining: state.queue.remaining,
            version: state.api.version.clone(),
            unreachable_since: state.outage.since(),
        }
    }

    /// How it is: as the relay says that follows it, if that is another one.
    pub(in crate::relay) fn seen(&self, now: Timestamp) -> SeenBackend {
        let is_of_peer = *self.lease.borrow() == Lease::HeldByPeer;
        let peer_report = self.state().peer_report.clone();
        match peer_report.filter(|_| is_of_peer) {
            Some(report) => SeenBackend {
                report,
                is_elsewhere: true,
            },
            None => SeenBackend {
                report: self.report(now),
                is_elsewhere: false,
            },
        }
    }

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
