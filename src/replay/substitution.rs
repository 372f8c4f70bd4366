//! [`Substitution`]: recorded ids replaced by those of the clients.
//!
//! Ids are replaced in the recorded text itself. Parsing and serialising it would change the rest: `0` and `0.0` must
//! stay apart, and escapes must stay as they are.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::Value;

use super::python_json::dumps;

/// The type of a binary frame that holds a preview with metadata.
const PREVIEW_WITH_METADATA: u32 = 4;

/// Recorded ids, each with the id that replaces it. Both are escaped as in JSON.
#[derive(Debug, Default, Clone)]
pub(super) struct Substitution(Vec<(String, String)>);

impl Substitution {
    /// Adds an id.
    pub(super) fn replace(&mut self, recorded: &str, replacement: &str) {
        if recorded != replacement && !recorded.is_empty() {
            self.0.push((escape(recorded), escape(replacement)));
        }
    }

    /// `text` with the clients' ids.
    pub(super) fn text(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (recorded, replacement)| {
                text.replace(recorded, replacement)
            })
    }

    /// `value` with the clients' ids.
    pub(super) fn value(&self, value: &Value) -> Value {
        serde_json::from_str(&self.text(&dumps(value))).unwrap_or_else(|_| value.clone())
    }

    /// A binary frame with the clients' ids: only previews with metadata hold any.
    pub(super) fn binary(&self, frame: &Bytes) -> Bytes {
        let Some((metadata, image)) = preview_metadata(frame) else {
            return frame.clone();
        };
        let metadata = self.text(metadata);
        let mut out = BytesMut::with_capacity(8 + metadata.len() + image.len());
        out.put_u32(PREVIEW_WITH_METADATA);
        out.put_u32(u32::try_from(metadata.len()).unwrap_or(u32::MAX));
        out.put_slice(metadata.as_bytes());
        out.put_slice(image);
        out.freeze()
    }
}

/// The metadata (JSON) and the image of a binary frame, if it is a preview with metadata: type and length of the
/// metadata, both big-endian `u32`, then the metadata, then the image.
pub(super) fn preview_metadata(frame: &[u8]) -> Option<(&str, &[u8])> {
    let (kind, rest) = frame.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*kind) != PREVIEW_WITH_METADATA {
        return None;
    }
    let (metadata, image) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((std::str::from_utf8(metadata).ok()?, image))
}

/// An id as it stands in a JSON text, without quotes.
fn escape(id: &str) -> String {
    let quoted = dumps(&Value::String(id.to_owned()));
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_replaced_in_texts_values_and_previews() {
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
