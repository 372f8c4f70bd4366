//! Jobs continue after a restart, and after the relay that followed their backend is gone.

use std::collections::HashMap;
use std::error::Error;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::backend::Backend;
use super::backend::seen_history::BEFORE_THE_START;
use super::ownership::{HeldState, Ownership, RowDecision, RowState};
use super::registry::{Entry, Registry};
use super::stored_job::{self, StoredEstimate};
use super::tracker::{Tracker, WRITE_TIMEOUT};
use super::webhooks::announced::Announced;
use crate::job::{Event, Job, JobId, Status, StoredJob};
use crate::store::StoreError;

/// How often it is looked whether another relay has written a job that it has published.
const ROW_PAUSE: Duration = Duration::from_millis(100);

/// The job that goes on from its row, after what subscribers of this relay have `seen`: a number and a percentage. Its last
/// owner may have published more than it has written.
pub(super) fn resumed(stored: StoredJob, seen: Option<(u64, u8)>) -> Job {
    let mut job = Job::restored(stored);
    if let Some((seq, progress)) = seen {
        job.go_on_from(seq, progress);
    }
    job
}

/// What another relay has of a job, of which subscribers were `shown` a percentage: its owner may have published more than it
/// has written.
pub(super) fn raised(mut stored: StoredJob, shown: Option<u8>) -> StoredJob {
    stored.progress = stored.progress.max(shown.unwrap_or_default());
    stored
}

impl Tracker {
    /// Learns what nodes have cost, takes over the open jobs that are free, and restores those that are ours. Returns
    /// whether the database answered all that.
    pub(super) async fn restore(self: &Arc<Self>) -> bool {
        self.count_stored().await;
        let store = self.recorder.store();
        let learning = &self.estimator.learning;
        let has_learned = learning.replay_stored_runs(store, &self.backends).await;
        self.has_learned.store(true, Ordering::Relaxed);
        self.take_over().await && has_learned
    }

