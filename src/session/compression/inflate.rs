use std::io::{self, Cursor, ErrorKind};

use bytes::{Buf, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use hyper_tungstenite::tungstenite::protocol::frame::FrameHeader;
use hyper_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::BLOCK_END;

/// How many bytes are read from the client, or decompressed, at a time.
const CHUNK: usize = 1 << 10;

/// Turns the frames of compressed messages into plain ones, for `tungstenite`, which does not know the
/// extension. All other bytes are passed through unchanged: `tungstenite` finds what is wrong with them.
#[derive(Debug)]
pub(in crate::session) struct Inflater {
    /// Bytes from the client that are not translated yet.
    input: BytesMut,
    /// Translated bytes that are not read yet.
    output: BytesMut,
    /// The compressed message whose last frame has not arrived.
    message: Option<DeflatedMessage>,
    max_message: usize,
    /// The input cannot be parsed any more, and is passed through.
    is_broken: bool,
}

#[derive(Debug)]
struct DeflatedMessage {
    inflate: Decompress,
    /// How many bytes more may be decompressed of it.
    room: usize,
}

impl Inflater {
    /// `early` is what the client has sent already. Of a message at most `max_message` bytes and one
    /// are decompressed, which is enough for the reader to find that it is too long.
    pub(in crate::session) fn new(early: Vec<u8>, max_message: usize) -> Self {
        Self {
            input: early.as_slice().into(),
            output: BytesMut::new(),
            message: None,
            max_message,
            is_broken: false,
        }
    }

    /// Whether it holds a part of a frame or of a message.
    pub(in crate::session) fn is_busy(&self) -> bool {
        !self.input.is_empty() || !self.output.is_empty() || self.message.is_some()
    }

    /// Reads translated bytes. If there are none, it reads more from `source` first.
    ///
    /// Fails with the errors of `source`, and with `InvalidData` if a message cannot be decompressed.
    pub(in crate::session) fn read(
        &mut self,
        source: &mut impl FnMut(&mut [u8]) -> io::Result<usize>,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        while self.output.is_empty() {
            if self.translate()? {
                continue;
            }
            let mut chunk = [0; CHUNK];
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

    /// Translates one frame. Returns whether the input held a whole one.
    fn translate(&mut self) -> io::Result<bool> {
        if self.is_broken {
            self.output.unsplit(self.input.split());
            return Ok(!self.output.is_empty());
        }
        let mut cursor = Cursor::new(&self.input[..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(false),
            Err(_) => return Ok(self.pass_through()),
        };
        let begin = cursor.position() as usize;
        let length = match usize::try_from(length) {
            Ok(length) if length <= self.max_message => length,
            _ => return Ok(self.pass_through()),
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

    fn pass_through(&mut self) -> bool {
        self.is_broken = true;
        true
    }

    fn inflate(&mut self, header: FrameHeader, mask: [u8; 4], payload: &[u8]) -> io::Result<()> {
        let mut message = self.message.take().unwrap_or_else(|| DeflatedMessage {
            inflate: Decompress::new(false),
            room: self.max_message + 1,
        });
        let mask_bytes = mask.iter().cycle();
        let mut deflated: Vec<u8> = payload
            .iter()
            .zip(mask_bytes)
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        if header.is_final {
            deflated.extend(BLOCK_END);
        }
        let inflated = message.inflate(&deflated)?;
        let plain = FrameHeader {
            rsv1: false,
            // A client's frame must be masked; a mask of zeros leaves the payload as it is.
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
            inflated.reserve(CHUNK.min(self.room));
            let limit = inflated.len() + CHUNK.min(self.room);
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

    /// The messages that a server reads from these bytes if at most `step` of them arrive at a time.
    fn read_all(bytes: &[u8], step: usize) -> Result<Vec<Frame>, Error> {
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
        let mut messages = Vec::new();
        loop {
            match context.read(&mut wire) {
                Ok(message) => messages.push(message),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(!wire.0.is_busy(), "a part of a frame is left");
                    return Ok(messages);
                }
                Err(error) => return Err(error),
            }
        }
    }

    #[test]
    fn compressed_plain_and_fragmented_messages_are_read_however_they_are_cut() {
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
            let read = read_all(&bytes, step).unwrap();
            let wanted = [
                Frame::text(text.as_str()),
                Frame::text("plain"),
                Frame::Ping(Default::default()),
                Frame::text(text.as_str()),
            ];
            assert_eq!(read, wanted, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_decompression_bomb_is_found_too_long_before_it_is_decompressed() {
        let bomb = deflate(&vec![0; 32 << 20]);
        assert!(bomb.len() < MAX, "its compressed length is allowed");
        let read = read_all(&frame(Data::Binary, true, true, &bomb), 1_000);
        assert!(matches!(
            read,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. }))
        ));
    }

    #[test]
    fn a_message_that_cannot_be_decompressed_is_invalid() {
        let read = read_all(&frame(Data::Text, true, true, &[0xff; 20]), 1_000);
        assert!(matches!(read, Err(Error::Io(error)) if error.kind() == ErrorKind::InvalidData));
    }

    #[test]
    fn a_reserved_bit_where_it_has_no_meaning_is_a_protocol_error() {
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
            assert!(matches!(read_all(&bytes, 1_000), Err(Error::Protocol(_))));
        }
    }
}
