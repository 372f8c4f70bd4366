//! How a relay starts.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::Backend;
use super::backend::follower::Follower;
use super::backend::select::Turns;
use super::backends::{Backends, MAX_ADDED};
use super::clock::JobClock;
use super::estimates::Estimator;
use super::followed_groups::FollowedGroups;
#[cfg(feature = "otel")]
use super::job_traces::JobTraces;
use super::kept_outputs::KeptOutputs;
use super::looks::Looks;
use super::metrics::Metrics;
use super::output_root::OutputRoot;
use super::output_sizes::OutputSizes;
use super::peer_watch::PeerWatch;
use super::preview_feeds::PreviewFeeds;
use super::proxy::event_tap::EventTap;
use super::queue::job_queue::JobQueue;
use super::requests::preview_waits::PreviewWaits;
use super::requests::request_locks::RequestLocks;
use super::requests::shared_lookup::SharedLookups;
use super::requests::unknown_jobs::UnknownJobs;
use super::slots::Slots;
use super::tracker::Tracker;
use super::wanted_previews::SharedPreviews;
use super::webhooks::{WebhookSetupError, Webhooks};
use super::{Organs, Relay};
use crate::broker::Broker;
use crate::comfy::{ComfyClient, SetupError};
use crate::config::{ComfyConfig, Database, RelayConfig, StoreConfig};
use crate::connector::Networks;
use crate::hub::Hub;
use crate::job::JobId;
use crate::store::{LeaseOwner, Recorder, Refusal, Store};
use crate::workflow::Workflows;

