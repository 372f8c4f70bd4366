//! [`Stage`]: the state of the server that is played: its queue, history and sockets. The player moves it on, the
//! callers look at it and reach into it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::archive::Archive;
use super::audience::{Audience, Outgoing};
use super::run::{Run, State};
use super::timeline::{Beat, Heard, Payload, Timeline};
use super::wording::dumps;

/// How long the end of a prompt waits for callers to read its history too early, as the recorded client did: long
/// enough for who reads at the announced end, and short of what anybody takes for a silent socket.
const GAP_PATIENCE: Duration = Duration::from_millis(250);

/// What all connections and the player share.
#[derive(Debug)]
pub(super) struct Stage {
    live: Mutex<Live>,
    /// Wakes the player: a caller did something.
    pub(super) stirred: Notify,
}

/// The state.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) playlist: Vec<Arc<Timeline>>,
    /// Which of the playlist have been begun.
    pub(super) begun: Vec<bool>,
    /// The one that is begun next if a prompt does not say which.
    pub(super) turn: usize,
    pub(super) repeat: bool,
    patience: Duration,
    /// The runs that are not over; the first is being played.
    pub(super) runs: VecDeque<Run>,
    pub(super) archive: Archive,
    pub(super) audience: Audience,
    /// The number of the next prompt.
    pub(super) number: u64,
    /// From a kill to the restart.
    down: bool,
    /// Cancelled by a kill: every connection of this life is cut.
    life: CancellationToken,
}

/// Whether a beat can be played.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Now.
    Ready,
    /// Not at all: what it belongs to does not happen this time.
    Skip,
    /// When a caller has done something, or after this time; without one, as long as it takes.
    Wait(Option<Duration>),
}

