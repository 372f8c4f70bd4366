use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};
use slotmap::{DefaultKey as Key, Key as _, KeyData, SlotMap};
use tokio::runtime::Handle;

use super::commands::{Command, ShardHandle};
use super::context::SessionContext;
use super::disconnect::CLOSE_TIMEOUT;
use super::subscriber::{ConnectionState, Subscriber};
use super::timeouts::Timeouts;
use super::topic::{MAX_PENDING, Topic};
use super::write_batch::BatchWriter;
use crate::hub::Mailbox;
use crate::job::JobId;

/// Stands for the inbox among the tokens of subscribers.
const WAKE: Token = Token(usize::MAX);

/// How many sockets are looked at before the rest of the work has its turn.
const EVENTS: usize = 1_024;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the key of a subscriber has 64 bits, and so has to have a token");

/// A thread with its subscribers. See [the module](super).
pub(super) struct Shard {
    pub(super) context: SessionContext,
    /// Where tasks run that have to wait.
    pub(super) runtime: Handle,
    pub(super) poll: Poll,
    pub(super) handle: ShardHandle,
    pub(super) subscribers: SlotMap<Key, Subscriber>,
    pub(super) topics: SlotMap<Key, Topic>,
    pub(super) by_job: HashMap<JobId, Key>,
    /// The topics that have something to hand out, in turn.
    pub(super) queued_topics: VecDeque<Key>,
    /// Who has more to say than was listened to.
    pub(super) unfinished_reads: VecDeque<Key>,
    pub(super) pings: Timeouts,
    pub(super) closes: Timeouts,
    /// Whose token may have expired when; some are not there any more, or have newer ones.
    pub(super) token_checks: BinaryHeap<Reverse<(Instant, Key)>>,
    pub(super) writer: BatchWriter,
    pub(super) is_stopping: bool,
}

/// However a thread ends, nobody waits for it any more.
impl Drop for Shard {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Shard {
    /// Must be called within the runtime that is to run what has to wait.
    pub(super) fn new(context: SessionContext) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let mailbox = Arc::new(Mailbox::new(waker, MAX_PENDING));
        Ok(Self {
            runtime: Handle::current(),
            poll,
            handle: ShardHandle::new(mailbox),
            subscribers: SlotMap::new(),
            topics: SlotMap::new(),
            by_job: HashMap::new(),
            queued_topics: VecDeque::new(),
            unfinished_reads: VecDeque::new(),
            pings: Timeouts::new(context.config.ping_interval),
            closes: Timeouts::new(CLOSE_TIMEOUT),
            token_checks: BinaryHeap::new(),
            writer: BatchWriter::Loop,
            is_stopping: false,
            context,
        })
    }

    /// How other threads reach this one.
    pub(super) fn handle(&self) -> ShardHandle {
        self.handle.clone()
    }

    /// Serves until it is told to stop and everybody has left.
    pub(super) fn run(mut self) {
        self.writer = BatchWriter::new(self.context.config.io_uring);
        let mut events = Events::with_capacity(EVENTS);
        while !(self.is_stopping && self.subscribers.is_empty()) {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return tracing::error!(%error, "a fan-out thread cannot wait for its sockets");
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.handle_event(event);
            }
            self.handle_commands();
            self.resume_reading();
            self.broadcast();
            self.handle_timeouts();
        }
    }

    /// How long it may wait for something to happen.
    fn poll_timeout(&self) -> Option<Duration> {
        if !self.queued_topics.is_empty() || !self.unfinished_reads.is_empty() {
            return Some(Duration::ZERO);
        }
        let expiry = self.token_checks.peek().map(|Reverse((due, _))| *due);
        let next = [self.pings.next(), self.closes.next(), expiry];
        next.into_iter()
            .flatten()
            .min()
            .map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn handle_event(&mut self, event: &Event) {
        let key = key_of(event.token());
        if event.is_writable() {
            self.resume(key);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(key);
        }
    }

    fn handle_commands(&mut self) {
        for command in self.handle.take() {
            match command {
                Command::Add(coming) => {
                    let (handover, client) = *coming;
                    self.add_subscriber(handover, client);
                }
                Command::NotFound { key, job, missed } => self.on_not_found(key, &job, missed),
                Command::Cancelled { key, job, result } => self.on_cancelled(key, &job, result),
                Command::Stop => self.stop(),
            }
        }
        for (job, update) in self.handle.mailbox().take() {
            let Some(&topic) = self.by_job.get(&job) else {
                continue;
            };
            self.topics[topic].enqueue(update);
            self.queue_topic(topic);
        }
    }

    /// Pings who is due, and gives up who is silent, does not read, or does not answer our close.
    fn handle_timeouts(&mut self) {
        let now = Instant::now();
        self.close_expired(now);
        while let Some(key) = self.pings.pop(now) {
            self.ping(key, now);
        }
        while let Some(key) = self.closes.pop(now) {
            let subscriber = self.subscribers.get(key);
            if subscriber.is_some_and(|it| it.stage != ConnectionState::Open) {
                tracing::debug!("the client did not answer the close");
                self.remove(key);
            }
        }
    }
}

/// What a subscriber's events are marked with.
pub(super) fn token(key: Key) -> Token {
    Token(key.data().as_ffi() as usize)
}

fn key_of(token: Token) -> Key {
    KeyData::from_ffi(token.0 as u64).into()
}
