//! What each backend has, and whether it takes more.

use std::sync::Arc;

use jiff::Timestamp;

use crate::estimate::Estimate;
use crate::job;
use crate::placement::BackendLoad;
use crate::relay::backend::operation::Operation;
use crate::relay::backend::{Backend, Lease};
use crate::relay::estimates::Estimator;
use crate::relay::queue::peer_load::PeerLoad;
use crate::store::ReportedLoad;

/// What is remembered of a backend between two passes.
#[derive(Debug, Clone, Default)]
pub(super) struct BackendRecord {
    /// The number of the last job that was handed in to it; 0 if none was.
    pub(super) turn: u64,
    /// The model that this job works with, and the disconnect counter then: a server that was restarted has none loaded.
    pub(super) model: Option<(u64, u64)>,
    /// Prompts that were handed in, until the queue of the server shows them, or they have begun or ended.
    pub(super) unseen: Vec<UnseenPrompt>,
    /// Whether jobs are being handed in to it, one after another.
    pub(super) is_busy: bool,
    /// It has just not taken a job, and is left alone for a moment.
    pub(super) is_resting: bool,
    /// Prompts that it may still have although their jobs run elsewhere.
    pub(super) abandoned: Vec<String>,
    /// What it has, if another relay follows it and keeps it busy.
    pub(super) peer: Option<PeerLoad>,
    /// What was last sent to the other relays about it.
    pub(super) reported: Option<ReportedLoad>,
}

/// A prompt that was handed in, and that the queue of the server does not show yet.
#[derive(Debug, Clone)]
pub(super) struct UnseenPrompt {
    pub(super) prompt_id: String,
    /// How long it runs.
    pub(super) estimate: Estimate,
}

/// A backend as the plan sees it.
#[derive(Debug, Clone)]
pub(super) struct BackendView {
    pub(super) load: BackendLoad,
    /// When it is free.
    pub(super) free: Option<Estimate>,
    /// How many prompts it has.
    pub(super) prompts: usize,
    /// Why it takes nothing, as a part of a sentence.
    pub(super) refusal: Option<Arc<str>>,
    /// It takes nothing only as long as another one does.
    pub(super) is_last_choice: bool,
}

impl BackendRecord {
    /// The model that is loaded, as far as is known.
    pub(super) fn loaded_model(&self, disconnects: u64) -> Option<u64> {
        let (model, then) = self.model?;
        (then == disconnects).then_some(model)
    }

    /// How a backend is at this moment, if it is to have `depth` prompts, and has `open` that are followed.
    pub(super) fn view(
        &mut self,
        backend: &Backend,
        estimator: &Estimator,
        (depth, open): (usize, usize),
        now: Timestamp,
    ) -> BackendView {
        let resting = || {
            let name = job::excerpt(backend.name());
            self.is_resting
                .then(|| format!("{name} does not take jobs").into())
        };
        if let Some(view) = self.view_of_peer(backend, now) {
            return view;
        }
        let refusal = refusal(backend).or_else(resting);
        let (prompts, disconnects) = {
            let state = backend.state();
            let (is_unknown, load) = state.queue.load();
            let load = usize::try_from(load).unwrap_or(usize::MAX);
            // What it has shown can be older than what it was handed.
            let load = if is_unknown {
                load + open
            } else {
                load.max(open)
            };
            (load, state.socket.disconnects)
        };
        let mut free = estimator.queue_end(backend, now);
        self.unseen
            .retain(|prompt| !estimator.has_seen(backend, &prompt.prompt_id));
        for prompt in &self.unseen {
            free = free.map(|free| Estimate::queued([free], prompt.estimate));
        }
        let free = free.filter(|free| free.remaining.is_some());
        let free = match free {
            // A server without prompts of ours is not asked for its queue.
            _ if prompts == 0 => Some(Estimate::none_left()),
            Some(free) => Some(free),
            None => None,
        };
        let room = if self.is_busy {
            0
        } else {
            depth.saturating_sub(prompts)
        };
        BackendView {
            load: BackendLoad {
                free_in: free.and_then(|free| free.remaining).unwrap_or(f64::NAN),
                room,
                takes: refusal.is_none(),
                model: self.loaded_model(disconnects),
                turn: self.turn,
            },
            free,
            prompts,
            is_last_choice: refusal.is_some() && is_slow(backend),
            refusal,
        }
    }
}

impl BackendRecord {
    /// How a backend is that another relay keeps busy; `None` of any other. One that has nothing counts as taking nothing: its
    /// relay does not give it what waits.
    fn view_of_peer(&self, backend: &Backend, now: Timestamp) -> Option<BackendView> {
        let is_of_peer = *backend.lease.borrow() == Lease::HeldByPeer;
        let runs = backend.state().operation == Operation::Run;
        let peer = self.peer.filter(|_| is_of_peer && runs)?;
        let free = peer.free(now);
        Some(BackendView {
            load: BackendLoad {
                free_in: free.and_then(|free| free.remaining).unwrap_or(f64::NAN),
                room: 0,
                takes: true,
                model: None,
                turn: self.turn,
            },
            free,
            prompts: peer.prompts,
            refusal: None,
            is_last_choice: false,
        })
    }
}

impl BackendView {
    /// Counts a job that is being handed in.
    pub(super) fn add_claimed(&mut self, own: Estimate) {
        let free = self.free.map(|free| Estimate::queued([free], own));
        self.free = free.filter(|free| free.remaining.is_some());
        let free = self.free.and_then(|free| free.remaining);
        self.load.free_in = free.unwrap_or(f64::NAN);
    }

    /// It takes nothing, for this reason.
    pub(super) fn refuse(&mut self, reason: &Arc<str>) {
        self.load.takes = false;
        self.refusal = Some(reason.clone());
    }
}

/// Lets those take jobs that are the last choice, if no other one does.
pub(super) fn allow_last_choice(views: &mut [BackendView]) {
    if views.iter().any(|view| view.load.takes) {
        return;
    }
    for view in views.iter_mut().filter(|view| view.is_last_choice) {
        view.load.takes = true;
        view.refusal = None;
    }
}

/// Whether the only thing against a backend is that it has not answered a request lately.
fn is_slow(backend: &Backend) -> bool {
    let is_connected = *backend.connected.borrow();
    let state = backend.state();
    is_connected
        && !state.device.is_sick()
        && state.worker.silent_since().is_none()
        && state.operation == Operation::Run
}

/// Why a backend takes nothing, as a part of a sentence; `None` if it does.
pub(super) fn refusal(backend: &Backend) -> Option<Arc<str>> {
    let name = job::excerpt(backend.name());
    if backend.is_removed() {
        return Some(format!("{name} was removed").into());
    }
    match *backend.lease.borrow() {
        Lease::Unknown | Lease::Held => {}
        Lease::HeldByPeer => return Some(format!("another relay follows {name}").into()),
        Lease::Lapsed => return Some("the database does not answer".into()),
    }
    let is_connected = *backend.connected.borrow();
    let state = backend.state();
    let what = if !is_connected {
        "does not answer"
    } else if state.device.is_sick() {
        "is sick"
    } else if state.worker.silent_since().is_some() {
        "shows no sign of life"
    } else if state.api.hangs() {
        "hangs"
    } else {
        state.operation.refusal()?
    };
    Some(format!("{name} {what}").into())
}
