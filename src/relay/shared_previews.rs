//! Previews between relays: those of our jobs that subscribers at other relays want, and those of other relays' jobs that
//! subscribers here want. Nothing is sent of a job whose previews nobody wants.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Relay;
use super::registry::Entry;
use super::tracker::Tracker;
use crate::broker::{JobPreview, Position, WantedJobs};
use crate::hub::Preview;
use crate::job::JobId;

/// How often a relay repeats of which jobs it wants previews.
const RENEWAL: Duration = Duration::from_secs(2);

/// The least time between two looks at what subscribers want: they come and go a thousand at a time.
const PAUSE: Duration = Duration::from_millis(250);

impl Relay {
    /// Has other relays know which previews are wanted here.
    pub(super) async fn want_previews(self) {
        let tracker = &self.0.tracker;
        let mut changes = tracker.hub.changes().subscribe();
        let mut renewal = interval(RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = WantedJobs::default();
        loop {
            let is_renewal = tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = renewal.tick() => true,
                // Fails only if the hub is gone, and the tracker keeps it.
                _ = changes.changed() => false,
            };
            let wanted = tracker.foreign_previewed();
            if is_renewal || wanted != before {
                let left = tracker.previews.record_own(&wanted.all());
                tracker.forget_previews(left);
                tracker.broker.want_previews(wanted.clone());
                before = wanted;
            }
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Passes previews of other relays on to the subscribers of this one.
    pub(super) async fn follow_previews(self) {
        let tracker = &self.0.tracker;
        loop {
            let previews = tokio::select! {
                () = self.0.stop.cancelled() => return,
                previews = tracker.broker.previews() => previews,
            };
            for preview in previews {
                tracker.apply_preview(preview);
            }
        }
    }
}

impl Tracker {
    /// Passes a preview of ours on to the relays whose subscribers want it. Never waits.
    pub(super) fn share_preview(&self, preview: &Preview, epoch: u64) {
        if self.broker.is_alone() || !self.previews.are_wanted(&preview.job) {
            return;
        }
        self.broker.publish_preview(JobPreview {
            job: preview.job.clone(),
            position: Position {
                epoch,
                seq: preview.seq,
            },
            node: preview.node.clone(),
            mime: preview.mime,
            image: preview.image.clone(),
        });
    }

    /// Another relay wants the previews of these jobs: it gets the newest of those that are ours now, and later ones as they
    /// come.
    pub(super) fn on_previews_wanted(&self, relay: String, jobs: Vec<JobId>) {
        for job in self.previews.record_wanted(relay, jobs, Instant::now()) {
            let epoch = {
                let registry = self.registry();
                let ours = registry.get(&job).filter(|entry| entry.is_owned());
                ours.map(|entry| entry.epoch)
            };
            if let Some(epoch) = epoch
                && let Some(preview) = self.hub.preview(&job)
            {
                self.share_preview(&preview, epoch);
            }
        }
    }

    /// The jobs whose previews are wanted here and come from other relays, if they come.
    fn foreign_previewed(&self) -> WantedJobs {
        let followed = self.hub.previewed();
        let registry = self.registry();
        let is_ours = |entry: &Entry| entry.is_owned() || entry.job.status().is_final();
        let followed = followed.into_iter().filter(|id| id.group().is_none());
        let wanted = followed
            .filter(|id| !registry.get(id).is_some_and(is_ours) && registry.ended(id).is_none());
        let (known, unknown) = wanted.partition(|id| registry.get(id).is_some());
        let mut wanted = WantedJobs { known, unknown };
        if self.preview_feeds.are_open() {
            let unowned = registry.unowned().filter(|entry| !is_ours(entry));
            let shown = unowned.filter(|entry| self.preview_feeds.show(&entry.job));
            wanted
                .known
                .extend(shown.map(|entry| entry.job.id().clone()));
        }
        wanted
    }

    fn apply_preview(&self, preview: JobPreview) {
        let job = preview.job;
        {
            let registry = self.registry();
            let entry = registry.get(&job);
            // One that has lost the job to us may not know it yet.
            if entry.is_some_and(|it| it.is_owned() || it.epoch > preview.position.epoch) {
                return;
            }
        }
        if let Some(seq) = self.previews.number(&job, preview.position) {
            self.hub.pass_preview(Preview {
                job,
                node: preview.node,
                seq,
                mime: preview.mime,
                image: preview.image,
                event: Default::default(),
            });
        }
    }

    /// Previews of these jobs do not come from other relays any more. Those of one that goes on would not be the newest.
    fn forget_previews(self: &Arc<Self>, jobs: Vec<JobId>) {
        for job in jobs {
            let (is_owned, has_ended) = {
                let registry = self.registry();
                let has_ended = registry.remembered(&job);
                let has_ended = has_ended.is_some_and(|it| it.status().is_final());
                (registry.get(&job).is_some_and(Entry::is_owned), has_ended)
            };
            if has_ended {
                self.tasks.spawn(self.clone().forget_preview(job));
            } else if !is_owned {
                self.hub.forget_preview(&job);
            }
        }
    }
}
