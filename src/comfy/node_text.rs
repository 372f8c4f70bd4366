//! Texts of nodes in binary frames.

use bytes::{Buf, Bytes};

/// The binary type of a frame with a text.
const TEXT: u32 = 3;

/// The longest text that is read, in bytes: nodes may show whole documents.
const MAX_TEXT: usize = 4096;

/// A text that a node shows while it runs. It can hold anything, such as a prompt's text: it is never passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeText {
    /// The id of the run. The frame names no prompt.
    pub node: String,
    text: String,
}

impl NodeText {
    /// Reads a binary frame: a big-endian type of 4 bytes, the length of the node's id in as many, the id, and the text.
    ///
    /// Returns `None` for a frame without a text, and for one that is cut short.
    pub fn parse(mut frame: Bytes) -> Option<Self> {
        if frame.try_get_u32().ok()? != TEXT {
            return None;
        }
        let length = usize::try_from(frame.try_get_u32().ok()?).ok()?;
        if frame.len() < length {
            return None;
        }
        let node = String::from_utf8(frame.split_to(length).into()).ok()?;
        frame.truncate(MAX_TEXT);
        let text = String::from_utf8_lossy(&frame).into_owned();
        Some(Self { node, text })
    }

    /// Whether it is one of those that partner nodes show each second: the time that the service has taken, or its price.
    /// Other nodes write of a status, too.
    pub fn is_of_partner(&self) -> bool {
        let mut lines = self.text.lines().map(str::trim);
        lines.any(|line| is_time(line) || is_price(line))
    }
}

/// Such as `Time elapsed: 12s (~30s remaining)`.
fn is_time(line: &str) -> bool {
    let time = line.strip_prefix("Time elapsed: ");
    let seconds = time.and_then(|time| time.split_whitespace().next()?.strip_suffix('s'));
    seconds.is_some_and(|seconds| seconds.parse::<u64>().is_ok())
}

/// Such as `Price: 14.2 credits`.
fn is_price(line: &str) -> bool {
    let price = line.strip_prefix("Price: ");
    price.is_some_and(|price| price.ends_with(" credits"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(node: &str, text: &str) -> Option<NodeText> {
        let length = u32::try_from(node.len()).unwrap().to_be_bytes();
        let frame = [
            &TEXT.to_be_bytes(),
            &length,
            node.as_bytes(),
            text.as_bytes(),
        ];
        NodeText::parse(frame.concat().into())
    }

    #[test]
    fn partner_nodes_show_what_their_service_takes() {
        for (text, is_of_partner) in [
            (
                "Status: In progress\nTime elapsed: 12s (~30s remaining)",
                true,
            ),
            (
                "Status: Completed\nPrice: 14.2 credits\nTime elapsed: 40s",
                true,
            ),
            ("Price: 14 credits", true),
            ("Status: Queued", false),
            ("a fox, Price: 14 credits", false),
            ("Time elapsed: long", false),
            ("Iteration 2 / 5", false),
            ("", false),
        ] {
            let text = parse("57:3", text).unwrap();
            assert_eq!(text.node, "57:3");
            assert_eq!(text.is_of_partner(), is_of_partner, "{text:?}");
        }
    }

    #[test]
    fn other_frames_have_no_text() {
        for frame in [
            &b""[..],
            b"\0\0\0\x03",
            b"\0\0\0\x03\0\0\0\x05a",
            b"\0\0\0\x03\xff\xff\xff\xffa",
            b"\0\0\0\x03\0\0\0\x01\xffb",
            b"\0\0\0\x01\0\0\0\x02png",
        ] {
            assert_eq!(
                NodeText::parse(Bytes::from_static(frame)),
                None,
                "{frame:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 2u8..5) {
            let mut frame = vec![0, 0, 0, kind];
            frame.extend(bytes);
            NodeText::parse(frame.into());
        }
    }
}
