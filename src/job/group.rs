//! A group of jobs as one job: its state is folded from those of its jobs. Pure, like everything here.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::progress::in_milliseconds;
use super::{ErrorCode, JobError, JobId, Outcome, Progress, Remaining, Status, Tags, text};

/// What is known of one job of a group: a part of its newest state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct GroupMember {
    status: Status,
    progress: u8,
    estimated_remaining: Option<u64>,
    estimated_low: Option<u64>,
    estimated_high: Option<u64>,
    elapsed: Option<f64>,
    error: Option<String>,
    /// When this was so.
    timestamp: Timestamp,
}

/// A group of jobs.
#[derive(Debug, Clone)]
pub struct JobGroup {
    id: JobId,
    name: String,
    members: BTreeMap<JobId, GroupMember>,
    /// The largest share that was published, 0 to 1.
    highest: f64,
    seq: u64,
}

/// How many jobs of a group are in each status.
#[derive(Debug, Clone, Copy, Default)]
struct StatusCounts {
    queued: usize,
    processing: usize,
    completed: usize,
    failed: usize,
    cancelled: usize,
}

impl From<&Progress> for GroupMember {
    fn from(progress: &Progress) -> Self {
        Self {
            status: progress.status,
            progress: progress.progress,
            estimated_remaining: progress.estimated_remaining,
            estimated_low: progress.estimated_low,
            estimated_high: progress.estimated_high,
            elapsed: progress.elapsed,
            error: progress.error.clone(),
            timestamp: progress.timestamp,
        }
    }
}

impl GroupMember {
    /// What a `progress` message says of its job.
    ///
    /// # Errors
    ///
    /// If it is not one.
    pub fn parse(message: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(message)
    }

    /// Whether its job has ended.
    pub fn has_ended(&self) -> bool {
        self.status.is_final()
    }

    /// The share of its time that is over.
    fn share(&self) -> f64 {
        if self.has_ended() {
            1.0
        } else {
            f64::from(self.progress.min(100)) / 100.0
        }
    }

    /// How long it takes in all, in seconds; `None` if that is not known. Of a job that waits, what remains includes the
    /// queue before it.
    fn seconds(&self) -> Option<f64> {
        let elapsed = self
            .elapsed
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
        match self.status {
            Status::Queued => None,
            Status::Processing => Some(elapsed + self.estimated_remaining? as f64),
            Status::Completed | Status::Failed | Status::Cancelled => Some(elapsed),
        }
    }

    fn started_at(&self) -> Option<Timestamp> {
        let elapsed = SignedDuration::try_from_secs_f64(self.elapsed?).ok()?;
        self.timestamp.checked_sub(elapsed).ok()
    }

    /// What is left of seconds that were left when this was so.
    fn left(&self, seconds: Option<u64>, now: Timestamp) -> Option<f64> {
        let since = now.duration_since(self.timestamp).as_secs_f64();
        Some((seconds? as f64 - since.max(0.0)).max(0.0))
    }
}

impl JobGroup {
    /// A group without jobs; `None` if no group can have this name.
    pub fn new(name: &str) -> Option<Self> {
        Some(Self {
            id: JobId::of_group(name)?,
            name: name.to_owned(),
            members: BTreeMap::new(),
            highest: 0.0,
            seq: 0,
        })
    }

    /// Its id, under which it is followed like a job.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Whether it has no jobs.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Replaces what is known of a job, unless its end is known. Returns whether anything changes.
    pub fn set(&mut self, job: &JobId, member: GroupMember) -> bool {
        let known = self.members.get(job);
        if known.is_some_and(|known| known.has_ended() || *known == member) {
            return false;
        }
        self.members.insert(job.clone(), member);
        true
    }

    /// Begins anew, after a job was added to a group that had ended: its jobs stay.
    pub fn reopen(&mut self) {
        self.highest = 0.0;
    }

    /// Whether all its jobs have ended.
    pub fn has_ended(&self) -> bool {
        !self.is_empty() && self.members.values().all(GroupMember::has_ended)
    }

