//! [`ReportQueue`]: reports of producers that came over the broker, the newest of each job.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::metrics::BrokerMetrics;
use crate::job::{JobId, Report, Tags, excerpt};

/// How many jobs have a report that waits, at most.
const MAX_JOBS: usize = 10_000;

/// How often a report that is not taken is logged at most. Anybody who may publish could fill the log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A report of a producer that is not ComfyUI, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedReport {
    /// The job that it is about.
    pub job: JobId,
    /// What it says.
    pub report: Report,
    /// The tags that the job gets if this registers it.
    pub tags: Tags,
}

impl ReceivedReport {
    /// Whether it is the end of its job.
    pub(crate) fn is_final(&self) -> bool {
        self.report.status.is_final()
    }

    /// Puts a later report of the job in its place. The tags of the first one stay, and so does an end. Returns whether the
    /// later one does not contradict it.
    pub(crate) fn replace_by(&mut self, later: Self) -> bool {
        let status = self.report.status;
        if status.is_final() {
            return later.report.status == status;
        }
        self.report = later.report;
        true
    }
}

/// Reports that wait for the relay. Putting one never waits.
#[derive(Debug)]
pub(super) struct ReportQueue {
    waiting: Mutex<IndexMap<JobId, ReceivedReport>>,
    wake: Notify,
    logged_at: Mutex<Option<Instant>>,
    metrics: BrokerMetrics,
}

impl ReportQueue {
    pub(super) fn new(metrics: &BrokerMetrics) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            logged_at: Mutex::default(),
            metrics: metrics.clone(),
        }
    }

    /// Puts a report in place of an older one of its job, unless that is final. Where there is no room, an end takes that of
    /// another report.
    pub(super) fn put(&self, report: ReceivedReport) {
        self.metrics.reports.inc();
        let mut waiting = self.lock();
        let job = report.job.clone();
        if let Some(older) = waiting.get_mut(&job) {
            let is_taken = older.replace_by(report);
            drop(waiting);
            if !is_taken {
                self.reject(job.as_str(), &"an end of the job waits");
            }
            return;
        }
        let mut rejected = None;
        if waiting.len() < MAX_JOBS {
            waiting.insert(job, report);
        } else if report.is_final()
            && let Some(at) = waiting.values().position(|other| !other.is_final())
        {
            rejected = waiting.swap_remove_index(at).map(|(job, _)| job);
            waiting.insert(job, report);
        } else {
            rejected = Some(job);
        }
        drop(waiting);
        if let Some(job) = rejected {
            self.reject(job.as_str(), &"too many reports wait");
        }
        self.wake.notify_one();
    }

    /// Waits for reports, and takes at most `max`, of different jobs. May be cancelled at any moment.
    pub(super) async fn take(&self, max: usize) -> Vec<ReceivedReport> {
        loop {
            {
                let mut waiting = self.lock();
                let count = waiting.len().min(max);
                if count > 0 {
                    return waiting.drain(..count).map(|(_, report)| report).collect();
                }
            }
            self.wake.notified().await;
        }
    }

    /// Counts a report that is not taken, and logs it, unless another one was a moment ago. The name of a channel may be as long
    /// as a message.
    pub(super) fn reject(&self, job: &str, reason: &dyn fmt::Display) {
        self.metrics.reports_rejected.inc();
        let job = excerpt(job);
        let now = Instant::now();
        let mut logged_at = self
            .logged_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_some_and(|at| now < at + LOG_INTERVAL) {
            return tracing::debug!(?job, %reason, "a report over Redis is not taken");
        }
        *logged_at = Some(now);
        tracing::warn!(
            ?job,
            %reason,
            "a report over Redis is not taken; correct the program that publishes it. Further ones are counted in \
             comfy_relay_redis_reports_rejected_total, and logged once a minute"
        );
    }

    /// The map is consistent at any moment, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, IndexMap<JobId, ReceivedReport>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::NewReport;

    fn report(job: &str, body: &str) -> ReceivedReport {
        let (report, tags) = NewReport::read(body.as_bytes()).unwrap().check().unwrap();
        let job = JobId::parse(job).unwrap();
        ReceivedReport { job, report, tags }
    }

    #[tokio::test]
    async fn the_newest_report_of_a_job_keeps_the_tags_of_the_first_and_an_end_stays() {
        let metrics = BrokerMetrics::default();
        let queue = ReportQueue::new(&metrics);
        queue.put(report(
            "a",
            r#"{"progress": 1, "status": "processing", "group": "g"}"#,
        ));
        queue.put(report("b", r#"{"progress": 5, "status": "queued"}"#));
        queue.put(report("a", r#"{"progress": 100, "status": "failed"}"#));
        queue.put(report("a", r#"{"progress": 100, "status": "completed"}"#));
        let taken = queue.take(1).await;
        let failed = r#"{"progress": 100, "status": "failed", "group": "g"}"#;
        assert_eq!(taken, [report("a", failed)]);
        assert_eq!(queue.take(9).await.len(), 1);
        assert_eq!(metrics.reports_rejected.get(), 1);
    }

    #[tokio::test]
    async fn reports_for_which_there_is_no_room_are_counted() {
        let metrics = BrokerMetrics::default();
        let queue = ReportQueue::new(&metrics);
        let body = r#"{"progress": 1, "status": "processing"}"#;
        for number in 0..=MAX_JOBS {
            queue.put(report(&format!("job-{number}"), body));
        }
        queue.put(report("job-0", body));
        assert_eq!(metrics.reports_rejected.get(), 1);
        let end = r#"{"progress": 100, "status": "completed"}"#;
        queue.put(report("end", end));
        assert_eq!(metrics.reports_rejected.get(), 2);
        let taken = queue.take(usize::MAX).await;
        assert_eq!(taken.len(), MAX_JOBS);
        assert!(taken.contains(&report("end", end)));
    }
}
