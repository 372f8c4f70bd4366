//! Lists jobs, and shows one.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use tokio::fs::try_exists;

use crate::estimate::Estimate;
use crate::job::{EndSource, ErrorCode, Job, JobId, Progress, StoredJob};
use crate::relay::registry::Remembered;
use crate::relay::requests::job_links::JobLinks;
use crate::relay::requests::job_webhook::DeliveryView;
use crate::relay::requests::timeline::NodeRunView;
use crate::relay::stored_job::StoredEstimate;
use crate::relay::{Relay, RelayError};
use crate::store::{Cursor, JobFilter};

/// A part of the list of jobs, the newest first.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// The cursor of the next page; `null` on the last one.
    #[serde(serialize_with = "encode")]
    #[schemars(with = "Option<String>")]
    pub next_cursor: Option<Cursor>,
}

/// One job: the fields of its `progress` message, and more.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct JobView {
    /// Its newest state.
    #[serde(flatten)]
    pub progress: Progress,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When the relay learned that execution began.
    pub started_at: Option<Timestamp>,
    /// When the relay learned that it had ended.
    pub completed_at: Option<Timestamp>,
    /// From where the relay learned that: `ws`, `history`, `queue` or `producer`.
    #[schemars(with = "Option<EndSource>")]
    pub learned_from: Option<&'static str>,
    /// The stable code of its error, if it failed.
    #[schemars(with = "Option<ErrorCode>")]
    pub error_code: Option<&'static str>,
    /// Its nodes in the order in which they began; only if one job is requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Vec<NodeRunView>>,
    /// What its submission shows of others; only if one job is requested.
    #[serde(flatten)]
    pub links: JobLinks,
    /// What was sent to webhooks about it; only if one job is requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<DeliveryView>,
    /// Where its first file is kept, if it was copied already.
    #[serde(skip)]
    kept: Option<PathBuf>,
    /// Its files are being copied.
    #[serde(skip)]
    is_being_kept: bool,
}

impl JobView {
    /// Makes the output path that of the file that is kept, or will be in a moment.
    pub async fn place_kept(&mut self) {
        if let Some(path) = self.kept.take()
            && (self.is_being_kept || try_exists(&path).await.unwrap_or(false))
        {
            self.progress.output_path = Some(path.to_string_lossy().into_owned());
        }
    }
}

/// A cursor as clients send it back.
fn encode<S: Serializer>(cursor: &Option<Cursor>, serializer: S) -> Result<S::Ok, S::Error> {
    cursor.as_ref().map(Cursor::to_string).serialize(serializer)
}

impl Relay {
    /// One job that is known, with its node timeline. That of a job that ended some time ago comes from the database, and is
    /// empty while that is away.
    pub async fn job(&self, id: &JobId) -> Option<JobView> {
        let mut view = self.job_in_memory(id)?;
        let is_ended = view.progress.status.is_final() && view.started_at.is_some();
        if is_ended && view.timeline.as_ref().is_some_and(Vec::is_empty) {
            view.timeline = self.stored_timeline(id).await.or(view.timeline);
        }
        Some(view)
    }

    fn job_in_memory(&self, id: &JobId) -> Option<JobView> {
        let now = self.0.tracker.now();
        let mut registry = self.0.tracker.registry();
        let entry = registry.get_mut(id)?;
        self.0.tracker.update_place(entry);
        let job = &entry.job;
        let runs = job.runs().into_iter();
        let timeline = runs.map(|run| NodeRunView::of(job, run, now)).collect();
        let mut view = self.job_view(job, self.0.tracker.estimator.estimate(entry, now), now);
        view.progress.outputs = job.published_outputs();
        view.timeline = Some(timeline);
        if job.status().is_final() && !job.nodes().has_begun() {
            // It is as its row has it.
            let newest = self.0.tracker.hub.newest(id);
            if let Some(state) = newest.filter(|newest| newest.seq == view.progress.seq) {
                view.progress.complete(&state.payload);
            }
        }
        Some(view)
    }

    /// The number of the final state of a job or a group; `None` while it has not ended.
    pub fn final_seq(&self, id: &JobId) -> Option<u64> {
        if id.group().is_some() {
            let newest = self.newest_state(id)?;
            return newest.is_final().then_some(newest.seq);
        }
        let registry = self.0.tracker.registry();
        match registry.remembered(id)? {
            Remembered::Whole(entry) => {
                let job = &entry.job;
                job.status().is_final().then(|| job.seq())
            }
            Remembered::Ended(ended) => Some(ended.seq()),
        }
    }

    /// At most `limit` jobs from the store, the newest first. Jobs that the relay remembers have the state
    /// of this moment.
    pub async fn list(&self, filter: &JobFilter, limit: usize) -> Result<JobPage, RelayError> {
        let stored = self.recorder().store().jobs(filter, limit).await?;
        let mut jobs = self.views(stored.jobs);
        // The status of a job may have changed since it was written.
        let matches = |view: &JobView| filter.selection.has_status(view.progress.status);
        jobs.retain(matches);
        // Texts are for those who ask for the job: a page has hundreds of jobs.
        let outputs = jobs.iter_mut().flat_map(|view| &mut view.progress.outputs);
        outputs.for_each(|output| output.text = None);
        for job in &mut jobs {
            job.place_kept().await;
        }
        Ok(JobPage {
            jobs,
            next_cursor: stored.next,
        })
    }

    /// Stored jobs, with the state of this moment where they are in memory.
    fn views(&self, stored: Vec<StoredJob>) -> Vec<JobView> {
        let estimator = &self.0.tracker.estimator;
        let now = self.0.tracker.now();
        let mut registry = self.0.tracker.registry();
        let views = stored
            .into_iter()
            .map(|stored| match registry.get_mut(&stored.id) {
                Some(entry) if entry.is_owned() => {
                    self.0.tracker.update_place(entry);
                    self.job_view(&entry.job, estimator.estimate(entry, now), now)
                }
                _ => {
                    let estimate = StoredEstimate::of(&stored);
                    let job = Job::stored(stored);
                    let estimate = match estimate {
                        Some(estimate) => estimate.at(now),
                        None => estimator.estimate_stored(&job, now),
                    };
                    self.job_view(&job, estimate, now)
                }
            });
        views.collect()
    }

    fn job_view(&self, job: &Job, estimate: Estimate, now: Timestamp) -> JobView {
        let mut progress = job.progress(estimate.remaining_time(), now);
        self.0.tracker.output_root.place(job, &mut progress);
        let keeping = &self.0.tracker.kept;
        JobView {
            progress,
            created_at: job.created_at(),
            started_at: job.started_at(),
            completed_at: job.ended_at(),
            learned_from: job.end_source().map(|source| source.as_str()),
            error_code: job.error().map(|error| error.code.as_str()),
            timeline: None,
            links: JobLinks::default(),
            webhooks: Vec::new(),
            kept: keeping.main_path(job),
            is_being_kept: keeping.is_under_way(job.id()),
        }
    }
}
