//! A job goes on after a restart.

use jiff::Timestamp;

use super::{EndSource, ErrorCode, Job, JobError, JobId, Output, Report, Status, text};

/// How far the numbers of states jump at a restart. More states than this are never lost with it, so
/// that numbers go on growing for subscribers who saw the last ones.
const SEQ_JUMP: u64 = 10_000;

/// What was kept of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredJob {
    /// The job.
    pub id: JobId,
    /// ComfyUI's name for it.
    pub prompt_id: Option<String>,
    /// The name of its server.
    pub backend: Option<String>,
    /// Where it was in its life.
    pub status: Status,
    /// 0 to 100.
    pub progress: u8,
    /// The number of its last state.
    pub seq: u64,
    /// Every file that it had made.
    pub outputs: Vec<Output>,
    /// The first final output.
    pub output_path: Option<String>,
    /// Why it failed: the stable word, and the sentence.
    pub error: Option<(Option<String>, String)>,
    /// The word for where its end was learned.
    pub end_source: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When execution began.
    pub started_at: Option<Timestamp>,
    /// When its end was learned.
    pub ended_at: Option<Timestamp>,
}

impl Job {
    /// The job as it was when it was kept. Its progress does not fall below that.
    pub fn restored(saved: StoredJob) -> Self {
        let mut job = Self::new(saved.id, saved.created_at);
        // What is not ComfyUI's was reported by a producer, the path included.
        if saved.prompt_id.is_none() {
            let report = Report {
                status: saved.status,
                progress: saved.progress,
                estimated_remaining: None,
                message: None,
                output_path: saved.output_path,
                error: None,
            };
            job.report = Some((report, saved.created_at));
        }
        job.prompt_id = saved.prompt_id;
        job.backend = saved.backend;
        job.status = saved.status;
        job.highest_fraction = f64::from(saved.progress) / 100.0;
        job.seq = match saved.status.is_final() {
            // Shown again, the final state has the number that it had.
            true => saved.seq.saturating_sub(1),
            false => saved.seq.saturating_add(SEQ_JUMP),
        };
        job.outputs = saved.outputs;
        job.error = saved.error.map(|(code, message)| JobError {
            code: code
                .as_deref()
                .and_then(ErrorCode::from_word)
                .unwrap_or(ErrorCode::ExecutionError),
            // Somebody else may have written it.
            message: text::kept_failure(&message),
        });
        job.end_source = saved.end_source.as_deref().and_then(EndSource::from_word);
        job.started_at = saved.started_at;
        job.ended_at = saved.ended_at;
        job.work_done_at = saved.ended_at;
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Event;

    #[test]
    fn progress_goes_on_from_where_it_was() {
        let mut job = Job::restored(StoredJob {
            id: JobId::parse("j").unwrap(),
            prompt_id: Some("p".into()),
            backend: Some("b".into()),
            status: Status::Processing,
            progress: 57,
            seq: 12,
            outputs: Vec::new(),
            output_path: None,
            error: None,
            end_source: None,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: Some(Timestamp::UNIX_EPOCH),
            ended_at: None,
        });
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
}
