//! [`SharedState`]: the state of the server that is played: its queue, history and sockets. The player moves it on, the
//! callers look at it and reach into it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::history::PromptHistory;
use super::sockets::{Outgoing, Sockets};
use crate::replay::playback::{Playback, PromptState};
use crate::replay::substitution::dumps;
use crate::replay::timeline::{Payload, ReceivedFrame, Step, Timeline};

/// How long the end of a prompt waits for callers to read its history too early, as the recorded client did: long
/// enough for who reads at the announced end, and short of what anybody takes for a silent socket.
const GAP_PATIENCE: Duration = Duration::from_millis(250);

/// What all connections and the player share.
#[derive(Debug)]
pub(in crate::replay) struct SharedState {
    live: Mutex<State>,
    /// Wakes the player: a caller did something.
    pub(in crate::replay) changed: Notify,
}

/// The state.
#[derive(Debug)]
pub(super) struct State {
    pub(super) playlist: Vec<Arc<Timeline>>,
    /// Which of the playlist have been begun.
    pub(super) begun: Vec<bool>,
    /// The one that is begun next if a prompt does not say which.
    pub(super) turn: usize,
    pub(super) repeat: bool,
    patience: Duration,
    /// The playbacks that are not over; the first is being played.
    pub(super) playbacks: VecDeque<Playback>,
    pub(super) history: PromptHistory,
    pub(super) sockets: Sockets,
    /// The number of the next prompt.
    pub(super) number: u64,
    /// From a kill to the restart.
    down: bool,
    /// Cancelled by a kill: every connection of this incarnation is cut.
    incarnation: CancellationToken,
}

/// Whether a step can be played.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::replay) enum Readiness {
    /// Now.
    Ready,
    /// Not at all: what it belongs to does not happen this time.
    Skip,
    /// When a caller has done something, or after this time; without one, as long as it takes.
    Wait(Option<Duration>),
}

impl SharedState {
    /// A state on which these are played.
    pub(in crate::replay) fn new(
        playlist: Vec<Arc<Timeline>>,
        repeat: bool,
        patience: Duration,
    ) -> SharedState {
        SharedState {
            live: Mutex::new(State {
                begun: vec![false; playlist.len()],
                playlist,
                turn: 0,
                repeat,
                patience,
                playbacks: VecDeque::new(),
                history: PromptHistory::default(),
                sockets: Sockets::default(),
                number: 0,
                down: false,
                incarnation: CancellationToken::new(),
            }),
            changed: Notify::new(),
        }
    }

    pub(super) fn live(&self) -> MutexGuard<'_, State> {
        // Nothing that panics leaves the state half changed.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's present incarnation, none while it is down.
    pub(in crate::replay) fn incarnation(&self) -> Option<CancellationToken> {
        let live = self.live();
        (!live.down).then(|| live.incarnation.clone())
    }

    /// A caller's socket opened: greets it.
    pub(in crate::replay) fn join(
        &self,
        client: Option<String>,
    ) -> (u64, UnboundedReceiver<Outgoing>) {
        let client = client.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
        let mut live = self.live();
        let (socket, incoming) = live.sockets.join(client.clone());
        let mut greeting = status(live.remaining());
        greeting["data"]["sid"] = json!(client);
        live.sockets.send(socket, Outgoing::Text(dumps(&greeting)));
        if let Some(node) = live
            .playbacks
            .front()
            .and_then(|playback| playback.node_of(&client))
        {
            let executing = json!({"type": "executing", "data": {"node": node}});
            live.sockets.send(socket, Outgoing::Text(dumps(&executing)));
        }
        drop(live);
        self.changed.notify_one();
        (socket, incoming)
    }

    /// A caller's socket closed.
    pub(in crate::replay) fn leave(&self, socket: u64) {
        self.live().sockets.leave(socket);
    }

    /// What the server says to a client that opens with its feature flags.
    pub(in crate::replay) fn feature_flags(&self) -> Option<String> {
        self.live().present()?.feature_flags.clone()
    }

    /// The timeline to play now.
    pub(in crate::replay) fn playing(&self) -> Option<Arc<Timeline>> {
        self.live()
            .playbacks
            .front()
            .map(|playback| playback.timeline.clone())
    }

    /// The timeline has been played to its end.
    pub(in crate::replay) fn finish(&self) {
        self.live().playbacks.pop_front();
    }

