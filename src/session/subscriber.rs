use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::allowance::Allowance;
use super::codec::WsCodec;
use super::context::Admission;
use super::disconnect::Disconnect;
use super::job_lookup::JobWait;
use super::keys::TopicKey;
use super::transport::Transport;
use crate::hub::{Connection, Update};
use crate::job::JobId;

/// A client that is authorised to subscribe to a job.
#[derive(Debug)]
pub(crate) struct NewSubscriber {
    pub(crate) job: JobId,
    pub(crate) wants_previews: bool,
    /// It asks to be disconnected as soon as its jobs have ended.
    pub(crate) closes_at_end: bool,
    /// It has negotiated `permessage-deflate`.
    pub(crate) deflates: bool,
    pub(crate) address: IpAddr,
    pub(crate) admission: Admission,
}

/// One client of a shard. There are thousands: what only few need at a time is allocated on demand.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) transport: Transport,
    /// Framed bytes that the socket has not accepted yet. They go out before anything else.
    unsent: Bytes,
    /// Since when the socket has accepted less than it was given.
    pub(super) stalled_since: Option<Instant>,
    /// Made when bytes arrive, dropped when all of them are parsed.
    pub(super) codec: Option<Box<WsCodec>>,
    pub(super) subscriptions: Vec<JobSubscription>,
    /// The job that the socket was opened for.
    pub(super) job: JobId,
    pub(super) connection: Connection,
    pub(super) admission: Admission,
    pub(super) received_at: Instant,
    pub(super) allowance: Allowance,
    pub(super) bad_messages: u32,
    pub(super) wants_previews: bool,
    /// Its socket is closed as soon as its jobs have ended.
    pub(super) closes_at_end: bool,
    pub(super) deflates: bool,
    /// The batch that is being written has a frame for it.
    pub(super) is_in_batch: bool,
    /// A request of the client is being handled; nothing is read from it until that is done.
    pub(super) awaits_answer: bool,
    /// It is in the queue of those that are read from again.
    pub(super) is_queued_for_reading: bool,
    /// When the expiry of its token is checked next.
    pub(super) token_check_at: Option<Instant>,
    /// When all its jobs had ended.
    pub(super) ended_at: Option<Instant>,
    /// It is in the queue of those whose sockets are closed a while after the end.
    pub(super) is_queued_for_end: bool,
    pub(super) state: SocketState,
}

/// The state of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketState {
    Open,
    /// It is to be closed with this code and reason when everything before is sent.
    ClosePending(u16, &'static str),
    /// A close frame is sent or received.
    Closing,
    /// Nothing more is sent, and what arrives is discarded.
    Discarding,
}

/// A subscriber's subscription to one job.
#[derive(Debug)]
pub(super) struct JobSubscription {
    pub(super) topic: TopicKey,
    /// The subscriber's index in the topic.
    pub(super) index: usize,
    /// The id of its connection in the hub.
    pub(super) connection_id: u64,
    /// The number of the newest state that was sent; [`ENDED`] after the final one.
    pub(super) last_seq: u64,
    /// The number of the newest preview that was sent.
    pub(super) last_preview_seq: u64,
    /// That it waits for its job; `None` once the job has a state.
    pub(super) wait: Option<JobWait>,
}

/// The number that no state reaches: a subscription with it wants nothing more.
const ENDED: u64 = u64::MAX;

impl JobSubscription {
    /// Records that the final state was sent.
    pub(super) fn end(&mut self) {
        (self.last_seq, self.last_preview_seq) = (ENDED, ENDED);
    }

    /// Whether the final state was sent.
    pub(super) fn has_ended(&self) -> bool {
        self.last_seq == ENDED
    }
}

/// How much of a frame a socket has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteProgress {
    /// All of it, or a part: then the rest is kept, and is sent when the socket accepts more.
    Started,
    /// Nothing.
    Blocked,
}

