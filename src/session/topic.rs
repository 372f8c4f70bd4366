use std::cell::OnceCell;

use bytes::Bytes;

use super::compression::deflate::Deflater;
use super::frame::text_frame;
use super::frame_cache::FrameCache;
use super::job_lookup::JobLookup;
use super::keys::SubscriberKey;
use super::message::ServerMessage;
use crate::hub::{PendingUpdates, Publication, SharedSubscription, Update};

/// How many frames of one job may wait to be written: some 50 ms of writing. With one subscriber that
/// is thousands of states; with thousands of subscribers it is the newest state alone.
pub(super) const MAX_PENDING: usize = 4_096;

/// A job that subscribers of this shard subscribe to.
#[derive(Debug)]
pub(super) struct ShardTopic {
    pub(super) subscription: SharedSubscription,
    subscribers: Vec<SubscriberKey>,
    /// The update that is being sent. The subscribers before `cursor` have been visited.
    current: Option<Update>,
    cursor: usize,
    pending: PendingUpdates,
    /// The final state was among the updates.
    has_ended: bool,
    /// It is in the queue of topics that have something to send.
    pub(super) is_queued: bool,
    frames: FrameCache,
    /// The `error` message that subscribers get before the final state of a failed job.
    failure_frame: OnceCell<Bytes>,
    /// The look-up of the job while nobody has registered it.
    pub(super) lookup: JobLookup,
}

impl ShardTopic {
    pub(super) fn new(subscription: SharedSubscription) -> Self {
        Self {
            subscription,
            subscribers: Vec::with_capacity(1),
            current: None,
            cursor: 0,
            pending: PendingUpdates::default(),
            has_ended: false,
            is_queued: false,
            frames: FrameCache::default(),
            failure_frame: OnceCell::new(),
            lookup: JobLookup::default(),
        }
    }

