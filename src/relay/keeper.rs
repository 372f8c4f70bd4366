//! Copies the files of completed jobs from ComfyUI into the folder where they are kept.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::Relay;
use super::backend::Backend;
use super::kept_outputs::FoundCopy;
use super::tracker::Tracker;
use crate::job::{Job, JobId, Output, Selection, Status, StoredJob};
use crate::store::{JobFilter, StoreError};

/// After a start, the files of jobs are copied that completed so long before, and were not copied then.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3_600);

/// How many of these jobs are looked at, at most.
const MAX_LOOKED_AT: usize = 1_000;

/// How long to wait after an attempt that failed, before the next.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// How long a request for a job waits until the folder answers whether a copy is there.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// The end of the name of a file that is being written.
const PART: &str = ".part";

/// The files of how many jobs of one server are copied at a time.
const MAX_AT_ONCE: usize = 2;

/// By the index of the server.
type KeeperTurns = HashMap<usize, Arc<Semaphore>>;

/// A completed job whose files are to be kept.
struct CompletedJob {
    id: JobId,
    created_at: Timestamp,
    backend: Arc<Backend>,
    outputs: Vec<Output>,
}

/// A file that is being written, and removed wherever that ends.
struct PartFile(PathBuf);

/// Why a file was not copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("ComfyUI cannot be asked for it")]
    Comfy(#[from] crate::comfy::RestError),
    #[error("ComfyUI has it no longer")]
    Gone,
    #[error("ComfyUI has sent only a part of it")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    #[error("it cannot be written")]
    Disk(#[from] io::Error),
}

impl Relay {
    /// Keeps the files of the jobs that complete, and of those that completed before the start.
    pub(super) async fn keep_outputs(self, mut completed: mpsc::UnboundedReceiver<JobId>) {
        if !self.0.tracker.kept.is_on() {
            return;
        }
        let mut turns = KeeperTurns::new();
        let keeping = async {
            self.0.tracker.recorder.ready().await;
            for job in self.completed_before().await {
                self.0.tracker.kept.begin(&job.id);
                self.clone().keep_in_turn(job, &mut turns);
            }
            while let Some(id) = completed.recv().await {
                match self.completed_job(&id) {
                    Some(job) => self.clone().keep_in_turn(job, &mut turns),
                    None => self.0.tracker.kept.finish(&id),
                }
            }
        };
        tokio::select! {
            () = self.0.stop.cancelled() => {}
            () = keeping => {}
        }
    }

    /// Copies the files of a job in a task of its own. A server that does not answer delays the files of no other.
    fn keep_in_turn(self, job: CompletedJob, turns: &mut KeeperTurns) {
        let turn = turns
            .entry(job.backend.index)
            .or_insert_with(|| Arc::new(Semaphore::new(MAX_AT_ONCE)));
        let turn = turn.clone();
        let tasks = self.0.tasks.clone();
        tasks.spawn(async move {
            let keeping = async {
                // Fails only if the semaphore is closed, which it never is.
                let _turn = turn.acquire().await;
                self.keep(&job).await;
            };
            tokio::select! {
                () = self.0.stop.cancelled() => {}
                () = keeping => {}
            }
        });
    }

    fn completed_job(&self, id: &JobId) -> Option<CompletedJob> {
        let registry = self.0.tracker.registry();
        let entry = registry.get(id)?;
        Some(CompletedJob {
            id: id.clone(),
            created_at: entry.job.created_at(),
            backend: entry.backend.clone()?,
            outputs: entry.job.outputs().iter().cloned().collect(),
        })
    }

    /// The jobs that completed lately, the oldest first.
    async fn completed_before(&self) -> Vec<CompletedJob> {
        let filter = JobFilter {
            selection: Selection {
                statuses: vec![Status::Completed],
                ..Selection::default()
            },
            ended_since: Timestamp::now().checked_sub(LOOK_BACK).ok(),
            ..JobFilter::default()
        };
        let store = self.0.tracker.recorder.store();
        let mut pauses = PAUSES.into_iter();
        let stored = loop {
            match store.jobs(&filter, MAX_LOOKED_AT).await {
                Ok(stored) => break stored,
                Err(error) => {
                    let pause = pauses.next();
                    log_unread(&error, pause.is_some());
                    let Some(pause) = pause else {
                        return Vec::new();
                    };
                    sleep(pause).await;
                }
            }
        };
        let jobs = stored.jobs.into_iter().rev().filter_map(|stored| {
            let name = stored.backend?;
            let backend = self.backend_named(&name).ok()?.clone();
            Some(CompletedJob {
                id: stored.id,
                created_at: stored.created_at,
                backend,
                outputs: stored.outputs,
            })
        });
        jobs.collect()
    }

    /// Copies the files of a job that are not there yet.
    async fn keep(&self, job: &CompletedJob) {
        let Some(paths) = self.0.tracker.kept.paths(&job.id, &job.outputs) else {
            return;
        };
        let paths: Vec<PathBuf> = paths.collect();
        if let Some(folder) = paths.first().and_then(|path| path.parent()) {
            remove_parts(folder).await;
        }
        let made = job.outputs.iter().zip(paths);
        for (output, path) in made.filter(|(output, _)| !output.is_shown_text()) {
            if is_kept(&path, job.created_at).await {
                continue;
            }
            let mut pauses = PAUSES.into_iter();
            while let Err(error) = copy(&job.backend, output, &path).await {
                let pause = pauses.next().filter(|_| !matches!(error, CopyError::Gone));
                log_failure(&job.id, &path, &error, pause.is_some());
                let Some(pause) = pause else {
                    break;
                };
                sleep(pause).await;
            }
        }
        self.0.tracker.place_kept(&job.id).await;
    }
}

impl Tracker {
    /// Looks for the copy of a job's file, before the state is published that its row has. A folder that does not answer has none.
    pub(super) async fn look_for_copy(&self, stored: &StoredJob) -> Option<FoundCopy<'_>> {
        if !self.kept.is_on() || stored.status != Status::Completed {
            return None;
        }
        let path = self.kept.main_path(&Job::stored(stored.clone()))?;
        let looking = self.kept.look(&stored.id, &path);
        timeout(LOOK_TIMEOUT, looking).await.ok().flatten()
    }
}

