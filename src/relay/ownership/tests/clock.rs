//! A virtual clock: it jumps to the next moment for which something waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Since the simulation began. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub(super) struct Clock(Rc<ClockState>);

#[derive(Default)]
struct ClockState {
    now: Cell<Duration>,
    /// By moment, and then in the order in which the timers were made.
    timers: RefCell<BTreeMap<TimerKey, Waker>>,
    made: Cell<u64>,
}

type TimerKey = (Duration, u64);

/// Ends at a moment.
pub(super) struct Timer {
    clock: Clock,
    key: TimerKey,
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        self.0.now.get()
    }

    pub(super) fn sleep(&self, pause: Duration) -> Timer {
        self.sleep_until(self.now() + pause)
    }

    pub(super) fn sleep_until(&self, moment: Duration) -> Timer {
        self.0.made.set(self.0.made.get() + 1);
        Timer {
            clock: self.clone(),
            key: (moment, self.0.made.get()),
        }
    }

    /// Waits for `action` for this long at most.
    pub(super) async fn timeout<T>(
        &self,
        limit: Duration,
        action: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            done = action => Some(done),
            () = self.sleep(limit) => None,
        }
    }

    /// Jumps to the next moment for which something waits, `until` at the latest. Returns whether there is one.
    pub(super) fn jump(&self, until: Duration) -> bool {
        let mut timers = self.0.timers.borrow_mut();
        let next = timers.first_entry().filter(|next| next.key().0 <= until);
        let Some(next) = next else {
            self.0.now.set(until);
            return false;
        };
        let (moment, _) = *next.key();
        let waker = next.remove();
        drop(timers);
        self.0.now.set(moment.max(self.now()));
        waker.wake();
        true
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.key.0 {
            return Poll::Ready(());
        }
        let mut timers = self.clock.0.timers.borrow_mut();
        timers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.clock.0.timers.borrow_mut().remove(&self.key);
    }
}
