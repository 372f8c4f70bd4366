use std::io::{self, ErrorKind, Read, Write};

use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::error::Error;
use hyper_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};

use super::allowance::MAX_BYTES;
use super::compression::inflate::Inflater;
use super::disconnect::Disconnect;
use super::message::MAX_CLIENT_MESSAGE;

/// How many bytes are read at a time. `tungstenite` zeroes its buffer at every read: a large one costs.
const READ_BUFFER: usize = 1 << 10;

/// `tungstenite`'s state of a socket, for as long as something on it is unfinished: a frame that has not
/// arrived whole, a reply that was not accepted, a close that is not answered.
///
/// Its transport never blocks.
#[derive(Debug)]
pub(super) struct WsCodec {
    context: WebSocketContext,
    inflater: Option<Inflater>,
    /// Bytes that the context was given.
    read_bytes: u64,
    /// How many of them it has parsed, at least.
    parsed_bytes: u64,
    /// A reply waits until the socket accepts it.
    has_unsent: bool,
    /// What the client sends cannot be parsed any more.
    is_broken: bool,
}

/// The result of a read.
pub(super) enum ReadOutcome {
    Message(Message),
    /// Nothing more has arrived.
    Blocked,
    /// The session must end.
    Disconnect(Disconnect),
}

impl WsCodec {
    /// `early` is what the client has sent already.
    pub(super) fn new(deflates: bool, early: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_CLIENT_MESSAGE))
            .max_frame_size(Some(MAX_CLIENT_MESSAGE));
        let (early, inflater) = if deflates {
            (Vec::new(), Some(Inflater::new(early, MAX_CLIENT_MESSAGE)))
        } else {
            (early, None)
        };
        let read_bytes = early.len() as u64;
        let context = WebSocketContext::from_partially_read(early, Role::Server, Some(config));
        Self {
            context,
            inflater,
            read_bytes,
            parsed_bytes: 0,
            has_unsent: false,
            is_broken: false,
        }
    }

    /// Whether [`WsCodec::read`] must not be called any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether a reply must be flushed before anything else is sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.has_unsent
    }

    /// Whether it holds nothing, so that it can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        let is_inflating = self.inflater.as_ref().is_some_and(Inflater::is_busy);
        !self.has_unsent && !is_inflating && self.read_bytes == self.parsed_bytes
    }

    /// Reads the next message. Adds the bytes that arrive to `received`, which may reach
    /// [`MAX_BYTES`].
    pub(super) fn read(
        &mut self,
        transport: &mut (impl Read + Write),
        received: &mut u32,
    ) -> ReadOutcome {
        let mut stream = CodecStream {
            transport,
            received,
            inflater: self.inflater.as_mut(),
            read_bytes: &mut self.read_bytes,
        };
        match self.context.read(&mut stream) {
            Ok(message) => {
                self.parsed_bytes += wire_length(&message);
                // Flush the pong now: what is sent next must not get into the middle of it.
                if message.is_ping()
                    && let Err(reason) = self.flush(transport)
                {
                    return ReadOutcome::Disconnect(reason);
                }
                ReadOutcome::Message(message)
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                match self.flush(transport) {
                    Ok(()) => ReadOutcome::Blocked,
                    Err(reason) => ReadOutcome::Disconnect(reason),
                }
            }
            Err(error) => {
                self.is_broken = true;
                ReadOutcome::Disconnect(error.into())
            }
        }
    }

    /// Sends what is unsent, as far as the transport accepts it.
    pub(super) fn flush(&mut self, transport: &mut impl Write) -> Result<(), Disconnect> {
        let flushed = self.context.flush(&mut WriteOnly(transport));
        self.record_flush(flushed)
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
        let flushed = self.context.close(&mut WriteOnly(transport), Some(frame));
        self.record_flush(flushed)
    }

    fn record_flush(&mut self, flushed: Result<(), Error>) -> Result<(), Disconnect> {
        self.has_unsent = false;
        match flushed {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.has_unsent = true;
                Ok(())
            }
            flushed => Ok(flushed?),
        }
    }
}

/// How many bytes a message has taken on the wire, at least: it may have come in fragments, or its
/// length in a longer form than necessary.
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

/// What the context reads from: the transport, decompressed if that was negotiated.
struct CodecStream<'a, T> {
    transport: &'a mut T,
    received: &'a mut u32,
    inflater: Option<&'a mut Inflater>,
    read_bytes: &'a mut u64,
}

impl<T: Read> Read for CodecStream<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (transport, received) = (&mut *self.transport, &mut *self.received);
        let mut read_counted = |buffer: &mut [u8]| {
            if *received >= MAX_BYTES {
                return Err(ErrorKind::QuotaExceeded.into());
            }
            let count = transport.read(buffer)?;
            *received += count as u32;
            Ok(count)
        };
        let count = match &mut self.inflater {
            Some(inflater) => {
                let count = inflater.read(&mut read_counted, buffer)?;
                // A few compressed bytes may be many to parse: these count, too.
                *self.received = self.received.saturating_add(count as u32);
                count
            }
            None => read_counted(buffer)?,
        };
        *self.read_bytes += count as u64;
        Ok(count)
    }
}

impl<T: Write> Write for CodecStream<'_, T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.transport.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The transport for a context that must only write.
struct WriteOnly<'a, T>(&'a mut T);

impl<T> Read for WriteOnly<'_, T> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl<T: Write> Write for WriteOnly<'_, T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
