//! How a job continues after a restart.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    EndSource, ErrorCode, Job, JobError, JobId, Output, QueueWait, Report, Status, Tags, text,
};

/// How far `seq` jumps when a job goes on from its row, for each relay that has had it: more than the number of states that one
/// publishes and has not stored, so that it keeps growing for subscribers that saw them.
const SEQ_JUMP: u64 = 10_000;

/// A job as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredJob {
    /// Its public id.
    pub id: JobId,
    /// ComfyUI's id for it.
    pub prompt_id: Option<String>,
    /// The name of its backend.
    pub backend: Option<String>,
    /// Its status.
    pub status: Status,
    /// 0 to 100.
    pub progress: u8,
    /// The number of its last state.
    pub seq: u64,
    /// The message of its producer.
    pub message: Option<String>,
    /// Every file that it had made.
    pub outputs: Vec<Output>,
    /// The first final output.
    pub output_path: Option<String>,
    /// Why it failed: the word of its [`ErrorCode`], and the message.
    pub error: Option<(Option<String>, String)>,
    /// The word of its [`EndSource`].
    pub end_source: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When execution began.
    pub started_at: Option<Timestamp>,
    /// When its end was learned.
    pub ended_at: Option<Timestamp>,
    /// The seconds that it was expected to take after `updated_at`.
    pub estimated_remaining: Option<u64>,
    /// When its last state was published.
    pub updated_at: Timestamp,
    /// The relay that writes it.
    pub owner: Option<String>,
    /// How often another relay has taken it over.
    pub epoch: u64,
    /// Its backend was asked to stop it, and had not yet.
    pub is_cancelling: bool,
    /// What a client has said of it.
    pub tags: Tags,
}

impl StoredJob {
    /// The number from which a relay counts on that takes the job over. One that had taken it over before may have published,
    /// and written nothing: it began a jump below.
    pub fn next_seq(&self) -> u64 {
        let jump = SEQ_JUMP.saturating_mul(self.epoch.max(1));
        self.seq.saturating_add(jump)
    }
}

impl Job {
    /// Whether an open job has a prompt that no backend has yet.
    fn waits_in_own_queue(&self) -> bool {
        self.prompt_id.is_some() && self.backend.is_none() && !self.status.is_final()
    }

    /// The job in the state that is stored, with the number of that state.
    pub fn stored(stored: StoredJob) -> Self {
        let seq = stored.seq;
        let mut job = Self::restored(stored);
        job.seq = seq;
        job
    }

    /// Neither the number nor the progress of its next state is below those of one that subscribers have seen.
    pub fn go_on_from(&mut self, seq: u64, progress: u8) {
        self.seq = self.seq.max(seq);
        self.highest_fraction = self.highest_fraction.max(f64::from(progress) / 100.0);
    }

    /// The job as it was stored, to go on from there. Its progress does not fall below what it was.
    pub fn restored(stored: StoredJob) -> Self {
        let next_seq = stored.next_seq();
        let mut job = Self::new(stored.id, stored.created_at).tagged(Arc::new(stored.tags));
        // The graph of a job that has ended is not read again.
        let path = stored.output_path.as_deref();
        let path = path.filter(|_| stored.status.is_final() && stored.prompt_id.is_some());
        job.main_output = path.and_then(|path| stored.outputs.iter().position(|it| it.is_at(path)));
        // Without a prompt, a producer reported everything, the output path included.
        if stored.prompt_id.is_none() {
            let report = Report {
                status: stored.status,
                progress: stored.progress,
                estimated_remaining: None,
                message: stored.message,
                output_path: stored.output_path,
                error: None,
            };
            job.report = Some((report, stored.created_at));
        }
        job.prompt_id = stored.prompt_id;
        job.backend = stored.backend;
        job.status = stored.status;
        if job.waits_in_own_queue() {
            // Earlier releases have not stored when it first began.
            let began_at = stored.started_at.unwrap_or(stored.updated_at);
            job.began_before = (job.status == Status::Processing).then_some(began_at);
            job.status = Status::Queued;
            job.wait = Some(QueueWait::default());
        }
        job.is_cancelling = stored.is_cancelling && !stored.status.is_final();
        job.highest_fraction = f64::from(stored.progress) / 100.0;
        job.seq = if stored.status.is_final() {
            // Publishing the final state again gives it the number that it had.
            stored.seq.saturating_sub(1)
        } else {
            next_seq
        };
        job.outputs = stored.outputs.into_iter().collect();
        job.text_size = job.outputs.iter().map(Output::text_size).sum();
        job.error = stored.error.map(|(code, message)| JobError {
            code: code
                .as_deref()
                .and_then(ErrorCode::from_word)
                .unwrap_or(ErrorCode::ExecutionError),
            // Another program may have written the row.
            message: text::stored_failure(&message),
        });
        job.end_source = stored.end_source.as_deref().and_then(EndSource::from_word);
        job.started_at = stored.started_at.filter(|_| job.status != Status::Queued);
        if let (Status::Processing, Some(started_at)) = (job.status, stored.started_at) {
            job.nodes.resume(started_at);
        }
        job.ended_at = stored.ended_at;
        job.work_done_at = stored.ended_at;
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Event;

    /// A job that runs, as its row has it.
    fn stored(epoch: u64) -> StoredJob {
        StoredJob {
            id: JobId::parse("j").unwrap(),
            prompt_id: Some("p".into()),
            backend: Some("b".into()),
            status: Status::Processing,
            progress: 57,
            seq: 12,
            message: None,
            outputs: Vec::new(),
            output_path: None,
            error: None,
            end_source: None,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: Some(Timestamp::UNIX_EPOCH),
            ended_at: None,
            estimated_remaining: None,
            updated_at: Timestamp::UNIX_EPOCH,
            owner: None,
            epoch,
            is_cancelling: false,
            tags: Tags::default(),
        }
    }

    #[test]
    fn progress_continues_from_where_it_was() {
        let mut job = Job::restored(stored(0));
        job.apply(
            Event::Bar {
                node: Some("3".into()),
                value: 1.0,
                max: 20.0,
            },
            Timestamp::UNIX_EPOCH,
        );
        let progress = job.publish(0.05, None, Timestamp::UNIX_EPOCH);
        assert_eq!(progress.progress, 57);
        assert!(progress.seq > 12);
    }

    #[test]
    fn a_relay_counts_on_above_the_one_before_that_has_written_nothing() {
        // The second one is of a job that has run for hours.
        for seq in [12, 500_000] {
            let restored = |epoch| {
                Job::restored(StoredJob {
                    seq,
                    ..stored(epoch)
                })
            };
            let mut before = restored(2);
            for _ in 0..100 {
                before.publish(0.2, None, Timestamp::UNIX_EPOCH);
            }
            assert!(restored(3).seq() > before.seq());
        }
    }

    #[test]
    fn a_job_that_is_to_run_again_does_not_go_back_to_queued() {
        let began_at = Timestamp::from_second(7).unwrap();
        let later = Timestamp::from_second(17).unwrap();
        for started_at in [Some(began_at), None] {
            let mut job = Job::restored(StoredJob {
                backend: None,
                started_at,
                updated_at: began_at,
                ..stored(1)
            });
            assert!(job.wait().is_some());
            let state = job.publish(0.0, None, later);
            assert_eq!(state.status, Status::Processing);
            assert_eq!(state.elapsed, Some(10.0));
        }
    }
}
