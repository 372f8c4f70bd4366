//! [`SharedState`]: the state of the simulated server, which the player and the connections share.

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
use super::uploads::Uploads;
use crate::job::ImageFile;
use crate::recording::RecordedInput;
use crate::replay::object_info::ObjectInfo;
use crate::replay::playback::{Playback, PostedPrompt, PromptState};
use crate::replay::python_json::dumps;
use crate::replay::timeline::{Payload, ReceivedFrame, Step, Timeline};

/// How long the end of a prompt is delayed for clients to read its history too early, as the recorded client did: long
/// enough for clients that read when the end is announced, and too short for a socket to seem stale.
const EARLY_READ_TIMEOUT: Duration = Duration::from_millis(250);

/// The state, and the notification of its changes.
#[derive(Debug)]
pub(in crate::replay) struct SharedState {
    state: Mutex<State>,
    /// The server's node classes.
    pub(super) classes: ObjectInfo,
    /// The files that clients have uploaded.
    pub(super) uploads: Uploads,
    /// Wakes the player after a client did something.
    pub(in crate::replay) changed: Notify,
}

/// The queue, history and sockets of the simulated server.
#[derive(Debug)]
pub(super) struct State {
    pub(super) playlist: Vec<Arc<Timeline>>,
    /// Which timelines of the playlist have been begun.
    pub(super) begun: Vec<bool>,
    /// The index of the timeline to begin next if the prompt's graph does not decide.
    pub(super) next_timeline: usize,
    /// Whether timelines can be played again.
    pub(super) repeat: bool,
    client_timeout: Duration,
    /// The playbacks that have not ended; the first is being played.
    pub(super) playbacks: VecDeque<Playback>,
    pub(super) history: PromptHistory,
    pub(super) sockets: Sockets,
    /// The number of the next prompt.
    pub(super) next_number: u64,
    /// Between a kill and the restart.
    is_down: bool,
    /// Cancelled by a kill, which closes every connection.
    incarnation: CancellationToken,
}

/// Whether a step can be played.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::replay) enum Readiness {
    /// It can be played now.
    Ready,
    /// It is skipped: what it belongs to does not happen this time.
    Skip,
    /// It can be played once a client has done something, or after this time. Without a time it waits for ever.
    Wait(Option<Duration>),
}

impl SharedState {
    /// A server that has the node classes `classes`, and will play `playlist`. It waits for its clients for `client_timeout` at each step that needs one.
    pub(in crate::replay) fn new(
        playlist: Vec<Arc<Timeline>>,
        classes: ObjectInfo,
        repeat: bool,
        client_timeout: Duration,
    ) -> SharedState {
        SharedState {
            state: Mutex::new(State {
                begun: vec![false; playlist.len()],
                playlist,
                next_timeline: 0,
                repeat,
                client_timeout,
                playbacks: VecDeque::new(),
                history: PromptHistory::default(),
                sockets: Sockets::default(),
                next_number: 0,
                is_down: false,
                incarnation: CancellationToken::new(),
            }),
            classes,
            uploads: Uploads::default(),
            changed: Notify::new(),
        }
    }

    /// No code that can panic leaves the state half changed: a poisoned lock can be used.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token that is cancelled when the server dies; none while it is down.
    pub(super) fn incarnation(&self) -> Option<CancellationToken> {
        let state = self.lock();
        (!state.is_down).then(|| state.incarnation.clone())
    }

    /// Registers a client's socket and sends the greeting.
    pub(super) fn add_socket(
        &self,
        client_id: Option<String>,
    ) -> (u64, UnboundedReceiver<Outgoing>) {
        let client_id = client_id.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
        let mut state = self.lock();
        let (socket, incoming) = state.sockets.add(client_id.clone());
        let mut greeting = status(state.remaining());
        greeting["data"]["sid"] = json!(client_id);
        state.sockets.send(socket, Outgoing::Text(dumps(&greeting)));
        let playing = state.playbacks.front();
        if let Some(node) = playing.and_then(|playback| playback.node_of(&client_id)) {
            let executing = json!({"type": "executing", "data": {"node": node}});
            state
                .sockets
                .send(socket, Outgoing::Text(dumps(&executing)));
        }
        drop(state);
        self.changed.notify_one();
        (socket, incoming)
    }

