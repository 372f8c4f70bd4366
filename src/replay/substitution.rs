//! JSON in the substitution of PythonFormatter's `json.dumps`, which all of ComfyUI's texts have.
//!
//! Recorded texts are changed by replacing ids in them and are not parsed and written again: what is not replaced
//! stays verbatim (`0` and `0.0` stay apart, as do the escapes).

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// Ids of a recording, each with the caller's that stands for it.
#[derive(Debug, Default, Clone)]
pub(super) struct Substitution(Vec<(String, String)>);

impl Substitution {
    /// From now on `theirs` stands for `recorded`.
    pub(super) fn replace(&mut self, recorded: &str, theirs: &str) {
        if recorded != theirs && !recorded.is_empty() {
            self.0.push((escaped(recorded), escaped(theirs)));
        }
    }

    /// `text` with the caller's ids.
    pub(super) fn text(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (recorded, theirs)| {
                text.replace(recorded, theirs)
            })
    }

    /// `value` with the caller's ids.
    pub(super) fn value(&self, value: &Value) -> Value {
        serde_json::from_str(&self.text(&dumps(value))).unwrap_or_else(|_| value.clone())
    }

    /// A binary frame with the caller's ids: only previews with metadata (type 4) hold any.
    pub(super) fn binary(&self, frame: &Bytes) -> Bytes {
        let Some((metadata, image)) = preview_metadata(frame) else {
            return frame.clone();
        };
        let metadata = self.text(metadata);
        let mut out = BytesMut::with_capacity(8 + metadata.len() + image.len());
        out.put_u32(4);
        out.put_u32(u32::try_from(metadata.len()).unwrap_or(u32::MAX));
        out.put_slice(metadata.as_bytes());
        out.put_slice(image);
        out.freeze()
    }
}

/// The JSON and the image of a binary frame of type 4.
pub(super) fn preview_metadata(frame: &[u8]) -> Option<(&str, &[u8])> {
    let (kind, rest) = frame.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*kind) != 4 {
        return None;
    }
    let (metadata, image) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((std::str::from_utf8(metadata).ok()?, image))
}

/// `value` as `json.dumps` writes it.
pub(super) fn dumps(value: &Value) -> String {
    let mut out = Vec::new();
    // Writing a `Value` into memory has no way to fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, PythonFormatter));
    String::from_utf8(out).unwrap_or_default()
}

fn escaped(id: &str) -> String {
    let quoted = dumps(&Value::String(id.to_owned()));
    quoted[1..quoted.len() - 1].to_owned()
}

struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() {
                out.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dumps_as_python_does() {
        let value = json!({"a": [1, 2.0, null], "ä": "job-4711 äö?&x \u{1f600}\n"});
        assert_eq!(
            dumps(&value),
            r#"{"a": [1, 2.0, null], "\u00e4": "job-4711 \u00e4\u00f6?&x \ud83d\ude00\n"}"#
        );
    }

    #[test]
    fn replaces_ids_in_texts_values_and_previews() {
        let mut substitution = Substitution::default();
        substitution.replace("job äö", "other-id");
        assert_eq!(
            substitution.text(r#"{"prompt_id": "job \u00e4\u00f6", "value": 1.0}"#),
            r#"{"prompt_id": "other-id", "value": 1.0}"#
        );
        assert_eq!(
            substitution.value(&json!({"job äö": {"n": 0.5}})),
            json!({"other-id": {"n": 0.5}})
        );

        let json = br#"{"prompt_id": "job \u00e4\u00f6"}"#;
        let mut frame = vec![0, 0, 0, 4, 0, 0, 0, json.len() as u8];
        frame.extend_from_slice(json);
        frame.extend_from_slice(b"image");
        let frame = substitution.binary(&frame.into());
        let (metadata, image) = preview_metadata(&frame).unwrap();
        assert_eq!(
            (metadata, image),
            (r#"{"prompt_id": "other-id"}"#, &b"image"[..])
        );
    }
}
