//! JSON as Python's `json` writes it, which RFC 8259 does not allow: `NaN`, `Infinity`, and lone surrogates. And as
//! editors of text save it: behind a byte order mark.
//!
//! ComfyUI's nodes return `NaN` from `IS_CHANGED` for "always changed", and it comes back in queues and
//! histories; file names that are not UTF-8 hold lone surrogates. One such value must not make the whole
//! answer unreadable.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, Error};

/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses JSON, or else Python's dialect of it. A byte order mark before it is left out.
///
/// # Errors
///
/// If the text is not JSON; text in UTF-16 is named as such.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    // JSON begins with a character of ASCII: in UTF-16, a zero byte is beside it.
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] = text {
        return Err(serde_json::Error::custom(
            "it is saved as UTF-16; save it as UTF-8",
        ));
    }
    let parsed = serde_json::from_slice(text);
    if parsed.is_err()
        && let Cow::Owned(strict) = to_strict(text)
    {
        return serde_json::from_slice(&strict);
    }
    parsed
}

/// JSON as RFC 8259 has it: `NaN` and infinities become `null`, lone surrogates U+FFFD. Borrows text that has
/// none of these.
pub(crate) fn to_strict(text: &[u8]) -> Cow<'_, [u8]> {
    let mut strict = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    let mut in_string = false;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, replacement): (usize, &[u8]) = match (in_string, rest) {
            (false, [b'"', ..]) | (true, [b'"', ..]) => {
                in_string = !in_string;
                (1, b"")
            }
            (true, [b'\\', b'u', ..]) => match (unit(rest), rest.get(6..).and_then(unit)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, b""),
                (Some(0xD800..=0xDFFF), _) => (6, b"\\ufffd"),
                _ => (6, b""),
            },
            (true, [b'\\', ..]) => (2, b""),
            (false, _) if rest.starts_with(b"NaN") => (3, b"null"),
            (false, _) if rest.starts_with(b"Infinity") => (8, b"null"),
            (false, _) if rest.starts_with(b"-Infinity") => (9, b"null"),
            _ => (1, b""),
        };
        if !replacement.is_empty() {
            strict.extend_from_slice(&text[copied..at]);
            strict.extend_from_slice(replacement);
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    strict.extend_from_slice(&text[copied..]);
    Cow::Owned(strict)
}

/// The UTF-16 code unit of an escape such as `\ud83d`.
fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &str) -> Value {
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn pythons_dialect_becomes_json() {
        let text =
            r#"{"is_changed": [NaN], "a": -Infinity, "b": Infinity, "NaN": "NaN \" Infinity"}"#;
        let read = json!({"is_changed": [null], "a": null, "b": null, "NaN": "NaN \" Infinity"});
        assert_eq!(value(text), read);
        assert_eq!(
            value(r#"["x\udc80y\\", "\ud83d", "\ud83d\ude00", "\ud83dé"]"#),
            json!(["x\u{fffd}y\\", "\u{fffd}", "😀", "\u{fffd}é"])
        );
    }

    #[test]
    fn a_byte_order_mark_is_left_out_and_utf_16_is_named() {
        assert_eq!(value("\u{feff}{\"a\": 1}\r\n"), json!({"a": 1}));
        let little: Vec<u8> = "\u{feff}{}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let big: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for text in [little, big] {
            let error = read::<Value>(&text).unwrap_err().to_string();
            assert!(error.contains("UTF-16"), "{error}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        for text in ["", "{", "<html>NaN</html>", "[NaN", r#"["\ud8"#, r#"["\"#] {
            assert!(read::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read::<Value>(&bytes);
        }

        #[test]
        fn json_is_left_as_it_is(text in "\\PC*") {
            let text = json!({"text": text, "number": 5}).to_string();
            prop_assert_eq!(to_strict(text.as_bytes()), text.as_bytes());
        }
    }
}
