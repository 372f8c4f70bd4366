use std::collections::{BTreeMap, HashSet};

use super::{Job, JobId, Status, Tags};

/// Which jobs a caller asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Only those in one of these statuses; empty for all.
    pub statuses: Vec<Status>,
    /// Only those of this backend.
    pub backend: Option<String>,
    /// Only those that have all these labels, by key and text.
    pub labels: BTreeMap<String, String>,
    /// Only those of this group.
    pub group: Option<String>,
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those in whose id, labels, group or workflow this occurs, in upper or lower case.
    pub text: Option<String>,
    /// Only those with one of these ids; `None` for all.
    pub only: Option<HashSet<JobId>>,
}

impl Selection {
    /// Whether a job is one of them, apart from its status.
    pub fn is_of(&self, job: &Job) -> bool {
        self.has(job.id(), job.backend(), job.tags())
    }

    /// The same of a job with this id, on this backend, of which a client has said this.
    pub fn has(&self, id: &JobId, backend: Option<&str>, tags: &Tags) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        let has_label = |(key, text)| tags.labels.get(key) == Some(text);
        self.only.as_ref().is_none_or(|ids| ids.contains(id))
            && is(&self.backend, backend)
            && is(&self.group, tags.group.as_deref())
            && is(&self.workflow, tags.workflow.as_deref())
            && self.labels.iter().all(has_label)
            && self
                .text
                .as_deref()
                .is_none_or(|text| occurs(text, id, tags))
    }

    /// Whether a job in this status is one of them, as far as its status goes.
    pub fn has_status(&self, status: Status) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }
}

fn occurs(text: &str, id: &JobId, tags: &Tags) -> bool {
    let text = text.to_lowercase();
    id.as_str().to_lowercase().contains(&text) || tags.contain(&text)
}
