//! [`EventTap`]: passes what servers send about the prompts of ComfyUI's own clients on to the sockets of these clients.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::caller::client_of;
use super::made_frames;
use super::prompt_name::renamed;
use super::tap_queue::{TapFrame, TapQueue};
use crate::comfy::EventKind;
use crate::job::{JobId, Tags};

/// How many frames of prompts are kept that no job follows yet: they can overtake the answer to the `POST /prompt` that they
/// belong to. And how many bytes of them.
const MAX_EARLY_FRAMES: usize = 512;
const MAX_EARLY_BYTES: usize = 8 << 20;

/// From so many routes on, those of jobs that are forgotten are removed.
const PRUNED_FROM: usize = 256;

/// Passes the frames of prompts on to the sockets of the clients that submitted them, in their order, whichever server runs
/// them. Costs one load of a number for each frame while no such socket is open.
#[derive(Debug, Default)]
pub(in crate::relay) struct EventTap {
    /// How many sockets are open.
    open: AtomicUsize,
    state: Mutex<TapState>,
    /// The length of the queue that clients were sent last. Locked from before it is counted until it is sent, or else an older
    /// count could be sent after a newer one, and stay. Locked before everything else.
    shown_length: Mutex<Option<u64>>,
}

#[derive(Debug, Default)]
struct TapState {
    /// The open sockets of each client id.
    sockets: HashMap<String, Vec<Arc<TapQueue>>>,
    /// Where the frames of prompts go, by the index of their server and their id there.
    routes: HashMap<usize, HashMap<String, TapRoute>>,
    early: VecDeque<EarlyFrame>,
    early_bytes: usize,
}

/// Where the frames of a prompt go.
#[derive(Debug)]
struct TapRoute {
    job: JobId,
    /// Of the job, as long as it is remembered.
    tags: Weak<Tags>,
    end: SentEnd,
}

/// Whether the client of a prompt was sent its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SentEnd {
    No,
    /// How it ended, and not yet that its history is written.
    Outcome,
    /// All of it, as its server sent it.
    Done,
    /// Not by this server: what it still sends is too late.
    Elsewhere,
}

/// A frame of a prompt that no job follows yet.
#[derive(Debug)]
struct EarlyFrame {
    backend: usize,
    prompt_id: String,
    frame: TapFrame,
    kind: EventKind,
}

impl EventTap {
    /// Whether a socket is open: without, there is nothing to pass on.
    pub(in crate::relay) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// Whether a socket is open of the client to which the frames of a job go.
    pub(in crate::relay) fn has_client_of(&self, tags: &Tags) -> bool {
        let client = client_of(tags).filter(|_| self.is_open());
        client.is_some_and(|client| self.state().sockets.contains_key(client))
    }

    /// Opens a socket of a client: `add` has it added with the length of the queue as its first message.
    pub(super) fn open_socket(
        &self,
        count: impl FnOnce() -> u64,
        add: impl FnOnce(u64) -> Arc<TapQueue>,
    ) -> Arc<TapQueue> {
        let mut shown = self.shown_length();
        // Before it is counted: from now on each change of the length is sent.
        self.open.fetch_add(1, Ordering::AcqRel);
        let length = count();
        let queue = add(length);
        // Where the others were sent another one, the next is news for one of them.
        *shown = shown.filter(|shown| *shown == length);
        queue
    }

    /// Adds a socket of a client, which is sent `first` before anything else.
    pub(super) fn add_socket(
        &self,
        client_id: &str,
        first: impl Iterator<Item = TapFrame>,
    ) -> Arc<TapQueue> {
        let queue = Arc::<TapQueue>::default();
        let mut state = self.state();
        first.for_each(|frame| queue.push(frame));
        let sockets = state.sockets.entry(client_id.to_owned()).or_default();
        sockets.push(queue.clone());
        queue
    }

    pub(super) fn remove_socket(&self, client_id: &str, queue: &Arc<TapQueue>) {
        let mut state = self.state();
        if let Some(sockets) = state.sockets.get_mut(client_id) {
            sockets.retain(|other| !Arc::ptr_eq(other, queue));
            if sockets.is_empty() {
                state.sockets.remove(client_id);
            }
        }
        let before = self.open.fetch_sub(1, Ordering::AcqRel);
        if before == 1 {
            (state.early, state.early_bytes) = Default::default();
        }
    }

