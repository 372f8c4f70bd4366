//! Follows one backend: owns its two tasks and its lease.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ComfyConfig;
use crate::relay::backend::Backend;
use crate::relay::estimates::Estimator;
use crate::relay::tracker::Tracker;
use crate::store::Recorder;

/// Follows one backend. Task A (`follow`) reads its socket and waits for nothing else; task B
/// (`reconcile`) compares open jobs with its queue and history. A third one keeps the lease.
#[derive(Debug)]
pub(in crate::relay) struct Follower {
    pub(in crate::relay) backend: Arc<Backend>,
    pub(in crate::relay) config: Arc<ComfyConfig>,
    pub(in crate::relay) tracker: Arc<Tracker>,
    pub(in crate::relay) estimator: Arc<Estimator>,
    pub(in crate::relay) recorder: Recorder,
    pub(in crate::relay) stop: CancellationToken,
    pub(in crate::relay) tasks: TaskTracker,
}

impl Follower {
    /// Starts its tasks.
    pub(in crate::relay) fn start(self: &Arc<Self>) {
        self.tasks.spawn(self.clone().follow());
        self.tasks.spawn(self.clone().reconcile());
    }

    /// Learns from the backend's history in a task of its own, if that is due.
    pub(in crate::relay) fn start_history_replay(&self) {
        if !std::mem::take(&mut self.backend.state().api.history_due) {
            return;
        }
        let (stop, backend) = (self.stop.clone(), self.backend.clone());
        let estimator = self.estimator.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = estimator.learning.replay_history(&backend) => {}
            }
        });
    }
}
