//! Other relays on the same database: this one is registered among them, takes over the jobs of those that have ended, and
//! follows the jobs of those that run from their rows.

use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

use super::Relay;
use super::feed::NEWS_AGE;
use super::ownership::Ownership;
use super::peer_watch::renewal;
use super::relay_list::RelayList;
use super::tracker::Tracker;
use crate::job::{JobId, Status, StoredJob};
use crate::store::StoreError;

/// The pause before rows are read again that could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// How long shutdown waits for the database to end the registration.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many of the newest jobs are read for feeds.
const MAX_NEW: i64 = 200;

/// How many jobs without a state are looked for at once at most.
const MAX_AWAITED: usize = 1_000;

impl Relay {
    /// Keeps the relay registered until it stops.
    pub(super) async fn keep_registered(self) {
        let tracker = &self.0.tracker;
        tokio::select! {
            () = self.0.stop.cancelled() => return,
            () = tracker.recorder.ready() => {}
        }
        let lasts = self.0.comfy.lease;
        tracker.register_relay(lasts).await;
        loop {
            // The first renewal comes at once: it shows whether there are others.
            tracker.register_relay(lasts).await;
            let next = Instant::now() + renewal(lasts);
            // A database that counts slowly does not hold up the next renewal.
            let _ = timeout_at(next, self.exchange_counts()).await;
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Has other relays know how many subscribers there are, and lists them and the newest jobs; reads the same of the others.
    async fn exchange_counts(&self) {
        let tracker = &self.0.tracker;
        if !tracker.peers.has_others() {
            return;
        }
        let Some(list) = self.own_list() else {
            return;
        };
        let connections = tracker.hub.count();
        let store = tracker.recorder.store();
        let exchanging =
            store.exchange_counts(&tracker.owner, connections.total, connections.jobs, &list);
        match exchanging.await {
            Ok((mut counts, lists)) => {
                {
                    // Copies of their jobs are counted here.
                    let registry = tracker.registry();
                    let copies = |status| {
                        let unowned = registry.unowned();
                        let copies = unowned.filter(|entry| entry.ownership == Ownership::Reader);
                        copies.filter(|entry| entry.job.status() == status).count()
                    };
                    counts.queued = counts.queued.saturating_sub(copies(Status::Queued));
                    counts.processing =
                        counts.processing.saturating_sub(copies(Status::Processing));
                }
                let lists = lists.iter().filter_map(|list| RelayList::read(list));
                tracker.peers.counted(counts, lists.collect());
                tracker.notify_monitors();
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot ask what other relays have, retrying");
            }
        }
    }

    /// Reads the rows that turned out to be newer than memory, as soon as that is known.
    pub(super) async fn read_moved(self) {
        let tracker = &self.0.tracker;
        loop {
            let moved = tokio::select! {
                () = self.0.stop.cancelled() => return,
                moved = tracker.recorder.moved() => moved,
            };
            match tracker.read_rows(&moved).await {
                Ok(()) => tracker.recorder.forget_moved(&moved),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn Error,
                        "cannot read jobs that another relay has, retrying"
                    );
                    tokio::select! {
                        () = self.0.stop.cancelled() => return,
                        () = sleep(READ_PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Follows the jobs of other relays from the database, while somebody follows them here.
    pub(super) async fn follow_rows(self) {
        let tracker = &self.0.tracker;
        let mut tick = interval(self.0.config.look_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let ids = tracker.followed_rows();
            let read = async {
                tracker.read_rows(&ids).await?;
                if tracker.peers.has_others() {
                    tracker.read_open_rows().await?;
                    tracker.read_new_rows().await?;
                    self.follow_cancel_requests().await?;
                    tracker.take_registered_elsewhere().await?;
                }
                Ok(())
            };
            let read: Result<(), StoreError> = read.await;
            if let Err(error) = read {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot read the jobs of other relays, retrying");
            }
        }
    }
}

impl Tracker {
    /// Registers this relay, or renews that. Takes over the jobs of relays that have ended.
    pub(super) async fn register_relay(&self, lasts: Duration) {
        let sent_at = Instant::now();
        let registering = self.recorder.store().register_relay(&self.owner, lasts);
        let registration = match timeout(renewal(lasts), registering).await {
            Ok(Ok(registration)) => registration,
            Ok(Err(error)) => {
                self.peers.failed();
                let error = &error as &dyn Error;
                return tracing::debug!(error, "cannot register among the relays, retrying");
            }
            Err(_) => {
                self.peers.failed();
                return tracing::debug!(
                    "the database did not register this relay in time, retrying"
                );
            }
        };
        let now = Instant::now();
        if self.peers.registered(&registration, sent_at, now, lasts) {
            self.take_over().await;
        }
        if !registration.was_held {
            // Others may have taken it for dead meanwhile.
            let owned = self.owned_reports();
            if let Err(error) = self.read_rows(&owned).await {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot read our jobs from the database");
            }
        }
    }

    /// Ends the registration, so that other relays need not wait until it does.
    pub(super) async fn leave_peers(&self) {
        let leaving = self.recorder.store().remove_relay(&self.owner);
        if !matches!(timeout(LEAVE_TIMEOUT, leaving).await, Ok(Ok(()))) {
            tracing::debug!("cannot end the registration of this relay; it will expire");
        }
    }

    /// The jobs whose rows are to be read. Forgets copies of rows that nobody follows.
    fn followed_rows(&self) -> Vec<JobId> {
        let mut registry = self.registry();
        let unowned = registry.unowned();
        let unowned: Vec<(JobId, bool, bool)> = unowned
            .map(|entry| {
                // Until the row shows an end that was received, only this relay may know of it. A client of ComfyUI's API is sent
                // the end by the relay at which it has its socket.
                let is_copy = entry.ownership == Ownership::Reader
                    && !entry.is_ahead_of_row
                    && !self.tap.has_client_of(entry.job.tags());
                (entry.job.id().clone(), is_copy, self.is_row_due(entry))
            })
            .collect();
        let (mut ids, mut shared) = (Vec::new(), Vec::new());
        for (id, is_copy, is_due) in unowned {
            if is_copy && self.hub.forget_unfollowed(&id) {
                registry.remove(&id);
            } else if is_due {
                ids.push(id);
            } else {
                shared.push(id);
            }
        }
        drop(registry);
        let awaited = self.awaited();
        if !self.broker.is_alone() {
            let followed = ids.iter().chain(&shared).chain(&awaited);
            self.broker.follow_only(followed.cloned());
        }
        if self.peers.has_others() {
            ids.extend(self.owned_reports());
            ids.extend(awaited);
        }
        ids
    }

    /// The jobs without a state that somebody follows here: another relay may have them.
    fn awaited(&self) -> Vec<JobId> {
        if self.peers.has_others() || !self.broker.is_alone() {
            self.hub.awaited(MAX_AWAITED)
        } else {
            Vec::new()
        }
    }

    /// Reads the open jobs of other relays, if feeds of all jobs are followed here.
    async fn read_open_rows(&self) -> Result<(), StoreError> {
        if self.registry().has_feeds() {
            self.take_new_rows(self.recorder.store().open_jobs().await?);
        }
        Ok(())
    }

    /// Reads the jobs that were registered just now, those that have ended included, if feeds of all jobs are followed here.
    pub(super) async fn read_new_rows(&self) -> Result<(), StoreError> {
        if let Ok(since) = self.now().checked_sub(NEWS_AGE)
            && self.registry().has_feeds()
        {
            self.take_new_rows(self.recorder.store().jobs_since(since, MAX_NEW).await?);
        }
        Ok(())
    }

    /// Takes rows into memory that are not there yet.
    fn take_new_rows(&self, rows: Vec<StoredJob>) {
        for stored in rows {
            let id = stored.id.clone();
            if self.registry().remembered(&id).is_none() {
                self.apply_row(stored);
                self.follow_elsewhere(&id);
            }
        }
    }

    /// Takes over jobs on our backends that other relays have registered.
    pub(super) async fn take_registered_elsewhere(&self) -> Result<(), StoreError> {
        let store = self.recorder.store();
        if store.has_jobs_of_others(&self.owner).await? {
            self.take_over().await;
        }
        Ok(())
    }

    /// Our open jobs of producers that are not ComfyUI: they may report to another relay.
    fn owned_reports(&self) -> Vec<JobId> {
        let registry = self.registry();
        let owned = registry
            .open_without_backend()
            .filter(|entry| entry.is_owned() && entry.job.prompt_id().is_none());
        owned.map(|entry| entry.job.id().clone()).collect()
    }
}
