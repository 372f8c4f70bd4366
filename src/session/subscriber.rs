use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use slotmap::DefaultKey as Key;
use tokio::task::AbortHandle;

use super::admission::Admission;
use super::codec::WsCodec;
use super::disconnect::Disconnect;
use super::transport::Transport;
use crate::hub::Connection;
use crate::job::JobId;

/// A client that is authorised to subscribe to a job.
#[derive(Debug)]
pub(crate) struct NewSubscriber {
    pub(crate) job: JobId,
    pub(crate) wants_previews: bool,
    /// It has negotiated compression.
    pub(crate) deflates: bool,
    pub(crate) address: IpAddr,
    pub(crate) admission: Admission,
}

/// One client. A record: whatever it needs only now and then is elsewhere.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) transport: Transport,
    /// What the client has to take before it is told anything else.
    rest: Bytes,
    /// Since when it has not taken all that it was sent.
    pub(super) stalled_since: Option<Instant>,
    pub(super) codec: Option<Box<WsCodec>>,
    pub(super) subscriptions: Vec<JobSubscription>,
    /// The job that the socket was opened for.
    pub(super) job: JobId,
    pub(super) connection: Connection,
    pub(super) admission: Admission,
    pub(super) received_at: Instant,
    /// Bytes that it has sent since it was last pinged.
    pub(super) bytes_since_ping: u32,
    pub(super) bad_messages: u32,
    pub(super) wants_previews: bool,
    pub(super) deflates: bool,
    /// A batch has a frame for it, of which it is not known yet what became.
    pub(super) is_in_batch: bool,
    /// It has asked for something, and is not listened to until that is answered.
    pub(super) awaits_answer: bool,
    /// It stands in the queue of those who have more to say.
    pub(super) is_queued_for_reading: bool,
    /// When its token is looked at next.
    pub(super) token_check_at: Option<Instant>,
    pub(super) stage: ConnectionState,
}

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Open,
    /// It is to be closed with this code and reason as soon as all is said.
    ClosePending(u16, &'static str),
    /// The close is on its way.
    Closing,
    /// Nothing is said any more. What comes still is thrown away.
    Discarding,
}

/// A job that a subscriber follows.
#[derive(Debug)]
pub(super) struct JobSubscription {
    /// The topic's key in the shard.
    pub(super) topic: Key,
    /// Where it stands among the topic's followers.
    pub(super) place: usize,
    /// Its place on the hub's books.
    pub(super) connection_id: u64,
    /// The number of the newest state that it was sent, or is being sent.
    pub(super) seen: u64,
    /// The same of previews.
    pub(super) seen_preview: u64,
    /// The task that looks for the job, while nobody has registered it.
    pub(super) wait: Option<AbortHandle>,
}

/// How much of a frame a client has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteProgress {
    /// All, or a part: the rest is kept and follows by itself.
    Started,
    Blocked,
}

impl Subscriber {
    /// `job` is as the shard's topic has it: an id of its own would be memory for each subscriber.
    pub(super) fn new(
        transport: Transport,
        client: NewSubscriber,
        job: JobId,
        now: Instant,
    ) -> Self {
        Self {
            transport,
            rest: Bytes::new(),
            stalled_since: None,
            codec: None,
            subscriptions: Vec::with_capacity(1),
            job,
            connection: Connection::new(client.address),
            admission: client.admission,
            received_at: now,
            bytes_since_ping: 0,
            bad_messages: 0,
            wants_previews: client.wants_previews,
            deflates: client.deflates,
            is_in_batch: false,
            awaits_answer: false,
            is_queued_for_reading: false,
            token_check_at: None,
            stage: ConnectionState::Open,
        }
    }

    /// Whether a frame can be sent: nothing else is on its way.
    pub(super) fn can_send(&self) -> bool {
        let has_unsent = self.codec.as_ref().is_some_and(|it| it.has_unsent());
        let is_clear = self.rest.is_empty() && !self.transport.has_unsent();
        is_clear && !has_unsent && self.stalled_since.is_none()
    }

    /// Sends a frame to a client that is free, as far as it takes it.
    pub(super) fn send(&mut self, frame: &Bytes) -> Result<WriteProgress, Disconnect> {
        let written = self.transport.write(frame);
        self.record_write(frame, written)
    }

    /// Takes note of how much of a frame was written.
    pub(super) fn record_write(
        &mut self,
        frame: &Bytes,
        written: std::io::Result<usize>,
    ) -> Result<WriteProgress, Disconnect> {
        match written {
            Ok(count) => {
                if count < frame.len() {
                    self.rest = frame.slice(count..);
                    self.mark_stalled();
                }
                Ok(WriteProgress::Started)
            }
            Err(error) if is_for_later(error.kind()) => {
                self.mark_stalled();
                Ok(WriteProgress::Blocked)
            }
            Err(_) => Err(Disconnect::ConnectionLost),
        }
    }

    /// Sends a frame that must not be skipped: what the client does not take yet is kept.
    pub(super) fn send_all(&mut self, frame: Bytes) -> Result<(), Disconnect> {
        if !self.can_send() {
            let mut rest = BytesMut::from(&self.rest[..]);
            rest.extend_from_slice(&frame);
            self.rest = rest.freeze();
            return Ok(());
        }
        if self.send(&frame)? == WriteProgress::Blocked {
            self.rest = frame;
        }
        Ok(())
    }

    /// Goes on with what the client has not taken yet. Says whether it is free now.
    pub(super) fn resume(&mut self) -> Result<bool, Disconnect> {
        match self.transport.flush() {
            Err(error) if is_for_later(error.kind()) => return Ok(false),
            Err(_) => return Err(Disconnect::ConnectionLost),
            Ok(()) => {}
        }
        if let Some(codec) = &mut self.codec {
            codec.flush(&mut self.transport)?;
            if codec.has_unsent() {
                return Ok(false);
            }
        }
        while !self.rest.is_empty() {
            match self.transport.write(&self.rest) {
                Ok(0) => return Err(Disconnect::ConnectionLost),
                Ok(count) => self.rest = self.rest.split_off(count),
                Err(error) if is_for_later(error.kind()) => return Ok(false),
                Err(_) => return Err(Disconnect::ConnectionLost),
            }
        }
        // The whole frame is not held for the sake of its end.
        self.rest = Bytes::new();
        if self.transport.has_unsent() {
            return Ok(false);
        }
        self.stalled_since = None;
        Ok(true)
    }

    /// Notes that the client does not take what it is sent.
    pub(super) fn mark_stalled(&mut self) {
        self.stalled_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn subscription_to(&mut self, topic: Key) -> Option<&mut JobSubscription> {
        self.subscriptions
            .iter_mut()
            .find(|subscription| subscription.topic == topic)
    }
}

fn is_for_later(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
