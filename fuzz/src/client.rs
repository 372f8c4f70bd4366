//! A case of `client_frames`: what a client sends.
//!
//! | bytes | |
//! |---|---|
//! | 1 | flags: [`DEFLATES`], [`IS_SLOW`], [`IS_BUILT`] |
//! | 1 | how many bytes arrive with the handshake |
//! | 4 | the lengths of the pieces that follow, in turn: four times each byte, plus one |
//! | the rest | what is sent as it is; with [`IS_BUILT`] the frames to build |
//!
//! A frame to build is a byte with its opcode and [`IS_FINAL`], [`RSV1`], [`IS_DEFLATED`], [`IS_LONG`],
//! then a byte with the length of its payload, then the payload. So a mutation anywhere still makes
//! whole frames, and streams that can be inflated.

use flate2::{Compress, Compression, FlushCompress};

/// The client negotiates compression.
pub const DEFLATES: u8 = 1;
/// The client's socket refuses the first write.
pub const IS_SLOW: u8 = 2;
/// What follows are frames to build.
pub const IS_BUILT: u8 = 4;

/// The last frame of its message.
pub const IS_FINAL: u8 = 0x10;
/// The frame declares its message compressed.
pub const RSV1: u8 = 0x20;
/// The payload is compressed before it is sent.
pub const IS_DEFLATED: u8 = 0x40;
/// The payload is sent [`REPEATS`] times over.
pub const IS_LONG: u8 = 0x80;

/// Enough to make a payload of 70 bytes longer than the largest message.
const REPEATS: usize = 1_000;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// What a client sends.
#[derive(Debug, Default)]
pub struct Case {
    /// It negotiates compression.
    pub deflates: bool,
    /// Its socket refuses the first write.
    pub is_slow: bool,
    /// How many bytes arrive with the handshake.
    pub early: usize,
    /// The lengths of the pieces that follow, in turn.
    pub sizes: [usize; 4],
    /// Everything that it sends.
    pub bytes: Vec<u8>,
    /// How many messages are compressed, and how many frames there are; only for built frames.
    pub built: Option<(usize, usize)>,
    /// Its first messages, up to the first frame that is not a whole valid message.
    pub messages: Vec<Vec<u8>>,
}

impl Case {
    /// Reads a case; `None` if its head is incomplete. Messages are valid up to `max_message` bytes.
    pub fn read(data: &[u8], max_message: usize) -> Option<Self> {
        let (&[flags, early, a, b, c, d], rest) = data.split_first_chunk()?;
        let mut case = Self {
            deflates: flags & DEFLATES != 0,
            is_slow: flags & IS_SLOW != 0,
            early: early.into(),
            sizes: [a, b, c, d].map(|size| 1 + 4 * usize::from(size)),
            ..Self::default()
        };
        match flags & IS_BUILT {
            0 => rest.clone_into(&mut case.bytes),
            _ => case.build(rest, max_message),
        }
        Some(case)
    }

    /// The bytes that arrive with the handshake, and the pieces that follow.
    pub fn pieces(&self) -> (&[u8], Vec<&[u8]>) {
        let (early, mut rest) = self.bytes.split_at(self.early.min(self.bytes.len()));
        let mut pieces = Vec::new();
        for size in self.sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = later;
        }
        (early, pieces)
    }

    fn build(&mut self, mut rest: &[u8], max_message: usize) {
        let (mut compressed, mut frames, mut is_plain) = (0, 0, true);
        while let Some((&[head, length], later)) = rest.split_first_chunk() {
            let (payload, later) = later.split_at(later.len().min(length.into()));
            rest = later;
            let payload = match head & IS_LONG {
                0 => payload.to_vec(),
                _ => payload.repeat(REPEATS),
            };
            compressed += usize::from(head & RSV1 != 0);
            frames += 1;
            is_plain &= self.is_plain(head, &payload, max_message);
            let sent = match head & IS_DEFLATED {
                0 => payload.clone(),
                _ => deflate(&payload),
            };
            is_plain &= sent.len() <= max_message;
            frame(head, &sent, &mut self.bytes);
            if is_plain {
                self.messages.push(payload);
            }
        }
        self.built = Some((compressed, frames));
    }

    /// Whether a frame is a whole, valid message by itself.
    fn is_plain(&self, head: u8, payload: &[u8], max_message: usize) -> bool {
        let is_compressed = head & RSV1 != 0;
        let is_text = match head & 0x0f {
            TEXT => true,
            BINARY => false,
            _ => return false,
        };
        head & IS_FINAL != 0
            && is_compressed == (head & IS_DEFLATED != 0)
            && (self.deflates || !is_compressed)
            && payload.len() <= max_message
            && !(is_text && std::str::from_utf8(payload).is_err())
    }
}

/// A payload as it is sent compressed (RFC 7692): without the tail of its last block.
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut deflated = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    // The capacity is more than the output can need.
    let _ = compress.compress_vec(payload, &mut deflated, FlushCompress::Sync);
    deflated.truncate(deflated.len().saturating_sub(4));
    deflated
}

/// Appends a frame of a client, with the opcode, [`IS_FINAL`] and [`RSV1`] of `head`.
pub fn frame(head: u8, payload: &[u8], bytes: &mut Vec<u8>) {
    let is_final = u8::from(head & IS_FINAL != 0) << 7;
    let rsv1 = u8::from(head & RSV1 != 0) << 6;
    bytes.push(is_final | rsv1 | head & 0x0f);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..126), _) => bytes.push(0x80 | length),
        (_, Ok(length)) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [head, 0, 0xff, 0x55];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
}
