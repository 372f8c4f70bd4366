use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::Wake;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};
use slotmap::SlotMap;
use tokio::runtime::Handle;

use super::commands::{ShardCommand, ShardHandle};
use super::compression::deflate::Deflater;
use super::context::SessionContext;
use super::disconnect::CLOSE_TIMEOUT;
use super::keys::{SubscriberKey, TopicKey};
use super::subscriber::{SocketState, Subscriber};
use super::timeouts::Timeouts;
use super::topic::{MAX_PENDING, ShardTopic};
use super::write_batch::BatchWriter;
use crate::hub::Mailbox;
use crate::job::JobId;

/// Marks the event that commands or updates have arrived. No subscriber has this token.
const WAKE: Token = Token(usize::MAX);

/// At most this many sockets are handled before commands, updates and timeouts have their turn.
const MAX_EVENTS: usize = 1_024;

/// A thread with its subscribers. See [the module](super).
pub(super) struct Shard {
    pub(super) context: SessionContext,
    /// Runs the tasks that have to wait.
    pub(super) runtime: Handle,
    pub(super) poll: Poll,
    pub(super) handle: ShardHandle,
    pub(super) subscribers: SlotMap<SubscriberKey, Subscriber>,
    pub(super) topics: SlotMap<TopicKey, ShardTopic>,
    pub(super) by_job: HashMap<JobId, TopicKey>,
    /// The topics that have something to send, in turn.
    pub(super) queued_topics: VecDeque<TopicKey>,
    /// The subscribers that may have sent more than was read.
    pub(super) unfinished_reads: VecDeque<SubscriberKey>,
    pub(super) pings: Timeouts,
    pub(super) closes: Timeouts,
    /// When to close which socket, because the server stops. The subscriber may have left since.
    pub(super) departures: VecDeque<(Instant, SubscriberKey)>,
    /// Until when which subscriber waits for the job of which topic to be registered.
    pub(super) waits: BTreeSet<(Instant, SubscriberKey, TopicKey)>,
    /// When to close the socket of which subscriber, because its jobs ended long before. The subscriber may
    /// have left since, or have subscribed to another job.
    pub(super) ends: BinaryHeap<Reverse<(Instant, SubscriberKey)>>,
    /// When to check the expiry of which subscriber's token. The subscriber may have left since, or have
    /// renewed the token.
    pub(super) token_checks: BinaryHeap<Reverse<(Instant, SubscriberKey)>>,
    pub(super) writer: BatchWriter,
    pub(super) deflater: Deflater,
    /// What the allowances of subscribers count from.
    pub(super) started_at: Instant,
    pub(super) is_stopping: bool,
}

/// Ends the waiting of a shard's poll.
struct PollWaker(mio::Waker);

impl Wake for PollWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "cannot wake a fan-out thread");
        }
    }
}

/// However the thread ends, nothing is sent to it afterwards.
impl Drop for Shard {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Shard {
    /// Must be called within the runtime that is to run its tasks.
    pub(super) fn new(context: SessionContext) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(PollWaker(mio::Waker::new(poll.registry(), WAKE)?));
        let mailbox = Arc::new(Mailbox::new(waker.into(), MAX_PENDING));
        Ok(Self {
            runtime: Handle::current(),
            poll,
            handle: ShardHandle::new(mailbox),
            subscribers: SlotMap::with_key(),
            topics: SlotMap::with_key(),
            by_job: HashMap::new(),
            queued_topics: VecDeque::new(),
            unfinished_reads: VecDeque::new(),
            pings: Timeouts::new(context.config.ping_interval),
            closes: Timeouts::new(CLOSE_TIMEOUT),
            departures: VecDeque::new(),
            waits: BTreeSet::new(),
            ends: BinaryHeap::new(),
            token_checks: BinaryHeap::new(),
            writer: BatchWriter::Loop,
            deflater: Deflater::default(),
            started_at: Instant::now(),
            is_stopping: false,
            context,
        })
    }

    /// How other threads reach this one.
    pub(super) fn handle(&self) -> ShardHandle {
        self.handle.clone()
    }

    /// Runs until [`ShardCommand::Stop`] was received and the last subscriber has left.
    pub(super) fn run(mut self) {
        // An io_uring belongs to the thread that makes it.
        self.writer = BatchWriter::new(self.context.config.io_uring);
        let mut events = Events::with_capacity(MAX_EVENTS);
        while !(self.is_stopping && self.subscribers.is_empty()) {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return tracing::error!(%error, "a fan-out thread ends: it cannot poll its sockets");
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.handle_event(event);
            }
            self.handle_commands();
            self.enqueue_updates();
            self.resume_reading();
            self.broadcast();
            self.handle_timeouts();
        }
    }

    /// How long the poll may wait for an event.
    fn poll_timeout(&self) -> Option<Duration> {
        if !self.queued_topics.is_empty() || !self.unfinished_reads.is_empty() {
            return Some(Duration::ZERO);
        }
        let token_check = self.token_checks.peek().map(|Reverse((due, _))| *due);
        let end = self.ends.peek().map(|Reverse((due, _))| *due);
        let wait = self.waits.first().map(|(due, ..)| *due);
        let departure = self.departures.front().map(|(due, _)| *due);
        let next = [
            self.pings.next(),
            self.closes.next(),
            departure,
            wait,
            token_check,
            end,
        ];
        next.into_iter()
            .flatten()
            .min()
            .map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn handle_event(&mut self, event: &Event) {
        let key = SubscriberKey::of_token(event.token());
        if event.is_writable() {
            self.resume_sending(key);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(key);
        }
    }

    fn handle_commands(&mut self) {
        for command in self.handle.take() {
            match command {
                ShardCommand::Add(new) => {
                    let (handover, client) = *new;
                    self.add_subscriber(handover, client);
                }
                ShardCommand::LookedUp { topic, result } => self.on_looked_up(topic, &result),
                ShardCommand::Cancelled { key, job, result } => {
                    self.on_cancelled(key, &job, result)
                }
                #[cfg(test)]
                ShardCommand::Panic => panic!("a test ends the thread"),
                ShardCommand::Stop => self.stop(),
            }
        }
    }

    fn enqueue_updates(&mut self) {
        for (job, updates) in self.handle.mailbox().take() {
            let Some(&topic) = self.by_job.get(&job) else {
                continue;
            };
            let it = &mut self.topics[topic];
            it.enqueue(updates);
            if !it.is_queued {
                it.is_queued = true;
                self.queued_topics.push_back(topic);
            }
        }
    }

    /// Pings the subscribers whose turn it is, closes the sockets of those whose jobs ended long ago, and
    /// removes those that are silent, do not read, or do not answer a close.
    fn handle_timeouts(&mut self) {
        let now = Instant::now();
        self.close_departing(now);
        self.close_expired(now);
        self.close_ended(now);
        self.end_waits(now);
        while let Some(key) = self.pings.pop(now) {
            self.ping(key, now);
        }
        while let Some(key) = self.closes.pop(now) {
            let subscriber = self.subscribers.get(key);
            if subscriber.is_some_and(|it| it.state != SocketState::Open) {
                tracing::debug!("the client did not answer the close");
                self.remove(key);
            }
        }
    }
}
