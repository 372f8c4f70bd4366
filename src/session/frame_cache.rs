use bytes::{BufMut, Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Serialize;

use super::compression::deflate::Deflater;
use super::frame::{SharedFrame, binary_frame};
use crate::hub::{Preview, Publication};
use crate::job::JobId;
use crate::wire_schema::message_type;

/// The frames of the updates of one job that a shard is sending. Each is built for the first of the
/// shard's subscribers that gets it.
///
/// A shard has a cache of its own, so that its thread takes no lock and shares no reference count with
/// other threads.
#[derive(Debug, Default)]
pub(super) struct FrameCache {
    states: LastTwo<SharedFrame>,
    previews: LastTwo<Bytes>,
}

/// The two values that were used last, by number: that of the update being broadcast, and that of the
/// newest one, which is sent to subscribers that join or have fallen behind.
#[derive(Debug)]
struct LastTwo<T>([Option<(u64, T)>; 2]);

/// What comes before the image in the documented binary message.
#[derive(JsonSchema, Serialize)]
#[serde(tag = "type", rename = "preview")]
#[schemars(rename = "PreviewHead", transform = message_type("preview"))]
pub(crate) struct PreviewHead<'a> {
    job_id: &'a JobId,
    /// The node that runs; `null` if that is not known.
    node: Option<&'a str>,
    /// The media type of the image.
    mime: &'a str,
    /// Grows with each preview of the job.
    seq: u64,
}

impl FrameCache {
    /// The frame of a state, compressed if `deflates` and if that makes it shorter.
    pub(super) fn state(
        &mut self,
        publication: &Publication,
        deflates: bool,
        deflater: &mut Deflater,
    ) -> Bytes {
        let frame = self
            .states
            .get_or_insert(publication.seq, || SharedFrame::text(&publication.payload));
        if deflates {
            frame.deflated(deflater).clone()
        } else {
            frame.plain().clone()
        }
    }

    /// The frame of a preview. Images are compressed already.
    pub(super) fn preview(&mut self, preview: &Preview) -> Bytes {
        self.previews
            .get_or_insert(preview.seq, || binary_frame(&preview_message(preview)))
            .clone()
    }
}

#[cfg(test)]
impl FrameCache {
    /// Whether it holds no frame.
    pub(super) fn is_empty(&self) -> bool {
        self.states.0.iter().all(Option::is_none) && self.previews.0.iter().all(Option::is_none)
    }
}

impl<T> LastTwo<T> {
    fn get_or_insert(&mut self, seq: u64, build: impl FnOnce() -> T) -> &T {
        let is_other = |slot: &Option<(u64, T)>| slot.as_ref().is_none_or(|it| it.0 != seq);
        if is_other(&self.0[0]) {
            self.0.swap(0, 1);
        }
        if is_other(&self.0[0]) {
            self.0[0] = None;
        }
        &self.0[0].get_or_insert_with(|| (seq, build())).1
    }
}

impl<T> Default for LastTwo<T> {
    fn default() -> Self {
        Self([None, None])
    }
}

/// The documented binary message: the length of the head as 4 bytes, big-endian; the head, which is
/// JSON; the image.
pub(super) fn preview_message(preview: &Preview) -> BytesMut {
    let head = PreviewHead {
        job_id: &preview.job,
        node: preview.node.as_deref(),
        mime: preview.mime,
        seq: preview.seq,
    };
    let head = serde_json::to_vec(&head).expect("the head has string keys and integers only");
    let mut message = BytesMut::with_capacity(4 + head.len() + preview.image.len());
    message.put_u32(head.len() as u32);
    message.extend_from_slice(&head);
    message.extend_from_slice(&preview.image);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcast_and_the_newest_frame_are_built_once() {
        let mut built = Vec::new();
        let mut cache = LastTwo::default();
        for seq in [1, 1, 3, 1, 3, 1, 4, 1, 4, 4, 5, 4] {
            let value = *cache.get_or_insert(seq, || {
                built.push(seq);
                seq
            });
            assert_eq!(value, seq);
        }
        assert_eq!(built, [1, 3, 4, 5]);
    }
}
