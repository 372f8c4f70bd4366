//! Which relay writes a job: the rules, without I/O and without a clock.
//!
//! Each row names its owner and counts, as its epoch, how often the owner has changed. Only the owner publishes and writes
//! the job. The database accepts no state that is not newer than the row, so a relay that was paused or cut off, and goes
//! on as the owner that it no longer is, writes nothing: it reads the row, and follows it.

#[cfg(test)]
mod tests;

use crate::job::{Job, StoredJob};

/// The number of a state among all states of its job, whichever relay published them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StateVersion {
    /// How often another relay had taken the job over.
    pub(super) epoch: u64,
    /// The number among the states since the job began.
    pub(super) seq: u64,
}

/// What a relay is to a job that it has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ownership {
    /// It publishes and writes the job.
    Owner,
    /// It has lost the lease of the job's backend. Its memory may hold more than the row, and is used again if nobody else
    /// has written meanwhile.
    FormerOwner,
    /// Its memory is a copy of the row.
    Reader,
}

/// What a relay has in memory of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HeldState {
    pub(super) ownership: Ownership,
    pub(super) version: StateVersion,
    pub(super) has_ended: bool,
}

/// What the row of a job shows to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RowState {
    /// The relay that reads it is its owner, and may publish the job.
    pub(super) is_ours: bool,
    pub(super) version: StateVersion,
    pub(super) has_ended: bool,
}

/// What follows for a job from its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RowDecision {
    /// The memory stays, under this ownership.
    Keep(Ownership),
    /// The job goes on from its row, as ours.
    Restore,
    /// The memory becomes a copy of the row, which is published.
    Follow,
    /// The memory stays: it has the end, which its owner published and could not write, or which came before this relay knew
    /// that it is the owner again. This relay, whose job it is now, writes it.
    Record,
}

impl StateVersion {
    /// Whether a relay takes over a state that the owner of a job has published, before the row shows it. It never gives up
    /// a job for that: it may come from a relay that does not know yet that it has lost the job.
    pub(super) fn is_news_of_owner(self, held: Option<HeldState>) -> bool {
        held.is_none_or(|held| {
            held.ownership != Ownership::Owner && !held.has_ended && self > held.version
        })
    }

    /// Whether relays have had the job between the one that published this end and the owner in this `epoch`: they may have
    /// published it further, without knowing of the end.
    pub(super) fn is_end_before_others(self, epoch: u64) -> bool {
        epoch > self.epoch + 1
    }
}

impl HeldState {
    /// Of a job that was taken over `epoch` times.
    pub(super) fn of(job: &Job, epoch: u64, ownership: Ownership) -> Self {
        Self {
            ownership,
            version: StateVersion {
                epoch,
                seq: job.seq(),
            },
            has_ended: job.status().is_final(),
        }
    }
}

impl RowState {
    /// Of this row, which `is_ours` or another relay's.
    pub(super) fn of(stored: &StoredJob, is_ours: bool) -> Self {
        Self {
            is_ours,
            version: StateVersion {
                epoch: stored.epoch,
                seq: stored.seq,
            },
            has_ended: stored.status.is_final(),
        }
    }

    /// What a relay does that reads this row. `held` is what it has in memory.
    pub(super) fn meet(self, held: Option<HeldState>) -> RowDecision {
        let goes_on = self.is_ours && !self.has_ended;
        let Some(held) = held else {
            return if goes_on {
                RowDecision::Restore
            } else {
                RowDecision::Follow
            };
        };
        let is_ahead = self.version > held.version;
        if held.has_ended {
            // The end was published, and stays; another relay has yet to learn of it.
            return match (self.has_ended && is_ahead, goes_on) {
                (true, _) => RowDecision::Follow,
                // It is being written.
                (false, true)
                    if self.version.epoch == held.version.epoch
                        && held.ownership == Ownership::Owner =>
                {
                    RowDecision::Keep(Ownership::Owner)
                }
                (false, true) => RowDecision::Record,
                (false, false) => RowDecision::Keep(Ownership::Reader),
            };
        }
        match (goes_on, self.version.epoch == held.version.epoch) {
            // Nobody else has written since: what is in memory is at least as new.
            (true, true) if held.ownership != Ownership::Reader => {
                RowDecision::Keep(Ownership::Owner)
            }
            (true, _) => RowDecision::Restore,
            (false, _) if is_ahead || self.has_ended || held.ownership == Ownership::Owner => {
                RowDecision::Follow
            }
            (false, _) => RowDecision::Keep(held.ownership),
        }
    }
}
