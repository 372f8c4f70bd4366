//! Groups of jobs, followed as one job: while somebody follows a group, a task folds the states of its jobs into one and
//! publishes that like the state of a job.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::feed::JobFeed;
use super::tracker::Tracker;
use super::{Relay, RelayError};
use crate::hub::{Publication, Update};
use crate::job::{GroupMember, Job, JobGroup, JobId, Selection};
use crate::store::JobFilter;

/// How many of a group's jobs are read from the database at most: the newest.
const MAX_STORED: usize = 5_000;

/// How often a group that nobody follows any more is looked for, and how often the state is published while nothing
/// changes: its remaining time goes down.
const TICK: Duration = Duration::from_secs(1);

/// A group that is followed.
struct GroupTask {
    relay: Relay,
    group: JobGroup,
    feed: JobFeed,
    /// Its final state was published.
    has_ended: bool,
}

impl Relay {
    /// Follows a group, if it has jobs or somebody waits for them. Fails if it has none.
    pub(super) async fn lookup_group(&self, id: &JobId, name: &str) -> Result<(), RelayError> {
        let not_found = || RelayError::JobNotFound(id.clone());
        if self.0.groups.lock().contains(id) {
            return match self.newest_state(id) {
                Some(_) => Ok(()),
                None => Err(not_found()),
            };
        }
        let mut group = JobGroup::new(name).ok_or_else(not_found)?;
        let selection = Selection {
            group: Some(name.to_owned()),
            ..Selection::default()
        };
        // Before the database is read: no job may begin and end between.
        let mut feed = self.feed(selection.clone(), false);
        let tracker = &self.0.tracker;
        let filter = JobFilter {
            selection,
            ..JobFilter::default()
        };
        let stored = tracker.recorder.store().jobs(&filter, MAX_STORED).await?;
        for stored in stored.jobs {
            let (id, updated_at) = (stored.id.clone(), stored.updated_at);
            let progress = Job::stored(stored).progress(None, updated_at);
            group.set(&id, GroupMember::from(&progress));
        }
        tracker.add_ended(&mut group, name);
        let open = feed.ready();
        let mut task = GroupTask {
            relay: self.clone(),
            group,
            feed,
            has_ended: false,
        };
        for update in open {
            task.apply(&update);
        }
        let is_found = !task.group.is_empty();
        {
            let mut groups = self.0.groups.lock();
            if groups.insert(id.clone()) {
                task.publish();
                self.0.tasks.spawn(task.run());
            }
        }
        if is_found { Ok(()) } else { Err(not_found()) }
    }

    /// The newest state that was published of a job or a group.
    pub fn newest_state(&self, id: &JobId) -> Option<Arc<Publication>> {
        self.0.tracker.hub.newest(id)
    }
}

impl Tracker {
    /// Adds the jobs of a group that have ended in memory, and need not be written yet.
    fn add_ended(&self, group: &mut JobGroup, name: &str) {
        let registry = self.registry();
        for entry in registry.of_group(name) {
            let job = &entry.job;
            if job.status().is_final() {
                let newest = self.hub.newest(job.id());
                let member = newest.and_then(|newest| GroupMember::parse(&newest.payload).ok());
                if let Some(member) = member {
                    group.set(job.id(), member);
                }
            }
        }
    }
}

impl GroupTask {
    /// Publishes the state of the group whenever one of its jobs changes, until nobody follows it.
    async fn run(mut self) {
        let stop = self.relay.0.stop.clone();
        let publish_interval = self.relay.0.tracker.publish_interval;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        let mut published_at = Instant::now();
        let mut has_changed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                updates = self.feed.next() => {
                    for update in updates {
                        has_changed |= self.apply(&update);
                    }
                }
                () = sleep_until(published_at + publish_interval), if has_changed => {
                    self.publish();
                    published_at = Instant::now();
                    has_changed = false;
                }
                _ = tick.tick() => {
                    if self.is_given_up() {
                        return;
                    }
                    has_changed |= !self.has_ended && published_at.elapsed() >= TICK;
                }
            }
        }
    }

    /// Whether the state of the group changes.
    fn apply(&mut self, update: &Update) -> bool {
        let Update::State(state) = update else {
            return false;
        };
        let member = match GroupMember::parse(&state.payload) {
            Ok(member) => member,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, job_id = %state.job, "cannot read a state");
                return false;
            }
        };
        let is_changed = self.group.set(&state.job, member);
        if is_changed && self.has_ended && !self.group.has_ended() {
            // Subscribers that have its final state get nothing more. For others, it goes on.
            self.group.reopen();
            self.has_ended = false;
        }
        is_changed
    }

    fn publish(&mut self) {
        if self.group.is_empty() || self.has_ended {
            return;
        }
        let tracker = &self.relay.0.tracker;
        let progress = self.group.publish(tracker.now());
        self.has_ended = self.group.has_ended();
        match Publication::encode(&progress, self.group.outcome()) {
            Ok(publication) => tracker.hub.publish(publication),
            Err(error) => {
                tracing::error!(job_id = %self.group.id(), %error, "cannot encode a state");
            }
        }
        tracker.notify_monitors();
    }

    /// Forgets the group if nobody follows it. A caller that looks for it meanwhile waits, and begins anew.
    fn is_given_up(&self) -> bool {
        let id = self.group.id();
        let mut groups = self.relay.0.groups.lock();
        let is_unfollowed = self.relay.0.tracker.hub.forget_unfollowed(id);
        if is_unfollowed {
            groups.remove(id);
        }
        is_unfollowed
    }
}
