//! One queue for all relays on a database: each plans all that wait, over all backends, and hands in what its own plan gives
//! to backends that it follows. A claim decides between two.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Map;

use crate::job::JobId;
use crate::relay::Relay;
use crate::relay::backend::{Backend, Lease};
use crate::relay::queue::job_queue::JobQueue;
use crate::relay::queue::peer_load::PeerLoad;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::queue::sync::BATCH;
use crate::store::{SharedWait, StoreError, StoredSubmission, TakenFor};

impl Relay {
    /// Brings what other relays have waiting, and what their backends have, up to date, as long as there are others.
    pub(super) async fn share_queue(&self) {
        let tracker = &self.0.tracker;
        if !tracker.peers.has_others() && !tracker.queue.state().is_shared {
            return;
        }
        let sharing = async {
            self.read_waits().await?;
            self.read_peer_loads().await
        };
        if let Err(error) = sharing.await {
            tracing::debug!(%error, "cannot read the queue of the other relays, retrying");
        }
    }

    async fn read_waits(&self) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let store = tracker.recorder.store();
        // One that comes while the database is read is not missing there.
        let before = tracker.queue.unclaimed();
        let own = Some(tracker.owner.as_str());
        let (claimed, waits): (Vec<SharedWait>, Vec<SharedWait>) = {
            let all = store.shared_waits().await?;
            all.into_iter().partition(|it| it.claimed_for.is_some())
        };
        let is_foreign = |wait: &&SharedWait| wait.owner.as_deref() != own;
        tracker.queue.state().is_shared = waits.iter().any(|wait| is_foreign(&wait));
        let new = tracker.queue.missing(waits.iter().filter(is_foreign));
        let waiting: HashSet<JobId> = waits.into_iter().map(|wait| wait.job_id).collect();
        let gone: Vec<JobId> = before
            .into_iter()
            .filter(|id| !waiting.contains(id))
            .collect();
        self.forget_taken(&gone).await?;
        for ids in new.chunks(BATCH) {
            for stored in store.submissions(ids).await? {
                self.add_shared(stored);
            }
        }
        // A relay that does not follow the backend any more cannot settle its claims.
        if claimed.iter().filter(is_foreign).any(|it| self.follows(it)) {
            tracker.take_over().await;
        }
        Ok(())
    }

    /// Whether this relay follows the backend for which a job is claimed.
    fn follows(&self, claimed: &SharedWait) -> bool {
        let name = claimed.claimed_for.as_deref();
        let mut backends = self.0.tracker.backends.iter();
        backends.any(|it| Some(it.name()) == name && *it.lease.borrow() == Lease::Held)
    }

    /// Jobs have left the queue without us: another relay hands them in, or they have ended.
    async fn forget_taken(&self, gone: &[JobId]) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let known: Vec<JobId> = {
            let registry = tracker.registry();
            let mut state = tracker.queue.state();
            for id in gone {
                state.remove_unclaimed(id);
            }
            let known = gone.iter().filter(|id| registry.get(id).is_some());
            known.cloned().collect()
        };
        tracker.read_rows(&known).await
    }

    /// Adds a job that waits with another relay, if it can be handed in here.
    fn add_shared(&self, stored: StoredSubmission) {
        let tracker = &self.0.tracker;
        if stored.backend.is_some() || stored.is_withdrawn {
            return;
        }
        let Ok(request) = QueuedRequest::unpack(&stored.request) else {
            return;
        };
        let sealed = stored.secrets.as_deref();
        let opens = |sealed| tracker.queue.seal.open(&stored.job_id, sealed).is_some();
        if request.has_keys && !sealed.is_some_and(opens) {
            // Another key file.
            return;
        }
        let allowed = request.allowed();
        let plan = self.plan_of(&request);
        tracker.queue.add(&stored, plan, allowed, None, Map::new());
        tracker.queue.wake();
    }

    async fn read_peer_loads(&self) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let mut loads: HashMap<String, PeerLoad> = HashMap::new();
        let is_of_peer = |backend: &Arc<Backend>| *backend.lease.borrow() == Lease::HeldByPeer;
        if tracker.backends.iter().any(is_of_peer) {
            for prompt in tracker.recorder.store().peer_prompts().await? {
                let load = loads.entry(prompt.backend.clone()).or_default();
                *load = load.with(&prompt);
            }
        }
        let mut state = tracker.queue.state();
        for backend in tracker.backends.iter() {
            state.backends[backend.index].peer = loads.remove(backend.name());
        }
        Ok(())
    }

    /// Takes a job that waits with another relay, to hand it in to a backend or to cancel it. `None` if it does not wait any
    /// more.
    pub(in crate::relay) async fn take_shared(
        &self,
        id: &JobId,
        taken_for: TakenFor<'_>,
    ) -> Result<Option<StoredSubmission>, StoreError> {
        let tracker = &self.0.tracker;
        let store = tracker.recorder.store();
        let taken = store.take_waiting(id, &tracker.owner, taken_for).await?;
        // If it was taken, the row says that it is ours; if not, what has become of it.
        let row = store.job(id).await?;
        if let Some(row) = row {
            tracker.apply_row(row);
        }
        let Some(stored) = taken else {
            return Ok(None);
        };
        {
            let mut registry = tracker.registry();
            if let Some(entry) = registry.get_mut(id).filter(|entry| entry.is_owned()) {
                entry.job.set_attempt(stored.attempt);
                return Ok(Some(stored));
            }
        }
        // A job is being submitted under the same id here.
        if let TakenFor::Backend(backend) = taken_for {
            self.release_claim(id, backend).await;
        }
        Ok(None)
    }
}

impl JobQueue {
    /// The jobs that are not being handed in, and of which the database knows.
    fn unclaimed(&self) -> Vec<JobId> {
        let state = self.state();
        let unclaimed = state.jobs.iter();
        let unclaimed =
            unclaimed.filter(|(_, job)| job.claimed_for.is_none() && job.fresh.is_none());
        unclaimed.map(|(id, _)| id.clone()).collect()
    }

    /// Those of these jobs that are not in the queue.
    fn missing<'a>(&self, waits: impl Iterator<Item = &'a SharedWait>) -> Vec<JobId> {
        let state = self.state();
        let is_known = |id: &JobId| state.jobs.contains_key(id) || state.settling.contains(id);
        let missing = waits.filter(|wait| !is_known(&wait.job_id));
        missing.map(|wait| wait.job_id.clone()).collect()
    }
}