/// Whether there is a copy of this job: an earlier one may have had its id.
async fn is_kept(path: &Path, created_at: Timestamp) -> bool {
    let Ok(found) = fs::metadata(path).await else {
        return false;
    };
    let written = found.modified().ok().map(Timestamp::try_from);
    written.is_none_or(|written| written.is_ok_and(|written| written >= created_at))
}

/// Removes what a relay that was killed has left of its copies. No other relay copies files of this job.
async fn remove_parts(folder: &Path) {
    let Ok(mut entries) = fs::read_dir(folder).await else {
        return;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.starts_with('.') && name.ends_with(PART))
        {
            // One that cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path()).await;
        }
    }
}

fn log_unread(error: &StoreError, is_retried: bool) {
    let error = error as &dyn Error;
    if is_retried {
        tracing::debug!(
            error,
            "cannot read which files are still to be kept, retrying"
        );
    } else {
        tracing::warn!(error, "cannot read which files are still to be kept");
    }
}

fn log_failure(job: &JobId, path: &Path, error: &CopyError, is_retried: bool) {
    let (error, path) = (error as &dyn Error, path.display());
    if is_retried {
        tracing::debug!(error, job_id = %job, %path, "cannot keep a file, retrying");
    } else {
        tracing::warn!(error, job_id = %job, %path, "a file is not kept");
    }
}

/// Copies a file, which is there whole or not at all.
async fn copy(backend: &Backend, output: &Output, path: &Path) -> Result<(), CopyError> {
    let response = backend
        .comfy
        .rest()
        .file(&output.file(), &Default::default())
        .await?;
    let response = response.ok_or(CopyError::Gone)?;
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).await?;
    let part = PartFile(folder.join(format!(".{}{PART}", Uuid::new_v4())));
    write(response.into_body(), &part.0).await?;
    fs::rename(&part.0, path).await?;
    Ok(())
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // After it was renamed there is none.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn write(body: reqwest::Body, path: &Path) -> Result<(), CopyError> {
    let mut file = fs::File::create_new(path).await?;
    let mut chunks = http_body_util::BodyDataStream::new(body);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| CopyError::Broken(error.into()))?;
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    Ok(())
}
