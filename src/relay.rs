//! The relay: the only place where the modules of floor 1 meet.
//!
//! [`Relay`] is a facade over three organs, each with its own lock: the tracker owns the jobs
//! (`tracker.rs`), a follower for each backend keeps its tasks (`backend/follower.rs`), and the estimator
//! has the cost model and the queues (`estimates.rs`). The path of one event is `ingest.rs` and
//! `publish.rs`. What callers ask for is in `requests/`, one file a verb.

mod added;
mod backend;
mod backend_choice;
mod backends;
mod batch_problem;
mod channel_reports;
mod clock;
mod discovered;
mod error;
mod estimates;
mod feed;
mod followed_groups;
mod groups;
mod ingest;
mod input_files;
#[cfg(feature = "otel")]
mod job_traces;
mod keeper;
mod kept_outputs;
mod listing;
mod looks;
mod lost_producers;
mod maintenance;
mod metrics;
mod output_root;
mod output_sizes;
mod ownership;
mod peer_watch;
mod peers;
mod pending_plan;
mod planning;
mod preview_feeds;
mod proxy;
mod publish;
mod queue;
mod registry;
mod relay_list;
mod requests;
mod restore;
mod saved_images;
mod settle;
mod shared_previews;
mod shared_states;
mod slots;
mod start;
mod stored_counts;
mod stored_job;
mod throttle;
mod tracker;
mod unsuitable;
mod wanted_previews;
mod webhooks;
mod woken;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::RedisHealth;
use crate::config::{ComfyConfig, RelayConfig};
use crate::connector::Networks;
use crate::hub::{Connection, ConnectionCount, Mailbox, SharedSubscription, Subscription};
use crate::job::JobId;
use crate::store::{MirrorHealth, Recorder, RecorderHealth};
use crate::workflow::Workflows;
use backend::follower::Follower;
use backend::select::Turns;
use followed_groups::FollowedGroups;
use output_sizes::OutputSizes;
use requests::preview_waits::PreviewWaits;
use requests::request_locks::RequestLocks;
use requests::shared_lookup::SharedLookups;
use requests::unknown_jobs::UnknownJobs;
use slots::Slots;
use tracker::Tracker;

pub use backend::condition::Condition;
pub use backend::operation::Operation;
pub use backend_choice::BackendChoice;
pub use batch_problem::BatchProblem;
pub use error::RelayError;
pub use feed::JobFeed;
pub use input_files::AcceptedInput;
pub use proxy::{
    ClientEvents, ComfyJobs, ComfyQueue, ForwardedRequest, JobListQuery, QueueLength, TapFrame,
    TapPayload, TapPreview, ViewedFile, comfy_tags, labelled_comfy_tags,
};
pub use relay_list::{ConnectedJob, ListedConnection, RecentJob};
pub use requests::backends::NewBackend;
pub use requests::batch::{AcceptedBatch, NewBatch, Variants};
pub use requests::cancel::Cancelled;
pub use requests::check::CheckedWorkflow;
pub use requests::explain::EstimateView;
pub use requests::job_links::{AttemptView, JobLinks};
pub use requests::job_webhook::{DeliveryView, JobWebhook};
pub use requests::list::{JobPage, JobView};
pub use requests::once::RequestId;
pub use requests::operated::{OperatedBackend, QueueOverview};
pub use requests::output::{OutputBody, OutputDetails, OutputSource};
pub use requests::readiness::NotReady;
pub use requests::register::Accepted;
pub use requests::retry::RetryOptions;
pub use requests::status::{BackendHealth, BackendStatus, JobCounts, SystemStatus, Websockets};
pub use requests::submit::{Submission, SubmitOptions};
pub use requests::suitability::{Suitability, placeable};
pub use requests::timeline::NodeRunView;
pub use requests::totals::Totals;
pub use start::{RelayStartError, check};
pub use unsuitable::UnsuitableBackend;
pub use webhooks::WebhookSetupError;
pub(crate) use webhooks::backend_watch::{BackendData, QueueData};

/// Follows ComfyUI servers, applies their events to jobs, and publishes the jobs' states.
///
/// Cheap to clone; clones are the same relay. Stop it with [`Relay::start_shutdown`], then wait for
/// [`Relay::shutdown`].
#[derive(Debug, Clone)]
pub struct Relay(Arc<Organs>);