    /// Removes a socket that closed.
    pub(super) fn remove_socket(&self, socket: u64) {
        self.lock().sockets.remove(socket);
    }

    /// The server's feature flags, for a client that has sent its own.
    pub(super) fn feature_flags(&self) -> Option<String> {
        self.lock().current_or_next()?.feature_flags.clone()
    }

    /// The timeline to play now.
    pub(in crate::replay) fn current_timeline(&self) -> Option<Arc<Timeline>> {
        let state = self.lock();
        state
            .playbacks
            .front()
            .map(|playback| playback.timeline.clone())
    }

    /// Removes the current playback, which has been played to its end.
    pub(in crate::replay) fn finish_playback(&self) {
        self.lock().playbacks.pop_front();
    }

    /// Whether `step` of the current playback can be played.
    pub(in crate::replay) fn readiness(&self, step: &Step) -> Readiness {
        let state = self.lock();
        let Some(playback) = state.playbacks.front() else {
            return Readiness::Skip;
        };
        let awaited = |is_done: bool, timeout: Option<Duration>| {
            if is_done {
                Readiness::Ready
            } else {
                Readiness::Wait(timeout)
            }
        };
        if !playback.happens(step) {
            return Readiness::Skip;
        }
        let timeout = Some(state.client_timeout);
        match step {
            Step::Post(k) => awaited(playback.prompts.len() > *k, None),
            Step::EarlyReads(k) => awaited(
                playback.prompts[*k].early_reads == 0,
                Some(EARLY_READ_TIMEOUT),
            ),
            Step::HistoryRead(k) => awaited(playback.prompts[*k].history_read, timeout),
            Step::Open {
                socket,
                awaited: true,
                ..
            } if !playback.is_idle() => awaited(playback.is_open(*socket, &state.sockets), timeout),
            _ => Readiness::Ready,
        }
    }

    /// Before [`SharedState::readiness`] is asked in a loop: an `Open` counts as opened before a client reconnects, so
    /// that the client's greeting names the right node.
    pub(in crate::replay) fn prepare(&self, step: &Step) {
        if let (Step::Open { socket, node, .. }, Some(playback)) =
            (step, self.lock().playbacks.front_mut())
        {
            playback.open(*socket);
            if node.is_some() {
                playback.running_node.clone_from(node);
            }
        }
    }

    /// Plays or skips `step` of the current playback.
    pub(in crate::replay) fn play(&self, step: &Step) {
        let state = &mut *self.lock();
        let Some(playback) = state.playbacks.front_mut() else {
            return;
        };
        // Checked again: a client may have changed the state since.
        if !playback.happens(step) {
            playback.skip(step);
            return;
        }
        match step {
            Step::Frame(frame) => state.deliver(frame),
            Step::Start(k) => {
                playback.prompts[*k].state = PromptState::Running;
                playback.running_node = None;
                playback.visited_nodes.clear();
            }
            Step::EndAnnounced(k) => playback.prompts[*k].end_announced = true,
            Step::End(k) => {
                playback.prompts[*k].state = PromptState::Finished;
                playback.running_node = None;
                let entry = playback.history_entry(*k);
                state.history.insert(&playback.prompts[*k].id, entry);
            }
            Step::Removed(k) => playback.prompts[*k].diverge(),
            Step::HistoryDeleted(k) => state.history.remove(&playback.prompts[*k].id),
            Step::Close { socket, abrupt } => {
                if let Some(socket) = playback.close(*socket, &state.sockets) {
                    state.sockets.close(socket, *abrupt);
                }
            }
            Step::Kill => state.kill(),
            Step::Restart => state.is_down = false,
            Step::Post(_) | Step::Open { .. } | Step::EarlyReads(_) | Step::HistoryRead(_) => {}
        }
    }
}

