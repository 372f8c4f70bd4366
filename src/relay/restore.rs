//! Between jobs and the store: what is kept of a job, and how it goes on after a restart.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use super::Relay;
use crate::comfy::ComfyClient;
use crate::job::{Bar, Event, Job, JobId, PlannedNode, Progress, StoredJob};
use crate::store::{JobRecord, NodeCostRecord, NodeRunRecord, Store, StoreError};

/// How long an answer waits until what it acknowledges is written. A database that is away holds up
/// nobody for longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before the jobs from before the start are asked for again.
const RESTORE_PAUSE: Duration = Duration::from_secs(1);

/// The loss count of a job from before the start: whether its server was restarted since, nobody
/// knows.
const BEFORE_THE_START: u64 = u64::MAX;

impl Relay {
    /// Recalls what nodes have cost, and takes up every job that has not ended. Says whether the
    /// database could tell all that.
    pub(super) async fn restore(&self) -> bool {
        let is_recalled = self.replay_stored_runs().await;
        let open = match self.recorder().store().open_jobs().await {
            Ok(open) => open,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot read the jobs from before the start");
                return false;
            }
        };
        if open.is_empty() {
            return is_recalled;
        }
        tracing::info!(
            jobs = open.len(),
            "going on with jobs from before the start"
        );
        let ids: Vec<JobId> = open.iter().map(|saved| saved.id.clone()).collect();
        for saved in open {
            self.restore_job(saved);
        }
        // Should we die at once, the next start does not count from the same number again.
        if let Some(last) = ids.last() {
            self.await_written(last).await;
        }
        is_recalled
    }

    /// The same, once the database is there.
    pub(super) async fn restore_when_ready(self) {
        loop {
            tokio::select! {
                () = self.stopping() => return,
                () = self.recorder().ready() => {}
            }
            for backend in &self.0.backends {
                // From now on it is known who we are, unless it was known before.
                stored_client_id(self.recorder().store(), &backend.comfy).await;
                // The jobs of a server that another relay follows are not ours.
                self.renew_lease(backend).await;
            }
            if self.restore().await {
                break;
            }
            tokio::select! {
                () = self.stopping() => return,
                () = sleep(RESTORE_PAUSE) => {}
            }
        }
        for backend in &self.0.backends {
            backend.reconcile_now.notify_one();
        }
    }

    /// Puts a job from the store on the books, unless it is there. Says whether it is there now.
    pub(super) fn restore_job(&self, saved: StoredJob) -> bool {
        let id = saved.id.clone();
        let mut jobs = self.jobs();
        if !jobs.reserve(&id) {
            return jobs.get(&id).is_some();
        }
        let index = self
            .0
            .backends
            .iter()
            .position(|backend| Some(backend.name()) == saved.backend.as_deref());
        if index.is_none() && saved.backend.is_some() && !saved.status.is_final() {
            tracing::warn!(job_id = %id, backend = saved.backend, "this job's server is not configured any more");
        }
        if self.is_held_by_peer(index) && !saved.status.is_final() {
            // Its own relay tells of it.
            jobs.release(&id);
            return false;
        }
        let mut job = Job::restored(saved);
        if job.prompt_id().is_some() {
            let reachable = index.is_some_and(|index| self.0.backends[index].state().reachable);
            job.apply(Event::Reachable(reachable), self.now());
        }
        let has_ended = job.status().is_final();
        jobs.insert(job, index, BEFORE_THE_START);
        if let Some(entry) = jobs.get_mut(&id) {
            if has_ended {
                self.show(entry);
            } else {
                // With its new number: the numbers go on from there after the next restart.
                self.publish(entry);
            }
        }
        true
    }

    /// Takes up a job that the store knows. Says whether it is on the books now.
    pub(super) async fn restore_from_store(&self, id: &JobId) -> bool {
        // What is on the books is newer, and known also while the database is away.
        if self.jobs().get(id).is_some() {
            return true;
        }
        match self.recorder().store().job(id).await {
            Ok(Some(saved)) => self.restore_job(saved),
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot look a job up"
                );
                false
            }
        }
    }

    /// Waits until the newest state of a job is written, but not for long.
    pub(super) async fn await_written(&self, id: &JobId) {
        let recorded = self.jobs().get(id).map(|entry| entry.recorded);
        if let Some(number) = recorded {
            let asked = Instant::now();
            if timeout(WRITE_TIMEOUT, self.recorder().written(number))
                .await
                .is_err()
            {
                tracing::debug!(job_id = %id, waited = ?asked.elapsed(), "acknowledged a state that is not written yet");
            }
        }
    }

    /// Deletes what the store need not keep any longer.
    pub(super) async fn delete_old(&self) -> Result<(), StoreError> {
        let Some(retention) = self.0.retention else {
            return Ok(());
        };
        let Ok(before) = Timestamp::now().checked_sub(retention) else {
            return Ok(());
        };
        let deleted = self.recorder().store().delete_before(before).await?;
        if deleted > 0 {
            tracing::info!(
                jobs = deleted,
                "deleted jobs that are older than RETENTION_DAYS"
            );
        }
        Ok(())
    }
}

