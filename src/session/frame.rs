use std::cell::OnceCell;

use bytes::{BufMut, Bytes, BytesMut};
use hyper_tungstenite::tungstenite::protocol::frame::FrameHeader;
use hyper_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::compression::deflate::Deflater;

/// Shorter payloads are never compressed: it would cost more time than it saves bytes.
const MIN_DEFLATED: usize = 200;

/// A text message for many clients: framed once (RFC 6455, 5.2), and compressed once if one of them has
/// negotiated that.
#[derive(Debug)]
pub(super) struct SharedFrame {
    plain: Bytes,
    payload_length: usize,
    deflated: OnceCell<Bytes>,
}

impl SharedFrame {
    pub(super) fn text(payload: &[u8]) -> Self {
        Self {
            plain: frame(payload, Data::Text, false),
            payload_length: payload.len(),
            deflated: OnceCell::new(),
        }
    }

    pub(super) fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The frame for a client that has negotiated `permessage-deflate`: compressed, if that makes it
    /// shorter.
    pub(super) fn deflated(&self, deflater: &mut Deflater) -> &Bytes {
        self.deflated.get_or_init(|| {
            let payload = &self.plain[self.plain.len() - self.payload_length..];
            let deflated = (payload.len() >= MIN_DEFLATED)
                .then(|| deflater.deflate(payload))
                .flatten();
            match deflated {
                Some(deflated) => frame(&deflated, Data::Text, true),
                None => self.plain.clone(),
            }
        })
    }
}

/// The frame of a text message for one client.
pub(super) fn text_frame(text: &str) -> Bytes {
    frame(text.as_bytes(), Data::Text, false)
}

/// The frame of a binary message.
pub(super) fn binary_frame(payload: &[u8]) -> Bytes {
    frame(payload, Data::Binary, false)
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
        .expect("writing to memory does not fail");
    let mut frame = frame.into_inner();
    frame.extend_from_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    #[test]
    fn a_message_is_framed_as_the_protocol_asks() {
        assert_eq!(text_frame("Hi")[..], [0x81, 2, b'H', b'i']);
        assert_eq!(binary_frame(&[7])[..], [0x82, 1, 7]);
        let payload = "x".repeat(300);
        let long = text_frame(&payload);
        assert_eq!(long[..4], [0x81, 126, 1, 44]);
        assert_eq!(&long[4..], payload.as_bytes());
        assert_eq!(SharedFrame::text(payload.as_bytes()).plain(), &long);
    }

    #[test]
    fn a_deflated_frame_is_shorter_and_inflates_to_the_same_text() {
        let text = r#"{"type":"progress","message":"KSampler: step 12 of 20"}"#.repeat(8);
        let mut deflater = Deflater::default();
        // The second one shows that nothing is left of the first.
        for _ in 0..2 {
            let frame = SharedFrame::text(text.as_bytes());
            let deflated = frame.deflated(&mut deflater);
            assert!(deflated.len() < frame.plain().len() / 2);
            assert_eq!(
                deflated[0], 0xc1,
                "the first reserved bit marks a compressed message"
            );
            let payload = [&deflated[2..], &[0x00, 0x00, 0xff, 0xff]].concat();
            let mut inflated = Vec::with_capacity(1_000);
            Decompress::new(false)
                .decompress_vec(&payload, &mut inflated, FlushDecompress::Sync)
                .unwrap();
            assert_eq!(inflated, text.as_bytes());
        }
    }

    #[test]
    fn short_messages_and_those_that_do_not_shrink_are_sent_plain() {
        let mut deflater = Deflater::default();
        let short = SharedFrame::text("x".repeat(MIN_DEFLATED - 1).as_bytes());
        assert_eq!(short.deflated(&mut deflater), short.plain());
        let mut noise = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(1_000)
        .collect();
        let noise = SharedFrame::text(&noise);
        assert_eq!(noise.deflated(&mut deflater), noise.plain());
    }
}
