//! What a relay does with rows, and with the states of other relays. What is decided is decided by the code of the relay.

use std::collections::BTreeMap;

use super::cluster::job_number;
use super::database::owner;
use super::held_job::HeldJob;
use super::process::SimulatedRelay;
use crate::broker::ReceivedState;
use crate::hub::Publication;
use crate::job::{Job, StoredJob};
use crate::relay::ownership::{Ownership, RowDecision, RowState, StateVersion};
use crate::relay::publish::follow_on;
use crate::relay::restore::{raised, resumed};
use crate::relay::shared_states::PublishedBefore;

impl SimulatedRelay {
    pub(super) fn is_ours(&self, stored: &StoredJob) -> bool {
        let backend: usize = stored.backend.as_deref().unwrap().parse().unwrap();
        let is_owner = stored.owner.as_deref() == Some(owner(self.name).as_str());
        is_owner && self.leases[backend].held_until.get().is_some()
    }

    /// As `Tracker::apply_row`.
    pub(super) fn apply_row(&self, stored: StoredJob) {
        let number = job_number(&stored.id);
        let row = RowState::of(&stored, self.is_ours(&stored));
        let mut jobs = self.jobs.borrow_mut();
        let held = jobs.get(&number).map(HeldJob::held);
        match row.meet(held) {
            RowDecision::Keep(ownership) => {
                let held = jobs.get_mut(&number).unwrap();
                let has_ended = held.job.status().is_final();
                held.is_ahead_of_row |= ownership == Ownership::Reader && has_ended;
                held.is_ahead_of_row &= !row.has_ended;
                let is_back = !held.is_owned() && ownership == Ownership::Owner;
                held.ownership = ownership;
                if is_back {
                    self.publish(held);
                }
            }
            RowDecision::Restore => {
                let seen = jobs.get(&number);
                let seen = seen.map(|held| (held.job.seq(), held.job.percent()));
                let epoch = stored.epoch;
                let job = resumed(stored, seen);
                let mut held = HeldJob::new(job, epoch, Ownership::Owner, true);
                self.leases[held.backend()].reconcile_now.notify_one();
                self.publish(&mut held);
                jobs.insert(number, held);
            }
            RowDecision::Follow => {
                // Subscribers that have an end get no other.
                let has_state = held.is_some_and(|held| held.has_ended);
                let copy = copy(&mut jobs, stored);
                if !has_state {
                    copy.published_at = self.world.executor.clock.now();
                    self.publish_row(number, copy);
                }
            }
            RowDecision::Record => {
                let held = jobs.get_mut(&number).unwrap();
                let end = held.held().version;
                held.ownership = Ownership::Owner;
                held.epoch = stored.epoch;
                held.is_ahead_of_row = false;
                let is_before_others = end.is_end_before_others(stored.epoch);
                let seq = if is_before_others {
                    stored.next_seq()
                } else {
                    stored.seq
                };
                held.job.go_on_from(seq, stored.progress);
                let (publication, state) = self.newest_state(held);
                if is_before_others {
                    self.hub.replace(publication);
                    self.outbox.put(state.clone());
                }
                self.record(held, state);
            }
        }
    }

    /// As `Tracker::publish_row`. Only of a job that was registered again may the number of the end be lower than those before.
    fn publish_row(&self, number: usize, copy: &HeldJob) {
        let mut progress = copy.job.progress(None, self.world.now());
        let seq = progress.seq;
        follow_on(&mut progress, self.hub.newest(copy.job.id()).as_deref());
        if progress.seq > seq && self.world.registrations[number].get() < 2 {
            let before = progress.seq - 1;
            self.world
                .report(format!("job {number} has the end {seq} after {before}"));
        }
        let publication = Publication::encode(&progress, copy.job.outcome()).unwrap();
        self.hub.publish(publication);
    }

    /// As `Tracker::apply_received`.
    pub(super) fn apply_received(&self, received: ReceivedState) {
        let id = &received.stored.id;
        let is_known = self.jobs.borrow().contains_key(&job_number(id));
        if is_known || self.hub.is_followed(id) {
            self.take_received(received);
        }
    }

    /// As `Tracker::catch_up`.
    pub(super) fn catch_up(&self, row: &mut StoredJob, newest: ReceivedState) {
        match PublishedBefore::of(row, &newest.stored) {
            PublishedBefore::OtherJob => {}
            PublishedBefore::End => self.take_received(newest),
            PublishedBefore::Progress(progress) => row.progress = row.progress.max(progress),
        }
    }

    fn take_received(&self, mut received: ReceivedState) {
        let number = job_number(&received.stored.id);
        let mut jobs = self.jobs.borrow_mut();
        let held = jobs.get(&number);
        let version = StateVersion {
            epoch: received.stored.epoch,
            seq: received.stored.seq,
        };
        if !version.is_news_of_owner(held.map(HeldJob::held)) {
            return;
        }
        if let Some(held) = held {
            received.raise(held.job.percent());
        }
        let ReceivedState { stored, payload } = received;
        let (job, seq, status) = (stored.id.clone(), stored.seq, stored.status);
        let copy = copy(&mut jobs, stored);
        copy.published_at = self.world.executor.clock.now();
        copy.is_ahead_of_row = status.is_final();
        self.hub.publish(Publication {
            job,
            seq,
            status,
            payload,
            outcome: copy.job.outcome(),
            event_at: None,
        });
    }
}

/// As `Tracker::copy`.
fn copy(jobs: &mut BTreeMap<usize, HeldJob>, stored: StoredJob) -> &mut HeldJob {
    let number = job_number(&stored.id);
    let shown = jobs.get(&number).map(|held| held.job.percent());
    let (epoch, has_ended) = (stored.epoch, stored.status.is_final());
    let job = Job::stored(raised(stored, shown));
    let held = HeldJob::new(job, epoch, Ownership::Reader, has_ended);
    jobs.entry(number).insert_entry(held).into_mut()
}
