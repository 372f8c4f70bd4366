use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::connection::{Connection, ConnectionCount};
use super::lock::{Mutex, MutexGuard};
use super::topic::Topic;
use crate::job::JobId;

/// All topics, by job. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    by_job: Arc<Mutex<TopicIndex>>,
    /// How many publications a topic keeps for a subscriber that lags.
    backlog: usize,
    changes: watch::Sender<()>,
}

/// The topics, and which of them have subscribers: most that are remembered have none.
#[derive(Debug, Default)]
struct TopicIndex {
    all: HashMap<JobId, Arc<Topic>>,
    followed: HashMap<JobId, Arc<Topic>>,
}

impl Topics {
    pub(super) fn new(backlog: usize) -> Self {
        Self {
            by_job: Arc::default(),
            backlog,
            changes: watch::Sender::new(()),
        }
    }

    pub(super) fn get(&self, job: &JobId) -> Option<Arc<Topic>> {
        self.lock().all.get(job).cloned()
    }

    /// Calls `action` with the topic of a job, which is created if there is none. The topics are locked
    /// meanwhile: the topic cannot be removed as unused before `action` gives it a state.
    pub(super) fn with_topic<T>(&self, job: &JobId, action: impl FnOnce(&Arc<Topic>) -> T) -> T {
        action(&self.lock().topic(job, self.backlog))
    }

    /// Calls `action`, which adds a subscriber, with the topic of a job, which is created if there is none. The topics are
    /// locked meanwhile. [`Topics::leave`] is the end of it.
    pub(super) fn join<T>(&self, job: &JobId, action: impl FnOnce(&Arc<Topic>) -> T) -> T {
        let mut topics = self.lock();
        let topic = topics.topic(job, self.backlog);
        topics.followed.insert(job.clone(), topic.clone());
        action(&topic)
    }

    pub(super) fn remove(&self, job: &JobId) {
        let mut topics = self.lock();
        topics.all.remove(job);
        topics.followed.remove(job);
    }

    /// See [`super::Hub::forget_unfollowed`]. The topics are locked meanwhile: nobody can subscribe in between.
    pub(super) fn remove_unfollowed(&self, job: &JobId) -> bool {
        let mut topics = self.lock();
        let is_followed = topics.followed.contains_key(job);
        if !is_followed {
            topics.all.remove(job);
        }
        !is_followed
    }

    /// A subscriber of a topic has gone. A topic that has neither states nor subscribers is removed.
    pub(super) fn leave(&self, job: &JobId, topic: &Arc<Topic>) {
        let mut topics = self.lock();
        let is_current = (topics.all.get(job)).is_some_and(|it| Arc::ptr_eq(it, topic));
        if !is_current || topic.is_followed() {
            return;
        }
        topics.followed.remove(job);
        if topic.newest().is_none() {
            topics.all.remove(job);
        }
    }

    /// Whether a job has subscribers.
    pub(super) fn is_followed(&self, job: &JobId) -> bool {
        self.lock().followed.contains_key(job)
    }

    /// See [`super::Hub::followed`].
    pub(super) fn followed(&self, max: usize) -> Option<Vec<JobId>> {
        let followed = &self.lock().followed;
        (followed.len() <= max).then(|| followed.keys().cloned().collect())
    }

    /// See [`super::Hub::previewed`].
    pub(super) fn previewed(&self) -> Vec<JobId> {
        let topics = self.lock();
        let followed = topics.followed.iter();
        let previewed = followed.filter(|(_, topic)| topic.wants_previews());
        previewed.map(|(job, _)| job.clone()).collect()
    }

    /// See [`super::Hub::awaited`].
    pub(super) fn awaited(&self, max: usize) -> Vec<JobId> {
        let topics = self.lock();
        let followed = topics.followed.iter();
        let awaited = followed.filter(|(_, topic)| topic.newest().is_none());
        awaited.take(max).map(|(job, _)| job.clone()).collect()
    }

    /// Marked when a connection is added or removed.
    pub(super) fn changes(&self) -> &watch::Sender<()> {
        &self.changes
    }

    pub(super) fn count_connections(&self) -> ConnectionCount {
        let topics = self.lock();
        let counts = topics
            .followed
            .values()
            .map(|topic| topic.connections().len());
        counts
            .filter(|&count| count > 0)
            .fold(ConnectionCount::default(), |sum, count| ConnectionCount {
                total: sum.total + count,
                jobs: sum.jobs + 1,
            })
    }