impl State {
    /// The timeline that is being played, or would be next.
    pub(super) fn current_or_next(&self) -> Option<&Timeline> {
        let next = self.next_timeline % self.playlist.len().max(1);
        let timeline = match self.playbacks.front() {
            Some(playback) => &playback.timeline,
            None => self.playlist.get(next)?,
        };
        Some(timeline)
    }

    /// A picture that graphs load. Recordings can have different ones of the same name: that of the prompts in the queue
    /// comes first, or of the prompt that is expected next.
    pub(super) fn input(&self, file: &ImageFile) -> Option<RecordedInput> {
        let posted = self.playbacks.back();
        let posted = posted.filter(|one| !one.is_idle() || one.next_prompt().is_some());
        let posted = posted.map(|playback| &playback.timeline);
        let count = self.playlist.len();
        let in_turn = (0..count).map(|k| &self.playlist[(self.next_timeline + k) % count]);
        let mut timelines = posted.into_iter().chain(in_turn);
        timelines.find_map(|timeline| timeline.inputs.get(file).copied())
    }

    /// All prompts that have been posted.
    pub(super) fn prompts(&self) -> impl Iterator<Item = &PostedPrompt> {
        self.playbacks.iter().flat_map(|playback| &playback.prompts)
    }

    /// All prompts that have been posted, to change them.
    pub(super) fn prompts_mut(&mut self) -> impl Iterator<Item = &mut PostedPrompt> {
        let playbacks = self.playbacks.iter_mut();
        playbacks.flat_map(|playback| &mut playback.prompts)
    }

    /// How many prompts are in the queue, including the running one.
    pub(super) fn remaining(&self) -> usize {
        self.prompts()
            .filter(|prompt| prompt.state != PromptState::Finished)
            .count()
    }

    /// Removes the pending prompts with these ids from the queue. Returns whether there are any.
    pub(super) fn remove_pending(&mut self, is_named: impl Fn(&str) -> bool) -> bool {
        let named = self
            .prompts_mut()
            .filter(|prompt| prompt.state == PromptState::Pending && is_named(&prompt.id));
        let are_any = named.map(PostedPrompt::diverge).count() > 0;
        if are_any {
            self.broadcast_status();
        }
        are_any
    }

    /// Broadcasts the length of the queue.
    pub(super) fn broadcast_status(&self) {
        self.sockets.broadcast(&dumps(&status(self.remaining())));
    }

    /// Sends a recorded frame to the clients whose counterparts received it.
    fn deliver(&mut self, frame: &ReceivedFrame) {
        let Some(playback) = self.playbacks.front_mut() else {
            return;
        };
        if let Some(node) = &frame.executing {
            playback.running_node = Some(node.clone());
            if !playback.visited_nodes.contains(node) {
                playback.visited_nodes.push(node.clone());
            }
        }
        let substitution = playback.substitution(frame.prompt);
        for socket in playback.recipients(frame, &self.sockets) {
            let outgoing = match &frame.payload {
                Payload::Text(text) => Outgoing::Text(substitution.text(text)),
                Payload::Binary(bytes) => Outgoing::Binary(substitution.binary(bytes)),
            };
            self.sockets.send(socket, outgoing);
        }
    }

    fn kill(&mut self) {
        self.prompts_mut().for_each(PostedPrompt::diverge);
        self.history.clear();
        self.sockets.clear();
        self.next_number = 0;
        self.is_down = true;
        std::mem::take(&mut self.incarnation).cancel();
    }
}

/// A `status` event.
fn status(remaining: usize) -> Value {
    json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": remaining}}}})
}
