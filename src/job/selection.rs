use std::collections::HashSet;

use super::{Job, JobId, Status};

/// Which jobs a caller asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Only those in one of these statuses; empty for all.
    pub statuses: Vec<Status>,
    /// Only those of this backend.
    pub backend: Option<String>,
    /// Only those in whose texts this occurs, in upper or lower case.
    pub text: Option<String>,
    /// Only those with one of these ids; `None` for all.
    pub only: Option<HashSet<JobId>>,
}

impl Selection {
    /// Whether a job is one of them, apart from its status.
    pub fn is_of(&self, job: &Job) -> bool {
        let has_id = self.only.as_ref().is_none_or(|ids| ids.contains(job.id()));
        let backend = self.backend.as_deref();
        let is_there = backend.is_none() || backend == job.backend();
        let text = self.text.as_deref();
        has_id && is_there && text.is_none_or(|text| contains(job.id().as_str(), text))
    }

    /// Whether a job in this status is one of them, as far as its status goes.
    pub fn has_status(&self, status: Status) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}