impl Subscriber {
    /// `job` is an id that the shard holds already: a copy would be memory for each subscriber.
    pub(super) fn new(
        transport: Transport,
        client: NewSubscriber,
        job: JobId,
        now: Instant,
    ) -> Self {
        Self {
            transport,
            unsent: Bytes::new(),
            stalled_since: None,
            codec: None,
            subscriptions: Vec::with_capacity(1),
            job,
            connection: Connection::new(client.address, client.wants_previews),
            admission: client.admission,
            received_at: now,
            allowance: Allowance::default(),
            bad_messages: 0,
            wants_previews: client.wants_previews,
            closes_at_end: client.closes_at_end,
            deflates: client.deflates,
            is_in_batch: false,
            awaits_answer: false,
            is_queued_for_reading: false,
            token_check_at: None,
            ended_at: None,
            is_queued_for_end: false,
            state: SocketState::Open,
        }
    }

    /// Whether a frame can be sent: nothing else waits to be sent.
    pub(super) fn can_send(&self) -> bool {
        let has_unsent_reply = self.codec.as_ref().is_some_and(|it| it.has_unsent());
        let is_flushed = self.unsent.is_empty() && !self.transport.has_unsent();
        is_flushed && !has_unsent_reply && self.stalled_since.is_none()
    }

    /// Sends a frame, as far as the socket accepts it. Only if [`Subscriber::can_send`].
    pub(super) fn send(&mut self, frame: &Bytes) -> Result<WriteProgress, Disconnect> {
        let written = self.transport.write(frame);
        self.record_write(frame, written)
    }

    /// Records how much of a frame was written.
    pub(super) fn record_write(
        &mut self,
        frame: &Bytes,
        written: std::io::Result<usize>,
    ) -> Result<WriteProgress, Disconnect> {
        match written {
            Ok(count) => {
                if count < frame.len() {
                    self.unsent = frame.slice(count..);
                    self.mark_stalled();
                }
                Ok(WriteProgress::Started)
            }
            Err(error) if is_retryable(error.kind()) => {
                self.mark_stalled();
                Ok(WriteProgress::Blocked)
            }
            Err(_) => Err(Disconnect::ConnectionLost),
        }
    }

    /// Sends a frame that must not be skipped: what the socket does not accept is kept.
    pub(super) fn send_all(&mut self, frame: Bytes) -> Result<(), Disconnect> {
        if !self.can_send() {
            let mut unsent = BytesMut::from(&self.unsent[..]);
            unsent.extend_from_slice(&frame);
            self.unsent = unsent.freeze();
            return Ok(());
        }
        if self.send(&frame)? == WriteProgress::Blocked {
            self.unsent = frame;
        }
        Ok(())
    }

    /// Sends what the socket has not accepted yet. Returns whether nothing is left.
    pub(super) fn flush(&mut self) -> Result<bool, Disconnect> {
        match self.transport.flush() {
            Err(error) if is_retryable(error.kind()) => return Ok(false),
            Err(_) => return Err(Disconnect::ConnectionLost),
            Ok(()) => {}
        }
        if let Some(codec) = &mut self.codec {
            codec.flush(&mut self.transport)?;
            if codec.has_unsent() {
                return Ok(false);
            }
        }
        while !self.unsent.is_empty() {
            match self.transport.write(&self.unsent) {
                Ok(0) => return Err(Disconnect::ConnectionLost),
                Ok(count) => self.unsent = self.unsent.split_off(count),
                Err(error) if is_retryable(error.kind()) => return Ok(false),
                Err(_) => return Err(Disconnect::ConnectionLost),
            }
        }
        // An empty slice of the frame would keep the whole frame in memory.
        self.unsent = Bytes::new();
        if self.transport.has_unsent() {
            return Ok(false);
        }
        self.stalled_since = None;
        Ok(true)
    }

    /// Records that the socket does not accept what it is given.
    pub(super) fn mark_stalled(&mut self) {
        self.stalled_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn subscription_to(&mut self, topic: TopicKey) -> Option<&mut JobSubscription> {
        self.subscriptions.iter_mut().find(|it| it.topic == topic)
    }

    /// Whether an update of a topic was not sent to it yet, and it asked for such updates.
    pub(super) fn wants(&self, topic: TopicKey, update: &Update) -> bool {
        let subscription = self.subscriptions.iter().find(|it| it.topic == topic);
        subscription.is_some_and(|subscription| match update {
            Update::State(publication) => publication.seq > subscription.last_seq,
            Update::Preview(preview) => {
                self.wants_previews && preview.seq > subscription.last_preview_seq
            }
        })
    }
}

fn is_retryable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
