//! One queue for all relays on a database: each plans all that wait, over all backends, and hands in what its own plan gives
//! to backends that it follows. A claim decides between two.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::Map;

use crate::broker::Hint;
use crate::job::JobId;
use crate::relay::Relay;
use crate::relay::backend::backend_report::BackendReport;
use crate::relay::backend::{Backend, Lease};
use crate::relay::queue::job_queue::{JobQueue, QueueState};
use crate::relay::queue::peer_load::PeerLoad;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::queue::sync::BATCH;
use crate::store::{ReportedLoad, SharedWait, StoreError, StoredSubmission, TakenFor};

impl Relay {
    /// Brings what other relays have waiting, and what their backends have, up to date, as long as there are others.
    pub(super) async fn share_queue(&self) {
        let tracker = &self.0.tracker;
        if !tracker.peers.has_others() && !tracker.queue.state().is_shared {
            return;
        }
        self.share_queue_now().await;
    }

    /// The same at once: another relay has jobs that wait.
    pub(super) async fn share_queue_now(&self) {
        let sharing = async {
            self.report_loads().await?;
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
        self.forget_taken(&gone, &claimed).await?;
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

    /// Jobs have left the queue without us: another relay hands them in, or they have ended. The row of one that is `claimed`
    /// names its backend later.
    async fn forget_taken(&self, gone: &[JobId], claimed: &[SharedWait]) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let rows = if self.0.config.fair_share {
            tracker.recorder.store().jobs_with_ids(gone).await?
        } else {
            Vec::new()
        };
        let known: Vec<JobId> = {
            let registry = tracker.registry();
            let mut state = tracker.queue.state();
            for row in rows {
                let claim = claimed.iter().find(|claim| claim.job_id == row.id);
                let claimed_for = claim.and_then(|claim| claim.claimed_for.as_deref());
                let name = row.backend.as_deref().or(claimed_for);
                let backend = tracker.backends.iter().find(|it| Some(it.name()) == name);
                if let Some(backend) = backend {
                    state.count_taken(&row.id, backend.index);
                }
            }
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

    /// Writes how busy our backends are, where that has changed: rows of jobs do not show prompts of other clients.
    async fn report_loads(&self) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let now = tracker.now();
        for backend in tracker.backends.iter() {
            if *backend.lease.borrow() != Lease::Held {
                tracker.queue.state().backends[backend.index].reported = None;
                continue;
            }
            let open = tracker.registry().count_open(backend);
            let (prompts, free_in) = tracker.queue.load(backend, &tracker.estimator, open, now);
            let free_in =
                free_in.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
            let load = ReportedLoad {
                backend: backend.name().to_owned(),
                prompts,
                free_at: free_in.and_then(|left| now.checked_add(left).ok()),
                report: serde_json::to_string(&backend.report(now)).ok(),
            };
            let is_known = {
                let state = tracker.queue.state();
                let reported = &state.backends[backend.index].reported;
                reported.as_ref().is_some_and(|it| is_alike(it, &load))
            };
            if !is_known {
                let store = tracker.recorder.store();
                store.report_load(&load, &tracker.owner).await?;
                tracker.queue.state().backends[backend.index].reported = Some(load);
            }
        }
        Ok(())
    }

    async fn read_peer_loads(&self) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let mut reports: HashMap<String, BackendReport> = HashMap::new();
        let mut loads: HashMap<String, PeerLoad> = HashMap::new();
        let is_of_peer = |backend: &Arc<Backend>| *backend.lease.borrow() == Lease::HeldByPeer;
        if tracker.backends.iter().any(is_of_peer) {
            let store = tracker.recorder.store();
            for prompt in store.peer_prompts().await? {
                let load = loads.entry(prompt.backend.clone()).or_default();
                *load = load.with(&prompt);
            }
            for reported in store.reported_loads().await? {
                // That of another release may not be readable.
                let report = reported.report.as_deref().map(serde_json::from_str);
                if let Some(Ok(report)) = report {
                    reports.insert(reported.backend.clone(), report);
                }
                if reported.prompts > 0 {
                    let load = loads.entry(reported.backend.clone()).or_default();
                    *load = load.with_reported(&reported);
                }
            }
        }
        let mut has_changed = false;
        {
            let mut state = tracker.queue.state();
            for backend in tracker.backends.iter() {
                let report = reports.remove(backend.name());
                let before = std::mem::replace(&mut backend.state().peer_report, report.clone());
                has_changed |= before != report;
                state.backends[backend.index].peer = loads.remove(backend.name());
            }
        }
        if has_changed {
            tracker.notify_monitors();
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
        tracker.broker.hint(Hint::Owner(id.clone()));
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

/// Whether two reports of one backend say the same, but for a fraction of a second.
fn is_alike(one: &ReportedLoad, other: &ReportedLoad) -> bool {
    let is_near = match (one.free_at, other.free_at) {
        (Some(one), Some(other)) => one.duration_since(other).abs() < SignedDuration::from_secs(1),
        (one, other) => one == other,
    };
    // An idle one is free at any moment.
    one.prompts == other.prompts && (is_near || one.prompts == 0) && one.report == other.report
}

impl QueueState {
    /// Counts a job that another relay has handed in for the share that it is of.
    fn count_taken(&mut self, id: &JobId, backend: usize) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let warm = self.kinds.model(job.kind);
        let estimate = self.kinds.estimate(job.kind, backend, warm);
        let seconds = estimate.remaining.unwrap_or(f64::NAN);
        self.fair_share.record_start(job.share, seconds);
    }
}

impl JobQueue {
    /// How many prompts a backend has that another relay follows.
    pub(in crate::relay) fn prompts_at_peer(&self, backend: &Backend) -> usize {
        let state = self.state();
        state.backends[backend.index]
            .peer
            .map_or(0, |load| load.prompts)
    }

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
