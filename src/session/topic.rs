use std::cell::OnceCell;

use bytes::Bytes;
use slotmap::DefaultKey as Key;

use super::message::ServerMessage;
use crate::hub::{Frame, PendingUpdates, Publication, SharedSubscription, Update};

/// How many deliveries of one job may wait: some 50 ms of writing. With one subscriber that are
/// thousands of states; with thousands it is the newest state alone.
pub(super) const MAX_WAITING: usize = 4_096;

/// A job that subscribers of this shard follow.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) share: SharedSubscription,
    followers: Vec<Key>,
    /// What is being handed out. The followers before `cursor` have been told.
    passing: Option<Update>,
    cursor: usize,
    backlog: PendingUpdates,
    /// It stands in the queue of topics that have something to hand out.
    pub(super) is_due: bool,
    /// What is said to those who hear of the job's failure.
    farewell: OnceCell<Bytes>,
}

impl Topic {
    pub(super) fn new(share: SharedSubscription) -> Self {
        Self {
            share,
            followers: Vec::with_capacity(1),
            passing: None,
            cursor: 0,
            backlog: PendingUpdates::default(),
            is_due: false,
            farewell: OnceCell::new(),
        }
    }

    pub(super) fn is_deserted(&self) -> bool {
        self.followers.is_empty()
    }

    /// Adds a follower, who is told all that is handed out from now on. Returns its place.
    pub(super) fn add(&mut self, who: Key) -> usize {
        self.followers.push(who);
        self.followers.len() - 1
    }

    /// Takes out the follower at a place. Calls `moved` for whoever has a new place: those who have
    /// been told stay before the cursor, and those who have not stay behind it.
    pub(super) fn remove(&mut self, place: usize, mut moved: impl FnMut(Key, usize)) {
        let mut hole = place;
        if self.passing.is_some() && place < self.cursor {
            self.cursor -= 1;
            if hole != self.cursor {
                self.followers[hole] = self.followers[self.cursor];
                moved(self.followers[hole], hole);
                hole = self.cursor;
            }
        }
        self.followers.swap_remove(hole);
        if let Some(&who) = self.followers.get(hole) {
            moved(who, hole);
        }
    }

    /// Takes in what is to be handed out.
    pub(super) fn post(&mut self, mut news: PendingUpdates) {
        let limit = MAX_WAITING / self.followers.len().max(1);
        while let Some(next) = news.pop() {
            self.backlog.push(next, limit);
        }
    }

    /// The next follower, and what it is to be told; `None` where all have been told everything.
    pub(super) fn next(&mut self) -> Option<(Key, Update)> {
        loop {
            if self.passing.is_none() {
                self.passing = self.backlog.pop();
                self.cursor = 0;
            }
            let news = self.passing.as_ref()?;
            if let Some(&who) = self.followers.get(self.cursor) {
                self.cursor += 1;
                return Some((who, news.clone()));
            }
            self.passing = None;
        }
    }

    /// Lets the follower that came last come once more.
    pub(super) fn put_back(&mut self) {
        self.cursor -= 1;
    }

    /// What goes over the wire. Why a job has just failed is told before its final state.
    pub(super) fn frame(&self, news: &Update, deflates: bool) -> Bytes {
        let publication = match news {
            Update::Preview(preview) => return preview.frame.plain().clone(),
            Update::State(publication) => publication,
        };
        let frame = snapshot(publication, deflates);
        let error = publication.end.as_ref().and_then(|end| end.error.as_ref());
        let Some(error) = error else { return frame };
        let failure = self.farewell.get_or_init(|| {
            let message = ServerMessage::job_failed(self.share.job(), error);
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
        let outlet = Arc::new(Mailbox::new(waker, MAX_WAITING));
        let share = Hub::new(1).share(&JobId::parse("job").unwrap(), outlet);
        (poll, Topic::new(share))
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
            for &who in &all {
                places[who] = topic.add(who);
            }
            topic.post(state(1));
            let mut told: Vec<Key> = Vec::new();
            for (steps, who) in leaving {
                told.extend((0..steps / 4).map_while(|_| topic.next()).map(|(who, _)| who));
                let who = all[who];
                if let Some(place) = places.remove(who) {
                    topic.remove(place, |who, place| places[who] = place);
                }
            }
            told.extend(std::iter::from_fn(|| topic.next()).map(|(who, _)| who));
            let once: HashSet<Key> = told.iter().copied().collect();
            prop_assert_eq!(once.len(), told.len());
            for (who, &place) in &places {
                prop_assert!(once.contains(&who));
                prop_assert_eq!(topic.followers[place], who);
            }
        }
    }

    #[test]
    fn with_many_followers_only_the_newest_state_waits() {
        let (_poll, mut topic) = topic();
        let mut keys: SlotMap<Key, ()> = SlotMap::new();
        for _ in 0..MAX_WAITING {
            topic.add(keys.insert(()));
        }
        for seq in 1..=3 {
            topic.post(state(seq));
        }
        let (_, news) = topic.next().unwrap();
        assert!(matches!(news, Update::State(publication) if publication.seq == 3));
    }
}
