//! The task of the mirror, and its connection.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::pipeline::Pipeline;
use super::state::MirroredState;
use super::write::Writer;
use super::{MAX_PAUSE, Mirror};
use crate::store::Store;
use crate::store::database::{StoreError, in_time, with_connection};

/// How often a table that is missing is looked for.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);

/// How many ends from before the start are read at a time.
const DUE_PAGE: usize = 500;

/// How long writing the last states may take when the relay stops. What is left is written after the next start.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a [`Writer`] with the mirror's connection.
macro_rules! with_writer {
    ($task:expr, $pipeline:expr, |$writer:ident| $write:expr) => {
        in_time(async {
            with_connection!($task.store, mirror, |connection, _names| {
                let mut $writer = Writer {
                    session: connection,
                    pipeline: $pipeline,
                    names: &$task.store.names,
                    inserts: $task.mirror.0.inserts,
                };
                $write
            })
        })
    };
}

/// Writes what a [`Mirror`] collects.
#[derive(Debug)]
pub(in crate::store) struct MirrorTask {
    pub(in crate::store) mirror: Mirror,
    pub(in crate::store) store: Store,
}

impl MirrorTask {
    /// Mirrors states until `stop`, then those that wait.
    pub(in crate::store) async fn run(self, stop: CancellationToken) {
        if !self.mirror.is_active() {
            return;
        }
        stop.run_until_cancelled(self.mirror_states()).await;
        if let Some(pipeline) = self.mirror.pipeline() {
            let drained = timeout(DRAIN_TIMEOUT, async {
                self.mirror.hurry();
                while self
                    .mirror
                    .next_due()
                    .is_some_and(|due| due <= Instant::now())
                {
                    self.write_due(&pipeline).await;
                }
            });
            // What is left is logged.
            let _ = drained.await;
        }
        let jobs = self.mirror.health().pending;
        if jobs > 0 {
            tracing::warn!(
                jobs,
                "the pipeline's table does not show the newest state of some jobs"
            );
        }
    }

    async fn mirror_states(&self) {
        let pipeline = self.find().await;
        self.try_out(&pipeline).await;
        let mut caught_up_to = Some(String::new());
        loop {
            if let Some(after) = &caught_up_to
                && self.mirror.health().pending < DUE_PAGE
            {
                caught_up_to = self.catch_up(after).await;
            }
            let due = self.mirror.next_due();
            tokio::select! {
                () = self.mirror.0.wake.notified() => {}
                () = sleep_until(due.unwrap_or_else(|| Instant::now() + SEARCH_INTERVAL)) => {
                    self.write_due(&pipeline).await;
                }
            }
        }
    }

    /// Looks for the table until it is there.
    async fn find(&self) -> Arc<Pipeline> {
        loop {
            let pause = match self.store.find_pipeline().await {
                Ok(Some(pipeline)) => {
                    tracing::info!(
                        table = pipeline.name,
                        "mirroring jobs to the pipeline's table"
                    );
                    return self.mirror.on_found(pipeline);
                }
                Ok(None) => {
                    self.mirror.on_absent();
                    SEARCH_INTERVAL
                }
                Err(error) => {
                    let error = &error as &dyn Error;
                    tracing::debug!(error, "cannot look for the pipeline's table, retrying");
                    MAX_PAUSE
                }
            };
            sleep(pause).await;
        }
    }

    /// Finds out what cannot be written, before the first job needs it.
    async fn try_out(&self, pipeline: &Pipeline) {
        if pipeline.has_row_security {
            tracing::warn!(
                table = pipeline.name,
                "row level security applies to the relay's role; rows that it hides are not mirrored"
            );
        }
        let tried = with_writer!(self, pipeline, |writer| writer.try_samples().await);
        match tried.await {
            Ok(refused) => self.mirror.log_refusals(pipeline, refused),
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot try out the pipeline's table");
            }
        }
    }

    /// Queues ends from before the start. Returns from where to go on, `None` after the last one.
    async fn catch_up(&self, after: &str) -> Option<String> {
        let due: Result<Vec<MirroredState>, StoreError> =
            self.store.due_states(after, DUE_PAGE as i64).await;
        match due {
            Ok(due) => {
                let last = due.last().map(|state| state.job_key.clone());
                for state in due {
                    self.mirror.submit(state);
                }
                return last;
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::debug!(
                    error,
                    "cannot read the ends that are not mirrored, retrying"
                );
            }
        }
        sleep(MAX_PAUSE).await;
        Some(after.to_owned())
    }

    /// Writes the state that has been due for the longest time, unless none is.
    async fn write_due(&self, pipeline: &Pipeline) {
        let Some(state) = self.mirror.due() else {
            return;
        };
        let written = with_writer!(self, pipeline, |writer| writer.write(&state).await);
        match written.await {
            Ok(refused) => {
                self.mirror.on_written(&state);
                self.mirror.log_refusals(pipeline, refused);
            }
            Err(error) => self.mirror.on_failure(&state, &error),
        }
    }
}
