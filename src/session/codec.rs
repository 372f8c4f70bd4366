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
pub(super) const MAX_BYTES_PER_PING: u32 = 512 << 10;

/// `tungstenite`'s side of a socket, for as long as something on it is not finished: a frame that has
/// not come whole, an answer that was not taken, a close that is not answered.
///
/// The line that it speaks on never blocks.
#[derive(Debug)]
pub(super) struct WsCodec {
    context: WebSocketContext,
    inflater: Option<Inflater>,
    /// Bytes that were handed to the context.
    read: u64,
    /// Bytes of them that it has understood, at the least.
    parsed_bytes: u64,
    /// An answer of its own waits to be taken by the client.
    has_unsent: bool,
    /// What the client sends cannot be understood any more.
    is_broken: bool,
}

/// What comes of listening.
pub(super) enum ReadOutcome {
    Message(Message),
    /// Nothing more for now.
    Blocked,
    /// The socket has to end.
    Disconnect(Disconnect),
}

impl WsCodec {
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
            parsed_bytes: 0,
            has_unsent: false,
            is_broken: false,
        }
    }

    /// Whether the context must not be asked to read on.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether an answer has to be taken by the client before anything else is sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.has_unsent
    }

    /// Whether nothing is left that has to be remembered.
    pub(super) fn is_idle(&self) -> bool {
        let is_inflating = self.inflater.as_ref().is_some_and(Inflater::is_busy);
        !self.has_unsent && !is_inflating && self.read == self.parsed_bytes
    }

    /// The next message. `heard` counts the bytes that come, up to [`MAX_BYTES_PER_PING`].
    pub(super) fn read(
        &mut self,
        transport: &mut (impl Read + Write),
        heard: &mut u32,
    ) -> ReadOutcome {
        let mut tap = CodecIo {
            transport,
            heard,
            inflater: self.inflater.as_mut(),
            read: &mut self.read,
        };
        match self.context.read(&mut tap) {
            Ok(message) => {
                self.parsed_bytes += wire_length(&message);
                // The answer to a ping goes first: what is sent next must not fall into the middle of it.
                match message.is_ping().then(|| self.flush(transport)) {
                    Some(Err(end)) => ReadOutcome::Disconnect(end),
                    _ => ReadOutcome::Message(message),
                }
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                match self.flush(transport) {
                    Ok(()) => ReadOutcome::Blocked,
                    Err(end) => ReadOutcome::Disconnect(end),
                }
            }
            Err(error) => {
                self.is_broken = true;
                ReadOutcome::Disconnect(error.into())
            }
        }
    }

    /// Sends what waits to be taken, as far as that goes.
    pub(super) fn flush(&mut self, transport: &mut impl Write) -> Result<(), Disconnect> {
        let said = self.context.flush(&mut WriteOnly(transport));
        self.record_flush(said)
    }

    /// Begins the closing handshake.
    pub(super) fn close(
        &mut self,
        transport: &mut impl Write,
        code: u16,
        reason: &'static str,
    ) -> Result<(), Disconnect> {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        let said = self.context.close(&mut WriteOnly(transport), Some(frame));
        self.record_flush(said)
    }

    fn record_flush(&mut self, said: Result<(), Error>) -> Result<(), Disconnect> {
        self.has_unsent = false;
        match said {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.has_unsent = true;
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
struct CodecIo<'a, L> {
    transport: &'a mut L,
    heard: &'a mut u32,
    inflater: Option<&'a mut Inflater>,
    read: &'a mut u64,
}

impl<L: Read> Read for CodecIo<'_, L> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (transport, heard) = (&mut *self.transport, &mut *self.heard);
        let mut from_line = |buffer: &mut [u8]| {
            if *heard >= MAX_BYTES_PER_PING {
                return Err(ErrorKind::QuotaExceeded.into());
            }
            let count = transport.read(buffer)?;
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

impl<L: Write> Write for CodecIo<'_, L> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.transport.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For when the context is only to write.
struct WriteOnly<'a, L>(&'a mut L);

impl<L> Read for WriteOnly<'_, L> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl<L: Write> Write for WriteOnly<'_, L> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