    /// The next state. Its number is above that of the state before, and follows from the clock: it grows also over a
    /// restart. That of the final state is the moment of the last end.
    pub fn publish(&mut self, now: Timestamp) -> Progress {
        let counts = self.counts();
        let status = self.status(&counts);
        let at = if status.is_final() {
            let ends = self.members.values().map(|member| member.timestamp);
            ends.max().unwrap_or(now)
        } else {
            now
        };
        let number = u64::try_from(at.as_millisecond()).unwrap_or_default();
        self.seq = number.max(self.seq + 1);
        self.highest = self.highest.max(self.share());
        let percent = (self.highest * 100.0 + 1e-9).floor() as u8;
        let remaining = self.remaining(now).filter(|_| !status.is_final());
        let interval = remaining.and_then(|remaining| remaining.interval);
        Progress {
            job_id: self.id.clone(),
            status,
            progress: if status == Status::Completed {
                100
            } else {
                percent.min(99)
            },
            estimated_remaining: remaining
                .map(|remaining| remaining.whole_seconds())
                .or(status.is_final().then_some(0)),
            estimated_low: interval.map(|(low, _)| low.round() as u64),
            estimated_high: interval.map(|(_, high)| high.round() as u64),
            estimated_completion: remaining.and_then(|remaining| remaining.completion(now)),
            estimated_start: None,
            cancelling: None,
            waiting_for: None,
            attempt: None,
            message: text::group(counts.completed, self.members.len(), &counts.others()),
            output_path: None,
            error: self.error(&counts).filter(|_| status == Status::Failed),
            timestamp: in_milliseconds(at),
            prompt_id: None,
            seq: self.seq,
            node: None,
            nodes: None,
            queue_position: None,
            elapsed: self.elapsed(at),
            outputs: Vec::new(),
            outputs_total: None,
            backend: None,
            tags: Arc::new(Tags {
                group: Some(self.name.clone()),
                ..Tags::default()
            }),
        }
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        let counts = self.counts();
        match self.status(&counts) {
            Status::Completed => Some(Outcome::Completed),
            Status::Cancelled => Some(Outcome::Cancelled),
            Status::Failed => Some(Outcome::Failed(JobError {
                code: ErrorCode::Reported,
                message: self.error(&counts).unwrap_or_default(),
            })),
            Status::Queued | Status::Processing => None,
        }
    }

    fn counts(&self) -> StatusCounts {
        let mut counts = StatusCounts::default();
        for member in self.members.values() {
            *match member.status {
                Status::Queued => &mut counts.queued,
                Status::Processing => &mut counts.processing,
                Status::Completed => &mut counts.completed,
                Status::Failed => &mut counts.failed,
                Status::Cancelled => &mut counts.cancelled,
            } += 1;
        }
        counts
    }

    /// It waits until its first job begins, and runs until its last one has ended.
    fn status(&self, counts: &StatusCounts) -> Status {
        match counts {
            _ if counts.queued == self.members.len() => Status::Queued,
            _ if counts.queued + counts.processing > 0 => Status::Processing,
            _ if counts.failed > 0 => Status::Failed,
            _ if counts.cancelled > 0 => Status::Cancelled,
            _ => Status::Completed,
        }
    }

    /// The share of the time of all its jobs that is over. A job of which it is not known how long it takes counts as
    /// the others do on average.
    fn share(&self) -> f64 {
        let known: Vec<f64> = self
            .members
            .values()
            .filter_map(GroupMember::seconds)
            .collect();
        let sum: f64 = known.iter().sum();
        // Jobs that take no time count nothing beside others, and alike among themselves.
        let usual = if sum > 0.0 {
            sum / known.len() as f64
        } else {
            1.0
        };
        let (mut over, mut all) = (0.0, 0.0);
        for member in self.members.values() {
            let seconds = member.seconds().filter(|_| sum > 0.0).unwrap_or(usual);
            over += seconds * member.share();
            all += seconds;
        }
        if all > 0.0 {
            (over / all).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The time until its last job ends; `None` while that of one is not known.
    fn remaining(&self, now: Timestamp) -> Option<Remaining> {
        let mut last = 0.0_f64;
        let mut bounds = Some((0.0_f64, 0.0_f64));
        for member in self.members.values().filter(|member| !member.has_ended()) {
            last = last.max(member.left(member.estimated_remaining, now)?);
            let low = member.left(member.estimated_low, now);
            let high = member.left(member.estimated_high, now);
            bounds = bounds.and_then(|(lows, highs)| Some((lows.max(low?), highs.max(high?))));
        }
        // The last end may be another job's than that with the last bound.
        let interval = bounds.map(|(low, high)| (low.min(last), high.max(last)));
        Some(Remaining {
            seconds: last,
            interval,
            starts_in: None,
        })
    }

    fn elapsed(&self, at: Timestamp) -> Option<f64> {
        let starts = self.members.values().filter_map(GroupMember::started_at);
        let seconds = at.duration_since(starts.min()?).as_secs_f64().max(0.0);
        Some((seconds * 1000.0).round() / 1000.0)
    }

    fn error(&self, counts: &StatusCounts) -> Option<String> {
        let mut failed = self
            .members
            .iter()
            .filter(|(_, it)| it.status == Status::Failed);
        let (id, member) = failed.next()?;
        let error = member.error.as_deref().unwrap_or("failed");
        Some(text::group_failure(counts.failed, id.as_str(), error))
    }
}

impl StatusCounts {
    /// The jobs that have neither completed nor wait, with a word for each kind.
    fn others(&self) -> [(usize, &'static str); 3] {
        [
            (self.processing, "running"),
            (self.failed, "failed"),
            (self.cancelled, "cancelled"),
        ]
    }
}

#[cfg(test)]
mod tests;
