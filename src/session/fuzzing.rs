//! How a subscriber's bytes are read, for the fuzz targets in `fuzz`: without a socket or a shard.

use std::io::{self, ErrorKind, Read, Write};

use hyper_tungstenite::tungstenite::Message;

use super::codec::{ReadOutcome, WsCodec};
use super::compression::inflate::Inflater;
use super::disconnect::Disconnect;
use super::message::MAX_CLIENT_MESSAGE;

/// The largest message that a client may send.
pub const MAX_MESSAGE: usize = MAX_CLIENT_MESSAGE;

/// More than is read at a time, and the header of a frame.
const SPARE: usize = 4 << 10;

/// What a client sends, and when.
#[derive(Debug, Clone, Copy)]
pub struct ScriptedClient<'a> {
    /// What arrives with the handshake.
    pub early: &'a [u8],
    /// What arrives later, a piece at a time.
    pub pieces: &'a [&'a [u8]],
    /// Compression was negotiated.
    pub deflates: bool,
    /// Every reply is accepted at the second attempt only.
    pub is_slow: bool,
}

/// What was read from a client.
#[derive(Debug, PartialEq)]
pub struct ClientTranscript {
    /// The messages, control frames included.
    pub messages: Vec<Message>,
    /// Why the session ended, if it did before the client closed it.
    pub disconnect: Option<String>,
}

/// What the [`Inflater`] made of a client's bytes.
#[derive(Debug, PartialEq)]
pub struct Translation {
    /// The bytes of plain frames.
    pub bytes: Vec<u8>,
    /// The most bytes of a single read.
    pub largest: usize,
    /// Why it failed, if it did.
    pub error: Option<ErrorKind>,
}

/// Reads from a client as a shard does: a codec that holds nothing is dropped.
pub fn read(client: ScriptedClient<'_>) -> ClientTranscript {
    let mut transport = ScriptedTransport::new(client);
    let mut codec = WsCodec::new(client.deflates, client.early.to_vec());
    let (mut messages, mut is_closing) = (Vec::new(), false);
    let disconnect = loop {
        // The limit of bytes per ping depends on the time, too: it is never reached here.
        let mut received = 0;
        match codec.read(&mut transport, &mut received) {
            ReadOutcome::Message(message) => {
                is_closing |= message.is_close();
                messages.push(message);
            }
            ReadOutcome::Blocked => {
                if let Err(reason) = flush_all(&mut codec, &mut transport) {
                    break Some(reason);
                }
                if codec.is_idle() && !is_closing {
                    codec = WsCodec::new(client.deflates, Vec::new());
                }
                if !transport.advance() {
                    break None;
                }
            }
            ReadOutcome::Disconnect(reason) => break Some(reason),
        }
    };
    ClientTranscript {
        messages,
        // Whether more is read after a client's close depends on when it accepts the reply.
        disconnect: disconnect
            .filter(|_| !is_closing)
            .map(|reason| format!("{reason:?}")),
    }
}

fn flush_all(codec: &mut WsCodec, transport: &mut ScriptedTransport<'_>) -> Result<(), Disconnect> {
    while codec.has_unsent() {
        codec.flush(transport)?;
    }
    Ok(())
}

/// Translates the frames of a client that compresses, for messages of at most `max_message` bytes.
pub fn translate(client: ScriptedClient<'_>, max_message: usize) -> Translation {
    let mut transport = ScriptedTransport::new(client);
    let mut inflater = Inflater::new(client.early.to_vec(), max_message);
    let (mut bytes, mut largest) = (Vec::new(), 0);
    // The buffer has room for more than the inflater may hold: a read returns all of it.
    let mut buffer = vec![0; max_message + client.early.len() + SPARE];
    let error = loop {
        match inflater.read(&mut |chunk: &mut [u8]| transport.read(chunk), &mut buffer) {
            Ok(count) => {
                largest = largest.max(count);
                bytes.extend_from_slice(&buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !transport.advance() {
                    break None;
                }
            }
            Err(error) => break Some(error.kind()),
        }
    };
    Translation {
        bytes,
        largest,
        error,
    }
}

/// A connection on which the pieces of a client arrive one by one.
struct ScriptedTransport<'a> {
    piece: &'a [u8],
    pieces: &'a [&'a [u8]],
    is_slow: bool,
    /// The next write is not accepted.
    blocks: bool,
}

impl<'a> ScriptedTransport<'a> {
    fn new(client: ScriptedClient<'a>) -> Self {
        Self {
            piece: &[],
            pieces: client.pieces,
            is_slow: client.is_slow,
            blocks: client.is_slow,
        }
    }

    /// Lets the next piece arrive. Returns whether there was one.
    fn advance(&mut self) -> bool {
        let Some((piece, later)) = self.pieces.split_first() else {
            return false;
        };
        (self.piece, self.pieces) = (piece, later);
        true
    }
}

impl Read for ScriptedTransport<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.piece.read(buffer)
    }
}

impl Write for ScriptedTransport<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.blocks {
            self.blocks = false;
            return Err(ErrorKind::WouldBlock.into());
        }
        self.blocks = self.is_slow;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
