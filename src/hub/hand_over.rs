//! States pass from the thread that publishes to those that send, in every order that `shuttle` draws.
//!
//! ```sh
//! cargo test --lib --features shuttle hub::hand_over
//! ```

use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::Bytes;
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::{Hub, Mailbox, Publication, SharedSubscription, Update};
use crate::job::{JobId, Outcome, Status};

/// How many orders are drawn for each test. `SHUTTLE_RUNS` sets another number.
const RUNS: usize = 3_000;

/// The number of the final state.
const LAST: u64 = 4;

/// Wakes a thread that waits.
#[derive(Default)]
struct Bell {
    has_rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut has_rung = self.has_rung.lock().unwrap();
        while !*has_rung {
            has_rung = self.ring.wait(has_rung).unwrap();
        }
        *has_rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.has_rung.lock().unwrap() = true;
        self.ring.notify_one();
    }
}

/// A thread that sends states to clients.
struct FanOut {
    bell: Arc<Bell>,
    mailbox: Arc<Mailbox>,
}

impl FanOut {
    fn new() -> Self {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let mailbox = Arc::new(Mailbox::new(waker, 2));
        Self { bell, mailbox }
    }

    /// The numbers of all states until the final one, which ends the wait. A lost wake-up would be a deadlock.
    fn receive(&self, subscription: &SharedSubscription) -> Vec<u64> {
        let mut received = Vec::new();
        received.extend(subscription.newest().map(|newest| newest.seq));
        while received.last() != Some(&LAST) {
            self.bell.wait();
            for (_, mut updates) in self.mailbox.take() {
                while let Some(Update::State(state)) = updates.pop() {
                    // It may have been the newest one already.
                    if received.last() < Some(&state.seq) {
                        received.push(state.seq);
                    }
                }
            }
        }
        received
    }
}

fn job() -> JobId {
    JobId::parse("job").unwrap()
}

fn publish(hub: &Hub, seq: u64) {
    let has_ended = seq == LAST;
    hub.publish(Publication {
        job: job(),
        seq,
        status: if has_ended {
            Status::Completed
        } else {
            Status::Processing
        },
        payload: Bytes::new(),
        outcome: has_ended.then_some(Outcome::Completed),
        event_at: None,
    });
}

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let runs = std::env::var("SHUTTLE_RUNS");
    let runs = runs.map_or(RUNS, |runs| runs.parse().unwrap());
    let test = Arc::new(test);
    let same = test.clone();
    // A failure prints the schedule that repeats it.
    shuttle::check_random(move || test(), runs);
    shuttle::check_pct(move || same(), runs, 3);
}

#[test]
fn each_thread_gets_the_final_state_and_none_twice() {
    explore(|| {
        let hub = Hub::new(16);
        let threads = [0, 1].map(|_| {
            let hub = hub.clone();
            thread::spawn(move || {
                let fan_out = FanOut::new();
                let subscription = hub.subscribe_shared(&job(), fan_out.mailbox.clone());
                fan_out.receive(&subscription)
            })
        });
        for seq in 1..=LAST {
            publish(&hub, seq);
        }
        for thread in threads {
            let received = thread.join().unwrap();
            assert!(
                received.is_sorted_by(|one, next| one < next),
                "{received:?}"
            );
            assert_eq!(received.last(), Some(&LAST));
        }
    });
}

#[test]
fn a_state_survives_a_subscriber_that_leaves_while_it_is_published() {
    explore(|| {
        let hub = Hub::new(16);
        let leaving = hub.clone();
        let thread = thread::spawn(move || {
            let fan_out = FanOut::new();
            drop(leaving.subscribe_shared(&job(), fan_out.mailbox.clone()));
        });
        publish(&hub, 1);
        thread.join().unwrap();
        let fan_out = FanOut::new();
        let subscription = hub.subscribe_shared(&job(), fan_out.mailbox.clone());
        publish(&hub, LAST);
        assert_eq!(fan_out.receive(&subscription).last(), Some(&LAST));
        let newest = subscription.newest().map(|newest| newest.seq);
        assert_eq!(newest, Some(LAST));
    });
}

#[test]
fn a_job_is_not_forgotten_once_somebody_follows_it() {
    explore(|| {
        let hub = Hub::new(16);
        publish(&hub, 1);
        let forgetting = hub.clone();
        let thread = thread::spawn(move || forgetting.forget_unfollowed(&job()));
        let fan_out = FanOut::new();
        let subscription = hub.subscribe_shared(&job(), fan_out.mailbox.clone());
        let is_forgotten = thread.join().unwrap();
        // Forgotten before it was followed, or kept.
        assert_eq!(subscription.newest().is_none(), is_forgotten);
        publish(&hub, LAST);
        assert_eq!(fan_out.receive(&subscription).last(), Some(&LAST));
    });
}
