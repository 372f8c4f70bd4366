//! What clients send that have negotiated compression.

use std::io::{self, Cursor, ErrorKind};

use bytes::{Buf, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use hyper_tungstenite::tungstenite::protocol::frame::FrameHeader;
use hyper_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// What is read at once.
const READ_BUFFER: usize = 1 << 10;

/// What a compressed message ends with, which is left out on the wire (RFC 7692, 7.2.2).
const BLOCK_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Turns the frames of compressed messages into frames of plain ones, for `tungstenite`, which does
/// not know the extension. All other bytes pass as they are: what is wrong with them, it finds.
#[derive(Debug)]
pub(in crate::session) struct Inflater {
    /// As it came.
    input: BytesMut,
    /// As it is read.
    output: BytesMut,
    /// A compressed message of which the last frame has not come.
    message: Option<DeflatedMessage>,
    max_message: usize,
    /// What comes is beyond understanding, and passes as it is.
    is_lost: bool,
}

#[derive(Debug)]
struct DeflatedMessage {
    inflate: Decompress,
    /// What it may still grow by.
    room: usize,
}

impl Inflater {
    /// `early` is what has come already. Nothing is inflated beyond `max_message` bytes and one: that
    /// is enough for its reader to find a message too long.
    pub(in crate::session) fn new(early: Vec<u8>, max_message: usize) -> Self {
        Self {
            input: early.as_slice().into(),
            output: BytesMut::new(),
            message: None,
            max_message,
            is_lost: false,
        }
    }

    /// Whether a part of a frame or of a message is held.
    pub(in crate::session) fn is_busy(&self) -> bool {
        !self.input.is_empty() || !self.output.is_empty() || self.message.is_some()
    }

    /// Reads translated bytes; where there are none, more are asked of `source`.
    ///
    /// Fails with `InvalidData` where a message cannot be inflated.
    pub(in crate::session) fn read(
        &mut self,
        source: &mut impl FnMut(&mut [u8]) -> io::Result<usize>,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        while self.output.is_empty() {
            if self.translate()? {
                continue;
            }
            let mut chunk = [0; READ_BUFFER];
            let count = source(&mut chunk)?;
            if count == 0 {
                return Ok(0);
            }
            self.input.extend_from_slice(&chunk[..count]);
        }
        let count = self.output.len().min(buffer.len());
        self.output.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }

    /// Translates what is there, up to the end of a frame. Says whether there was enough for that.
    fn translate(&mut self) -> io::Result<bool> {
        if self.is_lost {
            self.output.unsplit(self.input.split());
            return Ok(!self.output.is_empty());
        }
        let mut cursor = Cursor::new(&self.input[..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(false),
            Err(_) => return Ok(self.give_up()),
        };
        let begin = cursor.position() as usize;
        let length = match usize::try_from(length) {
            Ok(length) if length <= self.max_message => length,
            _ => return Ok(self.give_up()),
        };
        if self.input.len() < begin + length {
            return Ok(false);
        }
        let frame = self.input.split_to(begin + length);
        match header {
            FrameHeader {
                opcode: OpCode::Data(kind),
                mask: Some(mask),
                ..
            } if header.rsv1 != self.message.is_some()
                && header.rsv1 == (kind != Data::Continue) =>
            {
                self.inflate(header, mask, &frame[begin..])?;
            }
            _ => self.output.extend_from_slice(&frame),
        }
        Ok(true)
    }

    fn give_up(&mut self) -> bool {
        self.is_lost = true;
        true
    }

    fn inflate(&mut self, header: FrameHeader, mask: [u8; 4], payload: &[u8]) -> io::Result<()> {
        let mut message = self.message.take().unwrap_or_else(|| DeflatedMessage {
            inflate: Decompress::new(false),
            room: self.max_message + 1,
        });
        let keys = mask.iter().cycle();
        let mut deflated: Vec<u8> = payload
            .iter()
            .zip(keys)
            .map(|(byte, key)| byte ^ key)
            .collect();
        if header.is_final {
            deflated.extend(BLOCK_END);
        }
        let inflated = message.inflate(&deflated)?;
        let plain = FrameHeader {
            rsv1: false,
            // What comes from a client has to be masked; with zeros it stays as it is.
            mask: Some([0; 4]),
            ..header
        };
        if !plain.is_final {
            self.message = Some(message);
        }
        let mut head = Vec::new();
        plain
            .format(inflated.len() as u64, &mut head)
            .map_err(io::Error::other)?;
        self.output.extend_from_slice(&head);
        self.output.extend_from_slice(&inflated);
        Ok(())
    }
}

impl DeflatedMessage {
    fn inflate(&mut self, deflated: &[u8]) -> io::Result<Vec<u8>> {
        let mut inflated = Vec::new();
        let mut rest = deflated;
        while self.room > 0 {
            inflated.reserve(READ_BUFFER.min(self.room));
            let limit = inflated.len() + READ_BUFFER.min(self.room);
            let mut chunk = vec![0; limit - inflated.len()];
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(rest, &mut chunk, FlushDecompress::Sync)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let (read, written) = (
                (self.inflate.total_in() - read) as usize,
                (self.inflate.total_out() - written) as usize,
            );
            rest = &rest[read..];
            inflated.extend_from_slice(&chunk[..written]);
            self.room -= written;
            let is_stuck = read == 0 && written == 0;
            if status == Status::StreamEnd || is_stuck || (rest.is_empty() && written < chunk.len())
            {
                break;
            }
        }
        Ok(inflated)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use hyper_tungstenite::tungstenite::Message as Frame;
    use hyper_tungstenite::tungstenite::error::{CapacityError, Error};
    use hyper_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

    use super::*;

    const MAX: usize = 64 << 10;
    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut compress = Compress::new(Compression::best(), false);
        let mut deflated = Vec::with_capacity(text.len() + 64);
        compress
            .compress_vec(text, &mut deflated, FlushCompress::Sync)
            .unwrap();
        deflated.truncate(deflated.len() - BLOCK_END.len());
        deflated
    }

    fn frame(opcode: Data, rsv1: bool, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            is_final,
            rsv1,
            opcode: OpCode::Data(opcode),
            mask: Some(MASK),
            ..FrameHeader::default()
        };
        let mut frame = Vec::new();
        header.format(payload.len() as u64, &mut frame).unwrap();
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
        frame
    }

    /// What a server hears of these bytes, that come `step` by `step`.
    fn hear(bytes: &[u8], step: usize) -> Result<Vec<Frame>, Error> {
        struct Wire<'a>(Inflater, &'a [u8], usize);
        impl io::Read for Wire<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Self(inflater, bytes, step) = self;
                let mut source = |chunk: &mut [u8]| {
                    let count = bytes.len().min(*step).min(chunk.len());
                    if count == 0 {
                        return Err(ErrorKind::WouldBlock.into());
                    }
                    chunk[..count].copy_from_slice(&bytes[..count]);
                    *bytes = &bytes[count..];
                    Ok(count)
                };
                inflater.read(&mut source, buffer)
            }
        }
        impl io::Write for Wire<'_> {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                Ok(data.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX))
            .max_frame_size(Some(MAX));
        let mut context = WebSocketContext::new(Role::Server, Some(config));
        let mut wire = Wire(Inflater::new(Vec::new(), MAX), bytes, step);
        let mut heard = Vec::new();
        loop {
            match context.read(&mut wire) {
                Ok(message) => heard.push(message),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(!wire.0.is_busy(), "something is left");
                    return Ok(heard);
                }
                Err(error) => return Err(error),
            }
        }
    }

    #[test]
    fn compressed_plain_and_fragmented_messages_are_heard_however_they_are_cut() {
        let text = "to be or not to be, to be ".repeat(40);
        let deflated = deflate(text.as_bytes());
        let (begin, end) = deflated.split_at(deflated.len() / 2);
        let ping = [0x89, 0x80, 1, 2, 3, 4];
        let bytes = [
            frame(Data::Text, true, true, &deflated),
            frame(Data::Text, false, true, b"plain"),
            frame(Data::Text, true, false, begin),
            ping.to_vec(),
            frame(Data::Continue, false, true, end),
        ]
        .concat();
        for step in [1, 2, 7, 1_000] {
            let heard = hear(&bytes, step).unwrap();
            let wanted = [
                Frame::text(text.as_str()),
                Frame::text("plain"),
                Frame::Ping(Default::default()),
                Frame::text(text.as_str()),
            ];
            assert_eq!(heard, wanted, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_bomb_is_found_too_long_before_it_is_inflated() {
        let bomb = deflate(&vec![0; 32 << 20]);
        assert!(bomb.len() < MAX, "it passes for a short message");
        let heard = hear(&frame(Data::Binary, true, true, &bomb), 1_000);
        assert!(matches!(
            heard,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. }))
        ));
    }

    #[test]
    fn what_cannot_be_inflated_is_invalid() {
        let heard = hear(&frame(Data::Text, true, true, &[0xff; 20]), 1_000);
        assert!(matches!(heard, Err(Error::Io(error)) if error.kind() == ErrorKind::InvalidData));
    }

    #[test]
    fn reserved_bits_where_they_mean_nothing_are_a_breach() {
        for bytes in [
            [
                frame(Data::Text, true, false, &deflate(b"a")),
                frame(Data::Continue, true, true, &[0]),
            ]
            .concat(),
            [
                frame(Data::Text, false, false, b"a"),
                frame(Data::Continue, true, true, &deflate(b"b")),
            ]
            .concat(),
            vec![0xc9, 0x80, 1, 2, 3, 4],
        ] {
            assert!(matches!(hear(&bytes, 1_000), Err(Error::Protocol(_))));
        }
    }
}
