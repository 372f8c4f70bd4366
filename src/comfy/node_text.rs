//! Texts of nodes in binary frames.

use bytes::{Buf, Bytes};

use crate::job::LoopRounds;

/// The binary type of a frame with a text.
const TEXT: u32 = 3;

/// The longest text that is read, in bytes: nodes may show whole documents.
const MAX_TEXT: usize = 4096;

/// A text that a node shows while it runs. It can hold anything, such as a prompt's text: only what [`NodeText::sign`] reads is
/// used.
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

    /// What it shows, if it is one of those that are known.
    pub fn sign(&self) -> Option<NodeSign> {
        if let Some(rounds) = rounds(self.text.trim()) {
            return Some(NodeSign::Rounds(rounds));
        }
        let lines = || self.text.lines().map(str::trim);
        let time = lines().find_map(time);
        // Other nodes write of a status, too.
        (time.is_some() || lines().any(is_price)).then(|| NodeSign::Service {
            status: lines().find_map(status),
            remaining: time.flatten(),
        })
    }
}

/// What the text of a node shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeSign {
    /// A loop: how many of its rounds have ended.
    Rounds(LoopRounds),
    /// A service works for a partner node.
    Service {
        /// The status of its work, in its words.
        status: Option<String>,
        /// In how many seconds it expects to be ready.
        remaining: Option<u64>,
    },
}

/// Such as `Iteration 3 / 12`.
fn rounds(text: &str) -> Option<LoopRounds> {
    let (ended, all) = text.strip_prefix("Iteration ")?.split_once(" / ")?;
    let rounds = LoopRounds {
        ended: ended.parse().ok()?,
        all: all.parse().ok()?,
    };
    (rounds.ended <= rounds.all).then_some(rounds)
}

/// Reads `Time elapsed: 12s (~30s remaining)`: the seconds that remain, where the service says it.
fn time(line: &str) -> Option<Option<u64>> {
    let mut words = line.strip_prefix("Time elapsed: ")?.split_whitespace();
    words.next()?.strip_suffix('s')?.parse::<u64>().ok()?;
    let remaining = words.next().and_then(|word| {
        let seconds = word.strip_prefix("(~")?.strip_suffix('s')?;
        seconds.parse().ok()
    });
    Some(remaining)
}

/// Reads `Status: In progress`.
fn status(line: &str) -> Option<String> {
    let status = line.strip_prefix("Status: ")?.trim();
    (!status.is_empty()).then(|| status.to_owned())
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
    fn only_known_texts_show_something() {
        let service = |status: Option<&str>, remaining| {
            let status = status.map(str::to_owned);
            Some(NodeSign::Service { status, remaining })
        };
        let rounds = |ended, all| Some(NodeSign::Rounds(LoopRounds { ended, all }));
        for (text, sign) in [
            (
                "Status: In progress\nTime elapsed: 12s (~30s remaining)",
                service(Some("In progress"), Some(30)),
            ),
            (
                "Status: Completed\nPrice: 14.2 credits\nTime elapsed: 40s",
                service(Some("Completed"), None),
            ),
            ("Price: 14 credits", service(None, None)),
            ("Time elapsed: 3s (~soon)", service(None, None)),
            ("Status: Queued", None),
            ("a fox, Price: 14 credits", None),
            ("Time elapsed: long", None),
            ("Iteration 0 / 5", rounds(0, 5)),
            ("Iteration 5 / 5\n", rounds(5, 5)),
            ("Iteration 0 / 0", rounds(0, 0)),
            ("Iteration 6 / 5", None),
            ("Iteration -1 / 5", None),
            ("Iteration 2 / 5000000000", None),
            ("Iteration 2 / 5 of a fox", None),
            ("the prompt: Iteration 2 / 5", None),
            ("", None),
        ] {
            let text = parse("57:3", text).unwrap();
            assert_eq!(text.node, "57:3");
            assert_eq!(text.sign(), sign, "{text:?}");
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
            let text = NodeText::parse(frame.into());
            text.and_then(|text| text.sign());
        }
    }
}