    pub(super) fn has_no_subscribers(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Adds a subscriber, which gets every update from now on. Returns its index.
    pub(super) fn add(&mut self, key: SubscriberKey) -> usize {
        self.subscribers.push(key);
        self.subscribers.len() - 1
    }

    /// Removes the subscriber at an index. Calls `moved` for each subscriber whose index changes: those
    /// that were visited stay before the cursor, and the others stay behind it.
    pub(super) fn remove(&mut self, index: usize, mut moved: impl FnMut(SubscriberKey, usize)) {
        let mut hole = index;
        if self.current.is_some() && index < self.cursor {
            self.cursor -= 1;
            if hole != self.cursor {
                self.subscribers[hole] = self.subscribers[self.cursor];
                moved(self.subscribers[hole], hole);
                hole = self.cursor;
            }
        }
        self.subscribers.swap_remove(hole);
        if let Some(&key) = self.subscribers.get(hole) {
            moved(key, hole);
        }
    }

    /// Adds updates to those that are to be sent.
    pub(super) fn enqueue(&mut self, mut updates: PendingUpdates) {
        let limit = MAX_PENDING / self.subscribers.len().max(1);
        while let Some(next) = updates.pop() {
            self.pending.push(next, limit);
        }
    }

    /// The next subscriber and the update that it is to get; `None` when every update was offered to
    /// every subscriber.
    pub(super) fn next(&mut self) -> Option<(SubscriberKey, Update)> {
        loop {
            if self.current.is_none() {
                self.current = self.pending.pop();
                self.cursor = 0;
            }
            let update = self.current.as_ref()?;
            self.has_ended |= update.is_final();
            if let Some(&key) = self.subscribers.get(self.cursor) {
                self.cursor += 1;
                return Some((key, update.clone()));
            }
            self.current = None;
        }
    }

    /// Records that every update was offered to every subscriber. After the end nothing more comes, while
    /// sockets may stay open: the frames, of images above all, are built again for a subscriber that still needs one.
    pub(super) fn finish_turn(&mut self) {
        self.is_queued = false;
        if self.has_ended {
            self.frames = FrameCache::default();
            self.failure_frame.take();
        }
    }

    /// Lets [`ShardTopic::next`] return the same subscriber once more.
    pub(super) fn step_back(&mut self) {
        self.cursor -= 1;
    }

    /// The frame of an update.
    pub(super) fn frame(
        &mut self,
        update: &Update,
        deflates: bool,
        deflater: &mut Deflater,
    ) -> Bytes {
        match update {
            Update::Preview(preview) => self.frames.preview(preview),
            Update::State(publication) => self.state_frame(publication, deflates, deflater),
        }
    }

    /// The frame of a state. Before the final state of a failed job comes the reason of the failure.
    pub(super) fn state_frame(
        &mut self,
        publication: &Publication,
        deflates: bool,
        deflater: &mut Deflater,
    ) -> Bytes {
        let frame = self.frames.state(publication, deflates, deflater);
        let Some(error) = publication.failure() else {
            return frame;
        };
        let failure = self.failure_frame.get_or_init(|| {
            text_frame(&ServerMessage::job_failed(self.subscription.job(), error).encode())
        });
        [&failure[..], &frame[..]].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::task::Waker;

    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;
    use crate::hub::{Hub, Mailbox};
    use crate::job::{JobId, Outcome, Status};

    fn topic() -> ShardTopic {
        let mailbox = Arc::new(Mailbox::new(Waker::noop().clone(), MAX_PENDING));
        let job = JobId::parse("job").unwrap();
        ShardTopic::new(Hub::new(1).subscribe_shared(&job, mailbox))
    }

    fn state(seq: u64) -> PendingUpdates {
        let mut pending = PendingUpdates::default();
        let publication = Publication {
            job: JobId::parse("job").unwrap(),
            seq,
            status: Status::Processing,
            payload: Bytes::from("state"),
            outcome: None,
            event_at: None,
        };
        pending.push(Update::State(Arc::new(publication)), 1);
        pending
    }

    proptest! {
        /// Whatever subscribers leave meanwhile: those that stay get every update once.
        #[test]
        fn a_subscriber_that_stays_gets_an_update_once(leaving in proptest::collection::vec((0_usize..20, 0_usize..20), 0..20)) {
            let mut topic = topic();
            let mut indexes: SlotMap<SubscriberKey, usize> = SlotMap::with_key();
            let all: Vec<SubscriberKey> = (0..20).map(|_| indexes.insert(0)).collect();
            for &key in &all {
                indexes[key] = topic.add(key);
            }
            topic.enqueue(state(1));
            let mut sent: Vec<SubscriberKey> = Vec::new();
            for (steps, leaver) in leaving {
                sent.extend((0..steps / 4).map_while(|_| topic.next()).map(|(key, _)| key));
                let leaver = all[leaver];
                if let Some(index) = indexes.remove(leaver) {
                    topic.remove(index, |key, index| indexes[key] = index);
                }
            }
            sent.extend(std::iter::from_fn(|| topic.next()).map(|(key, _)| key));
            let once: HashSet<SubscriberKey> = sent.iter().copied().collect();
            prop_assert_eq!(once.len(), sent.len());
            for (key, &index) in &indexes {
                prop_assert!(once.contains(&key));
                prop_assert_eq!(topic.subscribers[index], key);
            }
        }
    }

    #[test]
    fn an_ended_job_keeps_no_frames() {
        let mut topic = topic();
        let mut keys: SlotMap<SubscriberKey, ()> = SlotMap::with_key();
        topic.add(keys.insert(()));
        for (seq, outcome) in [(1, None), (2, Some(Outcome::Cancelled))] {
            let publication = Arc::new(Publication {
                job: JobId::parse("job").unwrap(),
                seq,
                status: Status::Processing,
                payload: Bytes::from("state"),
                outcome,
                event_at: None,
            });
            let mut pending = PendingUpdates::default();
            pending.push(Update::State(publication.clone()), 1);
            topic.enqueue(pending);
            let (_, update) = topic.next().unwrap();
            topic.frame(&update, false, &mut Deflater::default());
            assert!(topic.next().is_none());
            topic.finish_turn();
            assert_eq!(topic.frames.is_empty(), publication.is_final());
        }
    }

    #[test]
    fn with_many_subscribers_only_the_newest_state_waits() {
        let mut topic = topic();
        let mut keys: SlotMap<SubscriberKey, ()> = SlotMap::with_key();
        for _ in 0..MAX_PENDING {
            topic.add(keys.insert(()));
        }
        for seq in 1..=3 {
            topic.enqueue(state(seq));
        }
        let (_, update) = topic.next().unwrap();
        assert!(matches!(update, Update::State(publication) if publication.seq == 3));
    }
}
