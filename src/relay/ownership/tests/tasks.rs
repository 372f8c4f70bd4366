//! The tasks of a relay that reach the database and Redis, as the relay has them.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::cluster::{LEASE, job_id, job_number};
use super::database::owner;
use super::network::{Peer, Pipe};
use super::process::SimulatedRelay;
use super::redis::{Message, message};
use crate::broker;
use crate::relay::backend::Lease;
use crate::relay::backend::lease::{FirstRead, LeaseRenewal};

/// How long an answer of the database is waited for.
pub(super) const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for one of Redis.
pub(super) const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long nothing comes over a connection to Redis before it is checked.
const PING_INTERVAL: Duration = Duration::from_secs(1);

const BATCH_INTERVAL: Duration = Duration::from_millis(250);
const RENEWAL: Duration = Duration::from_secs(3);
const READ_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(700);

impl SimulatedRelay {
    fn database(&self) -> (usize, Peer) {
        (self.name.0, Peer::Database)
    }

    fn redis(&self) -> (usize, Peer) {
        (self.name.0, Peer::Redis)
    }

    async fn sleep(&self, pause: Duration) {
        self.world.executor.clock.sleep(pause).await;
    }

    /// As `Follower::keep_lease`.
    pub(super) async fn keep_lease(self: Rc<Self>, backend: usize) {
        loop {
            self.renew_lease(backend).await;
            let clock = &self.world.executor.clock;
            let next = clock.now() + RENEWAL;
            let held_until = self.leases[backend].held_until.get();
            let held_until = held_until.map(|until| self.world.since_start(until));
            let next = held_until.map_or(next, |until| until.min(next));
            clock.sleep_until(next).await;
        }
    }

    /// As `Follower::renew_lease`.
    async fn renew_lease(&self, backend: usize) {
        let (name, held) = (self.name, &self.leases[backend]);
        let asked_at = self.world.instant();
        let asking = self.world.call(self.database(), RENEWAL, move |world| {
            let now = world.executor.clock.now();
            world.database.borrow_mut().take_lease(backend, name, now)
        });
        let answer = asking.await.map(|is_held| {
            if is_held {
                Lease::Held
            } else {
                Lease::HeldByPeer
            }
        });
        let before = held.lease.get();
        let moments = (asked_at, self.world.instant());
        let renewal = LeaseRenewal::of(answer, held.held_until.get(), moments, LEASE);
        let Some(renewal) = renewal else {
            return;
        };
        let lease = renewal.lease;
        if renewal.is_loss(held.held_until.replace(renewal.held_until)) {
            self.give_up(backend);
        }
        if before == lease {
            return;
        }
        let is_read = match FirstRead::of(before, lease) {
            FirstRead::Everything | FirstRead::OpenJobs => self.take_over().await,
            FirstRead::Nothing => true,
        };
        if !is_read {
            return;
        }
        held.lease.set(lease);
        held.changed.notify_one();
        if lease.stands_by() {
            self.give_up(backend);
        }
        if before.stands_by() {
            held.reconcile_now.notify_one();
        }
    }

    /// As `Tracker::take_over`.
    async fn take_over(&self) -> bool {
        let name = self.name;
        let asking = self
            .world
            .call(self.database(), DATABASE_TIMEOUT, move |world| {
                world.database.borrow_mut().take_open_jobs(name)
            });
        let Some(open) = asking.await else {
            return false;
        };
        let is_taken = |number: &usize| {
            let jobs = self.jobs.borrow();
            !jobs.get(number).is_some_and(|held| held.is_owned())
        };
        let ours = open.iter().filter(|row| self.is_ours(row));
        let taken: BTreeSet<usize> = ours
            .map(|row| job_number(&row.id))
            .filter(is_taken)
            .collect();
        let mut newest = Vec::new();
        if !taken.is_empty() {
            let asking = self.world.call(self.redis(), REDIS_TIMEOUT, move |world| {
                world.redis.borrow().newest(&taken)
            });
            newest = asking.await.unwrap_or_default();
        }
        for mut stored in open {
            let number = job_number(&stored.id);
            if self.is_ours(&stored) {
                if let Some((_, message)) = newest.iter().find(|(job, _)| *job == number) {
                    let newest = broker::read(&stored.id, message).unwrap();
                    self.catch_up(&mut stored, newest);
                }
                self.apply_row(stored);
            } else if self.jobs.borrow().contains_key(&number) {
                self.apply_row(stored);
            }
        }
        true
    }

