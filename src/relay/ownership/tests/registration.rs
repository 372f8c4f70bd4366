//! A client registers a job at a relay.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cluster::job_id;
use super::database::owner;
use super::held_job::HeldJob;
use super::network::Peer;
use super::process::SimulatedRelay;
use super::redis::message;
use super::tasks::{DATABASE_TIMEOUT, REDIS_TIMEOUT};
use crate::broker;
use crate::job::{Job, StoredJob};
use crate::relay::backend::Lease;
use crate::relay::ownership::Ownership;

/// How long a caller waits until what it is promised is written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

const LOOK_PAUSE: Duration = Duration::from_millis(100);

impl SimulatedRelay {
    /// As `Relay::register`. Returns whether the answer is that the job is written.
    pub(super) async fn register(&self, number: usize, backend: usize) -> bool {
        let ownership = |process: &Self| {
            let jobs = process.jobs.borrow();
            jobs.get(&number).map(|held| held.ownership)
        };
        let mut has_row = true;
        if ownership(self) != Some(Ownership::Owner) {
            let found = match self.read_row(number).await {
                Some(false) => self.write_published(number).await,
                found => found,
            };
            has_row = found == Some(true);
            if found.is_none() && ownership(self).is_none() {
                return false;
            }
        }
        match ownership(self) {
            Some(Ownership::Reader) => return has_row,
            Some(_) => {}
            None => self.add_job(number, backend),
        }
        self.is_written(number).await
    }

    fn add_job(&self, number: usize, backend: usize) {
        let registrations = &self.world.registrations[number];
        registrations.set(registrations.get() + 1);
        let job = Job::new(job_id(number), self.world.now());
        let job = job.on_backend(&backend.to_string(), "prompt");
        let mut held = HeldJob::new(job, 1, Ownership::Owner, true);
        self.publish(&mut held);
        let lease = &self.leases[backend];
        if lease.lease.get() == Lease::HeldByPeer {
            held.ownership = Ownership::FormerOwner;
        }
        self.jobs.borrow_mut().insert(number, held);
        lease.reconcile_now.notify_one();
    }

    /// Reads the row of a job. Returns whether there is one; `None` if the database does not answer.
    async fn read_row(&self, number: usize) -> Option<bool> {
        let row = self.stored(number).await?;
        let has_row = row.is_some();
        row.into_iter().for_each(|row| self.apply_row(row));
        Some(has_row)
    }

    async fn stored(&self, number: usize) -> Option<Option<StoredJob>> {
        let peer = (self.name.0, Peer::Database);
        let reading = self.world.call(peer, DATABASE_TIMEOUT, move |world| {
            world.database.borrow().rows.get(&number).cloned()
        });
        reading.await
    }

    /// As `Tracker::write_published`.
    async fn write_published(&self, number: usize) -> Option<bool> {
        let Some(published) = self.published_elsewhere(number).await else {
            return Some(false);
        };
        let clock = &self.world.executor.clock;
        let until = clock.now() + WRITE_TIMEOUT;
        while self.stored(number).await?.is_none() && clock.now() < until {
            clock.sleep(LOOK_PAUSE).await;
        }
        let row = StoredJob {
            owner: Some(owner(self.name)),
            epoch: published.epoch + 1,
            ..published
        };
        let peer = (self.name.0, Peer::Database);
        let adding = self.world.call(peer, DATABASE_TIMEOUT, move |world| {
            let mut database = world.database.borrow_mut();
            if !database.rows.contains_key(&number) {
                database.upsert(vec![row], |job| world.true_end(job));
            }
        });
        adding.await?;
        self.read_row(number).await
    }

    /// As `Tracker::published_elsewhere`.
    async fn published_elsewhere(&self, number: usize) -> Option<StoredJob> {
        let read = |message: &[u8]| broker::read(&job_id(number), message).unwrap().stored;
        if self.is_publishing.get() && self.is_receiving.get() {
            let peer = (self.name.0, Peer::Redis);
            let asking = self.world.call(peer, REDIS_TIMEOUT, move |world| {
                world.redis.borrow().newest(&BTreeSet::from([number]))
            });
            if let Some((_, kept)) = asking.await.unwrap_or_default().pop() {
                return Some(read(&kept));
            }
        }
        let jobs = self.jobs.borrow();
        let copy = jobs.get(&number)?;
        let (_, state) = self.newest_state(copy);
        let is_copy = copy.ownership == Ownership::Reader;
        is_copy.then(|| read(&message(&state, &owner(self.name))))
    }

    /// As `Tracker::await_written`.
    async fn is_written(&self, number: usize) -> bool {
        let clock = &self.world.executor.clock;
        let until = clock.now() + WRITE_TIMEOUT;
        while self.unwritten.borrow().contains_key(&number) && clock.now() < until {
            clock.sleep(LOOK_PAUSE).await;
        }
        !self.unwritten.borrow().contains_key(&number)
    }
}
