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
    by_job: Arc<Mutex<HashMap<JobId, Arc<Topic>>>>,
    /// How many publications a topic keeps for a subscriber that lags.
    backlog: usize,
    changes: watch::Sender<()>,
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
        self.lock().get(job).cloned()
    }

    /// Calls `action` with the topic of a job, which is created if there is none. The topics are locked
    /// meanwhile: the topic cannot be removed as unused before `action` gives it a state or a subscriber.
    pub(super) fn with_topic<T>(&self, job: &JobId, action: impl FnOnce(&Arc<Topic>) -> T) -> T {
        let mut topics = self.lock();
        if let Some(topic) = topics.get(job) {
            return action(topic);
        }
        let topic = Arc::new(Topic::new(self.backlog));
        topics.insert(job.clone(), topic.clone());
        action(&topic)
    }

    pub(super) fn remove(&self, job: &JobId) {
        self.lock().remove(job);
    }

    /// See [`super::Hub::forget_unfollowed`]. The topics are locked meanwhile: nobody can subscribe in between.
    pub(super) fn remove_unfollowed(&self, job: &JobId) -> bool {
        let mut topics = self.lock();
        let is_followed = topics.get(job).is_some_and(|topic| topic.is_followed());
        if !is_followed {
            topics.remove(job);
        }
        !is_followed
    }

    /// Removes a topic that has neither states nor subscribers.
    pub(super) fn remove_unused(&self, job: &JobId, topic: &Arc<Topic>) {
        let mut topics = self.lock();
        let is_current = topics.get(job).is_some_and(|it| Arc::ptr_eq(it, topic));
        if is_current && topic.is_unused() {
            topics.remove(job);
        }
    }

    /// See [`super::Hub::awaited`].
    pub(super) fn awaited(&self, max: usize) -> Vec<JobId> {
        let topics = self.lock();
        let awaited = topics
            .iter()
            .filter(|(_, topic)| topic.newest().is_none() && topic.is_followed());
        awaited.take(max).map(|(job, _)| job.clone()).collect()
    }

    /// Marked when a connection is added or removed.
    pub(super) fn changes(&self) -> &watch::Sender<()> {
        &self.changes
    }

    pub(super) fn count_connections(&self) -> ConnectionCount {
        let topics = self.lock();
        let counts = topics.values().map(|topic| topic.connections().len());
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
        for (job, topic) in topics.iter() {
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
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Topic>>> {
        self.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