    /// As `Recorder::run`.
    pub(super) async fn write(self: Rc<Self>) {
        loop {
            while self.unwritten.borrow().is_empty() {
                self.recorded.notified().await;
            }
            let is_urgent = self.unwritten.borrow().values().any(|it| it.is_final);
            if !is_urgent {
                self.sleep(BATCH_INTERVAL).await;
            }
            let batch = self.unwritten.borrow().clone();
            let (states, owner) = (batch.clone(), owner(self.name));
            let writing = self
                .world
                .call(self.database(), DATABASE_TIMEOUT, move |world| {
                    let rows = states.values().map(|state| {
                        let message = message(state, &owner);
                        broker::read(&state.job, &message).unwrap().stored
                    });
                    let mut database = world.database.borrow_mut();
                    database.upsert(rows.collect(), |job| world.true_end(job))
                });
            match writing.await {
                Some(moved) => {
                    self.unwritten.borrow_mut().retain(|number, state| {
                        let written = batch.get(number).map(|written| written.position);
                        written != Some(state.position)
                    });
                    self.moved.borrow_mut().extend(moved);
                    self.has_moved.notify_one();
                }
                None => self.sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// As `Tracker::read_rows`. Returns whether the database has answered.
    async fn read_rows(&self, ids: BTreeSet<usize>) -> bool {
        if ids.is_empty() {
            return true;
        }
        let reading = self
            .world
            .call(self.database(), DATABASE_TIMEOUT, move |world| {
                let database = world.database.borrow();
                let rows = ids.iter().filter_map(|id| database.rows.get(id).cloned());
                rows.collect::<Vec<_>>()
            });
        let Some(rows) = reading.await else {
            return false;
        };
        rows.into_iter().for_each(|row| self.apply_row(row));
        true
    }

    /// As `Relay::read_moved`.
    pub(super) async fn read_moved(self: Rc<Self>) {
        loop {
            let moved = self.moved.borrow().clone();
            if moved.is_empty() {
                self.has_moved.notified().await;
            } else if self.read_rows(moved.clone()).await {
                self.moved.borrow_mut().retain(|id| !moved.contains(id));
            } else {
                self.sleep(READ_INTERVAL).await;
            }
        }
    }

    /// As `Relay::follow_rows`, and `Relay::heartbeat`.
    pub(super) async fn follow_rows(self: Rc<Self>) {
        loop {
            self.sleep(READ_INTERVAL).await;
            self.beat();
            let due = self.followed_rows();
            if !self.read_rows(due).await {
                continue;
            }
            let name = self.name;
            let asking = self
                .world
                .call(self.database(), DATABASE_TIMEOUT, move |world| {
                    let now = world.executor.clock.now();
                    world.database.borrow().has_jobs_of_others(name, now)
                });
            if asking.await == Some(true) {
                self.take_over().await;
            }
        }
    }

    /// As `RedisShared::keep_publishing`.
    pub(super) async fn share(self: Rc<Self>) {
        let link = self.world.network.link(self.name.0, Peer::Redis);
        loop {
            let connection = link.generation();
            if !self.ping().await {
                self.sleep(RETRY_PAUSE).await;
                continue;
            }
            self.is_publishing.set(true);
            self.share_open();
            loop {
                let clock = &self.world.executor.clock;
                let states = clock.timeout(PING_INTERVAL, self.outbox.take(200)).await;
                if link.generation() != connection {
                    states
                        .into_iter()
                        .flatten()
                        .for_each(|it| self.outbox.put_back(it));
                    break;
                }
                let Some(states) = states else {
                    continue;
                };
                let (sent, owner) = (states.clone(), owner(self.name));
                let publishing = self.world.call(self.redis(), REDIS_TIMEOUT, move |world| {
                    let mut redis = world.redis.borrow_mut();
                    sent.iter().for_each(|state| redis.publish(state, &owner));
                });
                if publishing.await.is_none() {
                    states.into_iter().for_each(|it| self.outbox.put_back(it));
                    break;
                }
            }
            self.is_publishing.set(false);
        }
    }

    async fn ping(&self) -> bool {
        let pinging = self.world.call(self.redis(), REDIS_TIMEOUT, |_| ());
        pinging.await.is_some()
    }

    /// As `RedisShared::keep_receiving`.
    pub(super) async fn receive(self: Rc<Self>) {
        loop {
            self.receive_until_lost().await;
            self.is_receiving.set(false);
            self.sleep(RETRY_PAUSE).await;
        }
    }

    async fn receive_until_lost(&self) {
        let pipe: Rc<Pipe<Message>> = Pipe::new(&self.world, self.name.0, Peer::Redis);
        loop {
            let (subscribing, channels) = (pipe.clone(), self.channels.borrow().clone());
            let asking = self.world.call(self.redis(), REDIS_TIMEOUT, move |world| {
                world.redis.borrow_mut().subscribe(&subscribing, &channels)
            });
            let Some(kept) = asking.await else {
                return;
            };
            self.is_receiving.set(true);
            kept.into_iter().for_each(|message| self.take_in(message));
            loop {
                let next = self
                    .world
                    .executor
                    .clock
                    .timeout(PING_INTERVAL, pipe.next());
                tokio::select! {
                    biased;
                    () = self.channels_changed.notified() => break,
                    next = next => match next {
                        Some(Some(message)) => self.take_in(message),
                        Some(None) => return,
                        None if self.ping().await => {}
                        None => return,
                    }
                }
            }
        }
    }

    /// As `RedisShared::take_in`.
    fn take_in(&self, (number, message): Message) {
        let state = broker::read(&job_id(number), &message).unwrap();
        if state.stored.owner.as_deref() != Some(owner(self.name).as_str()) {
            self.inbox.put(state);
        }
    }

    /// As `Relay::follow_states`.
    pub(super) async fn follow_states(self: Rc<Self>) {
        loop {
            let received = self.inbox.take(usize::MAX).await;
            received.into_iter().for_each(|it| self.apply_received(it));
        }
    }

    /// Sends subscribers what the hub has for them.
    pub(super) async fn deliver(self: Rc<Self>) {
        loop {
            self.delivered.0.notified().await;
            for (id, mut pending) in self.mailbox.take() {
                while let Some(update) = pending.pop() {
                    let crate::hub::Update::State(state) = update else {
                        continue;
                    };
                    let mut subscribers = self.subscribers.borrow_mut();
                    for it in subscribers
                        .iter_mut()
                        .filter(|it| it.job == job_number(&id))
                    {
                        it.see(&self.world, self.name, &state);
                    }
                }
            }
        }
    }
}