/// The client id that is kept for a server: that which it has, where there was none.
pub(super) async fn stored_client_id(store: &Store, comfy: &ComfyClient) -> Option<String> {
    let (name, address) = (comfy.name(), comfy.address());
    match store.client_id(name, &address, comfy.client_id()).await {
        Ok(client_id) => Some(client_id),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                backend = name,
                error,
                "cannot read our client id; events of prompts in flight are missed"
            );
            None
        }
    }
}

/// What is kept of a job in this state. Without costs nothing was learned of it.
pub(super) fn record(
    job: &Job,
    costs: Option<&HashMap<String, NodeCostRecord>>,
    progress: Progress,
) -> JobRecord {
    let is_final = progress.status.is_final();
    JobRecord {
        created_at: job.created_at(),
        started_at: job.started_at(),
        completed_at: job.ended_at(),
        error_code: job.error().map(|error| error.code.as_str()),
        learned_from: job.end_source().map(|source| source.as_str()),
        node_runs: if is_final {
            node_runs(job, costs)
        } else {
            Vec::new()
        },
        progress,
    }
}

fn node_runs(job: &Job, costs: Option<&HashMap<String, NodeCostRecord>>) -> Vec<NodeRunRecord> {
    // What was not learned must not be recalled either: without a signature it tells nothing.
    let signature = |planned: Option<&PlannedNode>, is_told: bool| {
        let planned = planned.filter(|_| is_told);
        planned.map(|node| node.signature.clone())
    };
    let ended_at = job.ended_at().unwrap_or_default();
    let ran = job.runs().into_iter().map(|run| {
        let planned = job.plan().node(run.display);
        let cost = costs.and_then(|costs| costs.get(run.id).copied());
        NodeRunRecord {
            node: run.id.to_owned(),
            class: planned.map(|node| node.class_type.clone()),
            // What a node was expanded to costs something else than the node.
            signature: signature(job.plan().node(run.id), cost.is_some()),
            started_at: run.started_at,
            seconds: run.seconds(ended_at),
            steps: run.bar.and_then(Bar::steps).map(|(_, steps)| steps),
            cached: false,
            cost,
        }
    });
    let began_at = job.started_at().unwrap_or(ended_at);
    let cached = job.nodes().cached_ids().filter_map(|id| {
        let planned = job.plan().node(id).filter(|node| node.needed)?;
        Some(NodeRunRecord {
            node: id.to_owned(),
            class: Some(planned.class_type.clone()),
            signature: signature(Some(planned), costs.is_some()),
            started_at: began_at,
            seconds: 0.0,
            steps: None,
            cached: true,
            cost: None,
        })
    });
    ran.chain(cached).collect()
}