#[derive(Debug)]
struct Organs {
    config: RelayConfig,
    comfy: Arc<ComfyConfig>,
    workflows: Workflows,
    tracker: Arc<Tracker>,
    /// By the index of their backend.
    followers: Slots<Arc<Follower>>,
    /// Where servers may be that are added.
    networks: Networks,
    /// Whether it was read which servers were added.
    has_read_added: AtomicBool,
    turns: Turns,
    unknown_jobs: UnknownJobs,
    lookups: SharedLookups,
    preview_waits: PreviewWaits,
    output_sizes: OutputSizes,
    request_locks: RequestLocks,
    groups: FollowedGroups,
    /// How long ended jobs are kept in the store; `None` for ever.
    retention: Option<Duration>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Stops the recorder: last, so that everything that the other tasks recorded is written.
    recording: CancellationToken,
    writing: TaskTracker,
}

impl Relay {
    /// Waits until the sockets of all backends are open.
    pub async fn connected(&self) {
        for backend in self.0.tracker.backends.iter() {
            let mut connected = backend.connected.subscribe();
            // Fails only if the backend is gone, and it lives as long as the relay.
            let _ = connected.wait_for(|&connected| connected).await;
        }
    }

    /// How long jobs are kept after their end; `None` for ever.
    pub fn retention(&self) -> Option<Duration> {
        self.0.retention
    }

    /// How many ComfyUI servers there are.
    pub fn backend_count(&self) -> usize {
        self.0.tracker.backends.iter().count()
    }

    /// Makes all tasks stop. Does not wait.
    pub fn start_shutdown(&self) {
        self.0.stop.cancel();
    }

    /// Waits until all tasks have stopped, and everything is written.
    pub async fn shutdown(&self) {
        self.start_shutdown();
        self.0.tasks.wait().await;
        self.0.recording.cancel();
        self.0.writing.wait().await;
        // Last: a relay that takes over reads what was written.
        for follower in self.0.followers.iter() {
            follower.release_lease().await;
        }
        self.0.tracker.leave_peers().await;
        #[cfg(feature = "otel")]
        self.0.tracker.traces.shutdown().await;
    }

    /// Follows a job, known or not: first its newest state, then every later one.
    pub fn subscribe(&self, job: &JobId, connection: Connection) -> Subscription {
        let subscription = self.0.tracker.hub.subscribe(job, connection);
        self.0.tracker.refresh(job);
        self.0.tracker.follow_elsewhere(job);
        subscription
    }

    /// Follows a job, known or not, for many clients: its publications come to the mailbox.
    pub fn subscribe_shared(&self, job: &JobId, mailbox: Arc<Mailbox>) -> SharedSubscription {
        let subscription = self.0.tracker.hub.subscribe_shared(job, mailbox);
        self.0.tracker.refresh(job);
        self.0.tracker.follow_elsewhere(job);
        subscription
    }

    /// Whether a job is in memory, or a group is followed: nobody has to be asked for it.
    pub fn knows(&self, job: &JobId) -> bool {
        match job.group() {
            Some(_) => self.0.tracker.hub.newest(job).is_some(),
            None => self.0.tracker.registry().remembered(job).is_some(),
        }
    }

    /// The jobs in memory that follow a prompt, on whichever backend.
    pub fn jobs_of_prompt(&self, prompt_id: &str) -> Vec<JobId> {
        let registry = self.0.tracker.registry();
        let backends = self.0.tracker.backends.iter();
        let jobs = backends.flat_map(|backend| registry.of_prompt(backend, prompt_id));
        jobs.cloned().collect()
    }

    /// Changes whenever something changes that [`Relay::system_status`] shows.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.tracker.hub.changes().subscribe()
    }

    /// How many connections follow how many jobs.
    pub fn connection_count(&self) -> ConnectionCount {
        self.0.tracker.hub.count()
    }

    /// Whether the database answers, and how much is still to be written.
    pub fn database_health(&self) -> RecorderHealth {
        self.0.tracker.recorder.health()
    }

    /// Whether states are exchanged over Redis; `None` without Redis.
    pub fn redis_health(&self) -> Option<RedisHealth> {
        self.0.tracker.broker.health()
    }

    /// How far the pipeline's table is behind.
    pub fn mirror_health(&self) -> MirrorHealth {
        self.0.tracker.recorder.store().mirror_health()
    }

    /// The kind of the database, in one word.
    pub fn database_kind(&self) -> &'static str {
        self.0.tracker.recorder.store().kind()
    }

    /// Adds the relay's own counters to a registry.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        self.0.tracker.metrics.register(registry);
        self.0.tracker.webhooks.register_metrics(registry);
        if let Some(metrics) = self.0.tracker.broker.metrics() {
            metrics.register(registry);
        }
    }

    /// The task that writes to the store. For tests.
    #[doc(hidden)]
    pub fn recorder(&self) -> &Recorder {
        &self.0.tracker.recorder
    }
}
