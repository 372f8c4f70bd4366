//! States that relays share over the broker: ours for the others, and those of the jobs that somebody follows here and another
//! relay owns. They are ahead of the rows. Who owns a job is the database's to say, whatever comes over the broker.

use std::time::Duration;

use super::Relay;
use super::ownership::{Ownership, StateVersion};
use super::registry::{Entry, Registry};
use super::tracker::Tracker;
use crate::broker::{JobState, Position, ReceivedState};
use crate::hub::Publication;
use crate::job::{Job, JobId, Status, StoredJob};

/// How long a job of another relay may be silent before its row is read. One that runs is published every second.
const SILENCE: Duration = Duration::from_secs(2);

/// The same for a job that waits, whose state may stay as it is, while the broker is connected.
const WAITING_SILENCE: Duration = Duration::from_secs(10);

/// What the last owner of a job has published, beside the job's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishedBefore {
    /// Another job: a row of another database may have the same id, and a state that is newer than ours the same server.
    OtherJob,
    End,
    /// This percentage.
    Progress(u8),
}

impl PublishedBefore {
    /// What `published` is to a job that goes on from its `row`.
    pub(super) fn of(row: &StoredJob, published: &StoredJob) -> Self {
        let created = |job: &StoredJob| job.created_at.as_millisecond();
        if created(published) != created(row) || published.epoch > row.epoch {
            Self::OtherJob
        } else if published.status.is_final() {
            Self::End
        } else {
            Self::Progress(published.progress)
        }
    }
}

/// A state of a job, as other relays get it.
pub(super) fn state_of(job: &Job, epoch: u64, publication: &Publication) -> JobState {
    let outputs = job.stored_outputs().into_iter();
    JobState {
        job: publication.job.clone(),
        position: Position {
            epoch,
            seq: publication.seq,
        },
        is_final: publication.is_final(),
        payload: publication.payload.clone(),
        created_at: job.created_at(),
        started_at: job.stored_start(),
        ended_at: job.ended_at(),
        error_code: job.error().map(|error| error.code.as_str()),
        learned_from: job.end_source().map(|source| source.as_str()),
        output_urls: outputs.map(|output| output.url).collect(),
    }
}

/// Whether the row of another relay's job is to be read, of which nothing was published for so long.
pub(super) fn is_silent(status: Status, is_connected: bool, silence: Duration) -> bool {
    let is_quiet = status == Status::Queued && is_connected;
    silence >= if is_quiet { WAITING_SILENCE } else { SILENCE }
}

impl Relay {
    /// Takes over what other relays publish, and publishes our open jobs again after the broker has connected.
    pub(super) async fn follow_states(self) {
        let tracker = &self.0.tracker;
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = tracker.broker.connected() => tracker.share_open(),
                received = tracker.broker.received() => {
                    let mut registry = tracker.registry();
                    for state in received {
                        tracker.apply_received(&mut registry, state);
                    }
                }
            }
        }
    }
}

impl Tracker {
    /// Publishes a state of ours for other relays. Never waits.
    pub(super) fn share(&self, entry: &Entry, publication: &Publication) {
        if self.broker.is_alone() || !entry.is_owned() {
            return;
        }
        let state = state_of(&entry.job, entry.epoch, publication);
        self.broker.publish(state);
    }

    /// Publishes the newest states of our open jobs again: the server may have lost them, or has never had them.
    fn share_open(&self) {
        let registry = self.registry();
        for entry in registry.all_open().filter(|entry| entry.is_owned()) {
            if let Some(publication) = self.hub.newest(entry.job.id()) {
                self.share(entry, &publication);
            }
        }
    }

    /// Receives the states of a job that somebody follows here, unless this relay has it or it has ended.
    pub(super) fn follow_elsewhere(&self, id: &JobId) {
        if self.broker.is_alone() || id.group().is_some() {
            return;
        }
        let is_ours = |entry: &Entry| entry.is_owned() || entry.job.status().is_final();
        if !self.registry().get(id).is_some_and(is_ours) {
            self.broker.follow(id);
        }
    }

    /// Whether the row of another relay's job is to be read, because nothing has come over the broker for too long.
    pub(super) fn is_row_due(&self, entry: &Entry) -> bool {
        if self.broker.is_alone() {
            return true;
        }
        let silence = entry.publishing.published_at.elapsed();
        is_silent(entry.job.status(), self.broker.is_connected(), silence)
    }

    /// Brings a job up to date with a state that its owner has published, and passes that state on as it is.
    pub(super) fn apply_received(&self, registry: &mut Registry, received: ReceivedState) {
        // Nobody may follow it any more.
        let id = &received.stored.id;
        if registry.get(id).is_some() || self.hub.is_followed(id) {
            self.take_received(registry, received);
        }
    }

    /// A job goes on from what its last owner has published, which may be more than that has written. `row` is its row, now
    /// ours.
    pub(super) fn catch_up(&self, row: &mut StoredJob, newest: ReceivedState) {
        match PublishedBefore::of(row, &newest.stored) {
            PublishedBefore::OtherJob => {}
            PublishedBefore::End => self.take_received(&mut self.registry(), newest),
            PublishedBefore::Progress(progress) => row.progress = row.progress.max(progress),
        }
    }

    fn take_received(&self, registry: &mut Registry, mut received: ReceivedState) {
        let id = received.stored.id.clone();
        let held = registry.get(&id).map(Entry::held);
        let version = StateVersion {
            epoch: received.stored.epoch,
            seq: received.stored.seq,
        };
        if !version.is_news_of_owner(held) {
            return;
        }
        if let Some(entry) = registry.get(&id) {
            received.raise(entry.job.percent());
        } else if !registry.reserve(&id) {
            // It is being submitted here.
            return;
        }
        let ReceivedState { stored, payload } = received;
        let (seq, status) = (stored.seq, stored.status);
        let remaining = stored.estimated_remaining;
        let entry = self.copy(registry, stored);
        entry.publishing.received(remaining);
        entry.is_ahead_of_row = status.is_final();
        if status.is_final() && held.is_some() {
            self.send_end(entry);
        }
        let publication = Publication {
            job: id.clone(),
            seq,
            status,
            payload,
            outcome: entry.job.outcome(),
            event_at: None,
        };
        registry.set_ownership(&id, Ownership::Reader);
        self.hub.publish(publication);
        self.notify_monitors();
    }
}
