//! What is between a relay and the database, Redis and the ComfyUI servers: delays, cuts, and connections that are half open.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{Notify, oneshot};

use super::cluster::World;

/// How long a message takes at most on a link that is as it should be, in milliseconds.
const DELAY_MS: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Database,
    Redis,
    Comfy(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkCondition {
    Up,
    /// A message takes this many milliseconds at most.
    Slow(u64),
    /// Connections are closed, and none is accepted.
    Cut,
    /// Nothing arrives, and neither side learns of it.
    HalfOpen,
}

pub(super) struct SimulatedLink {
    state: Cell<LinkCondition>,
    /// Each loss of its connections begins another one.
    generation: Cell<u64>,
    changed: Notify,
}

/// The links of all relays.
#[derive(Default)]
pub(super) struct Network(RefCell<BTreeMap<(usize, Peer), Rc<SimulatedLink>>>);

impl Network {
    pub(super) fn link(&self, relay: usize, peer: Peer) -> Rc<SimulatedLink> {
        let mut links = self.0.borrow_mut();
        let link = links.entry((relay, peer)).or_insert_with(|| {
            Rc::new(SimulatedLink {
                state: Cell::new(LinkCondition::Up),
                generation: Cell::new(0),
                changed: Notify::new(),
            })
        });
        link.clone()
    }
}

impl SimulatedLink {
    pub(super) fn set(&self, state: LinkCondition) {
        if matches!(state, LinkCondition::Cut | LinkCondition::HalfOpen) {
            self.generation.set(self.generation.get() + 1);
        }
        self.state.set(state);
        self.changed.notify_waiters();
    }

    /// Closes all connections; new ones are accepted.
    pub(super) fn reset(&self) {
        self.generation.set(self.generation.get() + 1);
        self.changed.notify_waiters();
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    fn passes(&self, generation: u64) -> bool {
        let is_open = matches!(self.state.get(), LinkCondition::Up | LinkCondition::Slow(_));
        is_open && self.generation.get() == generation
    }

    /// Whether a relay learns by itself that a connection is lost.
    fn is_lost(&self, generation: u64) -> bool {
        self.generation.get() != generation && self.state.get() != LinkCondition::HalfOpen
    }
}

/// What a peer sends over one connection, in order.
pub(super) struct Pipe<T> {
    world: Rc<World>,
    link: Rc<SimulatedLink>,
    generation: u64,
    arrives: Cell<Duration>,
    arrived: RefCell<VecDeque<T>>,
    notify: Notify,
}

impl<T: 'static> Pipe<T> {
    pub(super) fn new(world: &Rc<World>, relay: usize, peer: Peer) -> Rc<Self> {
        let link = world.network.link(relay, peer);
        Rc::new(Self {
            world: world.clone(),
            generation: link.generation(),
            link,
            arrives: Cell::default(),
            arrived: RefCell::default(),
            notify: Notify::new(),
        })
    }

    /// Whether the peer still has the connection.
    pub(super) fn is_open(&self) -> bool {
        self.link.generation() == self.generation
    }

    pub(super) fn send(self: &Rc<Self>, item: T) {
        let clock = &self.world.executor.clock;
        let moment = clock.now() + self.world.delay(&self.link);
        self.arrives.set(self.arrives.get().max(moment));
        let (pipe, timer) = (self.clone(), clock.sleep_until(self.arrives.get()));
        self.world.executor.spawn(None, async move {
            timer.await;
            if pipe.link.passes(pipe.generation) {
                pipe.arrived.borrow_mut().push_back(item);
                pipe.notify.notify_one();
            }
        });
    }

    /// The next item; `None` once the connection is known to be lost.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            let arrived = self.arrived.borrow_mut().pop_front();
            if arrived.is_some() {
                return arrived;
            }
            if self.link.is_lost(self.generation) {
                return None;
            }
            tokio::select! {
                biased;
                () = self.notify.notified() => {}
                () = self.link.changed.notified() => {}
            }
        }
    }
}

impl World {
    fn delay(&self, link: &SimulatedLink) -> Duration {
        let most = match link.state.get() {
            LinkCondition::Slow(most) => most,
            _ => DELAY_MS,
        };
        Duration::from_millis(self.rng.borrow_mut().random_range(1..=most))
    }

    /// Asks a peer, which does `action` when the question arrives, whatever becomes of the relay. `None` if no answer comes in
    /// time.
    pub(super) async fn call<T: 'static>(
        self: &Rc<Self>,
        (relay, peer): (usize, Peer),
        limit: Duration,
        action: impl FnOnce(&Rc<Self>) -> T + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let (world, link) = (self.clone(), self.network.link(relay, peer));
        let generation = link.generation();
        self.executor.spawn(None, async move {
            let clock = &world.executor.clock;
            clock.sleep(world.delay(&link)).await;
            if link.passes(generation) {
                let answer = action(&world);
                clock.sleep(world.delay(&link)).await;
                if link.passes(generation) {
                    let _ = sender.send(answer);
                    return;
                }
            }
            if link.state.get() == LinkCondition::HalfOpen {
                // Nobody says that the connection is gone.
                let _ = clock.timeout(limit, pending::<()>()).await;
            }
        });
        let answer = self.executor.clock.timeout(limit, answer).await;
        answer?.ok()
    }
}
