//! The database, PostgreSQL or SQLite: jobs, the runs of their nodes, and the client id and the lease of each
//! backend, in tables of the relay's own.
//!
//! Each query is a method of [`Store`], written once for both databases with diesel's query builder on one declared
//! schema. SQL text is only what diesel cannot say: the batches ([`statements`]), claims ([`claim_statements`]), leases that move ([`lease_wish`]), webhooks ([`webhook_statements`]), the migrations ([`migrations`]), and the
//! tables of others: those of an earlier release ([`released`]) and the pipeline's ([`mirror`]). [`Recorder`] writes the states of jobs in batches.

mod add_batch;
mod added_backends;
mod assets;
mod backends;
mod cancel_requests;
mod claim_statements;
mod claims;
mod connect;
mod database;
mod input_files;
mod inspection;
mod job_lists;
mod job_queries;
mod lease;
mod lease_owner;
mod lease_wish;
mod migrations;
mod mirror;
mod mirror_queries;
mod moment;
mod names;
mod new_delivery;
mod operations;
mod pools;
mod recorder;
mod refusal;
mod relays;
mod released;
mod requests;
mod retention;
mod rows;
mod run_queries;
mod schema;
mod shared_queue;
mod statements;
mod submission_state;
mod submissions;
mod tag_filters;
mod upsert;
mod webhook_queries;
mod webhook_queue;
mod webhook_statements;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use added_backends::AddedBackend;
pub use assets::StoredAsset;
pub use claims::TakenFor;
pub use database::StoreError;
pub(crate) use input_files::INPUT_USE_PRECISION;
pub use inspection::StoreInspection;
pub use job_lists::{Cursor, JobFilter, MAX_SEARCHED, StoredPage};
pub use lease_owner::LeaseOwner;
pub use mirror::{MirrorHealth, PipelineInspection};
pub use new_delivery::NewDelivery;
pub use operations::WaitingCount;
pub use recorder::{Recorder, RecorderHealth, Written};
pub use refusal::Refusal;
pub use relays::{PeerCounts, RelayRegistration};
pub use requests::StoredRequest;
pub use rows::{JobRecord, NodeCostRecord, NodeRunRecord};
pub use run_queries::StoredRun;
pub use shared_queue::{PeerPrompt, ReportedLoad, SharedWait};
pub use submissions::{StoredSubmission, SubmissionLink};
pub use webhook_queries::{DeliveryFilter, DeliveryState, StoredDelivery};
pub use webhook_queue::{AttemptResult, ClaimedDelivery};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::config::StoreConfig;
use claim_statements::ClaimStatements;
use database::Pools;
use mirror::Mirror;
use names::Names;
use pools::StorePools;
use statements::Statements;
use webhook_statements::WebhookStatements;

/// A database, which need not be reachable. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pools: StorePools,
    names: Names,
    statements: Arc<Statements>,
    claims: Arc<ClaimStatements>,
    webhooks: Arc<WebhookStatements>,
    /// Wakes the task that sends to webhooks.
    deliveries_added: Arc<Notify>,
    mirror: Mirror,
    /// Whether rows of an earlier release are being copied.
    copying: Arc<AtomicBool>,
    /// Limits how many connections the queue takes at a time: many jobs that come at once wait for each other, and leave some to
    /// those who read.
    queue_turns: Arc<Semaphore>,
}

impl Store {
    /// Opens the configured database. The first query connects.
    pub fn open(config: &StoreConfig) -> Self {
        let names = Names::new(config);
        Self {
            pools: StorePools::open(config),
            claims: Arc::new(ClaimStatements::new(&names)),
            webhooks: Arc::new(WebhookStatements::new(&names)),
            deliveries_added: Arc::default(),
            statements: Arc::new(Statements::new(&names)),
            mirror: Mirror::new(config),
            names,
            copying: Arc::default(),
            queue_turns: Arc::new(Semaphore::new(config.connections.div_ceil(2) as usize)),
        }
    }

    /// Why the last connection could not be made, if one has failed yet.
    fn connect_failure(&self) -> Option<String> {
        self.pools.failure.reason()
    }

    /// The kind of database: `postgres` or `sqlite`.
    pub fn kind(&self) -> &'static str {
        match self.pools.reads {
            Pools::Postgres(_) => "postgres",
            Pools::Sqlite(_) => "sqlite",
        }
    }

    /// Creates the relay's tables or brings them up to date, and copies what an earlier release kept elsewhere.
    ///
    /// Several relays may do so at the same time.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.create_tables().await?;
        self.copy_released().await
    }

    /// Whether rows of an earlier release are being copied, which takes as long as there are many.
    pub(crate) fn is_copying(&self) -> bool {
        self.copying.load(Ordering::Relaxed)
    }

    /// Waits until the queue may take a connection.
    async fn queue_turn(&self) -> Option<SemaphorePermit<'_>> {
        // Fails only if the semaphore is closed, which it never is.
        self.queue_turns.acquire().await.ok()
    }

    /// How the mirror in the pipeline's table is doing.
    pub fn mirror_health(&self) -> MirrorHealth {
        self.mirror.health()
    }
}