/// How long a start waits for the database, which has the open jobs, and the client id for each backend.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before the open jobs are requested again.
const RESTORE_PAUSE: Duration = Duration::from_secs(1);

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RelayStartError {
    /// The settings of the connections to ComfyUI cannot be used.
    #[error(transparent)]
    Comfy(#[from] SetupError),
    /// Traces cannot be sent with the settings.
    #[cfg(feature = "otel")]
    #[error("traces cannot be sent (--otel-exporter-otlp-endpoint, OTEL_EXPORTER_OTLP_ENDPOINT)")]
    Traces(#[source] opentelemetry_otlp::ExporterBuildError),
    /// Webhooks cannot be sent with the settings.
    #[error(transparent)]
    Webhooks(#[from] WebhookSetupError),
    /// The database refuses the relay for a reason that waiting does not heal.
    #[error("cannot use the database {database}: {refusal}")]
    Database {
        /// Its address, without the password.
        database: Database,
        /// Its own reason.
        refusal: Refusal,
    },
}

/// Fails if the settings of webhooks or of the connections to ComfyUI cannot be used. Reads the files that they name, and
/// connects to nothing.
pub fn check(config: &RelayConfig, comfy: &ComfyConfig) -> Result<(), RelayStartError> {
    ComfyClient::all(comfy)?;
    Webhooks::new(config.webhook.clone())?;
    Ok(())
}

/// Where the states of jobs go, besides subscribers.
struct Outlets {
    recorder: Recorder,
    broker: Broker,
    owner: Arc<LeaseOwner>,
    kept: KeptOutputs,
    webhooks: Webhooks,
    #[cfg(feature = "otel")]
    traces: JobTraces,
}

/// A tracker without jobs.
fn tracker(
    config: &RelayConfig,
    store: &StoreConfig,
    backends: &[Arc<Backend>],
    outlets: Outlets,
) -> Tracker {
    Tracker {
        registry: std::sync::Mutex::default(),
        backends: Backends::new(backends.to_vec()),
        estimator: Arc::new(Estimator::new(backends)),
        queue: JobQueue::new(backends.len(), key_file(config, store)),
        hub: Hub::new(config.backlog),
        preview_feeds: PreviewFeeds::default(),
        tap: EventTap::default(),
        recorder: outlets.recorder,
        broker: outlets.broker,
        looks: Looks::default(),
        previews: SharedPreviews::default(),
        owner: outlets.owner,
        has_learned: AtomicBool::new(false),
        peers: PeerWatch::default(),
        hand_over_turn: tokio::sync::Mutex::default(),
        metrics: Metrics::default(),
        #[cfg(feature = "otel")]
        traces: outlets.traces,
        clock: JobClock::new(),
        output_root: OutputRoot::new(config.output_root.clone()),
        kept: outlets.kept,
        webhooks: outlets.webhooks,
        publish_interval: config.publish_interval,
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
    }
}

impl Relay {
    /// Opens the store, restores the jobs that have not ended, and follows the configured backends. Neither
    /// the database nor any backend need be reachable yet.
    ///
    /// Fails if the settings of webhooks or of the connections to ComfyUI cannot be used, and if the database refuses the relay
    /// for a reason that waiting does not heal.
    pub async fn start(
        config: RelayConfig,
        comfy: ComfyConfig,
        store: &StoreConfig,
    ) -> Result<Self, RelayStartError> {
        let clients = ComfyClient::all(&comfy)?;
        let webhooks = Webhooks::new(config.webhook.clone())?;
        #[cfg(feature = "otel")]
        let traces =
            JobTraces::new(config.otlp_endpoint.as_ref()).map_err(RelayStartError::Traces)?;
        let deadline = Instant::now() + DATABASE_TIMEOUT;
        check_database(store, deadline).await?;
        let recorder = Recorder::new(Store::open(store));
        let owner = Arc::new(LeaseOwner::new());
        let broker = Broker::new(config.redis.as_ref(), owner.as_str());
        let (recording, writing) = (CancellationToken::new(), TaskTracker::new());
        writing.spawn(recorder.clone().run(recording.clone()));
        writing.spawn(broker.clone().run(recording.clone()));
        writing.close();
        let is_ready = recorder.ready_by(deadline).await;
        let backends = backends(clients, &comfy, is_ready.then(|| recorder.store())).await;
        let (kept, to_keep) = KeptOutputs::new(config.keep_outputs.clone());
        let outlets = Outlets {
            recorder: recorder.clone(),
            broker,
            owner,
            kept,
            webhooks,
            #[cfg(feature = "otel")]
            traces,
        };
        let tracker = Arc::new(tracker(&config, store, &backends, outlets));
        let (stop, tasks) = (tracker.stop.clone(), tracker.tasks.clone());
        let comfy = Arc::new(comfy);
        let followers = backends.iter();
        let followers = followers.map(|backend| follower(backend, &comfy, &tracker));
        let relay = Self(Arc::new(Organs {
            followers: Slots::new(followers, MAX_ADDED),
            networks: Networks::new(&comfy.networks),
            has_read_added: AtomicBool::new(false),
            turns: Turns::default(),
            unknown_jobs: UnknownJobs::default(),
            lookups: SharedLookups::default(),
            preview_waits: PreviewWaits::default(),
            output_sizes: OutputSizes::default(),
            request_locks: RequestLocks::default(),
            groups: FollowedGroups::default(),
            workflows: Workflows::new(&config.workflows),
            config,
            comfy,
            retention: store.retention,
            tracker,
            stop,
            tasks,
            recording,
            writing,
        }));
        relay.start_tasks(is_ready, to_keep).await;
        Ok(relay)
    }

    async fn start_tasks(&self, is_ready: bool, to_keep: UnboundedReceiver<JobId>) {
        let Organs {
            followers, tasks, ..
        } = &*self.0;
        let mut has_added = false;
        if is_ready {
            self.0.tracker.register_relay(self.0.comfy.lease).await;
            has_added = self.sync_added().await.is_ok();
            // Before any socket is dialled.
            for follower in followers.iter() {
                follower.renew_lease().await;
            }
        }
        if is_ready && let Err(error) = self.read_operations().await {
            tracing::debug!(%error, "cannot read what operators have stopped, retrying");
        }
        // Jobs on servers that are not known would be ended.
        let is_restored = has_added && self.0.tracker.restore().await;
        if !is_restored {
            tracing::warn!("cannot reach the database; open jobs are restored when it answers");
            tasks.spawn(self.clone().restore_when_ready());
        }
        for follower in followers.iter() {
            follower.start();
        }
        let relay = self.clone();
        // What is wrong in the folder is logged now, not when somebody asks.
        tasks.spawn(async move { drop(relay.workflows().await) });
        tasks.spawn(self.clone().keep_outputs(to_keep));
        tasks.spawn(self.clone().follow_operations());
        tasks.spawn(self.clone().dispatch());
        tasks.spawn(self.clone().heartbeat());
        tasks.spawn(self.clone().end_lost_producers());
        tasks.spawn(self.clone().cleanup());
        self.clone().start_settling();
        tasks.spawn(self.clone().keep_registered());
        tasks.spawn(self.clone().read_moved());
        tasks.spawn(self.clone().deliver_webhooks());
        tasks.spawn(self.clone().watch_for_webhooks());
        tasks.spawn(self.clone().follow_rows());
        if !self.0.tracker.broker.is_alone() {
            tasks.spawn(self.clone().follow_states());
            tasks.spawn(self.clone().take_channel_reports());
            tasks.spawn(self.clone().follow_wake_ups());
            tasks.spawn(self.clone().read_hinted());
            tasks.spawn(self.clone().want_previews());
            tasks.spawn(self.clone().follow_previews());
        }
        tasks.close();
    }

    /// Restores the open jobs once the database answers.
    async fn restore_when_ready(self) {
        let Organs {
            tracker,
            followers,
            stop,
            ..
        } = &*self.0;
        let store = tracker.recorder.store();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tracker.recorder.ready() => {}
            }
            // Jobs on servers that are not known would be ended.
            let has_added = self.follow_new().await.is_ok();
            for follower in followers.iter() {
                // From now on the database has our client id, unless it had another one before.
                client_id(store, &follower.backend.comfy).await;
                // Jobs of a backend that another relay follows are not ours.
                follower.renew_lease().await;
            }
            if has_added && tracker.restore().await {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(RESTORE_PAUSE) => {}
            }
        }
        for follower in followers.iter() {
            follower.backend.reconcile_now.notify_one();
        }
    }
}

/// What follows a backend, until the relay stops or the backend is removed.
pub(super) fn follower(
    backend: &Arc<Backend>,
    config: &Arc<ComfyConfig>,
    tracker: &Arc<Tracker>,
) -> Arc<Follower> {
    Arc::new(Follower {
        backend: backend.clone(),
        config: config.clone(),
        tracker: tracker.clone(),
        estimator: tracker.estimator.clone(),
        recorder: tracker.recorder.clone(),
        stop: tracker.stop.child_token(),
        tasks: tracker.tasks.clone(),
    })
}

/// Where the key is that seals keys of partner nodes: beside the file of the database, if no other place is set.
fn key_file(config: &RelayConfig, store: &StoreConfig) -> Option<PathBuf> {
    config
        .queue_key_file
        .clone()
        .or_else(|| match &store.database {
            Database::Sqlite(file) if !store.database.is_in_memory() => {
                let mut beside = file.clone().into_os_string();
                beside.push(".key");
                Some(beside.into())
            }
            Database::Sqlite(_) | Database::Postgres(_) => None,
        })
}

/// Fails if the database refuses the relay for a reason that waiting does not heal.
async fn check_database(store: &StoreConfig, deadline: Instant) -> Result<(), RelayStartError> {
    match timeout_at(deadline, Refusal::find(store)).await {
        Ok(Some(refusal)) => Err(RelayStartError::Database {
            database: store.database.clone(),
            refusal,
        }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// The configured backends, under the client ids that the store has for them.
async fn backends(
    clients: Vec<ComfyClient>,
    config: &ComfyConfig,
    store: Option<&Store>,
) -> Vec<Arc<Backend>> {
    let mut backends = Vec::new();
    for (index, mut comfy) in clients.into_iter().enumerate() {
        if let Some(store) = store
            && let Some(client_id) = client_id(store, &comfy).await
        {
            comfy = comfy.with_client_id(client_id);
        }
        let labels = config.labels_of(comfy.name());
        backends.push(Arc::new(Backend::new(index, comfy, labels)));
    }
    backends
}

/// The client id that the store has for a backend. If it has none, it takes the one that the backend has.
pub(super) async fn client_id(store: &Store, comfy: &ComfyClient) -> Option<String> {
    let (name, address) = (comfy.name(), comfy.address());
    match store.client_id(name, address, comfy.client_id()).await {
        Ok(client_id) => Some(client_id),
        Err(error) => {
            let error = &error as &dyn Error;
            tracing::warn!(
                backend = name,
                error,
                "cannot read our client id; events of prompts in flight will be missed"
            );
            None
        }
    }
}
