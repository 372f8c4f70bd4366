//! The heart: the only place where comfy, fan-out and workflows meet.
//!
//! Read [`ingest`] for the way of one event. Each backend has two tasks: [`follow`] reads its
//! socket and waits for nothing else, [`reconcile`] compares open jobs with its queue and history.

mod backend;
mod clock;
mod error;
mod estimates;
mod ingest;
mod maintenance;
mod metrics;
mod registry;
mod requests;
mod restore;
mod throttle;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::comfy::ComfyClient;
use crate::config::{ComfyConfig, RelayConfig, StoreConfig};
use crate::estimate::CostModel;
use crate::hub::{Connection, Hub, Preview, Subscription};
use crate::job::JobId;
use crate::store::{LeaseOwner, Recorder, Store};
use crate::workflow::Workflows;
use backend::Backend;
use clock::Clock;
use estimates::learning::Learning;
use registry::Registry;

pub use error::RelayError;
pub use metrics::Metrics;
pub use requests::list::{JobPage, JobView, NodeRunView};
pub use requests::status::{BackendHealth, BackendStatus, JobCounts, RecentJob, SystemStatus};
pub use requests::submit::{Accepted, Submission};

/// How long a start waits for the database. Registry that have not ended, and who we are to each server,
/// are known from there.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Follows ComfyUI servers, folds what they tell into jobs, and hands out the jobs' states.
///
/// Cheap to clone; clones are the same relay. Stop it with [`Relay::start_shutdown`], then wait for
/// [`Relay::shutdown`].
#[derive(Debug, Clone)]
pub struct Relay(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    config: RelayConfig,
    comfy: ComfyConfig,
    workflows: Workflows,
    hub: Hub,
    backends: Vec<Arc<Backend>>,
    jobs: Mutex<Registry>,
    /// What was learned of costs. Locked after the jobs, never before.
    model: Mutex<CostModel>,
    learning: Learning,
    recorder: Recorder,
    /// Who we are to other relays on the same database.
    holder: LeaseOwner,
    metrics: Metrics,
    clock: Clock,
    /// How long finished jobs are kept in the store.
    retention: Option<Duration>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Stopped last, so that nothing that the other tasks did is lost.
    recording: CancellationToken,
    writing: TaskTracker,
}

impl Relay {
    /// Opens the store, goes on with the jobs that have not ended, and follows the configured
    /// servers. Neither the database nor any server need be there yet.
    pub async fn start(
        config: RelayConfig,
        comfy: ComfyConfig,
        store: &StoreConfig,
    ) -> reqwest::Result<Self> {
        let recorder = Recorder::new(Store::open(store));
        let recording = CancellationToken::new();
        let writing = TaskTracker::new();
        writing.spawn(recorder.clone().run(recording.clone()));
        writing.close();
        let is_ready = timeout(DATABASE_TIMEOUT, recorder.ready()).await.is_ok();
        let mut backends = Vec::new();
        for url in &comfy.urls {
            let fresh = ComfyClient::new(url.clone(), &comfy)?;
            let kept = match is_ready {
                true => restore::stored_client_id(recorder.store(), &fresh).await,
                false => None,
            };
            let known = match kept {
                Some(client_id) => fresh.with_client_id(client_id),
                None => fresh,
            };
            backends.push(Arc::new(Backend::new(known)));
        }
        let relay = Self(Arc::new(Parts {
            workflows: Workflows::new(&config.workflows),
            hub: Hub::new(config.backlog),
            learning: Learning::new(backends.iter().map(|backend| backend.name())),
            config,
            comfy,
            backends,
            jobs: Mutex::default(),
            model: Mutex::default(),
            recorder,
            holder: LeaseOwner::new(),
            metrics: Metrics::default(),
            clock: Clock::new(),
            retention: store.retention,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            recording,
            writing,
        }));
        if is_ready {
            // Before any socket is dialled.
            for backend in &relay.0.backends {
                relay.renew_lease(backend).await;
            }
        }
        let is_restored = is_ready && relay.restore().await;
        let tasks = &relay.0.tasks;
        if !is_restored {
            tracing::warn!(
                "the database is not there; jobs from before are taken up when it comes"
            );
            tasks.spawn(relay.clone().restore_when_ready());
        }
        for (index, backend) in relay.0.backends.iter().enumerate() {
            tasks.spawn(relay.clone().follow(index, backend.clone()));
            tasks.spawn(relay.clone().reconcile(index, backend.clone()));
        }
        tasks.spawn(relay.clone().heartbeat());
        tasks.spawn(relay.clone().cleanup());
        tasks.close();
        Ok(relay)
    }

    /// Follows a job, known or not: its newest state first, then every later one.
    pub fn subscribe(&self, job: &JobId, connection: Connection) -> Subscription {
        self.hub().subscribe(job, connection)
    }

    /// Waits until the sockets of all servers are open.
    pub async fn connected(&self) {
        for backend in &self.0.backends {
            let mut connected = backend.connected.subscribe();
            // Fails only where the backend is gone, and it lives as long as the relay.
            let _ = connected.wait_for(|&connected| connected).await;
        }
    }

    /// The newest preview image of a job.
    pub fn preview(&self, job: &JobId) -> Option<Arc<Preview>> {
        self.hub().preview(job)
    }

    /// Marked whenever something changed that [`Relay::system_status`] shows.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.hub().changes().subscribe()
    }

    /// Asks all tasks to stop.
    pub fn start_shutdown(&self) {
        self.0.stop.cancel();
    }

    /// Waits until all tasks have stopped, and everything is written.
    pub async fn shutdown(&self) {
        self.start_shutdown();
        self.0.tasks.wait().await;
        self.0.recording.cancel();
        self.0.writing.wait().await;
    }

    /// The task that writes what happens.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// What it has counted since its start.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The fan-out.
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    fn comfy_config(&self) -> &ComfyConfig {
        &self.0.comfy
    }

    /// The time of jobs.
    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn changed(&self) {
        self.hub().changes().send_replace(());
    }

    /// What was learned of costs: whole at any moment, as the jobs are.
    fn model(&self) -> MutexGuard<'_, CostModel> {
        self.0.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs are whole at any moment, also after a panic elsewhere: an event is folded in full or
    /// not at all.
    fn jobs(&self) -> MutexGuard<'_, Registry> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