impl Stage {
    /// A stage on which these are played.
    pub(super) fn new(playlist: Vec<Arc<Timeline>>, repeat: bool, patience: Duration) -> Stage {
        Stage {
            live: Mutex::new(Live {
                begun: vec![false; playlist.len()],
                playlist,
                turn: 0,
                repeat,
                patience,
                runs: VecDeque::new(),
                archive: Archive::default(),
                audience: Audience::default(),
                number: 0,
                down: false,
                life: CancellationToken::new(),
            }),
            stirred: Notify::new(),
        }
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        // Nothing that panics leaves the state half changed.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's present life, none while it is down.
    pub(super) fn life(&self) -> Option<CancellationToken> {
        let live = self.live();
        (!live.down).then(|| live.life.clone())
    }

    /// A caller's socket opened: greets it.
    pub(super) fn join(&self, client: Option<String>) -> (u64, UnboundedReceiver<Outgoing>) {
        let client = client.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
        let mut live = self.live();
        let (socket, incoming) = live.audience.join(client.clone());
        let mut greeting = status(live.remaining());
        greeting["data"]["sid"] = json!(client);
        live.audience.send(socket, Outgoing::Text(dumps(&greeting)));
        if let Some(node) = live.runs.front().and_then(|run| run.node_of(&client)) {
            let executing = json!({"type": "executing", "data": {"node": node}});
            live.audience
                .send(socket, Outgoing::Text(dumps(&executing)));
        }
        drop(live);
        self.stirred.notify_one();
        (socket, incoming)
    }

    /// A caller's socket closed.
    pub(super) fn leave(&self, socket: u64) {
        self.live().audience.leave(socket);
    }

    /// What the server says to a client that opens with its feature flags.
    pub(super) fn feature_flags(&self) -> Option<String> {
        self.live().present()?.feature_flags.clone()
    }

    /// The timeline to play now.
    pub(super) fn playing(&self) -> Option<Arc<Timeline>> {
        self.live().runs.front().map(|run| run.timeline.clone())
    }

    /// The timeline has been played to its end.
    pub(super) fn finish(&self) {
        self.live().runs.pop_front();
    }

    /// Whether `beat` of the playing run can be played.
    pub(super) fn readiness(&self, beat: &Beat) -> Readiness {
        let live = self.live();
        let Some(run) = live.runs.front() else {
            return Readiness::Skip;
        };
        let awaited = |done: bool, limit: Option<Duration>| {
            if done {
                Readiness::Ready
            } else {
                Readiness::Wait(limit)
            }
        };
        if !run.happens(beat) {
            return Readiness::Skip;
        }
        match beat {
            Beat::Post(k) => awaited(run.posted.len() > *k, None),
            Beat::Gap(k) => awaited(run.posted[*k].early_reads == 0, Some(GAP_PATIENCE)),
            Beat::Learned(k) => awaited(run.posted[*k].learned, Some(live.patience)),
            Beat::Open {
                label,
                awaited: true,
                ..
            } if !run.is_idle() => {
                awaited(run.is_open(*label, &live.audience), Some(live.patience))
            }
            _ => Readiness::Ready,
        }
    }

    /// Before it is waited for whether `beat` can be played: what its happening says of the time before.
    pub(super) fn prepare(&self, beat: &Beat) {
        if let (Beat::Open { label, node, .. }, Some(run)) = (beat, self.live().runs.front_mut()) {
            run.open(*label);
            if node.is_some() {
                run.node.clone_from(node);
            }
        }
    }

    /// Plays `beat` of the playing run, if it happens.
    pub(super) fn play(&self, beat: &Beat) {
        let live = &mut *self.live();
        let Some(run) = live.runs.front_mut() else {
            return;
        };
        // Asked again, for a caller may have come between.
        if !run.happens(beat) {
            run.pass(beat);
            return;
        }
        match beat {
            Beat::Heard(heard) => live.hear(heard),
            Beat::Start(k) => {
                run.posted[*k].state = State::Running;
                run.node = None;
                run.visited.clear();
            }
            Beat::Ending(k) => run.posted[*k].announced = true,
            Beat::End(k) => {
                run.posted[*k].state = State::Over;
                run.node = None;
                let entry = run.history(*k);
                live.archive.enter(&run.posted[*k].id, entry);
            }
            Beat::Gone(k) => run.posted[*k].break_off(),
            Beat::HistoryDeleted(k) => live.archive.forget(&run.posted[*k].id),
            Beat::Close { label, abrupt } => {
                if let Some(socket) = run.close(*label, &live.audience) {
                    live.audience.close(socket, *abrupt);
                }
            }
            Beat::Kill => live.kill(),
            Beat::Restart => live.down = false,
            Beat::Post(_) | Beat::Open { .. } | Beat::Gap(_) | Beat::Learned(_) => {}
        }
    }
}

impl Live {
    /// What is being played, or would be next.
    pub(super) fn present(&self) -> Option<&Timeline> {
        let playing = self.runs.front().map(|run| &*run.timeline);
        playing.or_else(|| {
            self.playlist
                .get(self.turn % self.playlist.len().max(1))
                .map(|timeline| &**timeline)
        })
    }

    /// How many prompts are in the queue, with the running one.
    pub(super) fn remaining(&self) -> usize {
        let posted = self.runs.iter().flat_map(|run| &run.posted);
        posted.filter(|prompt| prompt.state != State::Over).count()
    }

    /// Tells everybody how long the queue is.
    pub(super) fn tell_remaining(&self) {
        self.audience.broadcast(&dumps(&status(self.remaining())));
    }

    fn hear(&mut self, heard: &Heard) {
        let Some(run) = self.runs.front_mut() else {
            return;
        };
        if let Some(node) = &heard.executing {
            run.node = Some(node.clone());
            if !run.visited.contains(node) {
                run.visited.push(node.clone());
            }
        }
        let wording = run.wording(heard.prompt);
        for socket in run.listeners(heard, &self.audience) {
            let outgoing = match &heard.payload {
                Payload::Text(text) => Outgoing::Text(wording.text(text)),
                Payload::Binary(bytes) => Outgoing::Binary(wording.binary(bytes)),
            };
            self.audience.send(socket, outgoing);
        }
    }

    fn kill(&mut self) {
        for prompt in self.runs.iter_mut().flat_map(|run| &mut run.posted) {
            prompt.break_off();
        }
        self.archive.clear();
        self.audience.clear();
        self.number = 0;
        self.down = true;
        std::mem::take(&mut self.life).cancel();
    }
}

/// A `status` event.
fn status(remaining: usize) -> Value {
    json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": remaining}}}})
}
