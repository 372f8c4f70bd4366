//! How a subscriber is heard, for the fuzz targets in `fuzz`: without a socket, and without a shard.

use std::io::{self, ErrorKind, Read, Write};

use hyper_tungstenite::tungstenite::Message;

use super::codec::{ReadOutcome, WsCodec};
use super::compression::inflate::Inflater;
use super::disconnect::Disconnect;
use super::message::MAX_CLIENT_MESSAGE;

/// The largest message that a client may send.
pub const MAX_MESSAGE: usize = MAX_CLIENT_MESSAGE;

/// More than is read at once, and the head of a frame.
const SPARE: usize = 4 << 10;

/// What a client sends, and when.
#[derive(Debug, Clone, Copy)]
pub struct ScriptedClient<'a> {
    /// What came with the handshake.
    pub early: &'a [u8],
    /// What comes later, a piece each time that the server looks.
    pub pieces: &'a [&'a [u8]],
    /// Compression was negotiated.
    pub deflates: bool,
    /// Every answer is taken at the second try only.
    pub is_slow: bool,
}

/// What was heard of a client.
#[derive(Debug, PartialEq)]
pub struct ClientTranscript {
    /// The messages, control frames included.
    pub messages: Vec<Message>,
    /// Why the socket had to end, where it had to before the client closed it.
    pub end: Option<String>,
}

/// What the [`Inflater`] made of a client's bytes.
#[derive(Debug, PartialEq)]
pub struct Translation {
    /// The bytes of plain frames.
    pub bytes: Vec<u8>,
    /// The most that it gave out at once.
    pub largest: usize,
    /// Why it gave up, where it did.
    pub error: Option<ErrorKind>,
}

/// Listens to a client as a shard does: what is understood is forgotten.
pub fn read(client: ScriptedClient<'_>) -> ClientTranscript {
    let mut transport = ScriptedTransport::new(client);
    let mut codec = WsCodec::new(client.deflates, client.early.to_vec());
    let (mut messages, mut is_closing) = (Vec::new(), false);
    let end = loop {
        // How much may be said in a while does not depend on bytes alone.
        let mut heard = 0;
        match codec.read(&mut transport, &mut heard) {
            ReadOutcome::Message(message) => {
                is_closing |= message.is_close();
                messages.push(message);
            }
            ReadOutcome::Blocked => {
                if let Err(end) = flush_all(&mut codec, &mut transport) {
                    break Some(end);
                }
                if codec.is_idle() && !is_closing {
                    codec = WsCodec::new(client.deflates, Vec::new());
                }
                if !transport.advance() {
                    break None;
                }
            }
            ReadOutcome::Disconnect(end) => break Some(end),
        }
    };
    ClientTranscript {
        messages,
        // Whether more is read after a client's close depends on when it takes the answer.
        end: end.filter(|_| !is_closing).map(|end| format!("{end:?}")),
    }
}

fn flush_all(codec: &mut WsCodec, transport: &mut ScriptedTransport<'_>) -> Result<(), Disconnect> {
    while codec.has_unsent() {
        codec.flush(transport)?;
    }
    Ok(())
}

/// Translates what a client that compresses sends, where messages may have `max_message` bytes.
pub fn translate(client: ScriptedClient<'_>, max_message: usize) -> Translation {
    let mut transport = ScriptedTransport::new(client);
    let mut inflater = Inflater::new(client.early.to_vec(), max_message);
    let (mut bytes, mut largest) = (Vec::new(), 0);
    // With room for more than may be held, a read gives out all that is held.
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

/// A connection on which a piece has come, and on which the next one comes later.
struct ScriptedTransport<'a> {
    piece: &'a [u8],
    pieces: &'a [&'a [u8]],
    is_slow: bool,
    /// The next write is refused.
    refuses: bool,
}

impl<'a> ScriptedTransport<'a> {
    fn new(client: ScriptedClient<'a>) -> Self {
        Self {
            piece: &[],
            pieces: client.pieces,
            is_slow: client.is_slow,
            refuses: client.is_slow,
        }
    }

    /// Lets the next piece come. Says whether there was one.
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
        if self.refuses {
            self.refuses = false;
            return Err(ErrorKind::WouldBlock.into());
        }
        self.refuses = self.is_slow;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