    /// Has the frames of a prompt that is handed in now, perhaps once more, passed on to the client of its job.
    pub(in crate::relay) fn open_route(
        &self,
        backend: usize,
        prompt_id: &str,
        job: &JobId,
        tags: &Arc<Tags>,
    ) {
        self.remove_route(backend, prompt_id);
        self.add_route(backend, prompt_id, job, tags);
    }

    /// Passes nothing more of a prompt on: its job runs elsewhere.
    pub(in crate::relay) fn close_route(&self, backend: usize, prompt_id: &str) {
        let mut state = self.state();
        let routes = state.routes.get_mut(&backend);
        if let Some(route) = routes.and_then(|routes| routes.get_mut(prompt_id)) {
            route.end = SentEnd::Elsewhere;
        }
    }

    fn remove_route(&self, backend: usize, prompt_id: &str) {
        if let Some(routes) = self.state().routes.get_mut(&backend) {
            routes.remove(prompt_id);
        }
    }

    /// Has the frames of a prompt passed on to the client of a job, those among them that came already.
    pub(in crate::relay) fn add_route(
        &self,
        backend: usize,
        prompt_id: &str,
        job: &JobId,
        tags: &Arc<Tags>,
    ) {
        if client_of(tags).is_none() {
            return;
        }
        let mut state = self.state();
        let state = &mut *state;
        let routes = state.routes.entry(backend).or_default();
        if routes.len() >= PRUNED_FROM && routes.len().is_power_of_two() {
            routes.retain(|_, route| route.tags.strong_count() > 0);
        }
        let route = routes
            .entry(prompt_id.to_owned())
            .or_insert_with(|| TapRoute {
                job: job.clone(),
                tags: Weak::new(),
                end: SentEnd::No,
            });
        if route.tags.strong_count() == 0 {
            // New, or the job was read from its row again. What its client was sent stays.
            (route.job, route.tags) = (job.clone(), Arc::downgrade(tags));
        }
        state.send_early(backend, prompt_id);
    }

    /// Whether it is known where the frames of a prompt go.
    pub(in crate::relay) fn has_route(&self, backend: usize, prompt_id: &str) -> bool {
        let state = self.state();
        let routes = state.routes.get(&backend);
        routes.is_some_and(|routes| routes.contains_key(prompt_id))
    }

    /// Passes a frame of a prompt on to its client. Fails if it is not known whose prompt it is, or its job is remembered no
    /// longer.
    pub(in crate::relay) fn send(
        &self,
        backend: usize,
        prompt_id: &str,
        frame: TapFrame,
        kind: EventKind,
    ) -> Result<(), TapFrame> {
        self.state().send(backend, prompt_id, frame, kind)
    }

    /// The same, and keeps it for a moment if nobody knows yet whose prompt that is.
    pub(in crate::relay) fn send_or_keep(
        &self,
        backend: usize,
        prompt_id: &str,
        frame: TapFrame,
        kind: EventKind,
    ) {
        let mut state = self.state();
        if let Err(frame) = state.send(backend, prompt_id, frame, kind) {
            state.keep_early(EarlyFrame {
                backend,
                prompt_id: prompt_id.to_owned(),
                frame,
                kind,
            });
        }
    }

    /// Sends a frame to all clients.
    pub(in crate::relay) fn broadcast(&self, frame: &TapFrame) {
        self.state().broadcast(frame);
    }

    /// Sends the length of the queue to all clients; one that they were sent already, only if its server has sent it again.
    pub(super) fn broadcast_length(&self, count: impl FnOnce() -> u64, is_repeated: bool) {
        let mut shown = self.shown_length();
        let length = count();
        if is_repeated || *shown != Some(length) {
            *shown = Some(length);
            self.broadcast(&made_frames::status(length, None));
        }
    }

    /// Sends the client of a job its end, unless the server that ran it has.
    pub(super) fn send_end(&self, place: Option<(usize, &str)>, tags: &Tags, made: Vec<TapFrame>) {
        let Some(client) = client_of(tags) else {
            return;
        };
        let mut state = self.state();
        let state = &mut *state;
        let route = place
            .and_then(|(backend, prompt_id)| state.routes.get_mut(&backend)?.get_mut(prompt_id));
        if let Some(route) = route {
            if route.end != SentEnd::No {
                return;
            }
            route.end = SentEnd::Elsewhere;
        }
        let sockets = state.sockets.get(client).into_iter().flatten();
        for socket in sockets {
            made.iter().for_each(|frame| socket.push(frame.clone()));
        }
    }

