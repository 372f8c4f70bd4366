use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};
use slotmap::{DefaultKey as Key, Key as _, KeyData, SlotMap};
use tokio::runtime::Handle;

use super::SessionContext;
use super::batch::Batch;
use super::deadlines::Deadlines;
use super::disconnect::CLOSE_TIMEOUT;
use super::inbox::{Inbox, Word};
use super::subscriber::{Stage, Subscriber};
use super::topic::{MAX_WAITING, Topic};
use crate::hub::Mailbox;
use crate::job::JobId;

/// Stands for the inbox among the tokens of subscribers.
const INBOX: Token = Token(usize::MAX);

/// How many sockets are looked at before the rest of the work has its turn.
const EVENTS: usize = 1_024;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the key of a subscriber has 64 bits, and so has to have a token");

/// What a thread needs to be reached.
pub(super) struct Seat {
    poll: Poll,
    inbox: Arc<Inbox>,
}

/// A thread with its subscribers. See [the module](super).
pub(super) struct Shard {
    pub(super) context: SessionContext,
    /// Where tasks run that have to wait.
    pub(super) runtime: Handle,
    pub(super) poll: Poll,
    pub(super) inbox: Arc<Inbox>,
    pub(super) subscribers: SlotMap<Key, Subscriber>,
    pub(super) topics: SlotMap<Key, Topic>,
    pub(super) by_job: HashMap<JobId, Key>,
    /// The topics that have something to hand out, in turn.
    pub(super) due: VecDeque<Key>,
    /// Who has more to say than was listened to.
    pub(super) eager: VecDeque<Key>,
    pub(super) pings: Deadlines,
    pub(super) goodbyes: Deadlines,
    /// Whose token may have expired when; some are not there any more, or have newer ones.
    pub(super) expiries: BinaryHeap<Reverse<(Instant, Key)>>,
    pub(super) batch: Batch,
    pub(super) is_stopping: bool,
}

/// However a thread ends, nobody waits for it any more.
impl Drop for Shard {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl Seat {
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), INBOX)?;
        let outlet = Arc::new(Mailbox::new(waker, MAX_WAITING));
        Ok(Self {
            poll,
            inbox: Arc::new(Inbox::new(outlet)),
        })
    }

    pub(super) fn inbox(&self) -> Arc<Inbox> {
        self.inbox.clone()
    }
}

impl Shard {
    /// Must be called within the runtime that is to run what has to wait.
    pub(super) fn new(seat: Seat, context: SessionContext) -> Self {
        Self {
            runtime: Handle::current(),
            poll: seat.poll,
            inbox: seat.inbox,
            subscribers: SlotMap::new(),
            topics: SlotMap::new(),
            by_job: HashMap::new(),
            due: VecDeque::new(),
            eager: VecDeque::new(),
            pings: Deadlines::new(context.config.ping_interval),
            goodbyes: Deadlines::new(CLOSE_TIMEOUT),
            expiries: BinaryHeap::new(),
            batch: Batch::Loop,
            is_stopping: false,
            context,
        }
    }

    /// Serves until it is told to stop and everybody has left.
    pub(super) fn run(mut self) {
        self.batch = Batch::new(self.context.config.io_uring);
        let mut events = Events::with_capacity(EVENTS);
        while !(self.is_stopping && self.subscribers.is_empty()) {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return tracing::error!(%error, "a fan-out thread cannot wait for its sockets");
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != INBOX) {
                self.attend(event);
            }
            self.read_inbox();
            self.hear_eager();
            self.fan_out();
            self.keep_time();
        }
    }

    /// How long it may wait for something to happen.
    fn patience(&self) -> Option<Duration> {
        if !self.due.is_empty() || !self.eager.is_empty() {
            return Some(Duration::ZERO);
        }
        let expiry = self.expiries.peek().map(|Reverse((due, _))| *due);
        let next = [self.pings.next(), self.goodbyes.next(), expiry];
        next.into_iter()
            .flatten()
            .min()
            .map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn attend(&mut self, event: &Event) {
        let who = key(event.token());
        if event.is_writable() {
            self.resume(who);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.hear(who);
        }
    }

    fn read_inbox(&mut self) {
        for word in self.inbox.take() {
            match word {
                Word::Come(coming) => {
                    let (handover, arrival) = *coming;
                    self.welcome(handover, arrival);
                }
                Word::NotFound { who, job, missed } => self.miss(who, &job, missed),
                Word::Cancelled { who, job, result } => self.answer(who, &job, result),
                Word::Stop => self.stop(),
            }
        }
        for (job, news) in self.inbox.outlet().take() {
            let Some(&topic) = self.by_job.get(&job) else {
                continue;
            };
            self.topics[topic].post(news);
            self.make_due(topic);
        }
    }

    /// Pings who is due, and gives up who is silent, does not read, or does not answer our close.
    fn keep_time(&mut self) {
        let now = Instant::now();
        self.expire(now);
        while let Some(who) = self.pings.pop(now) {
            self.ping(who, now);
        }
        while let Some(who) = self.goodbyes.pop(now) {
            let subscriber = self.subscribers.get(who);
            if subscriber.is_some_and(|it| it.stage != Stage::Open) {
                tracing::debug!("the client did not answer the close");
                self.remove(who);
            }
        }
    }
}

/// What a subscriber's events are marked with.
pub(super) fn token(who: Key) -> Token {
    Token(who.data().as_ffi() as usize)
}

fn key(token: Token) -> Key {
    KeyData::from_ffi(token.0 as u64).into()
}
