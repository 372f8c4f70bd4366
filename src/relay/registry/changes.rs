use std::collections::HashMap;

/// How often the jobs of a backend have changed in ways that a comparison with its queue depends on. As long as neither
/// number grows, the comparison finds what it found before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::relay) struct Changes {
    /// A job has come or gone, or where it is has changed.
    pub(in crate::relay) jobs: u64,
    /// A plan has changed, or is to be read again.
    pub(in crate::relay) plans: u64,
}

/// The changes, by the index of the backend.
#[derive(Debug, Default)]
pub(super) struct ChangeCounts(HashMap<usize, Changes>);

impl ChangeCounts {
    pub(super) fn count_job(&mut self, backend: Option<usize>) {
        if let Some(backend) = backend {
            self.0.entry(backend).or_default().jobs += 1;
        }
    }

    /// A job that comes or is followed under another prompt id counts as one with another plan.
    pub(super) fn count_plan(&mut self, backend: Option<usize>) {
        if let Some(backend) = backend {
            let changes = self.0.entry(backend).or_default();
            changes.jobs += 1;
            changes.plans += 1;
        }
    }

    pub(super) fn of(&self, backend: usize) -> Changes {
        self.0.get(&backend).copied().unwrap_or_default()
    }
}