    /// See [`super::Hub::connections`].
    pub(super) fn list_connections(
        &self,
        max_jobs: usize,
        max_each: usize,
    ) -> (Vec<(JobId, usize, Vec<Connection>)>, bool) {
        let topics = self.lock();
        let mut is_truncated = false;
        let mut listed = Vec::new();
        for (job, topic) in &topics.followed {
            let connections = topic.connections();
            if connections.is_empty() {
                continue;
            }
            if listed.len() == max_jobs {
                is_truncated = true;
                break;
            }
            is_truncated |= connections.len() > max_each;
            let first = connections.values().take(max_each).cloned().collect();
            listed.push((job.clone(), connections.len(), first));
        }
        (listed, is_truncated)
    }

    /// The map is consistent at any moment, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, TopicIndex> {
        self.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicIndex {
    fn topic(&mut self, job: &JobId, backlog: usize) -> Arc<Topic> {
        if let Some(topic) = self.all.get(job) {
            return topic.clone();
        }
        let topic = Arc::new(Topic::new(backlog));
        self.all.insert(job.clone(), topic.clone());
        topic
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;
    use crate::hub::{Hub, Mailbox, Preview, Publication, SharedSubscription, Update};
    use crate::job::Status;

    fn id(job: usize) -> JobId {
        JobId::parse(&format!("job-{job}")).unwrap()
    }

    fn state(job: usize) -> Publication {
        Publication {
            job: id(job),
            seq: 1,
            status: Status::Queued,
            payload: Default::default(),
            outcome: None,
            event_at: None,
        }
    }

    fn preview(job: usize, seq: u64) -> Preview {
        Preview {
            job: id(job),
            node: None,
            seq,
            mime: "image/png",
            image: Default::default(),
            event: Default::default(),
        }
    }

    #[test]
    fn the_numbers_of_previews_grow_whichever_relay_makes_them() {
        let hub = Hub::new(1);
        let mailbox = Arc::new(Mailbox::new(Waker::noop().clone(), 1));
        let _subscriber = hub.subscribe_shared(&id(0), mailbox.clone());
        let mut delivered = Vec::new();
        let mut deliver = || {
            for (_, mut updates) in mailbox.take() {
                while let Some(Update::Preview(preview)) = updates.pop() {
                    delivered.push(preview.seq);
                }
            }
        };
        assert_eq!(hub.publish_preview(preview(0, 7)).seq, 7);
        deliver();
        // A relay that has taken the job over counts from the beginning.
        hub.pass_preview(preview(0, 1));
        deliver();
        hub.forget_preview(&id(0));
        assert_eq!(hub.preview(&id(0)), None);
        assert_eq!(hub.publish_preview(preview(0, 2)).seq, 9);
        deliver();
        assert_eq!(delivered, [7, 8, 9]);
    }

    #[test]
    fn a_late_preview_of_another_relay_leaves_nothing_behind() {
        let hub = Hub::new(1);
        hub.pass_preview(preview(0, 1));
        assert!(hub.topics.get(&id(0)).is_none());
        hub.publish(state(0));
        hub.pass_preview(preview(0, 2));
        assert_eq!(hub.preview(&id(0)).unwrap().seq, 2);
    }

    proptest! {
        #[test]
        fn what_is_followed_is_what_has_subscribers(steps in prop::collection::vec((0usize..3, 0u8..4), 1..60)) {
            let hub = Hub::new(1);
            let mailbox = Arc::new(Mailbox::new(Waker::noop().clone(), 100));
            let mut subscribers: [Vec<SharedSubscription>; 3] = Default::default();
            let mut has_state = [false; 3];
            for (job, step) in steps {
                match step {
                    0 => {
                        hub.publish(state(job));
                        has_state[job] = true;
                    }
                    1 => subscribers[job].push(hub.subscribe_shared(&id(job), mailbox.clone())),
                    2 => drop(subscribers[job].pop()),
                    _ => {
                        let is_forgotten = hub.forget_unfollowed(&id(job));
                        prop_assert_eq!(is_forgotten, subscribers[job].is_empty());
                        has_state[job] &= !is_forgotten;
                    }
                }
                for job in 0..3 {
                    let is_followed = !subscribers[job].is_empty();
                    prop_assert_eq!(hub.is_followed(&id(job)), is_followed);
                    prop_assert_eq!(hub.newest(&id(job)).is_some(), has_state[job]);
                    let is_awaited = hub.awaited(9).contains(&id(job));
                    prop_assert_eq!(is_awaited, is_followed && !has_state[job]);
                }
            }
        }
    }
}