    /// Takes over the open jobs that are free, and restores those that are ours, unless memory is newer. Returns whether
    /// the database answered.
    pub(super) async fn take_over(&self) -> bool {
        if !self.has_learned.load(Ordering::Relaxed) {
            // The start is not over.
            return true;
        }
        let store = self.recorder.store();
        let open = match store.take_open_jobs(&self.owner).await {
            Ok(open) => open,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, "cannot read the open jobs from the database");
                return false;
            }
        };
        let ours = open.iter().filter(|row| self.is_ours(row));
        let mut taken: Vec<JobId> = ours.map(|row| row.id.clone()).collect();
        {
            let registry = self.registry();
            taken.retain(|id| !registry.get(id).is_some_and(Entry::is_owned));
        }
        let mut newest = self.broker.newest(&taken).await;
        let mut restored = Vec::new();
        for mut stored in open {
            let id = stored.id.clone();
            if self.is_ours(&stored) {
                if let Some(newest) = newest.remove(&id) {
                    self.catch_up(&mut stored, newest);
                }
                if self.apply_row(stored) {
                    restored.push(id);
                }
            } else if self.registry().get(&id).is_some() {
                self.apply_row(stored);
            }
        }
        if !restored.is_empty() {
            tracing::info!(
                jobs = restored.len(),
                "restored open jobs from the database"
            );
        }
        // If the relay crashed at once, the next start would count states from the same number again.
        if let Some(last) = restored.last() {
            self.await_written(last).await;
        }
        true
    }

    /// Counts the ended jobs in the database that are not in memory.
    pub(super) async fn count_stored(&self) {
        let counted = match self.recorder.store().count_ended(None).await {
            Ok(counted) => counted,
            Err(error) => {
                let error = &error as &dyn Error;
                return tracing::debug!(error, "cannot count the jobs in the database");
            }
        };
        let mut registry = self.registry();
        let mut unwritten: HashMap<Status, usize> = HashMap::new();
        for id in self.recorder.unwritten() {
            if let Some(entry) = registry.get(&id) {
                *unwritten.entry(entry.job.status()).or_default() += 1;
            }
        }
        let others = counted.into_iter().map(|(status, count)| {
            let unwritten = unwritten.get(&status).copied().unwrap_or_default();
            let in_memory = registry.count(status).saturating_sub(unwritten);
            (status, count.saturating_sub(in_memory))
        });
        let others = others.collect();
        registry.stored = others;
        drop(registry);
        self.notify_monitors();
    }

    /// Whether this relay is the owner of a stored job, and may publish it.
    fn is_ours(&self, stored: &StoredJob) -> bool {
        let may_publish = match self.backend_of(stored) {
            Some(backend) => backend.state().lease_held_until.is_some(),
            // Only where no relay follows the backend, this one has taken the job over, to end it.
            None => true,
        };
        may_publish && stored.owner.as_deref() == Some(self.owner.as_str())
    }

    fn backend_of(&self, stored: &StoredJob) -> Option<&Arc<Backend>> {
        let mut backends = self.backends.iter();
        backends.find(|backend| Some(backend.name()) == stored.backend.as_deref())
    }

    /// Brings what is in memory of a job up to date with its row. Returns whether the job was restored, to go on as ours.
    pub(super) fn apply_row(&self, stored: StoredJob) -> bool {
        let row = RowState::of(&stored, self.is_ours(&stored));
        let mut registry = self.registry();
        let held = registry.get(&stored.id).map(Entry::held);
        let is_ended = registry.ended(&stored.id).is_some();
        if held.is_none() && !is_ended && !registry.reserve(&stored.id) {
            // It is being submitted.
            return false;
        }
        match row.meet(held) {
            RowDecision::Keep(ownership) => {
                if let Some(entry) = registry.get_mut(&stored.id) {
                    // An end that was published here while another relay took the job is in no row yet.
                    let is_end_of_reader =
                        ownership == Ownership::Reader && entry.job.status().is_final();
                    entry.is_ahead_of_row |= is_end_of_reader;
                    entry.is_ahead_of_row &= !row.has_ended;
                }
                registry.set_ownership(&stored.id, ownership);
                let is_back = held.is_some_and(|held| held.ownership != ownership)
                    && ownership == Ownership::Owner;
                if let Some(entry) = registry.get_mut(&stored.id).filter(|_| is_back) {
                    // What it has become meanwhile was not recorded.
                    self.publish(entry);
                }
                false
            }
            RowDecision::Restore => {
                self.resume(&mut registry, stored);
                true
            }
            RowDecision::Follow => {
                self.copy_row(&mut registry, stored, held);
                false
            }
            RowDecision::Record => {
                self.record_end(&mut registry, &stored);
                false
            }
        }
    }

    /// Writes the end that is in memory, and was published, into the row that lacks it.
    fn record_end(&self, registry: &mut Registry, stored: &StoredJob) {
        registry.set_ownership(&stored.id, Ownership::Owner);
        if let Some(entry) = registry.get_mut(&stored.id) {
            let end = entry.held().version;
            entry.epoch = stored.epoch;
            entry.is_ahead_of_row = false;
            // Before its state is made, which names the copy.
            self.kept.on_ended(&entry.job);
            // Its owner announces an event with the row that shows it, and this one it could not write.
            entry.publishing.announced = Announced::default();
            if end.is_end_before_others(stored.epoch) {
                entry.job.go_on_from(stored.next_seq(), stored.progress);
                self.replace_end(entry);
            } else {
                // It keeps the number that subscribers have seen.
                entry.job.go_on_from(stored.seq, stored.progress);
                self.record_again(entry);
            }
        }
    }

    /// The job goes on from its row, and this relay publishes it.
    fn resume(&self, registry: &mut Registry, stored: StoredJob) {
        let backend = self.backend_of(&stored).cloned();
        let epoch = stored.epoch;
        let seen = registry.get(&stored.id).map(|entry| &entry.job);
        let seen = seen.map(|job| (job.seq(), job.progress(None, self.now()).progress));
        let mut job = resumed(stored, seen);
        // One that waits in our own queue waits for no backend's answer.
        if job.prompt_id().is_some() && job.wait().is_none() {
            let reachable = backend.as_ref().is_some_and(|it| it.state().api.reachable);
            job.apply(Event::Reachable(reachable), self.now());
        }
        if let Some(backend) = &backend {
            // It may have had no open job, and not have looked at its queue.
            backend.reconcile_soon.notify_one();
        }
        let entry = registry.insert(job, backend, BEFORE_THE_START);
        entry.epoch = epoch;
        // Recorded with its new number, from which the next restart continues.
        self.publish(entry);
    }

    /// The job is in memory as its row shows it.
    fn copy_row(&self, registry: &mut Registry, stored: StoredJob, held: Option<HeldState>) {
        let (id, updated_at) = (stored.id.clone(), stored.updated_at);
        let has_state = held.is_some_and(|held| held.has_ended) || self.reopen(registry, &id);
        let ends_now = stored.status.is_final() && held.is_some_and(|held| !held.has_ended);
        let entry = self.copy(registry, stored);
        if ends_now {
            self.send_end(entry);
        }
        if !has_state {
            self.publish_row(entry, updated_at, held.is_some());
        }
        registry.set_ownership(&id, Ownership::Reader);
    }

    /// Puts a copy of what another relay has into memory. The caller says that it is one, once it has published it.
    pub(super) fn copy<'a>(&self, registry: &'a mut Registry, stored: StoredJob) -> &'a mut Entry {
        let shown = registry.get(&stored.id).map(|entry| entry.job.percent());
        let has_ended = stored.status.is_final();
        // Of a job that runs, neither events nor answers of a backend count: its owner has them.
        let backend = self.backend_of(&stored).filter(|_| has_ended).cloned();
        let stored = raised(stored, shown);
        let epoch = stored.epoch;
        let estimate = StoredEstimate::of(&stored);
        let entry = registry.insert(Job::stored(stored), backend, BEFORE_THE_START);
        entry.epoch = epoch;
        entry.stored_estimate = estimate;
        entry
    }

    /// Brings a job up to date with its row, unless memory is newer.
    pub(super) async fn restore_from_store(&self, id: &JobId) -> Known {
        // A known job is newer than its row, and known also while the database is away.
        let held = self.registry().get_mut(id).map(|entry| {
            entry.asked_at = Instant::now();
            (entry.held(), entry.is_ahead_of_row)
        });
        // An end that was published may not be written.
        let needs_row = |(held, is_ahead_of_row): (HeldState, bool)| {
            held.ownership != Ownership::Owner && (!held.has_ended || is_ahead_of_row)
        };
        if held.is_some_and(|held| !needs_row(held)) {
            return Known::Yes;
        }
        let held = held.map(|(held, _)| held);
        match self.recorder.store().job(id).await {
            Ok(Some(stored)) => {
                let _found = self.look_for_copy(&stored).await;
                self.apply_row(stored);
                // Another job is being submitted under this id, which may fail yet. An ended one may be forgotten again.
                if self.registry().is_reserved(id) {
                    Known::No
                } else {
                    Known::Yes
                }
            }
            Ok(None) => match held {
                Some(held) if held.ownership == Ownership::Reader => Known::Unread,
                Some(_) => Known::Yes,
                None => {
                    // The row was deleted.
                    self.registry().remove_ended(id);
                    Known::No
                }
            },
            Err(_) if held.is_some_and(|it| it.ownership == Ownership::Reader) => Known::Unread,
            Err(_) if held.is_some() => Known::Yes,
            Err(error) => Known::Unreachable(error),
        }
    }

    /// Writes the row of a job that another relay has published and not written: it may have ended before. A job of another
    /// prompt than `prompt_id` is another job. Returns whether there is a row.
    pub(super) async fn write_published(
        &self,
        id: &JobId,
        prompt_id: Option<&str>,
    ) -> Result<bool, StoreError> {
        let published = self.published_elsewhere(id).await;
        let is_it = |job: &Job| prompt_id.is_none() || job.prompt_id() == prompt_id;
        let Some((job, epoch)) = published.filter(|(job, _)| is_it(job)) else {
            return Ok(false);
        };
        let store = self.recorder.store();
        // A relay writes what it has published a moment later.
        let until = Instant::now() + WRITE_TIMEOUT;
        let mut row = store.job(id).await?;
        while row.is_none() && Instant::now() < until {
            sleep(ROW_PAUSE).await;
            row = store.job(id).await?;
        }
        if row.is_none() {
            let progress = job.progress(None, self.now());
            // Of a job that goes on, this relay announces everything when it publishes it.
            let mut announced = Announced::default();
            let deliveries = if progress.status.is_final() {
                self.webhooks.announce(&job, &mut announced, &progress)
            } else {
                Vec::new()
            };
            let writer = (&self.owner, epoch + 1);
            let mut record = stored_job::record(&job, None, progress, writer);
            record.deliveries = deliveries;
            store.add_job(&record).await?;
            tracing::info!(job_id = %id, "wrote a job that another relay had published and not written");
            row = store.job(id).await?;
        }
        let has_row = row.is_some();
        row.map(|row| self.apply_row(row));
        Ok(has_row)
    }

    /// A job as another relay has published it, and its epoch: as Redis keeps it, or else the copy in memory.
    async fn published_elsewhere(&self, id: &JobId) -> Option<(Job, u64)> {
        if self.broker.is_connected()
            && let Some(newest) = self.broker.newest(slice::from_ref(id)).await.remove(id)
        {
            let epoch = newest.stored.epoch;
            return Some((Job::stored(newest.stored), epoch));
        }
        let registry = self.registry();
        let copy = registry.get(id)?;
        (copy.ownership == Ownership::Reader).then(|| (copy.job.clone(), copy.epoch))
    }

    /// Reads the rows of jobs, and brings memory up to date with them.
    pub(super) async fn read_rows(&self, ids: &[JobId]) -> Result<(), StoreError> {
        for stored in self.recorder.store().jobs_with_ids(ids).await? {
            let _found = self.look_for_copy(&stored).await;
            self.apply_row(stored);
        }
        Ok(())
    }
}

/// Whether there is a job with an id.
#[derive(Debug)]
pub(super) enum Known {
    /// There is, and it is in memory.
    Yes,
    /// There is, and it is in memory as another relay has published it. Its row was not read: there is none, or the database
    /// does not answer.
    Unread,
    /// There is none.
    No,
    /// The database, which may have it, does not answer.
    Unreachable(StoreError),
}
