//! [`TapPreview`]: a preview in the two forms that clients read.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::comfy::plain_preview;

/// A preview in the two forms that clients read. All sockets share it, and the form that no server sends is made once.
#[derive(Debug)]
pub struct TapPreview {
    sent: Bytes,
    plain: OnceLock<Bytes>,
}

impl TapPreview {
    pub(in crate::relay) fn new(sent: Bytes) -> Self {
        let plain = OnceLock::new();
        Self { sent, plain }
    }

    /// The frame as ComfyUI sent it: with metadata, from servers that have them.
    pub fn as_sent(&self) -> &Bytes {
        &self.sent
    }

    /// The frame for clients that do not read metadata.
    pub fn plain(&self) -> &Bytes {
        self.plain.get_or_init(|| plain_preview(self.sent.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_without_metadata_is_made_once() {
        let sent = Bytes::from_static(b"\0\0\0\x04\0\0\0\x02{}jpg");
        let preview = TapPreview::new(sent.clone());
        let first = preview.plain().clone();
        assert_eq!(&first[..], b"\0\0\0\x01\0\0\0\x01jpg");
        assert_eq!(preview.plain().as_ptr(), first.as_ptr());
        assert_eq!(preview.as_sent().as_ptr(), sent.as_ptr());
    }
}
