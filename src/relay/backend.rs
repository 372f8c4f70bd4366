//! A configured ComfyUI server, and what is known of it at the moment.

mod apply;
pub(super) mod backend_report;
pub(super) mod condition;
pub(super) mod decide;
pub(super) mod device_faults;
mod discovery;
mod early_events;
mod follow;
pub(super) mod follower;
mod hand_over;
mod images;
mod last_comparison;
pub(super) mod lease;
mod node_classes;
pub(super) mod operation;
mod outage;
pub(super) mod prompt_lookup;
mod queries;
mod queue_graphs;
mod queue_view;
mod queued_plans;
mod reconcile;
pub(super) mod seen;
pub(super) mod seen_history;
pub(super) mod select;
mod socket_health;
mod tapped;
mod worker;
mod worker_watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::comfy::{ComfyClient, NodeClasses};
use crate::config::BackendLabels;
use crate::job::{ImageSizes, Plan, PromptGraph};
use crate::relay::RelayError;
use backend_report::BackendReport;
use device_faults::DeviceFaults;
use early_events::EarlyEvents;
use images::BackendImages;
use operation::Operation;
use outage::Outage;
use prompt_lookup::PromptLookup;
use queue_view::QueueView;
use seen_history::SeenHistory;
use socket_health::SocketHealth;
use worker::Worker;

/// How long a backend that has not answered a request in time is passed over for others, unless it answers another one. One that
/// another relay follows is passed over when that has lost it for longer.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// A configured ComfyUI server: how to reach it, what wakes its tasks, and what is known of it.
#[derive(Debug)]
pub(super) struct Backend {
    /// Its place among the backends, from 0: first those of the configuration.
    pub(super) index: usize,
    pub(super) comfy: ComfyClient,
    /// What operators have said of it.
    pub(super) labels: BackendLabels,
    /// Makes the reconciling task compare open jobs with the queue and the history at once.
    pub(super) reconcile_now: Notify,
    /// The same, as soon as it has paused long enough: the queue has changed.
    pub(super) reconcile_soon: Notify,
    /// Makes the reading task replace the socket.
    pub(super) redial: Notify,
    /// Makes the reading task dial at once, if it pauses before the next attempt.
    pub(super) dial_now: Arc<Notify>,
    /// When the newest attempt to connect began that failed.
    pub(super) failed_dial: watch::Sender<Option<Instant>>,
    /// Whether the socket is open.
    pub(super) connected: watch::Sender<bool>,
    pub(super) lease: watch::Sender<Lease>,
    /// Whether the reading task has closed the socket, because another relay is to follow the backend.
    pub(super) is_put_down: watch::Sender<bool>,
    pub(super) lookup: PromptLookup,
    pub(super) images: BackendImages,
    /// Whether its node classes are being read, and since when.
    pub(super) class_reading: watch::Sender<ClassReading>,
    /// An operator has added it while a relay ran: it is not in the settings.
    pub(super) is_added: bool,
    /// It is followed no longer.
    is_removed: AtomicBool,
    plan_lock: Mutex<()>,
    state: Mutex<BackendState>,
}

/// Whether this relay is the one that follows a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// The database has not answered yet. A relay without a database follows its backends.
    Unknown,
    /// It is.
    Held,
    /// Another relay on the same database is.
    HeldByPeer,
    /// It was, and could not renew that in time, because the database does not answer: another one may be by now.
    Lapsed,
}

impl Lease {
    /// Whether the backend is not to be followed.
    pub(super) fn stands_by(self) -> bool {
        matches!(self, Self::HeldByPeer | Self::Lapsed)
    }
}

