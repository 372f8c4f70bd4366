use std::cell::OnceCell;

use bytes::Bytes;
use slotmap::DefaultKey as Key;

use super::message::ServerMessage;
use crate::hub::{Frame, PendingUpdates, Publication, SharedSubscription, Update};

/// How many deliveries of one job may wait: some 50 ms of writing. With one subscriber that are
/// thousands of states; with thousands it is the newest state alone.
pub(super) const MAX_PENDING: usize = 4_096;

/// A job that subscribers of this shard follow.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) subscription: SharedSubscription,
    subscribers: Vec<Key>,
    /// What is being handed out. The followers before `cursor` have been told.
    current: Option<Update>,
    cursor: usize,
    backlog: PendingUpdates,
    /// It stands in the queue of topics that have something to hand out.
    pub(super) is_queued: bool,
    /// What is said to those who hear of the job's failure.
    failure_frame: OnceCell<Bytes>,
}

impl Topic {
    pub(super) fn new(subscription: SharedSubscription) -> Self {
        Self {
            subscription,
            subscribers: Vec::with_capacity(1),
            current: None,
            cursor: 0,
            backlog: PendingUpdates::default(),
            is_queued: false,
            failure_frame: OnceCell::new(),
        }
    }

    pub(super) fn has_no_subscribers(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Adds a follower, who is told all that is handed out from now on. Returns its place.
    pub(super) fn add(&mut self, key: Key) -> usize {
        self.subscribers.push(key);
        self.subscribers.len() - 1
    }

    /// Takes out the follower at a place. Calls `moved` for whoever has a new place: those who have
    /// been told stay before the cursor, and those who have not stay behind it.
    pub(super) fn remove(&mut self, place: usize, mut moved: impl FnMut(Key, usize)) {
        let mut hole = place;
        if self.current.is_some() && place < self.cursor {
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

    /// Takes in what is to be handed out.
    pub(super) fn enqueue(&mut self, mut updates: PendingUpdates) {
        let limit = MAX_PENDING / self.subscribers.len().max(1);
        while let Some(next) = updates.pop() {
            self.backlog.push(next, limit);
        }
    }

    /// The next follower, and what it is to be told; `None` where all have been told everything.
    pub(super) fn next(&mut self) -> Option<(Key, Update)> {
        loop {
            if self.current.is_none() {
                self.current = self.backlog.pop();
                self.cursor = 0;
            }
            let update = self.current.as_ref()?;
            if let Some(&key) = self.subscribers.get(self.cursor) {
                self.cursor += 1;
                return Some((key, update.clone()));
            }
            self.current = None;
        }
    }

    /// Lets the follower that came last come once more.
    pub(super) fn step_back(&mut self) {
        self.cursor -= 1;
    }

    /// What goes over the wire. Why a job has just failed is told before its final state.
    pub(super) fn frame(&self, update: &Update, deflates: bool) -> Bytes {
        let publication = match update {
            Update::Preview(preview) => return preview.frame.plain().clone(),
            Update::State(publication) => publication,
        };
        let frame = snapshot(publication, deflates);
        let error = publication.end.as_ref().and_then(|end| end.error.as_ref());
        let Some(error) = error else { return frame };
        let failure = self.failure_frame.get_or_init(|| {
            let message = ServerMessage::job_failed(self.subscription.job(), error);
            Frame::text(&message.encode()).plain().clone()
        });
        [&failure[..], &frame[..]].concat().into()
    }
}

/// A state for who has just come: that its job has failed is no news.
pub(super) fn snapshot(publication: &Publication, deflates: bool) -> Bytes {
    match deflates {
        true => publication.frame.deflated().clone(),
        false => publication.frame.plain().clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use mio::{Poll, Token, Waker};
    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;
    use crate::hub::{Hub, Mailbox};
    use crate::job::JobId;

    fn topic() -> (Poll, Topic) {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let mailbox = Arc::new(Mailbox::new(waker, MAX_PENDING));
        let subscription = Hub::new(1).subscribe_shared(&JobId::parse("job").unwrap(), mailbox);
        (poll, Topic::new(subscription))
    }

    fn state(seq: u64) -> PendingUpdates {
        let mut backlog = PendingUpdates::default();
        let publication = Publication {
            seq,
            frame: Frame::text("state"),
            end: None,
        };
        backlog.push(Update::State(Arc::new(publication)), 1);
        backlog
    }

    proptest! {
        /// Whoever comes or goes meanwhile: who stays is told everything once.
        #[test]
        fn who_stays_is_told_once(leaving in proptest::collection::vec((0_usize..20, 0_usize..20), 0..20)) {
            let (_poll, mut topic) = topic();
            let mut places: SlotMap<Key, usize> = SlotMap::new();
            let all: Vec<Key> = (0..20).map(|_| places.insert(0)).collect();
            for &key in &all {
                places[key] = topic.add(key);
            }
            topic.enqueue(state(1));
            let mut told: Vec<Key> = Vec::new();
            for (steps, key) in leaving {
                told.extend((0..steps / 4).map_while(|_| topic.next()).map(|(key, _)| key));
                let key = all[key];
                if let Some(place) = places.remove(key) {
                    topic.remove(place, |key, place| places[key] = place);
                }
            }
            told.extend(std::iter::from_fn(|| topic.next()).map(|(key, _)| key));
            let once: HashSet<Key> = told.iter().copied().collect();
            prop_assert_eq!(once.len(), told.len());
            for (key, &place) in &places {
                prop_assert!(once.contains(&key));
                prop_assert_eq!(topic.subscribers[place], key);
            }
        }
    }

    #[test]
    fn with_many_followers_only_the_newest_state_waits() {
        let (_poll, mut topic) = topic();
        let mut keys: SlotMap<Key, ()> = SlotMap::new();
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
