use std::io::{self, ErrorKind, Read, Write};

use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::error::Error;
use hyper_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};

use super::compression::inflate::Inflater;
use super::disconnect::Disconnect;
use super::message::MAX_CLIENT_MESSAGE;

/// What is read at once. The library fills its buffer with zeros at every read: a large one costs.
const READ_BUFFER: usize = 1 << 10;

/// What a client may send between two of our pings. Nobody who follows jobs says so much.
pub(super) const MAX_HEARD: u32 = 512 << 10;

/// `tungstenite`'s side of a socket, for as long as something on it is not finished: a frame that has
/// not come whole, an answer that was not taken, a close that is not answered.
///
/// The line that it speaks on never blocks.
#[derive(Debug)]
pub(super) struct Dialogue {
    context: WebSocketContext,
    inflater: Option<Inflater>,
    /// Bytes that were handed to the context.
    read: u64,
    /// Bytes of them that it has understood, at the least.
    understood: u64,
    /// An answer of its own waits to be taken by the client.
    is_speaking: bool,
    /// What the client sends cannot be understood any more.
    is_broken: bool,
}

/// What comes of listening.
pub(super) enum Heard {
    Message(Message),
    /// Nothing more for now.
    Nothing,
    /// The socket has to end.
    Disconnect(Disconnect),
}

impl Dialogue {
    /// `early` is what the client has said already.
    pub(super) fn new(deflates: bool, early: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_CLIENT_MESSAGE))
            .max_frame_size(Some(MAX_CLIENT_MESSAGE));
        let read = early.len() as u64;
        let (early, inflater) = match deflates {
            true => (Vec::new(), Some(Inflater::new(early, MAX_CLIENT_MESSAGE))),
            false => (early, None),
        };
        let context = WebSocketContext::from_partially_read(early, Role::Server, Some(config));
        Self {
            context,
            read: if inflater.is_some() { 0 } else { read },
            inflater,
            understood: 0,
            is_speaking: false,
            is_broken: false,
        }
    }

    /// Whether the context must not be asked to read on.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether an answer has to be taken by the client before anything else is sent.
    pub(super) fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    /// Whether nothing is left that has to be remembered.
    pub(super) fn is_over(&self) -> bool {
        let is_inflating = self.inflater.as_ref().is_some_and(Inflater::is_busy);
        !self.is_speaking && !is_inflating && self.read == self.understood
    }

    /// The next message. `heard` counts the bytes that come, up to [`MAX_HEARD`].
    pub(super) fn listen(&mut self, line: &mut (impl Read + Write), heard: &mut u32) -> Heard {
        let mut tap = Tap {
            line,
            heard,
            inflater: self.inflater.as_mut(),
            read: &mut self.read,
        };
        match self.context.read(&mut tap) {
            Ok(message) => {
                self.understood += wire_length(&message);
                // The answer to a ping goes first: what is sent next must not fall into the middle of it.
                match message.is_ping().then(|| self.speak(line)) {
                    Some(Err(end)) => Heard::Disconnect(end),
                    _ => Heard::Message(message),
                }
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                match self.speak(line) {
                    Ok(()) => Heard::Nothing,
                    Err(end) => Heard::Disconnect(end),
                }
            }
            Err(error) => {
                self.is_broken = true;
                Heard::Disconnect(error.into())
            }
        }
    }

    /// Sends what waits to be taken, as far as that goes.
    pub(super) fn speak(&mut self, line: &mut impl Write) -> Result<(), Disconnect> {
        let said = self.context.flush(&mut Voice(line));
        self.settle(said)
    }

    /// Begins the closing handshake.
    pub(super) fn close(
        &mut self,
        line: &mut impl Write,
        code: u16,
        reason: &'static str,
    ) -> Result<(), Disconnect> {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        let said = self.context.close(&mut Voice(line), Some(frame));
        self.settle(said)
    }

    fn settle(&mut self, said: Result<(), Error>) -> Result<(), Disconnect> {
        self.is_speaking = false;
        match said {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.is_speaking = true;
                Ok(())
            }
            said => Ok(said?),
        }
    }
}

/// How many bytes a message has taken on the wire, at the least: it may have come in fragments, or
/// have told its length at too great a length.
fn wire_length(message: &Message) -> u64 {
    const MASK: u64 = 4;
    let length = match message {
        Message::Close(Some(frame)) => 2 + frame.reason.len(),
        Message::Close(None) => 0,
        message => message.len(),
    } as u64;
    let header = match length {
        0..126 => 2,
        126..0x1_0000 => 4,
        _ => 10,
    };
    header + MASK + length
}

/// What the context reads from: the client's line, inflated where that was negotiated.
struct Tap<'a, L> {
    line: &'a mut L,
    heard: &'a mut u32,
    inflater: Option<&'a mut Inflater>,
    read: &'a mut u64,
}

impl<L: Read> Read for Tap<'_, L> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (line, heard) = (&mut *self.line, &mut *self.heard);
        let mut from_line = |buffer: &mut [u8]| {
            if *heard >= MAX_HEARD {
                return Err(ErrorKind::QuotaExceeded.into());
            }
            let count = line.read(buffer)?;
            *heard += count as u32;
            Ok(count)
        };
        let count = match &mut self.inflater {
            Some(inflater) => {
                let count = inflater.read(&mut from_line, buffer)?;
                // What is sent as a few bytes may be much to understand.
                *self.heard = self.heard.saturating_add(count as u32);
                count
            }
            None => from_line(buffer)?,
        };
        *self.read += count as u64;
        Ok(count)
    }
}

impl<L: Write> Write for Tap<'_, L> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.line.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For when the context is only to write.
struct Voice<'a, L>(&'a mut L);

impl<L> Read for Voice<'_, L> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl<L: Write> Write for Voice<'_, L> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
