//! The bytes of malformed frames.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::fault::{MalformedFrame, WRONG_TYPES};

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// Longer than any accepted frame.
const TOO_LONG: u64 = (64 << 20) + 1;

/// A little shorter than the longest accepted frame.
const HUGE: usize = 63 << 20;

impl MalformedFrame {
    /// The bytes to write to the socket.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text => frame(TEXT, b"this is not JSON {"),
            Self::NotUtf8 => frame(TEXT, b"{\"type\": \"\xff\xfe\"}"),
            Self::Binary(seed) => {
                let mut rng = StdRng::seed_from_u64(seed);
                let length = rng.random_range(0..64);
                let mut bytes = vec![0, 0, 0, rng.random_range(0..6)];
                bytes.extend((0..length).map(|_| rng.random::<u8>()));
                frame(BINARY, &bytes)
            }
            // Only the header: the payload never follows.
            Self::TooLong => header(TEXT, TOO_LONG),
            Self::Large => {
                let text = format!(r#"{{"type": "large", "data": "{}"}}"#, "x".repeat(1 << 20));
                frame(TEXT, text.as_bytes())
            }
            Self::Huge => {
                let text = format!(r#"{{"type": "huge", "data": "{}"}}"#, "x".repeat(HUGE));
                let mut image = vec![0, 0, 0, 1, 0, 0, 0, 1];
                image.resize(HUGE, 7);
                [frame(TEXT, text.as_bytes()), frame(BINARY, &image)].concat()
            }
            Self::Deep => {
                let text = format!(
                    r#"{{"type": "executed", "data": {{"output": {}"#,
                    "[".repeat(100_000)
                );
                frame(TEXT, text.as_bytes())
            }
            Self::UnknownType => frame(
                TEXT,
                br#"{"type": "crystools.monitor", "data": {"cpu": 1}}"#,
            ),
            Self::WrongTypes(which) => frame(TEXT, WRONG_TYPES[which].as_bytes()),
            Self::ReservedOpcode => vec![0xF7, 0x05, 1, 2, 3, 4, 5],
        }
    }
}

/// A whole unmasked frame, as servers send them.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

fn header(opcode: u8, length: u64) -> Vec<u8> {
    let mut header = vec![0x80 | opcode];
    match length {
        0..126 => header.push(length as u8),
        126..65_536 => {
            header.push(126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend_from_slice(&length.to_be_bytes());
        }
    }
    header
}
