//! A relay's process: what it has in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Wake;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cluster::{BACKENDS, World, job_id, job_number};
use super::held_job::HeldJob;
use super::model::Name;
use super::subscriber::SimulatedSubscriber;
use crate::broker::{JobState, ReceivedState, StateQueue};
use crate::hub::{Hub, Mailbox};
use crate::relay::backend::Lease;
use crate::relay::ownership::Ownership;
use crate::relay::shared_states::is_silent;

/// How many states of a job its subscribers may lag behind.
const MAX_PENDING: usize = 4;

pub(super) struct SimulatedRelay {
    pub(super) world: Rc<World>,
    pub(super) name: Name,
    pub(super) jobs: RefCell<BTreeMap<usize, HeldJob>>,
    pub(super) leases: [HeldLease; BACKENDS],
    pub(super) hub: Hub,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) delivered: Arc<Delivery>,
    pub(super) subscribers: RefCell<Vec<SimulatedSubscriber>>,
    pub(super) outbox: StateQueue<JobState>,
    pub(super) inbox: StateQueue<ReceivedState>,
    /// The newest states that are not written.
    pub(super) unwritten: RefCell<BTreeMap<usize, JobState>>,
    pub(super) recorded: Notify,
    /// The jobs whose rows are newer than what was to be written.
    pub(super) moved: RefCell<BTreeSet<usize>>,
    pub(super) has_moved: Notify,
    /// The jobs whose states it receives over Redis.
    pub(super) channels: RefCell<BTreeSet<usize>>,
    pub(super) channels_changed: Notify,
    pub(super) is_publishing: Cell<bool>,
    pub(super) is_receiving: Cell<bool>,
}

pub(super) struct HeldLease {
    pub(super) lease: Cell<Lease>,
    pub(super) held_until: Cell<Option<Instant>>,
    pub(super) changed: Notify,
    pub(super) reconcile_now: Notify,
}

/// Woken when the hub has something for subscribers.
pub(super) struct Delivery(pub(super) Notify);

impl Wake for Delivery {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl SimulatedRelay {
    pub(super) fn new(world: &Rc<World>, name: Name) -> Self {
        let delivered = Arc::new(Delivery(Notify::new()));
        Self {
            world: world.clone(),
            name,
            jobs: RefCell::default(),
            leases: std::array::from_fn(|_| HeldLease {
                lease: Cell::new(Lease::Unknown),
                held_until: Cell::new(None),
                changed: Notify::new(),
                reconcile_now: Notify::new(),
            }),
            hub: Hub::new(1),
            mailbox: Arc::new(Mailbox::new(delivered.clone().into(), MAX_PENDING)),
            delivered,
            subscribers: RefCell::default(),
            outbox: StateQueue::new(Counter::default()),
            inbox: StateQueue::new(Counter::default()),
            unwritten: RefCell::default(),
            recorded: Notify::new(),
            moved: RefCell::default(),
            has_moved: Notify::new(),
            channels: RefCell::default(),
            channels_changed: Notify::new(),
            is_publishing: Cell::new(false),
            is_receiving: Cell::new(false),
        }
    }

    /// A client follows a job here.
    pub(super) fn subscribe(&self, number: usize) {
        let subscription = self
            .hub
            .subscribe_shared(&job_id(number), self.mailbox.clone());
        let newest = subscription.newest();
        let mut subscriber = SimulatedSubscriber::new(number, subscription);
        if let Some(state) = newest {
            subscriber.see(&self.world, self.name, &state);
        }
        self.subscribers.borrow_mut().push(subscriber);
        let is_ours = |held: &HeldJob| held.is_owned() || held.job.status().is_final();
        if !self.jobs.borrow().get(&number).is_some_and(is_ours)
            && self.channels.borrow_mut().insert(number)
        {
            self.channels_changed.notify_one();
        }
    }

    /// As `Registry::give_up`.
    pub(super) fn give_up(&self, backend: usize) {
        for held in self.jobs.borrow_mut().values_mut() {
            let is_open = !held.job.status().is_final() && held.has_backend;
            if is_open && held.is_owned() && held.backend() == backend {
                held.ownership = Ownership::FormerOwner;
            }
        }
    }

    /// As `Tracker::followed_rows`.
    pub(super) fn followed_rows(&self) -> BTreeSet<usize> {
        let mut jobs = self.jobs.borrow_mut();
        let is_connected = self.is_publishing.get() && self.is_receiving.get();
        let (mut due, mut followed) = (BTreeSet::new(), BTreeSet::new());
        jobs.retain(|number, held| {
            let is_copy = held.ownership == Ownership::Reader;
            let is_at_its_end = held.job.status().is_final() && !held.is_ahead_of_row;
            if held.is_owned() || is_copy && is_at_its_end {
                return true;
            }
            if is_copy && !held.is_ahead_of_row && self.hub.forget_unfollowed(held.job.id()) {
                return false;
            }
            let silence = self.world.executor.clock.now() - held.published_at;
            if is_silent(held.job.status(), is_connected, silence) {
                due.insert(*number);
            }
            followed.insert(*number);
            true
        });
        let awaited = self.hub.awaited(usize::MAX);
        let awaited: BTreeSet<usize> = awaited.iter().map(job_number).collect();
        followed.extend(&awaited);
        due.extend(awaited);
        if self.channels.replace(followed.clone()) != followed {
            self.channels_changed.notify_one();
        }
        due
    }

    /// The open jobs of a backend for which its answers count.
    pub(super) fn open_of(&self, backend: usize) -> Vec<usize> {
        let jobs = self.jobs.borrow();
        let open = jobs.iter().filter(|(_, held)| {
            let is_open = held.has_backend && !held.job.status().is_final();
            is_open && held.backend() == backend
        });
        open.map(|(number, _)| *number).collect()
    }
}
