use std::io::{ErrorKind, Write};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use slotmap::DefaultKey as Key;
use tokio::task::AbortHandle;

use super::Arrival;
use super::admission::Admission;
use super::dialogue::Dialogue;
use super::disconnect::Disconnect;
use super::line::Line;
use crate::hub::Connection;
use crate::job::JobId;

/// One client. A record: whatever it needs only now and then is elsewhere.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) line: Line,
    /// What the client has to take before it is told anything else.
    rest: Bytes,
    /// Since when it has not taken all that it was sent.
    pub(super) stalled_since: Option<Instant>,
    pub(super) dialogue: Option<Box<Dialogue>>,
    pub(super) follows: Vec<Follow>,
    /// The job that the socket was opened for.
    pub(super) job: JobId,
    pub(super) connection: Connection,
    pub(super) admission: Admission,
    pub(super) heard_at: Instant,
    /// Bytes that it has sent since it was last pinged.
    pub(super) heard: u32,
    pub(super) bad_messages: u32,
    pub(super) wants_previews: bool,
    pub(super) deflates: bool,
    /// A batch has a frame for it, of which it is not known yet what became.
    pub(super) is_in_batch: bool,
    /// It has asked for something, and is not listened to until that is answered.
    pub(super) awaits_answer: bool,
    /// It stands in the queue of those who have more to say.
    pub(super) is_eager: bool,
    /// When its token is looked at next.
    pub(super) expiry: Option<Instant>,
    pub(super) stage: Stage,
}

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// It is to be closed with this code and reason as soon as all is said.
    Parting(u16, &'static str),
    /// The close is on its way.
    Closing,
    /// Nothing is said any more. What comes still is thrown away.
    Draining,
}

/// A job that a subscriber follows.
#[derive(Debug)]
pub(super) struct Follow {
    /// The topic's key in the shard.
    pub(super) topic: Key,
    /// Where it stands among the topic's followers.
    pub(super) place: usize,
    /// Its place on the hub's books.
    pub(super) booked: u64,
    /// The number of the newest state that it was sent, or is being sent.
    pub(super) seen: u64,
    /// The same of previews.
    pub(super) seen_preview: u64,
    /// The task that looks for the job, while nobody has registered it.
    pub(super) wait: Option<AbortHandle>,
}

/// How much of a frame a client has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// All, or a part: the rest is kept and follows by itself.
    Begun,
    Nothing,
}

impl Subscriber {
    /// `job` is as the shard's topic has it: an id of its own would be memory for each subscriber.
    pub(super) fn new(line: Line, arrival: Arrival, job: JobId, now: Instant) -> Self {
        Self {
            line,
            rest: Bytes::new(),
            stalled_since: None,
            dialogue: None,
            follows: Vec::with_capacity(1),
            job,
            connection: Connection::new(arrival.address),
            admission: arrival.admission,
            heard_at: now,
            heard: 0,
            bad_messages: 0,
            wants_previews: arrival.wants_previews,
            deflates: arrival.deflates,
            is_in_batch: false,
            awaits_answer: false,
            is_eager: false,
            expiry: None,
            stage: Stage::Open,
        }
    }

    /// Whether a frame can be sent: nothing else is on its way.
    pub(super) fn is_free(&self) -> bool {
        let is_speaking = self.dialogue.as_ref().is_some_and(|it| it.is_speaking());
        let is_clear = self.rest.is_empty() && !self.line.has_backlog();
        is_clear && !is_speaking && self.stalled_since.is_none()
    }

    /// Sends a frame to a client that is free, as far as it takes it.
    pub(super) fn send(&mut self, frame: &Bytes) -> Result<Taken, Disconnect> {
        let written = self.line.write(frame);
        self.settle(frame, written)
    }

    /// Takes note of how much of a frame was written.
    pub(super) fn settle(
        &mut self,
        frame: &Bytes,
        written: std::io::Result<usize>,
    ) -> Result<Taken, Disconnect> {
        match written {
            Ok(count) => {
                if count < frame.len() {
                    self.rest = frame.slice(count..);
                    self.stall();
                }
                Ok(Taken::Begun)
            }
            Err(error) if is_for_later(error.kind()) => {
                self.stall();
                Ok(Taken::Nothing)
            }
            Err(_) => Err(Disconnect::Gone),
        }
    }

    /// Sends a frame that must not be skipped: what the client does not take yet is kept.
    pub(super) fn say(&mut self, frame: Bytes) -> Result<(), Disconnect> {
        if !self.is_free() {
            let mut rest = BytesMut::from(&self.rest[..]);
            rest.extend_from_slice(&frame);
            self.rest = rest.freeze();
            return Ok(());
        }
        if self.send(&frame)? == Taken::Nothing {
            self.rest = frame;
        }
        Ok(())
    }

    /// Goes on with what the client has not taken yet. Says whether it is free now.
    pub(super) fn resume(&mut self) -> Result<bool, Disconnect> {
        match self.line.flush() {
            Err(error) if is_for_later(error.kind()) => return Ok(false),
            Err(_) => return Err(Disconnect::Gone),
            Ok(()) => {}
        }
        if let Some(dialogue) = &mut self.dialogue {
            dialogue.speak(&mut self.line)?;
            if dialogue.is_speaking() {
                return Ok(false);
            }
        }
        while !self.rest.is_empty() {
            match self.line.write(&self.rest) {
                Ok(0) => return Err(Disconnect::Gone),
                Ok(count) => self.rest = self.rest.split_off(count),
                Err(error) if is_for_later(error.kind()) => return Ok(false),
                Err(_) => return Err(Disconnect::Gone),
            }
        }
        // The whole frame is not held for the sake of its end.
        self.rest = Bytes::new();
        if self.line.has_backlog() {
            return Ok(false);
        }
        self.stalled_since = None;
        Ok(true)
    }

    /// Notes that the client does not take what it is sent.
    pub(super) fn stall(&mut self) {
        self.stalled_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn follow_of(&mut self, topic: Key) -> Option<&mut Follow> {
        self.follows.iter_mut().find(|follow| follow.topic == topic)
    }
}

fn is_for_later(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
