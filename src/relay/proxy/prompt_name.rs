//! The id under which a server has a prompt, and the one that its caller knows: they differ after a job was lost with its
//! server, and with servers before the middle of 2025, which choose ids themselves.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::caller::is_from_comfy;
use super::tap_queue::{TapFrame, TapPayload};
use crate::job::{JobId, Tags};

/// The length of the type of a binary frame and of the length of its metadata, in bytes.
const PREVIEW_HEAD: usize = 8;

/// The id under which a job is to be handed in first: the one that its caller knows, if servers take it.
pub(in crate::relay) fn first_prompt_id(job: &JobId, tags: &Tags) -> String {
    // Servers since 0.24 refuse ids that are not UUIDs in lower case.
    let is_uuid =
        |id: &str| Uuid::try_parse(id).is_ok_and(|uuid| uuid.hyphenated().to_string() == id);
    if is_from_comfy(tags) && is_uuid(job.as_str()) {
        return job.to_string();
    }
    Uuid::new_v4().to_string()
}

/// A frame with the id that the caller knows.
pub(super) fn renamed(frame: TapFrame, prompt_id: &str, known: &str) -> TapFrame {
    if prompt_id == known {
        return frame;
    }
    let payload = match frame.payload {
        TapPayload::Text(text) => TapPayload::Text(text.replace(prompt_id, known).into()),
        TapPayload::Preview(preview) => {
            return match renamed_preview(preview.as_sent(), prompt_id, known) {
                Some(renamed) => TapFrame::preview(renamed),
                None => TapFrame {
                    payload: TapPayload::Preview(preview),
                    ..frame
                },
            };
        }
        TapPayload::Binary(_) => frame.payload,
    };
    TapFrame { payload, ..frame }
}

/// A preview with metadata under another id; `None` for another frame.
fn renamed_preview(frame: &Bytes, prompt_id: &str, known: &str) -> Option<Bytes> {
    let head = frame.get(..PREVIEW_HEAD)?;
    let (kind, length) = head.split_at(PREVIEW_HEAD / 2);
    if kind != [0, 0, 0, 4] {
        return None;
    }
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let image_at = PREVIEW_HEAD.checked_add(usize::try_from(length).ok()?)?;
    let metadata = std::str::from_utf8(frame.get(PREVIEW_HEAD..image_at)?).ok()?;
    let metadata = metadata.replace(prompt_id, known);
    let mut renamed =
        BytesMut::with_capacity(PREVIEW_HEAD + metadata.len() + frame.len() - image_at);
    renamed.put_slice(kind);
    renamed.put_u32(u32::try_from(metadata.len()).ok()?);
    renamed.put_slice(metadata.as_bytes());
    renamed.put_slice(&frame[image_at..]);
    Some(renamed.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::proxy::comfy_tags;
    use crate::relay::proxy::tap_queue::Conflation;

    #[test]
    fn the_first_id_of_a_prompt_is_the_one_that_its_caller_knows() {
        let tags = comfy_tags(None).unwrap();
        let id = JobId::parse("0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4").unwrap();
        assert_eq!(first_prompt_id(&id, &tags), id.as_str());
        assert_ne!(first_prompt_id(&id, &Tags::default()), id.as_str());
        let named = JobId::parse("0B5C1B7E-6A38-4C0E-9A53-2F62F3F7A1C4").unwrap();
        assert_ne!(first_prompt_id(&named, &tags), named.as_str());
    }

    #[test]
    fn texts_and_previews_are_renamed() {
        let text = TapFrame::text(
            r#"{"prompt_id":"server"}"#.to_owned().into(),
            Conflation::All,
        );
        let TapPayload::Text(text) = renamed(text, "server", "caller's").payload else {
            panic!();
        };
        assert_eq!(text.as_str(), r#"{"prompt_id":"caller's"}"#);
        let preview = b"\0\0\0\x04\0\0\0\x06serverserver".as_slice();
        let preview = TapFrame::preview(preview.into());
        let TapPayload::Preview(preview) = renamed(preview, "server", "longer").payload else {
            panic!();
        };
        // The image is not a text.
        assert_eq!(&preview.as_sent()[..], b"\0\0\0\x04\0\0\0\x06longerserver");
    }
}