/// What is known of a backend at the moment.
#[derive(Debug)]
pub(super) struct BackendState {
    pub(super) api: ApiState,
    pub(super) socket: SocketHealth,
    pub(super) outage: Outage,
    pub(super) worker: Worker,
    pub(super) device: DeviceFaults,
    pub(super) operation: Operation,
    pub(super) queue: QueueView,
    pub(super) early_events: EarlyEvents,
    /// How it is, as the relay says that follows it, if that is another one.
    pub(super) peer_report: Option<BackendReport>,
    /// Until when the database keeps the lease for this relay; `None` if it does not.
    pub(super) lease_held_until: Option<Instant>,
    /// Since when another relay wishes for the lease that this one has.
    pub(super) wanted_since: Option<Instant>,
    /// When this relay last said that it wishes for the lease that another one has; `None` if it does not.
    pub(super) wished_at: Option<Instant>,
}

/// What a backend's HTTP API has answered, and what it is still to be asked.
#[derive(Debug, Default)]
pub(super) struct ApiState {
    /// Whether it keeps the ids that the relay chooses for prompts; `None` before the first submission.
    pub(super) keeps_prompt_ids: Option<bool>,
    /// When a request was last not answered in time; `None` if one was answered since.
    pub(super) unanswered_at: Option<Instant>,
    /// When it last answered a submission with an error that says nothing of the graph, as 413 of a proxy before it; `None` if it
    /// has answered another request since.
    pub(super) failed_at: Option<Instant>,
    /// Whether the backend answers. A lost socket that is dialled again at once does not count as no.
    pub(super) reachable: bool,
    pub(super) version: Option<String>,
    /// What it says of its features on the newest socket, as it says it.
    pub(super) features: Option<Utf8Bytes>,
    /// The version is to be fetched: the backend is new, or has come back.
    pub(super) version_due: bool,
    /// Its node classes; `None` as long as they are not known.
    pub(super) node_classes: Option<KnownClasses>,
    /// The timings in its history are to be learned: the store has none of its node runs.
    pub(super) history_due: bool,
    /// Prompts whose entries were in the history.
    pub(super) seen_history: SeenHistory,
    /// An unreadable answer was logged; the next ones are not.
    pub(super) failure_logged: bool,
}

impl ApiState {
    /// Whether others are to be preferred for jobs: it takes requests, and has not answered one lately, or has failed to take a
    /// submission.
    pub(super) fn hangs(&self) -> bool {
        is_recent(self.unanswered_at) || is_recent(self.failed_at)
    }

    /// It has not taken a submission, which it has answered, unless that `is_unanswered`.
    pub(super) fn set_failed(&mut self, is_unanswered: bool) {
        let failed = if is_unanswered {
            &mut self.unanswered_at
        } else {
            &mut self.failed_at
        };
        *failed = Some(Instant::now());
    }

    /// It has answered a request.
    pub(super) fn set_answered(&mut self) {
        (self.unanswered_at, self.failed_at) = (None, None);
    }
}

fn is_recent(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at.elapsed() < PASSED_OVER)
}

/// The node classes of a server.
#[derive(Debug, Clone)]
pub(super) struct KnownClasses {
    /// The version of the server.
    pub(super) version: Option<String>,
    /// When they were asked for.
    pub(super) asked_at: Instant,
    pub(super) classes: Arc<NodeClasses>,
}

/// The newest attempt to read the node classes of a server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClassReading {
    pub(super) began_at: Option<Instant>,
    pub(super) is_running: bool,
}

impl Backend {
    pub(super) fn new(index: usize, comfy: ComfyClient, labels: BackendLabels) -> Self {
        Self {
            index,
            comfy,
            labels,
            reconcile_now: Notify::new(),
            reconcile_soon: Notify::new(),
            redial: Notify::new(),
            dial_now: Arc::new(Notify::new()),
            failed_dial: watch::Sender::new(None),
            connected: watch::Sender::new(false),
            lease: watch::Sender::new(Lease::Unknown),
            is_put_down: watch::Sender::default(),
            lookup: PromptLookup::new(),
            images: BackendImages::new(),
            class_reading: watch::Sender::default(),
            is_added: false,
            is_removed: AtomicBool::new(false),
            plan_lock: Mutex::default(),
            state: Mutex::new(BackendState {
                api: ApiState {
                    version_due: true,
                    ..ApiState::default()
                },
                socket: SocketHealth::new(),
                outage: Outage::starting(Timestamp::now()),
                worker: Worker::new(),
                device: DeviceFaults::default(),
                operation: Operation::default(),
                queue: QueueView::default(),
                early_events: EarlyEvents::default(),
                peer_report: None,
                lease_held_until: None,
                wanted_since: None,
                wished_at: None,
            }),
        }
    }

