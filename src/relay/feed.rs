//! The states of many jobs as one stream.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::Relay;
use super::registry::Remembered;
use super::tracker::Tracker;
use crate::hub::{Mailbox, SharedSubscription, Update};
use crate::job::{JobId, Selection};

/// How long ago a job of another relay was registered at most that is shown although it has ended already: the rows are read
/// once a second, and clocks differ.
pub(super) const NEWS_AGE: SignedDuration = SignedDuration::from_secs(10);

/// How long before a stream began a job of another relay may have ended that is shown in it: clocks differ.
const END_SLACK: SignedDuration = SignedDuration::from_secs(1);

/// How many states of one job wait for a client that reads slowly: the newest.
const MAX_WAITING: usize = 1;

/// The states of all jobs of a selection: first the newest one of each that has not ended, then every change, and those
/// of the jobs that are registered later.
///
/// A job is in it from its first state that is selected until its end. A client that reads slowly skips states, but
/// never the final one.
#[derive(Debug)]
pub struct JobFeed {
    tracker: Arc<Tracker>,
    selection: Arc<Selection>,
    wants_previews: bool,
    interval: Duration,
    /// Before this moment nothing is taken.
    next_at: Instant,
    opened_at: Timestamp,
    mailbox: Arc<Mailbox>,
    delivered: Arc<Delivered>,
    newest_job: watch::Receiver<u64>,
    /// The number of the last job that was looked at.
    last_number: u64,
    jobs: HashMap<JobId, FeedJob>,
    ready: VecDeque<Update>,
}

/// A job of a feed.
#[derive(Debug)]
struct FeedJob {
    /// Delivers the job's updates until it is dropped.
    _subscription: SharedSubscription,
    /// The number of the last state that was yielded; `None` before the first.
    last_seq: Option<u64>,
}

/// That updates have been delivered.
#[derive(Debug, Default)]
struct Delivered(Notify);

impl Wake for Delivered {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Relay {
    /// Follows all jobs of a selection; with their previews, if they are wanted.
    pub fn feed(&self, selection: Selection, wants_previews: bool) -> JobFeed {
        let tracker = self.0.tracker.clone();
        let selection = Arc::new(selection);
        if wants_previews {
            tracker.preview_feeds.add(&selection);
        }
        let delivered: Arc<Delivered> = Arc::default();
        let mailbox = Mailbox::new(Waker::from(delivered.clone()), MAX_WAITING);
        let newest_job = tracker.registry().newest();
        let opened_at = tracker.now();
        let mut feed = JobFeed {
            tracker,
            selection,
            wants_previews,
            interval: Duration::ZERO,
            next_at: Instant::now(),
            opened_at,
            mailbox: Arc::new(mailbox),
            delivered,
            newest_job,
            last_number: 0,
            jobs: HashMap::new(),
            ready: VecDeque::new(),
        };
        feed.add_open_jobs();
        feed
    }
}

impl JobFeed {
    /// The same, which yields all updates of an interval at once: of each job the newest state and the newest preview.
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Waits for updates, and takes all that there are. May be cancelled at any moment.
    pub async fn next(&mut self) -> VecDeque<Update> {
        if !self.interval.is_zero() {
            // Meanwhile the mailbox keeps what is newest.
            sleep_until(self.next_at).await;
        }
        while self.ready.is_empty() {
            tokio::select! {
                () = self.delivered.0.notified() => self.take_delivered(),
                // Fails only if the registry is gone, and the tracker keeps it.
                Ok(()) = self.newest_job.changed() => self.add_new_jobs(),
            }
        }
        self.next_at = Instant::now() + self.interval;
        self.ready()
    }

    /// Takes all updates that there are, without waiting.
    pub fn ready(&mut self) -> VecDeque<Update> {
        std::mem::take(&mut self.ready)
    }

    /// Subscribes to the selected jobs that have not ended, in the order of registration.
    fn add_open_jobs(&mut self) {
        let mut open: Vec<(u64, JobId)> = {
            let registry = self.tracker.registry();
            let selected = registry
                .all_open()
                .filter(|entry| self.selection.is_of(&entry.job));
            let open = selected.map(|entry| (entry.number(), entry.job.id().clone()));
            let open = open.collect();
            self.last_number = *self.newest_job.borrow_and_update();
            open
        };
        open.sort_unstable();
        self.subscribe(open.into_iter().map(|(_, id)| id).collect());
    }

    /// Subscribes to the selected jobs that were registered since the last look.
    fn add_new_jobs(&mut self) {
        let now = self.tracker.now();
        let has_others = self.tracker.peers.has_others();
        // A job that had ended before it was read from the database is nothing new, unless another relay had it just now, and
        // this stream was there.
        let is_recent = |job: &Remembered<'_>| {
            let ended_before = job.ended_at().map(|at| self.opened_at.duration_since(at));
            now.duration_since(job.created_at()) < NEWS_AGE
                && ended_before.is_none_or(|it| it < END_SLACK)
        };
        let is_new = |job: &Remembered<'_>| {
            !job.status().is_final() || job.is_owned() || (has_others && is_recent(job))
        };
        let added = {
            let registry = self.tracker.registry();
            let registered = registry.registered_after(self.last_number);
            let selected = registered.filter(|job| is_new(job) && job.is_in(&self.selection));
            let added = selected.map(|job| job.id().clone()).collect();
            self.last_number = *self.newest_job.borrow_and_update();
            added
        };
        self.subscribe(added);
    }

    fn subscribe(&mut self, added: Vec<JobId>) {
        for id in added {
            if self.jobs.contains_key(&id) {
                // It has become new by what a client says of it.
                continue;
            }
            let subscription = self.tracker.hub.subscribe_shared(&id, self.mailbox.clone());
            self.tracker.refresh(&id);
            let state = subscription.newest().map(Update::State);
            let preview = subscription.preview().map(Update::Preview);
            let job = FeedJob {
                _subscription: subscription,
                last_seq: None,
            };
            self.jobs.insert(id, job);
            // They may be in the mailbox as well.
            state
                .into_iter()
                .chain(preview)
                .for_each(|update| self.add(update));
        }
    }

    fn take_delivered(&mut self) {
        for (_, mut updates) in self.mailbox.take() {
            while let Some(update) = updates.pop() {
                self.add(update);
            }
        }
    }

    /// Yields an update next, unless it was yielded already or is not selected.
    fn add(&mut self, update: Update) {
        let Some(job) = self.jobs.get_mut(update.job()) else {
            return;
        };
        match &update {
            Update::Preview(_) if !self.wants_previews || job.last_seq.is_none() => return,
            Update::Preview(_) => {}
            Update::State(state) => {
                let is_selected = job.last_seq.is_some() || self.selection.has_status(state.status);
                let is_news = job.last_seq.is_none_or(|last| state.seq > last);
                let is_yielded = is_selected && is_news;
                if is_yielded {
                    job.last_seq = Some(state.seq);
                }
                if state.is_final() {
                    self.jobs.remove(&state.job);
                }
                if !is_yielded {
                    return;
                }
            }
        }
        self.ready.push_back(update);
    }
}