    /// Whether `step` of the playing playback can be played.
    pub(in crate::replay) fn readiness(&self, step: &Step) -> Readiness {
        let live = self.live();
        let Some(playback) = live.playbacks.front() else {
            return Readiness::Skip;
        };
        let awaited = |done: bool, limit: Option<Duration>| {
            if done {
                Readiness::Ready
            } else {
                Readiness::Wait(limit)
            }
        };
        if !playback.happens(step) {
            return Readiness::Skip;
        }
        match step {
            Step::Post(k) => awaited(playback.posted.len() > *k, None),
            Step::Gap(k) => awaited(playback.posted[*k].early_reads == 0, Some(GAP_PATIENCE)),
            Step::Learned(k) => awaited(playback.posted[*k].learned, Some(live.patience)),
            Step::Open {
                label,
                awaited: true,
                ..
            } if !playback.is_idle() => {
                awaited(playback.is_open(*label, &live.sockets), Some(live.patience))
            }
            _ => Readiness::Ready,
        }
    }

    /// Before it is waited for whether `step` can be played: what its happening says of the time before.
    pub(in crate::replay) fn prepare(&self, step: &Step) {
        if let (Step::Open { label, node, .. }, Some(playback)) =
            (step, self.live().playbacks.front_mut())
        {
            playback.open(*label);
            if node.is_some() {
                playback.node.clone_from(node);
            }
        }
    }

    /// Plays `step` of the playing playback, if it happens.
    pub(in crate::replay) fn play(&self, step: &Step) {
        let live = &mut *self.live();
        let Some(playback) = live.playbacks.front_mut() else {
            return;
        };
        // Asked again, for a caller may have come between.
        if !playback.happens(step) {
            playback.pass(step);
            return;
        }
        match step {
            Step::Frame(heard) => live.hear(heard),
            Step::Start(k) => {
                playback.posted[*k].state = PromptState::Running;
                playback.node = None;
                playback.visited.clear();
            }
            Step::Ending(k) => playback.posted[*k].announced = true,
            Step::End(k) => {
                playback.posted[*k].state = PromptState::Over;
                playback.node = None;
                let entry = playback.history(*k);
                live.history.enter(&playback.posted[*k].id, entry);
            }
            Step::Gone(k) => playback.posted[*k].break_off(),
            Step::HistoryDeleted(k) => live.history.forget(&playback.posted[*k].id),
            Step::Close { label, abrupt } => {
                if let Some(socket) = playback.close(*label, &live.sockets) {
                    live.sockets.close(socket, *abrupt);
                }
            }
            Step::Kill => live.kill(),
            Step::Restart => live.down = false,
            Step::Post(_) | Step::Open { .. } | Step::Gap(_) | Step::Learned(_) => {}
        }
    }
}

impl State {
    /// What is being played, or would be next.
    pub(super) fn present(&self) -> Option<&Timeline> {
        let playing = self.playbacks.front().map(|playback| &*playback.timeline);
        playing.or_else(|| {
            self.playlist
                .get(self.turn % self.playlist.len().max(1))
                .map(|timeline| &**timeline)
        })
    }

    /// How many prompts are in the queue, with the running one.
    pub(super) fn remaining(&self) -> usize {
        let posted = self.playbacks.iter().flat_map(|playback| &playback.posted);
        posted
            .filter(|prompt| prompt.state != PromptState::Over)
            .count()
    }

    /// Tells everybody how long the queue is.
    pub(super) fn tell_remaining(&self) {
        self.sockets.broadcast(&dumps(&status(self.remaining())));
    }

    fn hear(&mut self, heard: &ReceivedFrame) {
        let Some(playback) = self.playbacks.front_mut() else {
            return;
        };
        if let Some(node) = &heard.executing {
            playback.node = Some(node.clone());
            if !playback.visited.contains(node) {
                playback.visited.push(node.clone());
            }
        }
        let substitution = playback.substitution(heard.prompt);
        for socket in playback.recipients(heard, &self.sockets) {
            let outgoing = match &heard.payload {
                Payload::Text(text) => Outgoing::Text(substitution.text(text)),
                Payload::Binary(bytes) => Outgoing::Binary(substitution.binary(bytes)),
            };
            self.sockets.send(socket, outgoing);
        }
    }

    fn kill(&mut self) {
        for prompt in self
            .playbacks
            .iter_mut()
            .flat_map(|playback| &mut playback.posted)
        {
            prompt.break_off();
        }
        self.history.clear();
        self.sockets.clear();
        self.number = 0;
        self.down = true;
        std::mem::take(&mut self.incarnation).cancel();
    }
}

/// A `status` event.
fn status(remaining: usize) -> Value {
    json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": remaining}}}})
}
