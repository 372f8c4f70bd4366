use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress, Status};
use hyper_tungstenite::tungstenite::protocol::frame::FrameHeader;
use hyper_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Payloads that are shorter are never compressed: it would cost more time than it spares bytes.
const MIN_DEFLATED: usize = 200;

/// What an empty block ends with, which RFC 7692 (7.2.1) has left out at the end of a message.
const BLOCK_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// One WebSocket message of the server as it goes over the wire, framed once for everybody, and
/// compressed once for everybody who wants that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    plain: Bytes,
    /// Where the payload begins.
    payload: usize,
    kind: Data,
    deflated: OnceLock<Bytes>,
}

impl Frame {
    /// A text message.
    pub fn text(text: &str) -> Self {
        Self::new(text.as_bytes(), Data::Text)
    }

    /// A binary message.
    pub fn binary(data: &[u8]) -> Self {
        Self::new(data, Data::Binary)
    }

    fn new(payload: &[u8], kind: Data) -> Self {
        let plain = frame(payload, kind, false);
        Self {
            payload: plain.len() - payload.len(),
            plain,
            kind,
            deflated: OnceLock::new(),
        }
    }

    /// The frame of the message.
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The frame for a client that has negotiated `permessage-deflate` (RFC 7692) without context
    /// takeover: compressed, where that makes it shorter. The first call compresses it.
    pub fn deflated(&self) -> &Bytes {
        self.deflated.get_or_init(|| {
            let payload = self.payload();
            let deflated = match payload.len() >= MIN_DEFLATED {
                true => deflate(payload),
                false => None,
            };
            deflated.map_or_else(
                || self.plain.clone(),
                |deflated| frame(&deflated, self.kind, true),
            )
        })
    }

    /// What the message says.
    pub fn payload(&self) -> &[u8] {
        &self.plain[self.payload..]
    }
}

fn frame(payload: &[u8], kind: Data, is_deflated: bool) -> Bytes {
    let header = FrameHeader {
        opcode: OpCode::Data(kind),
        rsv1: is_deflated,
        ..FrameHeader::default()
    };
    let length = payload.len() as u64;
    let frame = BytesMut::with_capacity(header.len(length) + payload.len());
    let mut frame = frame.writer();
    header
        .format(length, &mut frame)
        .expect("memory takes what is written to it");
    let mut frame = frame.into_inner();
    frame.extend_from_slice(payload);
    frame.freeze()
}

/// `None` where it would not be shorter.
fn deflate(payload: &[u8]) -> Option<Vec<u8>> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut deflated = Vec::with_capacity(payload.len());
    let status = compress.compress_vec(payload, &mut deflated, FlushCompress::Sync);
    let is_whole = matches!(status, Ok(Status::Ok)) && compress.total_in() == payload.len() as u64;
    deflated
        .strip_suffix(&BLOCK_END)
        .filter(|_| is_whole)
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    #[test]
    fn a_message_is_framed_as_the_protocol_asks() {
        assert_eq!(Frame::text("Hi").plain()[..], [0x81, 2, b'H', b'i']);
        assert_eq!(Frame::binary(&[7]).plain()[..], [0x82, 1, 7]);
        let long = Frame::text(&"x".repeat(300));
        assert_eq!(long.plain()[..4], [0x81, 126, 1, 44]);
        assert_eq!(long.payload(), "x".repeat(300).as_bytes());
    }

    #[test]
    fn what_is_deflated_is_shorter_and_inflates_to_the_same() {
        let text = r#"{"type":"progress","message":"KSampler: step 12 of 20"}"#.repeat(8);
        let message = Frame::text(&text);
        let deflated = message.deflated();
        assert!(deflated.len() < message.plain().len() / 2);
        assert_eq!(
            deflated[0], 0xc1,
            "the first reserved bit tells that it is deflated"
        );
        let payload = [&deflated[2..], &BLOCK_END].concat();
        let mut inflated = Vec::with_capacity(1_000);
        Decompress::new(false)
            .decompress_vec(&payload, &mut inflated, FlushDecompress::Sync)
            .unwrap();
        assert_eq!(inflated, text.as_bytes());
    }

    #[test]
    fn short_messages_and_those_that_do_not_shrink_stay_as_they_are() {
        let short = Frame::text(&"x".repeat(MIN_DEFLATED - 1));
        assert_eq!(short.deflated(), short.plain());
        let mut noise = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(1_000)
        .collect();
        let noise = Frame::binary(&noise);
        assert_eq!(noise.deflated(), noise.plain());
    }
}
