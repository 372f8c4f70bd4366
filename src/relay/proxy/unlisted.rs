//! The jobs that no server lists: those that wait here or are on their way, and those of servers that do not answer.

use jiff::Timestamp;

use super::known_prompt::is_prompt;
use crate::job::{JobId, Status};
use crate::relay::Relay;
use crate::relay::registry::Entry;

/// A job that no server lists.
#[derive(Debug)]
pub(super) struct UnlistedJob {
    pub(super) id: JobId,
    /// It ran when it was last listed.
    pub(super) has_begun: bool,
    pub(super) created_at: Timestamp,
}

impl Relay {
    /// The open jobs of prompts that no server lists, in the order in which they came. To be read before servers are asked: one
    /// that arrives there meanwhile is in both lists, and in none otherwise.
    pub(super) fn unlisted_jobs(&self) -> Vec<UnlistedJob> {
        let answering = self.listing_backends();
        let is_listed = |entry: &Entry| answering.iter().any(|backend| entry.is_on(backend));
        let registry = self.0.tracker.registry();
        let open = registry.all_open();
        let unlisted = open.filter(|entry| is_prompt(&entry.job) && !is_listed(entry));
        let mut unlisted: Vec<(u64, UnlistedJob)> = unlisted
            .map(|entry| {
                let job = UnlistedJob {
                    id: entry.job.id().clone(),
                    has_begun: entry.job.status() == Status::Processing,
                    created_at: entry.job.created_at(),
                };
                (entry.number(), job)
            })
            .collect();
        unlisted.sort_unstable_by_key(|(number, _)| *number);
        unlisted.into_iter().map(|(_, job)| job).collect()
    }
}