    /// The same, that an operator has added.
    pub(super) fn added(self) -> Self {
        Self {
            is_added: true,
            ..self
        }
    }

    /// Whether it was removed: nothing is followed there any more.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// It is followed no longer.
    pub(super) fn set_removed(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    /// What it is called in messages, in the database and in the configuration.
    pub(super) fn name(&self) -> &str {
        self.comfy.name()
    }

    /// Whether this relay does not follow it, because another one does or may.
    pub(super) fn stands_by(&self) -> bool {
        self.lease.borrow().stands_by()
    }

    /// Whether it answers, as far as this relay knows, which does not know it of one that another relay follows.
    pub(super) fn answers(&self) -> bool {
        let state = self.state();
        state.api.reachable && !is_recent(state.api.unanswered_at)
    }

    /// Whether the relay that follows it has no socket to it.
    pub(super) fn is_away_elsewhere(&self) -> bool {
        let state = self.state();
        let report = state.peer_report.as_ref();
        report.is_some_and(|report| report.unreachable_since.is_some())
    }

    /// Whether the relay that follows it has had no socket to it for a while.
    pub(super) fn is_lost_elsewhere(&self, now: Timestamp) -> bool {
        let state = self.state();
        let report = state.peer_report.as_ref();
        let lost_since = report.and_then(|report| report.unreachable_since);
        let lost_for = lost_since.map(|since| Duration::try_from(now.duration_since(since)));
        lost_for.is_some_and(|it| it.is_ok_and(|it| it > PASSED_OVER))
    }

    /// Why nothing can be asked of it; `None` if this relay follows it.
    pub(super) fn refusal(&self) -> Option<RelayError> {
        match *self.lease.borrow() {
            Lease::Unknown | Lease::Held => None,
            Lease::HeldByPeer => Some(RelayError::HeldByPeer(self.name().to_owned())),
            Lease::Lapsed => Some(RelayError::LeaseLapsed(self.name().to_owned())),
        }
    }

    /// Held while a plan is read and applied: one that was read earlier must not replace one that was read
    /// later. Taken before the lock of the jobs, and never over an `await`.
    pub(super) fn lock_plans(&self) -> MutexGuard<'_, ()> {
        self.plan_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the plan of a graph at the sizes of images that are known, and as they were observed, with the partner nodes
    /// that are known.
    pub(super) fn plan(&self, graph: &PromptGraph) -> Plan {
        let observed = self.images.observed();
        let plan = graph.plan(&ImageSizes::default().with_observed(observed.clone()));
        let sizes = self.images.sizes(plan.files());
        let plan = if sizes.has_no_files() {
            plan
        } else {
            graph.plan(&sizes.with_observed(observed))
        };
        match self.node_classes() {
            Some(classes) => plan.with_partners(classes.partners()),
            None => plan,
        }
    }

    /// Its node classes, if they are known.
    pub(super) fn node_classes(&self) -> Option<Arc<NodeClasses>> {
        let state = self.state();
        let known = state.api.node_classes.as_ref();
        known.map(|known| known.classes.clone())
    }

    /// The same, with when they were asked for.
    pub(super) fn known_classes(&self) -> Option<KnownClasses> {
        self.state().api.node_classes.clone()
    }

    /// Locks its state. Never held over an `await`.
    pub(super) fn state(&self) -> MutexGuard<'_, BackendState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
