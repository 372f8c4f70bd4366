use std::collections::{HashMap, HashSet};

use crate::job::JobId;

/// How many changed jobs of a backend are named: of more, all are looked at.
const MAX_NAMED: usize = 1_000;

/// How often the jobs of a backend have changed in ways that a comparison with its queue depends on. As long as neither
/// number grows, the comparison finds what it found before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::relay) struct Changes {
    /// A job has come or gone, or where it is has changed.
    pub(in crate::relay) jobs: u64,
    /// A plan has changed, or is to be read again.
    pub(in crate::relay) plans: u64,
}

/// Which jobs of a backend a comparison has to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) enum DueJobs {
    All,
    These(HashSet<JobId>),
}

/// The changes, by the index of the backend.
#[derive(Debug, Default)]
pub(super) struct ChangeLog(HashMap<usize, BackendChanges>);

#[derive(Debug, Default)]
struct BackendChanges {
    counts: Changes,
    /// Those that have changed since they were last taken.
    due: DueJobs,
}

impl ChangeLog {
    pub(super) fn add_job(&mut self, backend: Option<usize>, id: &JobId) {
        if let Some(backend) = backend {
            let changes = self.0.entry(backend).or_default();
            changes.counts.jobs += 1;
            changes.due.add(id);
        }
    }

    /// A job that comes or is followed under another prompt id counts as one with another plan.
    pub(super) fn add_plan(&mut self, backend: Option<usize>, id: &JobId) {
        if let Some(backend) = backend {
            self.0.entry(backend).or_default().counts.plans += 1;
        }
        self.add_job(backend, id);
    }

    pub(super) fn add_all(&mut self, backend: usize) {
        let changes = self.0.entry(backend).or_default();
        changes.counts.jobs += 1;
        changes.due = DueJobs::All;
    }

    pub(super) fn of(&self, backend: usize) -> Changes {
        self.0
            .get(&backend)
            .map_or_else(Changes::default, |it| it.counts)
    }

    pub(super) fn take_due(&mut self, backend: usize) -> DueJobs {
        let changes = self.0.get_mut(&backend);
        changes.map_or_else(DueJobs::none, |it| {
            std::mem::replace(&mut it.due, DueJobs::none())
        })
    }
}

impl DueJobs {
    pub(in crate::relay) fn none() -> Self {
        Self::These(HashSet::new())
    }

    pub(in crate::relay) fn add(&mut self, id: &JobId) {
        if let Self::These(ids) = self {
            ids.insert(id.clone());
            if ids.len() > MAX_NAMED {
                *self = Self::All;
            }
        }
    }

    pub(in crate::relay) fn extend(&mut self, others: Self) {
        match (&mut *self, others) {
            (Self::These(ids), Self::These(others)) => ids.extend(others),
            _ => *self = Self::All,
        }
    }
}

/// Nothing was looked at yet.
impl Default for DueJobs {
    fn default() -> Self {
        Self::All
    }
}
