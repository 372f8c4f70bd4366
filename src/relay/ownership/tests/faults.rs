//! What goes wrong: relays are killed and frozen, links are cut, slow or half open, and Redis loses all it has.

use std::rc::Rc;
use std::time::Duration;

use super::cluster::{RELAYS, World};
use super::network::{LinkCondition, Peer};

/// How long a fault lasts at most, in milliseconds: longer than a lease.
const FAULT_MS: u64 = 15_000;

/// The longest time between two faults, in milliseconds.
const PAUSE_MS: u64 = 4_000;

/// How long one lasts at most.
pub(super) const LONGEST_FAULT: Duration = Duration::from_millis(FAULT_MS);

impl World {
    /// Makes faults, one after another; they overlap, and each ends by itself.
    pub(super) async fn make_faults(self: Rc<Self>) {
        loop {
            self.pause(PAUSE_MS).await;
            self.executor.spawn(None, self.clone().make_fault());
        }
    }

    async fn make_fault(self: Rc<Self>) {
        let relay = self.draw(RELAYS as u64) as usize;
        match self.draw(12) {
            0 | 1 => {
                self.kill(relay);
                self.pause(FAULT_MS).await;
                self.start(relay);
            }
            2 | 3 => {
                let Some(process) = self.running(relay) else {
                    return;
                };
                self.executor.freeze(process.name);
                self.pause(FAULT_MS).await;
                self.executor.thaw(process.name);
            }
            4 => {
                self.redis.borrow_mut().restart();
                for relay in 0..RELAYS {
                    self.network.link(relay, Peer::Redis).reset();
                }
            }
            _ => self.break_link(relay).await,
        }
    }

    async fn break_link(&self, relay: usize) {
        let peer = match self.draw(6) {
            0 | 1 => Peer::Database,
            2 | 3 => Peer::Redis,
            4 => Peer::Comfy(0),
            _ => Peer::Comfy(1),
        };
        let state = match self.draw(3) {
            0 => LinkCondition::Cut,
            1 => LinkCondition::HalfOpen,
            _ => LinkCondition::Slow(4_000),
        };
        let link = self.network.link(relay, peer);
        link.set(state);
        self.pause(FAULT_MS).await;
        link.set(LinkCondition::Up);
    }
}