    /// The socket to a server is lost. Clients that were sent how their prompts ended are sent the last message, which is lost too.
    pub(in crate::relay) fn on_disconnect(&self, backend: usize) {
        let mut state = self.state();
        let TapState {
            routes, sockets, ..
        } = &mut *state;
        let routes = routes.get_mut(&backend).into_iter();
        let cut = routes
            .flat_map(HashMap::values_mut)
            .filter(|route| route.end == SentEnd::Outcome);
        for route in cut {
            route.end = SentEnd::Elsewhere;
            let done = made_frames::done(route.job.as_str());
            let tags = route.tags.upgrade();
            let client = tags.as_deref().and_then(client_of);
            let of_client = client.and_then(|client| sockets.get(client));
            for socket in of_client.into_iter().flatten() {
                socket.push(done.clone());
            }
        }
    }

    fn shown_length(&self) -> MutexGuard<'_, Option<u64>> {
        self.shown_length
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, TapState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TapState {
    /// Fails if it is not known whose prompt it is, or its job is remembered no longer.
    fn send(
        &mut self,
        backend: usize,
        prompt_id: &str,
        frame: TapFrame,
        kind: EventKind,
    ) -> Result<(), TapFrame> {
        let route = self.routes.get_mut(&backend);
        let Some(route) = route.and_then(|routes| routes.get_mut(prompt_id)) else {
            return Err(frame);
        };
        if route.end == SentEnd::Elsewhere {
            return Ok(());
        }
        let Some(tags) = route.tags.upgrade() else {
            return Err(frame);
        };
        match kind {
            EventKind::End => route.end = SentEnd::Outcome,
            EventKind::Done => route.end = SentEnd::Done,
            _ => {}
        }
        let client = client_of(&tags);
        let Some(sockets) = client.and_then(|client| self.sockets.get(client)) else {
            return Ok(());
        };
        let frame = renamed(frame, prompt_id, route.job.as_str());
        for socket in sockets {
            socket.push(frame.clone());
        }
        Ok(())
    }

    fn keep_early(&mut self, early: EarlyFrame) {
        self.early_bytes += early.frame.length();
        self.early.push_back(early);
        while self.early.len() > MAX_EARLY_FRAMES || self.early_bytes > MAX_EARLY_BYTES {
            let Some(oldest) = self.early.pop_front() else {
                return;
            };
            self.early_bytes -= oldest.frame.length();
        }
    }

    /// Sends what of a prompt came before it was known whose it is.
    fn send_early(&mut self, backend: usize, prompt_id: &str) {
        let is_of_prompt =
            |early: &EarlyFrame| early.backend == backend && early.prompt_id == prompt_id;
        let (of_prompt, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(is_of_prompt);
        self.early = others;
        for early in of_prompt {
            self.early_bytes -= early.frame.length();
            // Its route is there.
            let _ = self.send(backend, prompt_id, early.frame, early.kind);
        }
    }

    fn broadcast(&self, frame: &TapFrame) {
        for socket in self.sockets.values().flatten() {
            socket.push(frame.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::comfy_tags;
    use crate::relay::proxy::tap_queue::{Conflation, TapPayload};

    fn frame(text: &'static str) -> TapFrame {
        TapFrame::text(text.into(), Conflation::All)
    }

    async fn next(queue: &TapQueue) -> String {
        match queue.next().await.unwrap().payload {
            TapPayload::Text(text) => text.to_string(),
            other => panic!("not a text: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_job_that_is_read_from_its_row_again_keeps_its_client() {
        let tap = EventTap::default();
        let queue = tap.open_socket(|| 0, |_| tap.add_socket("me", std::iter::empty()));
        let job = JobId::parse("prompt").unwrap();
        let tags = || Arc::new(comfy_tags(Some("me")).unwrap());
        let send = |text, kind| tap.send(0, "prompt", frame(text), kind);
        let before = tags();
        tap.add_route(0, "prompt", &job, &before);
        assert!(send("first", EventKind::OfPrompt).is_ok());
        drop(before);
        let lost = send("end", EventKind::End).unwrap_err();
        let after = tags();
        tap.add_route(0, "prompt", &job, &after);
        assert!(tap.send(0, "prompt", lost, EventKind::End).is_ok());
        assert_eq!(
            (next(&queue).await, next(&queue).await),
            ("first".into(), "end".into())
        );
        // The client has its end, and is sent no other one.
        tap.send_end(Some((0, "prompt")), &after, vec![frame("made")]);
        assert!(send("last", EventKind::Done).is_ok());
        assert_eq!(next(&queue).await, "last");
    }
}
