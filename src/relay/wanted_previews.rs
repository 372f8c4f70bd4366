//! [`SharedPreviews`]: of which jobs previews are exchanged with other relays.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Position;
use crate::job::JobId;

/// For how long another relay wants previews without saying so again: a message or two may be lost.
const HOLDS: Duration = Duration::from_secs(7);

/// How many relays may want previews at most, so that nobody fills the memory.
const MAX_RELAYS: usize = 1_000;

/// Which previews are exchanged with other relays.
#[derive(Debug, Default)]
pub(super) struct SharedPreviews {
    /// What the subscribers of other relays want, by relay.
    wanted: Mutex<HashMap<String, WantedPreviews>>,
    /// What was received of the jobs of which previews are wanted here.
    received: Mutex<HashMap<JobId, Option<ReceivedPreview>>>,
}

#[derive(Debug)]
struct WantedPreviews {
    jobs: HashSet<JobId>,
    until: Instant,
}

/// The place of a preview.
#[derive(Debug, Clone, Copy)]
struct ReceivedPreview {
    /// At its owner.
    position: Position,
    /// As subscribers here have it: it grows, whichever relay owns the job.
    seq: u64,
}

impl SharedPreviews {
    /// Whether a subscriber at another relay wants the previews of a job.
    pub(super) fn are_wanted(&self, job: &JobId) -> bool {
        self.are_wanted_at(job, Instant::now())
    }

    fn are_wanted_at(&self, job: &JobId, now: Instant) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut holding = wanted.values().filter(|it| now < it.until);
        holding.any(|it| it.jobs.contains(job))
    }

    /// Records of which jobs another relay wants previews. Returns those that it did not want before.
    pub(super) fn record_wanted(
        &self,
        relay: String,
        jobs: Vec<JobId>,
        now: Instant,
    ) -> Vec<JobId> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|_, it| now < it.until);
        let before = wanted.remove(&relay);
        if jobs.is_empty() || wanted.len() >= MAX_RELAYS {
            return Vec::new();
        }
        let is_new = |job: &&JobId| before.as_ref().is_none_or(|it| !it.jobs.contains(*job));
        let added = jobs.iter().filter(is_new).cloned().collect();
        let jobs = jobs.into_iter().collect();
        let until = now + HOLDS;
        wanted.insert(relay, WantedPreviews { jobs, until });
        added
    }

    /// Records of which jobs previews are wanted here. Returns those that are wanted no more.
    pub(super) fn record_own(&self, wanted: &HashSet<JobId>) -> Vec<JobId> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let left = received.keys().filter(|job| !wanted.contains(*job));
        let left: Vec<JobId> = left.cloned().collect();
        for job in &left {
            received.remove(job);
        }
        for job in wanted {
            received.entry(job.clone()).or_default();
        }
        left
    }

    /// Gives a preview its number here; `None` if it is not wanted, or not newer than the last one.
    pub(super) fn number(&self, job: &JobId, position: Position) -> Option<u64> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let last = received.get_mut(job)?;
        let seq = match last {
            Some(last) if position <= last.position => return None,
            Some(last) => position.seq.max(last.seq + 1),
            None => position.seq,
        };
        *last = Some(ReceivedPreview { position, seq });
        Some(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> JobId {
        JobId::parse(name).unwrap()
    }

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    #[test]
    fn previews_are_wanted_until_no_relay_says_so() {
        let (previews, now) = (SharedPreviews::default(), Instant::now());
        let want = |relay: &str, jobs: &[&str]| {
            let jobs = jobs.iter().map(|job| id(job)).collect();
            previews.record_wanted(relay.to_owned(), jobs, now)
        };
        assert_eq!(want("a", &["x", "y"]).len(), 2);
        assert_eq!(want("b", &["x"]), [id("x")]);
        // It is renewed, and has left one.
        assert!(want("a", &["x"]).is_empty() && !previews.are_wanted_at(&id("y"), now));
        want("a", &[]);
        assert!(previews.are_wanted_at(&id("x"), now));
        let later = now + HOLDS;
        assert!(
            !previews.are_wanted_at(&id("x"), later),
            "the other one is gone"
        );
    }

    #[test]
    fn numbers_grow_when_the_owner_changes() {
        let previews = SharedPreviews::default();
        assert_eq!(previews.number(&id("x"), at(1, 1)), None, "nobody wants it");
        previews.record_own(&HashSet::from([id("x")]));
        let number = |epoch, seq| previews.number(&id("x"), at(epoch, seq));
        assert_eq!(number(1, 7), Some(7));
        assert_eq!(number(1, 7), None);
        assert_eq!(number(2, 1), Some(8));
        assert_eq!(number(1, 9), None);
        assert_eq!(previews.record_own(&HashSet::new()), [id("x")]);
    }
}
