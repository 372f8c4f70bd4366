//! A case of `client_frames`: what a client sends.
//!
//! | bytes | |
//! |---|---|
//! | 1 | flags: [`DEFLATES`], [`IS_SLOW`], [`IS_BUILT`] |
//! | 1 | how many bytes come with the handshake |
//! | 4 | how long the pieces are that follow, in turn: each byte four times, and one more |
//! | the rest | what is sent as it is; with [`IS_BUILT`] frames that are made of it |
//!
//! Such a frame is a byte with its opcode and [`IS_FINAL`], [`RSV1`], [`IS_DEFLATED`], [`IS_LONG`],
//! then one with the length of its payload, then the payload. So a change anywhere still makes whole
//! frames, and streams that can be inflated.

use flate2::{Compress, Compression, FlushCompress};

/// The client has negotiated compression.
pub const DEFLATES: u8 = 1;
/// The client takes no answer at the first try.
pub const IS_SLOW: u8 = 2;
/// What follows are frames to be made.
pub const IS_BUILT: u8 = 4;

/// The last frame of its message.
pub const IS_FINAL: u8 = 0x10;
/// The frame says that its message is compressed.
pub const RSV1: u8 = 0x20;
/// The payload is compressed before it is sent.
pub const IS_DEFLATED: u8 = 0x40;
/// The payload is sent [`REPEATS`] times over.
pub const IS_LONG: u8 = 0x80;

/// Enough to make a message too long out of a payload of 70 bytes.
const REPEATS: usize = 1_000;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// What a client sends.
#[derive(Debug, Default)]
pub struct Case {
    /// It has negotiated compression.
    pub deflates: bool,
    /// It takes no answer at the first try.
    pub is_slow: bool,
    /// How many bytes come with the handshake.
    pub early: usize,
    /// How long the pieces are that follow, in turn.
    pub sizes: [usize; 4],
    /// All that it sends.
    pub bytes: Vec<u8>,
    /// How many messages of it are compressed, and how many frames there are; only where it is built.
    pub built: Option<(usize, usize)>,
    /// What its first messages are, as far as that is plain to see.
    pub messages: Vec<Vec<u8>>,
}

impl Case {
    /// Reads a case; `None` where the head is not whole. Messages are good up to `max_message` bytes.
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

    /// The pieces that follow those bytes that come with the handshake.
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

    /// Whether a frame is a whole message of which nobody can be in doubt.
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

/// A payload as it is sent compressed (RFC 7692): without the end of its last block.
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut deflated = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    // There is room for more than it can become.
    let _ = compress.compress_vec(payload, &mut deflated, FlushCompress::Sync);
    deflated.truncate(deflated.len().saturating_sub(4));
    deflated
}

/// Appends a frame of a client; of `head` the opcode, [`IS_FINAL`] and [`RSV1`] count.
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
